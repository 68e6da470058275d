"""`saec run` and `saec backfill`: what is done, what is said, and the exit code."""

from dataclasses import replace

import pytest
from rich.console import Console

from saec.cli.hours import exit_code
from saec.cli.progress import HourBar, hour_line
from saec.errors import ConfigError
from saec.hours import Hour
from saec.ledger import HourRow, report_record
from saec.report.records import STABLE_KEYS
from saec.schedule.pipeline import Pipeline
from saec.schedule.planner import PlannedHour

LAST, NEXT = 4, 5
HOUR = Hour.parse("2026-03-01T12")


def outcomes(answer) -> list[tuple[str, str]]:
    return [(row["hour"], row["outcome"]) for row in answer["hours"]]


def test_run_does_every_due_hour_oldest_first(shell):
    """Two hours are due: both are done in order, published, told in the report's keys, and then nothing is due."""
    answer = shell.json("run")
    assert outcomes(answer) == [(str(hour), "PUBLISHED") for hour in shell.site.hours[NEXT:]]
    assert tuple(answer["hours"][0])[: len(STABLE_KEYS)] == STABLE_KEYS
    assert answer["outcomes"]["PUBLISHED"] == 2
    assert shell.site.live == answer["hours"][-1]["version"]
    again = shell("run")
    assert "nothing is due" in again.stdout


def test_run_names_its_user_in_the_release_log(shell, monkeypatch):
    """Who ran it is written beside what it published."""
    monkeypatch.setenv("LOGNAME", "ana")
    shell("run", "--hour", shell.site.hours[NEXT])
    assert shell.site.store.live().actor == "saec run by ana"


def test_an_hour_is_not_done_twice_with_the_same_rows(shell):
    """A second time is a no-op that says so; with --replace it is done, and gives the same version."""
    hour = shell.site.hours[LAST]
    attempts, version = shell.site.rows()[LAST].attempts, shell.site.live
    answer = shell.json("run", "--hour", hour)
    assert answer["hours"] == []
    assert "PUBLISHED already" in answer["note"]
    assert shell.site.rows()[LAST].attempts == attempts
    assert shell.json("run", "--hour", hour, "--replace")["hours"][0]["version"] == version
    assert shell.site.rows()[LAST].attempts == attempts + 1


def test_an_hour_with_other_settings_is_done_again(shell):
    """The same rows under other settings are another result."""
    shell.configure(training={"dense_learning_rate": 0.01})
    before = shell.site.live
    answer = shell.json("run", "--hour", shell.site.hours[LAST])
    assert answer["hours"][0]["version"] not in (None, before)


@pytest.mark.slow  # four hours; schedule/test_backfill.py holds what becomes stale
def test_hours_that_went_on_from_a_changed_one_are_told_as_stale(shell):
    """Doing an earlier hour with other settings leaves the later one stale; what is due still comes first."""
    shell.configure(training={"dense_learning_rate": 0.01})
    answer = shell.json("run", "--hour", shell.site.hours[LAST - 1], code=3)
    assert answer["stale"] == [str(shell.site.hours[LAST])]
    assert answer["next"].startswith("saec run")
    shell("run", code=None)
    assert "backfill --only stale" in shell.json("status")["next"]


def test_an_hour_that_is_not_over_is_held(shell):
    """An hour in the future is refused with exit code 3, and the ledger does not hear of it."""
    answer = shell.json("run", "--hour", "2199-01-01T00", code=3)
    assert answer["error"]["reason"] == "held"
    assert "not over yet" in answer["error"]["message"]
    assert len(shell.site.rows()) == LAST + 1


def test_what_was_learnt_stays_when_the_files_are_gone(shell):
    """Doing an hour again whose files were removed since changes nothing."""
    hour = shell.site.hours[LAST]
    shell.site.file(hour).unlink()
    shell("run", "--hour", hour, "--replace", code=3)
    assert shell.site.rows()[LAST].state == "PUBLISHED"


def test_a_damaged_hour_is_quarantined_with_exit_code_3(shell):
    """The message on the way says which file and what to do."""
    shell.site.file(shell.site.hours[NEXT]).write_bytes(b"PAR1 no more")
    result = shell("run", code=3)
    assert "QUARANTINED(truncated)" in result.stderr
    assert "QUARANTINED" in result.stdout


@pytest.mark.slow  # two hours; schedule/test_lease.py holds who gets in
def test_a_run_that_finds_another_at_work_is_held(shell):
    """The ledger's lease lets one run in; the second says who holds it."""
    pipeline = Pipeline(shell.site.config(), actor="the other")
    with pipeline.leased():
        result = shell("run", code=3)
    assert "in use by the other" in result.stderr
    assert len(shell.json("run")["hours"]) == 2


