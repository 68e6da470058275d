"""`saec versions`, `card`, `verify`, `repair`, `rollback`, `hold` and `unhold`."""

import shlex
import shutil

import pytest
from rich.text import Text

NEXT = 5


def stored(shell):
    return shell.site.store.versions()


def test_versions_are_listed_with_their_marks_and_figures(shell):
    """Which is live and which was before; sizes are those of the files, metrics those of the manifest."""
    answer = shell.json("versions")
    assert [item["version"] for item in answer["versions"]] == stored(shell)
    older = [False] * (len(stored(shell)) - 2)
    assert [item["live"] for item in answer["versions"]] == [*older, False, True]
    assert [item["previous"] for item in answer["versions"]] == [*older, True, False]
    newest = answer["versions"][-1]
    folder = shell.site.folder / "workspace" / "store" / "versions" / newest["version"]
    sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
    assert newest["files"] == {name: size for name, size in sizes.items() if name != "manifest.json"}
    assert 0.5 < newest["metrics"]["auc_compressed"] < 1
    assert {release["action"] for release in answer["releases"]} == {"publish"}
    assert "token" not in answer["releases"][0]
    said = shell("versions").stdout
    assert f"{newest['version']}  live" in said


def test_a_damaged_version_is_listed_and_found(shell):
    """Both commands name it; the other versions are whole."""
    version = stored(shell)[0]
    folder = shell.site.folder / "workspace" / "store" / "versions" / version
    (folder / "network.safetensors").write_bytes(b"")
    answer = shell.json("verify", code=1)
    assert [item["version"] for item in answer["versions"] if item["problems"]] == [version]
    assert "network.safetensors was altered" in shell("verify", version, code=1).stdout
    (folder / "manifest.json").write_text("{}")
    assert shell.json("versions")["versions"][0]["problem"]
    assert "damaged" in shell("versions").stdout
    shell("verify", stored(shell)[1])


def test_a_missing_version_is_found_and_a_retired_one_is_not(shell):
    """What the ledger or the release log names and the store lost is a problem; what retention removes is none."""

    def bad() -> list[str]:
        return [item["version"] for item in shell.json("verify", code=1)["versions"] if item["problems"]]

    oldest, *_, previous, _ = stored(shell)
    assert shell.json("verify")["whole"]
    shell.site.store.remove(oldest)
    assert bad() == [oldest]
    shell.configure(retention=2)
    assert shell.json("verify")["whole"]
    shell.site.store.remove(previous)
    assert bad() == [previous]


@pytest.mark.fault(68)
@pytest.mark.slow  # two hours; schedule/test_pipeline.py holds the same without the command line
def test_rollback_holds_until_release(shell):
    """A rollback makes an old version live; the next hour is only archived, the one after the release published."""
    old, new = stored(shell)[0], shell.site.live
    done = shell.json("rollback", old, "--reason", "odd [scores]")
    assert (done["version"], done["held"], done["previous"], done["reason"]) == (old, True, new, "odd [scores]")
    assert shell.json("versions")["versions"][0]["held"]
    row = shell.json("run", "--hour", shell.site.hours[NEXT], code=3)["hours"][0]
    assert (row["outcome"], row["reason"], shell.site.live) == ("HELD", "held", old)
    assert shell.json("unhold", "--reason", "mended")["held"] is False
    assert shell.site.live == old
    row = shell.json("run", "--hour", shell.site.hours[NEXT + 1])["hours"][0]
    assert (row["outcome"], shell.site.live) == ("PUBLISHED", row["version"])


def test_hold_keeps_what_is_live(shell):
    """Hours go on under a hold; nothing is published, and exit code 3 says so."""
    live = shell.site.live
    assert "held" in shell("hold", "--reason", "launch").stdout
    hours = shell.json("run", "--hour", shell.site.hours[NEXT], code=3)["hours"]
    assert [row["reason"] for row in hours] == ["held"]
    assert shell.site.live == live


def test_a_card_on_a_terminal_has_no_marks(shell, monkeypatch):
    """What is escaped for Markdown is printed as it was typed; elsewhere the page is Markdown."""
    shell("hold", "--reason", "a|b *c* <d> & [e](f)")
    assert "## Served figures" in (page := shell("card").stdout)
    assert r"a\|b \*c\*" in page
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("COLUMNS", "200")
    printed = Text.from_ansi(shell("card").stdout).plain
    assert "a|b *c* <d> & [e](f)" in printed
    assert not [mark for mark in ("\\", "## ", "**", "`", "&lt;", "|---") if mark in printed]


