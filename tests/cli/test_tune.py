"""`saec tune`: it searches, judges on unseen hours, continues after a kill, and leaves the live version alone."""

import hashlib

import pytest
import yaml

from saec.tuning import replayed

SLOW = {"training": {"table_learning_rate": 0.025}, "model": {"first_order": 1.0}}
"""The first dial is at its end, where one turn shows that it is right."""
ASKED = ("tune", "--judged", "2", "--turns", "3")


def fingerprint(folder):
    """What lies in a site, but for tunings."""
    files = [path for path in folder.rglob("*") if path.is_file() and "tune" not in path.parts]
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(files)}


@pytest.mark.slow
def test_better_settings_are_found_and_judged_on_later_hours(shell):
    """A table that learns eight times too slowly is turned up; the gain is of hours that no trial has scored."""
    shell.configure(**SLOW)
    live = fingerprint(shell.site.folder)
    told = shell.json(*ASKED)
    assert told["changes"] == {"training.table_learning_rate": 0.1}
    assert [turn["value"] for turn in told["turns"]] == [0.5, 0.05, 0.1]
    assert told["judged_on"]["from"] > told["searched"]["to"]
    assert told["judged"]["rows"] > 500
    assert told["judged"]["logloss_difference"] < 0
    assert told["better"]
    assert not told["written"]
    assert yaml.safe_load(told["yaml"]) == {"training": {"table_learning_rate": 0.1}}
    assert fingerprint(shell.site.folder) == live

    again = shell(*ASKED, "--write")
    assert "written" in again.output
    assert yaml.safe_load(shell.config.read_text())["training"]["table_learning_rate"] == 0.1


def test_a_killed_search_goes_on(shell, monkeypatch):
    """Trials that are kept are not made again, and the result is what it would have been."""
    shell.configure(**SLOW)
    passes = []
    real = replayed.Trials._pass

    def killed(trials, config, told):
        if len(passes) == 2:
            raise KeyboardInterrupt
        passes.append(config.training.table_learning_rate)
        return real(trials, config, told)

    monkeypatch.setattr(replayed.Trials, "_pass", killed)
    assert shell(*ASKED, code=None).exit_code != 0
    monkeypatch.setattr(replayed.Trials, "_pass", lambda *given: passes.append(given[1]) or real(*given))
    monkeypatch.setattr("saec.tuning.judged.Replay.run", lambda *_: None)
    told = shell.json(*ASKED)
    assert len(passes) == 4
    assert told["changes"] == {"training.table_learning_rate": 0.1}


def test_too_few_hours_are_refused(shell):
    """The message says how many there are and how many are wanted."""
    said = shell("tune", "--judged", "5", code=2).output
    assert "there are 7 hours" in said
    assert "3 to search and 5 to judge on" in said


def test_a_search_that_finds_nothing_says_so(shell, monkeypatch):
    """No pipeline is run where no turn helps."""
    monkeypatch.setattr("saec.tuning.search.Turn.helps", property(lambda _: False))
    assert "no change is shown to help" in shell(*ASKED[:-1], "1").output


FOUND = {
    "turns": [],
    "changes": {"model.first_order": 0.5},
    "yaml": "model:\n  first_order: 0.5\n",
    "judged": {"hours": 2, "rows": 900}
    | {
        f"{metric}_{what}": -1.0
        for metric in ("auc", "logloss")
        for what in ("as_set", "as_tuned", "difference", "lower", "upper")
    },
    "judged_on": {"from": "2026-01-01T03", "to": "2026-01-01T04"},
    "searched": {"from": "2026-01-01T00", "to": "2026-01-01T02", "hours": 3},
    "seconds": {"search": 1.0, "hour_as_set": 1.0, "hour_as_tuned": 1.0},
}


def test_a_start_is_not_written_for_a_model_that_has_begun(shell, monkeypatch):
    """The next hour would be refused; what to do instead is said. A workspace without a model takes it."""
    monkeypatch.setattr("saec.cli.tune._known", lambda _: FOUND)
    before = shell.config.read_text()
    said = shell(*ASKED, "--write").output
    assert "model.first_order counts when a model starts" in " ".join(said.split())
    assert "written;" not in said
    assert shell.config.read_text() == before
    told = shell.json(*ASKED, "--write")
    assert (told["better"], told["written"], told["new_workspace"]) == (True, False, True)

    shell.configure(workspace=str(shell.site.folder / "elsewhere"))
    assert "written;" in shell(*ASKED, "--write").output
    assert yaml.safe_load(shell.config.read_text())["model"]["first_order"] == 0.5
