"""Canary secrets: planted wherever a secret may be, found nowhere that anybody but its owner reads.

Decisions: canaries stand in the environment (store keys, database and Prefect passwords, a token that is nobody's), in
URLs of ledger, store and data, in a file name's folder, and in what an error says. Commands are run that work, and that
fail over each of those URLs, with logs at their most talkative; then all that they said and every byte that they wrote,
Prefect's own database (runs, parameters, logs, artifacts) included, is searched, also for the canary as base64, hex and
percent-encoded text. The settings file, which is the owner's, is left out; a canary that is planted in a log is found.
What an image would hold is read off `.dockerignore` and the Dockerfile.
"""

from __future__ import annotations

import base64
import re
import tempfile
from pathlib import Path
from urllib.parse import quote

from benchmarks.faults.commands import Shell
from benchmarks.record import ROOT, Figures
from tests.conftest import Site

CANARIES = {
    name: f"canary-{name.lower().replace('_', '-')}-7f3a+/=x"
    for name in (
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "PGPASSWORD",
        "PREFECT_API_AUTH_STRING",
        "SHOP_TOKEN",
        "LEDGER_URL",
        "STORE_URL",
        "SOURCE_URL",
    )
}
NOWHERE = "127.0.0.1:9"
"""An address on this machine where nothing listens."""


def forms(canary: str) -> set[bytes]:
    """A canary as it may be written."""
    text = canary.encode()
    return {text, text.hex().encode(), base64.b64encode(text).rstrip(b"="), quote(canary, safe="").encode()}


def leaks(text: bytes) -> set[str]:
    """Names of the canaries that are in a text."""
    return {name for name, canary in CANARIES.items() if any(form in text for form in forms(canary))}


def _environment() -> dict[str, str]:
    """What a service that is set up well, and talks a lot, has in its environment."""
    secrets = {name: value for name, value in CANARIES.items() if not name.endswith("_URL")}
    login = f"admin:{CANARIES['PREFECT_API_AUTH_STRING']}"
    return secrets | {
        "PREFECT_API_AUTH_STRING": login,
        "PREFECT_SERVER_API_AUTH_STRING": login,
        "SAEC_LOG": "json",
        "PREFECT_LOGGING_LEVEL": "DEBUG",
        "AWS_ACCESS_KEY_ID": "saec",
        "AWS_REGION": "us-east-1",
        "AWS_MAX_ATTEMPTS": "1",
        "AWS_ENDPOINT_URL": f"http://{NOWHERE}",
        "AWS_ALLOW_HTTP": "true",
    }


def _broken() -> dict[str, dict[str, object]]:
    """Settings that cannot work, each with a canary in a URL."""
    ledger, store, source = (quote(CANARIES[name], safe="") for name in ("LEDGER_URL", "STORE_URL", "SOURCE_URL"))
    return {
        "ledger refused": {"ledger": f"postgresql+psycopg://x:{ledger}@{NOWHERE}/ledger"},
        "ledger unreadable": {"ledger": f"sqlite:////proc/none/ledger.db?password={ledger}"},
        "ledger malformed": {"ledger": f"postgresql+nothing:/saec:{ledger}@{NOWHERE}"},
        "store malformed": {"store": f"s3://x:{store}@bucket/models"},
        "store of no kind": {"store": f"ftp://x:{store}@{NOWHERE}/models"},
        "source refused": {"data": {"source": f"s3://x:{source}@bucket/x?endpoint_override={NOWHERE}&scheme=http"}},
        "source of no kind": {"data": {"source": f"ftp://x:{source}@{NOWHERE}/x"}},
        "ledger of another type": {"ledger": [f"postgresql+psycopg://x:{ledger}@{NOWHERE}/ledger"]},
        "unknown setting": {"pasword": CANARIES["SHOP_TOKEN"]},
    }


def said(shell: Shell, *, prefect: bool) -> dict[str, str]:
    """What the commands say, by what was tried."""
    site = shell.site
    words: dict[str, tuple[object, ...]] = {
        "run": ("run", "--debug"),
        "status": ("status",),
        "metrics": ("metrics",),
        "versions": ("versions",),
        "report": ("report", "--out", site.folder / "report.html"),
        "verify": ("verify",),
    }
    answers = {name: shell(*typed) for name, typed in words.items()}
    if site.live is None:
        raise RuntimeError(f"nothing was published, so nothing is proved: {answers['run'][-500:]}")
    for name, changed in _broken().items():
        shell.configure(**changed)
        answers[name] = shell("run", "--debug") + shell("status", "--json")
        if prefect and "refused" in name:
            answers[f"{name}, flow"] = shell(module="flows.hourly")
    shell.configure()
    if prefect:
        answers["flow"] = shell(module="flows.hourly")
    return answers


def images() -> set[str]:
    """Ways by which a secret could get into an image: a folder of secrets that is copied, a value that is baked in."""
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    found = set(re.findall(r"^(?:ARG|ENV) \S*(?:PASSWORD|SECRET|AUTH|TOKEN)\S*", dockerfile, flags=re.MULTILINE))
    return found | ({"the whole folder is copied"} if "*" not in ignored or "!secrets" in ignored else set())


def figure(seed: int, short: bool, figures: Figures) -> None:
    """Plant, run, search."""
    with tempfile.TemporaryDirectory() as folder:
        site = Site(Path(folder))
        site.simulate(3 if short else 4)
        shell = Shell(site, **_environment())
        found = {name: leaks(text.encode()) for name, text in said(shell, prefect=not short).items()}
        files = [path for path in Path(folder).rglob("*") if path.is_file() and path != shell.settings]
        found |= {path.relative_to(folder).as_posix(): leaks(path.read_bytes()) for path in files}
    for place, names in found.items():
        if names:
            print(f"  {place}: {', '.join(sorted(names))}")
    places = sum(map(bool, found.values())) + len(images())
    heard = all(leaks(f"log: {canary} …".encode()) == {name} for name, canary in CANARIES.items())
    what = "outputs and files" if short else "outputs and files, Prefect's among them"
    figures.add(
        f"17. places where one of {len(CANARIES)} canary secrets is, of {len(found):,} {what}",
        places,
        "places",
        "= 0, and a planted one is found",
        holds=places == 0 and heard,
    )
