"""docs/serving.md: its snippets run, its commands answer what it says, its tables are complete.

`COMMANDS` says what each command line must answer; a line that is in the document and not here, or the other way round,
fails. Lines are typed in a folder with the document's pipeline, at a server on a port of its own.
"""

import ast
import contextlib
import io
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path

import pytest
import yaml

from saec.server.live import Standing
from saec.server.metrics import ServerMetrics
from saec.server.options import ServerOptions
from saec.server.request_log import RequestLog

ROOT = Path(__file__).parent.parent
DOCUMENT = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
SERVE = "saec serve --config configs/shop.yaml --log workspace/scored --cache workspace/cache"
SERVE_ALONE = (
    "python -m saec.server --store workspace/shop/store --row-id impression_id --log workspace/scored "
    "--cache workspace/cache"
)
SERVE_TOGETHER = "saec serve --workers 4 --config configs/shop.yaml --cache workspace/cache"
ELSEWHERE = {
    "python -m pip install --require-hashes --no-deps --requirement requirements/serving.txt": "the image's recipe",
    SERVE: "what the other lines ask",
    SERVE_ALONE: "the same",
    SERVE_TOGETHER: "the same",
    "python -m saec.build_kernel": "it would build into the checkout; tests/serving/test_compiled.py builds elsewhere",
}
ANSWERS = (
    '"ready":true',
    r'"scores":\[0\.\d+\]',
    r'"scores":\[0\.\d+,0\.\d+\]',
    "did you mean 'user_id'",
    "held: nothing is published",
    "fixed in the app",
    "report.html",
    '"failed": 0',
    "as ONNX",
)
"""What each line answers, in the document's order."""


def blocks(language: str) -> list[str]:
    """The document's blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", DOCUMENT, flags=re.MULTILINE | re.DOTALL)


LINES = [line for line in "".join(blocks("bash")).splitlines() if line not in ELSEWHERE]


@pytest.fixture
def shop(site, monkeypatch) -> Path:
    """The document's pipeline in a folder of its own: five hours done, two due."""
    settings = site.config().model_dump(mode="json")
    settings |= {"workspace": "workspace/shop", "data": settings["data"] | {"source": "data"}}
    (site.folder / "configs").mkdir()
    (site.folder / "configs" / "shop.yaml").write_text(yaml.safe_dump(settings))
    (site.folder / "workspace").rename(site.folder / "shop")
    (site.folder / "workspace").mkdir()
    (site.folder / "shop").rename(site.folder / "workspace" / "shop")
    monkeypatch.chdir(site.folder)
    return site.folder


def versions(shop: Path) -> list[str]:
    """The store's versions, the live one last."""
    return sorted(path.name for path in (shop / "workspace" / "shop" / "store" / "versions").iterdir())


def test_the_snippets_run(shop):
    """One after the other, as in one session; rows, candidates, columns and Arrow give the same scores."""
    names: dict = {}
    with contextlib.redirect_stdout(io.StringIO()) as said:
        for snippet in blocks("python"):
            exec(snippet.replace("20260301T16-0123456789ab", versions(shop)[-1]), names)
    model, row = names["model"], names["row"]
    assert names["live"].version == model.version == versions(shop)[-1]
    rows, candidates, columns, arrow = re.findall(r"\[(0\.[^\]]*)\]", said.getvalue())
    assert columns == arrow
    firsts = [float(scores.split()[0]) for scores in (rows, candidates, columns)]
    assert firsts == pytest.approx([model.score([row])[0]] * 3, abs=1e-6)


def test_the_guides_snippet_runs(shop):
    """One user's candidate has a score."""
    guide = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")
    (snippet,) = re.findall(r"^```python\n(.*?)^```", guide, flags=re.MULTILINE | re.DOTALL)
    names: dict = {}
    snippet = snippet.replace("20260301T16-0123456789ab", versions(shop)[-1])
    exec(snippet.replace("model.score", "scores = model.score"), names)
    assert len(names["scores"]) == 1


def environment(shop: Path) -> dict[str, str]:
    """A shell's variables, with the command `saec` and the module `benchmarks` of this checkout."""
    program = shop / "bin" / "saec"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m saec.cli.main "$@"\n')
    program.chmod(0o755)
    path = f"{program.parent}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    return os.environ | {"PATH": path, "PYTHONPATH": str(ROOT)}