@pytest.mark.parametrize(
    "words",
    [
        ("run", "--hour", "yesterday"),
        ("run", "--replace"),
        ("backfill",),
        ("backfill", "--from", "2026-03-01T12", "--to", "2026-03-01T11"),
        ("backfill", "--from", "2026-03-01T12", "--to", "2026-03-01T25"),
    ],
)
def test_wrong_usage_is_exit_code_2(shell, words):
    """Hours that are none, a range upside down, an option without its other half."""
    assert shell.json(*words, code=2)["error"]["exit"] == 2


def test_a_dry_run_tells_the_truth(shell):
    """What the dry run says would be done is what the backfill does; the dry run itself changes nothing."""
    range_ = ("--from", shell.site.hours[0], "--to", shell.site.hours[-1])
    shell.site.file(shell.site.hours[5]).unlink()
    before = shell.site.rows()
    planned = shell.json("backfill", *range_, "--dry-run")
    assert [item["action"] for item in planned["plan"] for _ in range(item["hours"])] == [
        *["skip"] * 5,
        "step-over",
        "do",
    ]
    assert planned["total"]["do"] == 1
    assert planned["total"]["seconds"] == pytest.approx(planned["plan"][-1]["seconds"])
    assert shell.site.rows() == before
    done = shell.json("backfill", *range_, code=3)
    assert [row["hour"] for row in done["hours"]] == [
        item["hour"] for item in planned["plan"] if item["action"] in ("do", "step-over")
    ]
    said = shell("backfill", *range_, "--dry-run").stdout
    assert "0 to do" in said


@pytest.mark.case(16)
def test_a_mistyped_year_is_refused_or_costs_nothing(shell):
    """Before the first hour there is data of: refused, saying where it begins. After the last: one line for all."""
    first, last = shell.site.hours[0], shell.site.hours[-1]
    before = shell.site.rows()
    for dry in ([], ["--dry-run"]):
        said = shell.json("backfill", "--from", "1970-01-01T00", "--to", last, *dry, code=2)["error"]["message"]
        assert f"the first one that there is data of is {first}" in said
    assert shell.site.rows() == before
    planned = shell.json("backfill", "--from", first, "--to", "2999-12-31T23", "--dry-run")
    assert planned["total"] | {"seconds": 0} == {"do": 2, "step-over": 0, "wait": 1, "skip": 5, "seconds": 0}
    assert planned["plan"][-1] == {
        "hour": str(last + 1),
        "last": str(last + 1),
        "action": "wait",
        "hours": 1,
        "why": "has no partition, nor has any later hour",
        "seconds": None,
    }
    answer = shell.json("backfill", "--from", first, "--to", "2999-12-31T23")
    assert [row["hour"] for row in answer["hours"]] == [str(hour) for hour in shell.site.hours[5:]]
    assert f"ended before hour {last + 1}, which has no partition" in answer["note"]


@pytest.mark.case(16)
def test_equal_lines_of_a_plan_are_one(shell):
    """The three hours that are published and stay are one line, with how many they are."""
    planned = shell.json("backfill", "--from", shell.site.hours[0], "--to", shell.site.hours[4], "--dry-run")["plan"]
    assert [(item["hour"], item["hours"]) for item in planned][-1] == (str(shell.site.hours[2]), 3)
    said = shell("backfill", "--from", shell.site.hours[0], "--to", shell.site.hours[4], "--dry-run").stdout
    assert f"{shell.site.hours[2]} to {shell.site.hours[4]} (3)" in said


@pytest.mark.case(16)
def test_a_source_without_hours_is_nothing_to_fill(empty_shell):
    """No partition and no ledger: a backfill has nothing to be about."""
    said = empty_shell.json("backfill", "--from", "2026-03-01T12", "--to", "2026-03-01T14", code=2)["error"]["message"]
    assert "does not exist" in said
    (empty_shell.site.folder / "data").mkdir()
    said = empty_shell.json("backfill", "--from", "2026-03-01T12", "--to", "2026-03-01T14", code=2)["error"]["message"]
    assert "holds no hour" in said


@pytest.mark.case(6)
def test_a_source_laid_out_otherwise_is_no_quiet_pipeline(fresh_shell):
    """Every command says so and fails, and writes no hour; with the line that it names all hours are due."""
    hours, data = fresh_shell.site.hours, fresh_shell.site.folder / "data"
    for day in data.glob("date=*"):
        for folder in day.iterdir():
            folder.rename(folder.with_name(folder.name.replace("hour=0", "hr=").replace("hour=", "hr=")))
    says = 'layout: "date=%Y-%m-%d/hr=%H"'
    assert says in fresh_shell("run", code=1).output.replace("\n", " ")
    [alarm] = fresh_shell.json("status", code=1)["alarms"]
    assert (alarm["name"], says in alarm["message"]) == ("lost", True)
    assert 'saec_alarm{alarm="lost"} 1.0' in fresh_shell("metrics", code=None).output
    for words in (
        ("run", "--hour", hours[0]),
        ("backfill", "--from", hours[0], "--to", hours[1]),
        ("backfill", "--from", hours[0], "--to", hours[1], "--dry-run"),
    ):
        assert says in fresh_shell.json(*words, code=2)["error"]["message"]
    assert fresh_shell.site.rows() == []
    fresh_shell.configure(data={"layout": "date=%Y-%m-%d/hr=%H"})
    assert fresh_shell.json("status")["backlog"]["hours"] == list(map(str, hours))