def test_a_card_is_of_the_live_version_or_of_the_one_that_is_named(shell, tmp_path):
    """As a page, in a file, or in JSON; looking at it changes no byte of the store."""
    before = shell.site.digests()
    assert shell.json("card")["version"] == shell.site.live
    oldest = stored(shell)[0]
    page = shell("card", oldest).stdout
    assert page.startswith(f"# Version `{oldest}`")
    shell("card", oldest, "--out", tmp_path / "cards" / "card.md")
    assert (tmp_path / "cards" / "card.md").read_text(encoding="utf-8") == page
    assert shell.site.digests() == before


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("card", "20260301T12-0123456789ab"), 1, "has no version"),
        (("unhold", "--reason", "x"), 1, "nothing is held"),
        (("rollback", "20260301T12-0123456789ab", "--reason", "x"), 1, "has no version"),
        (("rollback", "../../etc", "--reason", "x"), 1, "is not a version id"),
        (("rollback", "20260301T12-0123456789ab"), 2, "--reason"),
        (("verify", "20260301T12-0123456789ab"), 1, "has no version"),
    ],
)
def test_what_cannot_be_is_refused(shell, words, code, said):
    """What is not held, not there, no version, or without a reason; the live version stays."""
    live = shell.site.live
    assert said in shell(*words, code=code).output
    assert shell.site.live == live


def test_verify_looks_beyond_the_store_and_repair_moves_aside(shell):
    """A checkpoint that is gone makes `verify` fail; `repair` moves what is damaged and says what."""
    name, _ = shell.site.rows()[-1].learnt
    (shell.site.folder / "workspace" / "checkpoints" / f"{name}.safetensors").unlink()
    answer = shell.json("verify", code=1)
    assert not answer["whole"]
    assert [(other["kind"], other["what"]) for other in answer["others"]] == [("missing", f"checkpoint {name}")]
    version = stored(shell)[0]
    (shell.site.folder / "workspace" / "store" / "versions" / version / "index.safetensors").write_bytes(b"")
    assert f"versions/{version}/index.safetensors" in shell.json("repair")["moved"]
    assert version not in stored(shell)
    assert shell.json("repair")["moved"] == []


@pytest.mark.case(5)
def test_missing_versions_are_not_verified_ones(shell):
    """They are counted apart, and what is advised can be done: nothing is left to roll back to, so its hour is done."""
    shutil.rmtree(shell.site.folder / "workspace" / "store")
    said = shell("verify", code=1).stdout
    assert "0 versions verified, 0 damaged, 3 missing" in said
    assert "rollback" not in said
    assert f"next: saec run --hour {shell.site.hours[4]} --replace" in said
    shell("run", "--hour", shell.site.hours[4], "--replace")
    assert shell.site.live


@pytest.mark.case(19)
def test_repair_says_that_the_live_version_is_damaged(shell):
    """It stays where it is; the exit code and the next commands say so, and these make the store whole again."""
    live = shell.site.live
    (shell.site.folder / "workspace" / "store" / "versions" / live / "index.safetensors").write_bytes(b"")
    assert f"{live} is live and damaged; it was not moved" in shell("repair", code=1).stdout
    answer = shell.json("repair", code=1)
    assert (answer["moved"], answer["live"]["version"]) == ([], live)
    assert "index.safetensors was altered" in answer["live"]["problems"][0]
    assert [command.split()[1] for command in answer["next"]] == ["rollback", "repair"]
    shell(*shlex.split(answer["next"][0].removeprefix("saec ").partition(" --config")[0]))
    assert shell.json("repair")["live"]["problems"] == []
    assert live not in stored(shell)


@pytest.mark.case(19)
def test_repair_where_every_version_is_damaged(shell):
    """There is nothing to roll back to, so the newest hour is done again, which repairs what is live."""
    for folder in (shell.site.folder / "workspace" / "store" / "versions").iterdir():
        (folder / "network.safetensors").write_bytes(b"")
    [words] = {
        command.partition(" --config")[0] for command in shell.json("repair", code=1)["next"] if "run" in command
    }
    shell(*words.split()[1:])
    assert shell.site.store.verify(shell.site.live) == []