@contextlib.contextmanager
def served(line: str, port: int, variables: dict[str, str]) -> Iterator[None]:
    """The server, started by a line of the document, until it is ready."""
    process = subprocess.Popen(
        f"exec {line} --port {port}", shell=True, env=variables, start_new_session=True, stderr=subprocess.DEVNULL
    )
    ready = f"curl --silent --fail http://127.0.0.1:{port}/readyz"
    try:
        deadline = time.monotonic() + 30
        while subprocess.run(ready, shell=True, check=False, stdout=subprocess.DEVNULL).returncode:
            assert time.monotonic() < deadline, f"{line} is not ready"
            time.sleep(0.1)
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(15)


@pytest.mark.server
def test_every_command_answers(shop):
    """Each line, typed in the document's order, exits with 0 and says what it should."""
    assert len(LINES) == len(ANSWERS)
    variables = environment(shop)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    before, live = versions(shop)[-2:]
    for line in (SERVE_ALONE, SERVE_TOGETHER):
        with served(line, port, variables):
            pass
    with served(SERVE, port, variables):
        for line, wanted in zip(LINES, ANSWERS, strict=True):
            typed = line.replace("8080", str(port)).replace("VERSION", before).replace("NEXT", live)
            if "benchmarks.load" in typed:
                typed = typed.replace("--seconds 5", f"--seconds 0.5 --url http://127.0.0.1:{port}")
            ended = subprocess.run(
                typed,
                shell=True,
                env=variables,
                text=True,
                check=False,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            said = " ".join(ended.stdout.split())
            assert ended.returncode == 0, f"{typed}: {said}"
            assert re.search(wanted, said), f"{typed}: {said}"
    logged = "".join(path.read_text() for path in (shop / "workspace" / "scored").iterdir())
    assert logged.count('"id":{"impression_id":71}') == 1
    assert logged.count("\n") == 1, "rows without ids were logged"


def refusals() -> Iterator[tuple[int, str]]:
    """Status and reason of every refusal in the server's source."""
    for path in (ROOT / "saec" / "server").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Refusal":
                status, reason, *_ = node.args
                if isinstance(reason, ast.Constant) and isinstance(status, ast.Attribute):
                    yield HTTPStatus[status.attr], reason.value


def test_every_refusal_is_in_the_table():
    """Whatever the server refuses with, the document says what to do."""
    rows = re.findall(r"^\| (\d{3}(?:, \d{3})*) \| ([^|]*) \|", DOCUMENT, flags=re.MULTILINE)
    told = {
        (int(status), reason)
        for statuses, reasons in rows
        for status in statuses.split(", ")
        for reason in re.findall(r"`([\w-]+)`", reasons)
    }
    assert len({*refusals()}) > 8
    assert {*refusals()} <= told
    limits = ServerOptions()
    assert f"{limits.max_rows:,}" in DOCUMENT
    assert f"{limits.max_body_bytes >> 20} MiB" in DOCUMENT


def test_every_metric_is_in_the_table(tmp_path):
    """The server's metrics are listed, and no others; alerts are on metrics that there are."""
    metrics = ServerMetrics(Standing(), RequestLog(tmp_path))
    metrics.requests["other", 200] += 1
    text = metrics.text().decode()
    given = set(re.findall(r"^(saec_server_\w+?)(?:_bucket|_sum|_count)?(?:\{| )", text, flags=re.MULTILINE))
    given = {name for name in given if not name.endswith("_created")}
    section = DOCUMENT.partition("## Metrics")[2].partition("## ")[0]
    rows = re.findall(r"^\| (saec_[^|]*)\|", section, flags=re.MULTILINE)
    told = {name for row in rows for name in row.strip().split(", ")}
    while_live = {
        "saec_server_live_version_" + name
        for name in ("info", "since_timestamp_seconds", "age_seconds", "from_cache", "held")
    }
    assert told == given | while_live | {"saec_server_last_poll_timestamp_seconds"}
    monitoring = (ROOT / "docs" / "monitoring.md").read_text(encoding="utf-8")
    (rules,) = yaml.safe_load(blocks("yaml")[0])["groups"]
    for rule in rules["rules"]:
        for name in re.findall(r"saec_\w+", rule["expr"]):
            assert name.removesuffix("_bucket") in told or f"{name}" in monitoring, name