@pytest.mark.case(6)
def test_no_hour_is_stepped_over_for_a_source_that_went_away(shell):
    """An unmounted disk is not taken for hours without rows."""
    rows = shell.site.rows()
    (shell.site.folder / "data").rename(shell.site.folder / "elsewhere")
    assert "does not exist" in shell("run", code=1).output.replace("\n", " ")
    with shell.site.pipeline() as pipeline, pipeline.leased() as lease:
        absent = PlannedHour(shell.site.hours[NEXT], "step-over", "its partition is absent")
        with pytest.raises(ConfigError, match="does not exist"):
            pipeline.run(lease, [absent])
    assert shell.site.rows() == rows


@pytest.mark.slow  # four hours; schedule/test_backfill.py holds it without --promote
def test_a_backfill_never_moves_the_live_model_unless_told_to(shell):
    """Without --promote both hours pass and are kept, exit code 0; with it they go live."""
    live = shell.site.live
    answer = shell.json("backfill", "--from", shell.site.hours[NEXT], "--to", shell.site.hours[-1])
    assert [row["reason"] for row in answer["hours"]] == ["not-promoted"] * 2
    assert shell.site.live == live
    range_ = ("--from", shell.site.hours[NEXT], "--to", shell.site.hours[-1])
    promoted = shell.json("backfill", *range_, "--only", "all", "--promote")
    assert shell.site.live == promoted["hours"][-1]["version"] != live


@pytest.mark.parametrize(
    ("words", "ends"),
    [((), ["QUARANTINED"]), pytest.param(("--keep-going",), ["QUARANTINED", "HELD"], marks=pytest.mark.slow)],
)
def test_a_backfill_stops_at_a_failure_or_goes_on(shell, words, ends):
    """By default the first damaged hour ends it, and what is left is said; the same command takes it up again."""
    shell.site.file(shell.site.hours[NEXT]).write_bytes(b"PAR1 no more")
    range_ = ("--from", shell.site.hours[NEXT], "--to", shell.site.hours[-1])
    answer = shell.json("backfill", *range_, *words, code=3)
    assert [row["outcome"] for row in answer["hours"]] == ends
    assert ("backfill --resume" in answer["note"]) == (len(ends) == 1)


def test_the_worst_end_decides_the_exit_code():
    """Failed over held over done; a version kept because nobody asked to promote it is done."""
    published = HourRow(HOUR, "PUBLISHED", 1, 1)
    unpromoted = replace(published, state="HELD", reason="not-promoted")
    held, failed = replace(published, state="HELD", reason="floor"), replace(published, state="FAILED", reason="oom")
    assert exit_code([]) == exit_code([published, unpromoted]) == 0
    assert exit_code([published, held]) == exit_code([replace(held, state="QUARANTINED")]) == 3
    assert exit_code([held, failed, published]) == 1


def test_ctrl_c_gives_the_lease_back(shell, monkeypatch):
    """Exit code 130 and one line; the next run takes the hour up again."""

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("saec.schedule.pipeline.do_hour", interrupt)
        result = shell("run", code=130)
    assert "stopped" in result.stderr
    assert "Traceback" not in result.stderr
    assert [row["outcome"] for row in shell.json("run")["hours"]] == ["PUBLISHED"] * 2


def test_a_message_of_several_points_has_a_line_for_each():
    """An hour's end is one line, and what differs stands below it; marks of a terminal do not get through."""
    message = "the settings mean something else:\n- field 'a' is changed\n- field 'b\x1b[31m' is added\nPut them back"
    row = HourRow(HOUR, "FAILED", 1, 1, reason="meaning", message=message)
    assert hour_line(report_record(row)).plain == (
        "2026-03-01T12 FAILED(meaning)\n  the settings mean something else:\n  - field 'a' is changed\n"
        "  - field 'b\ufffd[31m' is added\n  Put them back"
    )


def test_the_bar_counts_hours_and_names_the_step():
    """On a terminal: hours done of all, the hour and step at work; then one line for each hour that ended."""
    console = Console(force_terminal=True, width=160, color_system=None)
    row = HourRow(HOUR, "HELD", 1, 1, reason="floor", message="not shown to beat [the] base rate")
    with console.capture() as capture, HourBar(console, total=2) as bar:
        bar.on_plan(0, 2, None)
        bar.on_hour(row)
        bar.on_step(HOUR + 1, "train")
    shown = capture.get()
    assert "1 of 2 hours" in shown
    assert "2026-03-01T13 train" in shown
    assert "2026-03-01T12 HELD(floor)  not shown to beat [the] base rate" in shown
