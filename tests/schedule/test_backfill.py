"""Backfills: aside and swapped in, paused, killed, resumed, cancelled; and what they never touch."""

import threading
import time

import pytest

from saec import failpoints, steps
from saec.errors import LedgerError
from saec.ledger import Ledger
from saec.schedule.advance import advance
from saec.schedule.backfill import give_up, run_backfill
from saec.schedule.progress import ask, look_ahead
from saec.steps import Run
from saec.workspace import Workspace
from tests.conftest import instead

LAST, NEXT = 4, 5
"""Of the hours of a site: the last one done, and the one to be done next."""


def ends(rows) -> list[tuple[str, str | None]]:
    return [(row.state, row.reason) for row in rows]


def left(site) -> dict[str, str]:
    """sha256 of every file of versions and training state, and of what stays of hours."""
    return {
        f"{below}/{name}": sha
        for below in ("store/versions", "checkpoints", "hours")
        for name, sha in site.digests(f"workspace/{below}").items()
    }


def dying(at: int) -> Run:
    """Steps of which the fourth is killed in the hour done as such and such."""
    begun = []

    def retrain(*args):
        begun.append(args)
        if len(begun) == at:
            raise KeyboardInterrupt
        return steps.retrain(*args)

    return instead(retrain=retrain)


@pytest.mark.fault(12)
def test_backfill_without_promote_never_moves_live(fresh, undisturbed):
    """A backfill of everything trains, judges and keeps what passes, and releases none of it."""
    rows = fresh.backfill(fresh.hours[0], fresh.hours[3], "missing")
    assert ends(rows)[2:] == [("HELD", "not-promoted")] * 2
    assert fresh.live is None
    assert fresh.store.releases() == []
    assert fresh.store.versions() == [row.version for row in rows if row.version]
    assert [row.checkpoint for row in rows] == [row.checkpoint for row in undisturbed.rows()[:4]]


@pytest.mark.slow  # four hours from nothing
def test_backfill_with_promote_releases_in_order(fresh, undisturbed):
    """With --promote a backfill of an empty pipeline does what the schedule would have done."""
    fresh.backfill(fresh.hours[0], fresh.hours[3], "missing", promote=True)
    assert [row.version for row in fresh.rows()] == [row.version for row in undisturbed.rows()[:4]]
    assert fresh.live == fresh.rows()[-1].version


def test_backfill_stops_at_the_first_failure_if_told(fresh):
    """With stop_on_failure the hours after one that is QUARANTINED are left for later; without, they are done."""
    fresh.file(fresh.hours[1]).write_bytes(b"PAR1")
    assert ends(fresh.backfill(*fresh.hours[:2], "missing", stop_on_failure=True))[1:] == [("QUARANTINED", "truncated")]
    with fresh.pipeline() as pipeline:
        give_up(pipeline)
    rows = fresh.backfill(fresh.hours[1], fresh.hours[2], "all")
    assert [row.state for row in rows] == ["QUARANTINED", "HELD"]


@pytest.mark.fault(47)
def test_same_data_again_is_no_change(site):
    """The same bytes done again: same version, same state, no release, and the hours after it stand as they are."""
    serving, before = site.serving(), site.rows()
    (row,) = site.backfill(site.hours[2], site.hours[2], "all", promote=True)
    assert (row.version, row.checkpoint, row.input_digest) == (
        before[2].version,
        before[2].checkpoint,
        before[2].input_digest,
    )
    assert (row.state, row.reason) == (before[2].state, before[2].reason), "it was released then"
    assert site.serving() == serving
    assert site.store.versions() == [row.version for row in before if row.version]
    assert [row.stale_because for row in site.rows()] == [None] * 5


@pytest.mark.slow  # three hours; that later hours become stale is held by the next test too
def test_hour_done_again_otherwise_makes_later_ones_stale(site):
    """A middle hour with other data marks the hours after it; a stale backfill does those again and clears the mark."""
    site.redeliver(site.hours[2])
    site.backfill(site.hours[2], site.hours[2], "all")
    stale = site.rows()
    assert [bool(row.stale_because) for row in stale] == [False] * 3 + [True] * 2
    assert str(site.hours[2]) in stale[3].stale_because
    redone = site.backfill(site.hours[0], site.hours[LAST], "stale")
    assert [row.hour for row in redone] == site.hours[3:5]
    rows = site.rows()
    assert not any(row.stale_because for row in rows)
    assert all(new.checkpoint != old.checkpoint for new, old in zip(rows[3:], stale[3:], strict=True))


def test_hour_that_loses_its_state_makes_later_ones_stale(site):
    """A middle hour that is QUARANTINED when done again leaves later hours stale: they learnt what is now refused."""
    site.file(site.hours[2]).write_bytes(b"PAR1")
    (row,) = site.backfill(site.hours[2], site.hours[2], "all")
    assert row.state == "QUARANTINED"
    assert [bool(row.stale_because) for row in site.rows()] == [False] * 3 + [True] * 2


def test_redo_that_died_makes_later_ones_stale(site):
    """Where a run died over a middle hour, nobody knows what it had been: doing it again marks the later hours."""
    site.redeliver(site.hours[2])
    with site.pipeline(run_step=dying(1)) as pipeline, pytest.raises(KeyboardInterrupt), pipeline.leased() as lease:
        pipeline.do(lease, site.hours[2])
    site.file(site.hours[2]).write_bytes(b"PAR1")
    site.backfill(site.hours[2], site.hours[2], "failed")
    assert [bool(row.stale_because) for row in site.rows()] == [False] * 3 + [True] * 2


def test_late_hour_is_swapped_in_with_its_successor(site):
    """An hour that came late is done with those that had gone on without it; the newest of them goes live, not it."""
    late, newer = site.hours[NEXT], site.hours[NEXT + 1]
    aside = site.folder / "late.parquet"
    site.file(late).rename(aside)
    with site.pipeline() as pipeline, pipeline.leased() as lease:
        rows = pipeline.run(lease, pipeline.due(newer + 3))
    assert ends(rows) == [("HELD", "no-data"), ("PUBLISHED", None)]
    live, releases = site.live, len(site.store.releases())
    aside.rename(site.file(late))
    rows = site.backfill(site.hours[0], newer, "missing", promote=True)
    assert [(row.hour, row.state, row.reason) for row in rows] == [
        (late, "HELD", "not-promoted"),
        (newer, "PUBLISHED", None),
    ]
    assert (rows[1].parent, site.live) == (late, rows[1].version)
    assert site.live != live
    assert len(site.store.releases()) == releases + 1


@pytest.mark.fault(11)
def test_older_hour_after_newer_does_not_move_the_pointer_back(site):
    """An hour done again alone, to be promoted, is HELD(superseded): the live version is of a later hour and stays."""
    site.redeliver(site.hours[2], every=100)
    serving = site.serving()
    (row,) = site.backfill(site.hours[2], site.hours[2], "all", promote=True)
    assert (row.state, row.reason) == ("HELD", "superseded")
    assert row.version in site.store.versions()
    assert serving.items() <= site.digests().items()


def test_backfill_before_the_oldest_checkpoint_says_so(site):
    """An hour whose parent's training state was removed FAILs with what to do, and the live version stays."""
    site.advance(site.hours[NEXT], config=site.config(retention=2))
    serving = site.serving()
    (row,) = site.backfill(site.hours[2], site.hours[2], "all", promote=True)
    assert (row.state, row.reason) == ("FAILED", "no-checkpoint")
    assert "saec backfill" in row.message
    assert site.serving() == serving


@pytest.mark.fault(12)
def test_what_stands_is_untouched_until_all_is_swapped_in(site):
    """While hours are done aside, ledger, live version and the hours' files are as they were; then all change."""
    for hour in site.hours[3:5]:
        site.redeliver(hour)
    before, serving, files = site.rows(), site.serving(), site.digests("workspace/hours")
    seen = []

    def gate(plan, *args):
        seen.append(
            (plan.hour, site.rows() == before, site.serving() == serving, site.digests("workspace/hours") == files)
        )
        return steps.gate(plan, *args)

    rows = site.backfill(site.hours[3], site.hours[LAST], "all", run_step=instead(gate=gate))
    assert seen == [(hour, True, True, True) for hour in site.hours[3:5]]
    assert [row.hour for row in rows] == site.hours[3:5]
    after = site.rows()
    assert after[:3] == before[:3]
    assert not {row.checkpoint for row in after[3:]} & {row.checkpoint for row in before}
    assert not any(row.stale_because for row in after)
    assert site.serving().items() >= serving.items(), "nothing was promoted"
    assert site.digests("workspace/aside") == {}
    assert set(files) == set(site.digests("workspace/hours"))


@pytest.mark.slow  # a dozen hours
def test_swapped_in_hours_are_those_of_a_pipeline_that_had_this_data_from_the_start(site, simulated, tmp_path):
    """Versions and training state of a chain done again are to the byte those of a run that never knew other data."""
    fresh = simulated.copy(tmp_path / "fresh")
    for place in (fresh, site):
        place.redeliver(place.hours[1])
    fresh.advance(fresh.hours[LAST])
    site.backfill(site.hours[1], site.hours[LAST], "all", promote=True)
    assert [(row.version, row.learnt) for row in site.rows()] == [(row.version, row.learnt) for row in fresh.rows()]
    assert site.live == fresh.live == site.rows()[-1].version
    site.advance(site.hours[NEXT])
    assert site.rows()[-1].parent == site.hours[LAST]


@pytest.mark.fault(1)
@pytest.mark.parametrize("at", [1, 3])
@pytest.mark.slow  # two backfills of four hours
def test_killed_backfill_goes_on_where_it_was(site, at):
    """Killed mid-hour and begun again in the same words, it does the hours that are left, with the same bytes."""
    other = site.copy(site.folder.parent / "other")
    for place in (site, other):
        place.redeliver(place.hours[1])
    other.backfill(other.hours[1], other.hours[LAST], "all", promote=True)
    with pytest.raises(KeyboardInterrupt):
        site.backfill(site.hours[1], site.hours[LAST], "all", promote=True, run_step=dying(at))
    with site.pipeline() as pipeline:
        current = pipeline.ledger.backfills.current()
        progress = look_ahead(pipeline.config, pipeline.ledger, current, site.hours[-1])
        assert (current.state, progress.done, len(progress.left)) == ("RUNNING", at - 1, 5 - at)
    rows = site.backfill(site.hours[1], site.hours[LAST], "all", promote=True)
    assert [row.hour for row in rows] == site.hours[at:5]
    assert left(site) == left(other)
    assert site.live == other.live


@pytest.mark.slow  # five hours
def test_backfill_with_a_failure_in_the_middle_is_resumed_once_that_is_mended(site):
    """It stops at the failure with nothing swapped in; resumed, it does that hour and the rest."""
    site.redeliver(site.hours[1])
    good = site.file(site.hours[2]).read_bytes()
    site.file(site.hours[2]).write_bytes(b"PAR1")
    before = site.rows()
    with site.pipeline() as pipeline:
        asked = ask(site.hours[1], site.hours[LAST], "a test", only="all")
        stopped, rows = run_backfill(pipeline, asked, now=site.hours[-1])
        assert (stopped.state, ends(rows)[1:]) == ("STOPPED", [("QUARANTINED", "truncated")])
        assert str(site.hours[2]) in stopped.message
        assert site.rows() == before
        site.file(site.hours[2]).write_bytes(good)
        done, rows = run_backfill(pipeline, now=site.hours[-1])
    assert (done.state, [row.hour for row in rows]) == ("DONE", site.hours[2:5])
    assert not {row.checkpoint for row in site.rows()[1:]} & {row.checkpoint for row in before}


def test_pause_takes_effect_between_hours(site):
    """Asked to pause, it ends the hour at work, leaves the lease, and says so; resumed, it does the others."""
    site.redeliver(site.hours[3])

    def gate(plan, *args):
        if plan.hour == site.hours[3]:
            with site.pipeline() as other:
                assert other.ledger.backfills.ask("pause").asked == "pause"
        return steps.gate(plan, *args)

    with site.pipeline(run_step=instead(gate=gate)) as pipeline:
        asked = ask(site.hours[3], site.hours[LAST], "a test", only="all")
        paused, rows = run_backfill(pipeline, asked, now=site.hours[-1])
        assert (paused.state, [row.hour for row in rows]) == ("PAUSED", site.hours[3:4])
        assert pipeline.ledger.holder() is None
    with site.pipeline() as pipeline:
        done, rows = run_backfill(pipeline, now=site.hours[-1])
    assert (done.state, [row.hour for row in rows]) == ("DONE", site.hours[4:5])


@pytest.mark.slow  # two hours; a backfill that is given up is in a test above too
def test_given_up_backfill_leaves_no_trace(site):
    """Given up, it leaves ledger, files and live version as they were; then there is nothing to give up or resume."""
    site.redeliver(site.hours[1])
    before, hours = site.rows(), site.digests("workspace/hours")
    with pytest.raises(KeyboardInterrupt):
        site.backfill(site.hours[1], site.hours[LAST], "all", run_step=dying(2))
    with site.pipeline() as pipeline:
        assert give_up(pipeline).state == "CANCELLED"
        assert not (site.folder / "workspace" / "aside").exists()
        for action in (give_up, run_backfill):
            with pytest.raises(LedgerError, match="no backfill is open") as caught:
                action(pipeline)
            assert caught.value.reason == "no-backfill"
    assert (site.rows(), site.digests("workspace/hours")) == (before, hours)


def test_one_backfill_is_open_at_a_time(site):
    """Another range is refused while one is open, naming it and what to type."""
    with pytest.raises(KeyboardInterrupt):
        site.backfill(site.hours[1], site.hours[LAST], "all", run_step=dying(1))
    with pytest.raises(LedgerError, match=rf"backfill {site.hours[1]} to .* is open, running; go on .*--resume"):
        site.backfill(site.hours[2], site.hours[LAST], "all")


@pytest.mark.fault(12, 19)
def test_scheduled_run_goes_before_the_next_hour_of_a_backfill(site):
    """A scheduled run that finds a backfill at work gets the lease between two of its hours; its hour then follows."""
    site.redeliver(site.hours[3])
    threads = []

    def scheduled():
        with site.pipeline() as other:
            done.extend(advance(other, site.hours[NEXT] + 1))

    def gate(plan, *args):
        if plan.hour == site.hours[3] and not threads:
            threads.append(threading.Thread(target=scheduled))
            threads[0].start()
            while not site_ledger.wanted():
                time.sleep(0.01)
        return steps.gate(plan, *args)

    done: list = []
    site_ledger = Ledger(site.config().ledger_url)
    rows = site.backfill(site.hours[3], site.hours[LAST], "all", promote=True, run_step=instead(gate=gate))
    threads[0].join()
    assert ends(done) == [("PUBLISHED", None)]
    assert [row.hour for row in rows] == site.hours[3:6], "the hour done meanwhile is done again on the new chain"
    assert [row.fence for row in site.rows()[3:]] == sorted(row.fence for row in site.rows()[3:])
    newest = site.rows()[-1]
    assert (newest.hour, newest.state, site.live) == (site.hours[NEXT], "PUBLISHED", newest.version)
    assert not any(row.stale_because for row in site.rows())


@pytest.mark.slow  # three hours
def test_swap_survives_a_crash_right_after_it(site, monkeypatch):
    """Killed between swapping in and releasing, a backfill that is resumed releases what it had made."""
    site.redeliver(site.hours[2], every=100)

    def killed(self):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Workspace, "swap_in", killed)
        with pytest.raises(KeyboardInterrupt):
            site.backfill(site.hours[2], site.hours[LAST], "all", promote=True)
    assert [row.reason for row in site.rows()[2:]] == ["not-promoted"] * 3
    with site.pipeline() as pipeline:
        done, rows = run_backfill(pipeline, now=site.hours[-1])
    assert (done.state, rows) == ("DONE", [])
    assert site.rows()[-1].state == "PUBLISHED"
    assert site.live == site.rows()[-1].version
    assert site.digests("workspace/aside") == {}


@pytest.mark.slow  # up to three hours
def test_hours_whose_past_came_out_as_it_was_are_left(site):
    """Doing an hour again that gives the same state costs that hour alone: those after it stay, and are not stale."""
    before = site.rows()
    with site.pipeline() as pipeline:
        asked = ask(site.hours[2], site.hours[LAST], "a test", only="all")
        plan = look_ahead(pipeline.config, pipeline.ledger, asked, site.hours[-1]).plan
        assert [planned.action for planned in plan] == ["do"] * 3
    with site.pipeline() as pipeline, pipeline.leased() as lease:
        pipeline.ledger.mark_stale(lease, site.hours[2] - 1, "a test")
        with_mark = pipeline.ledger.rows()
    assert [bool(row.stale_because) for row in with_mark] == [False] * 2 + [True] * 3
    with site.pipeline() as pipeline, pipeline.leased() as lease:
        pipeline.ledger.begin(lease, site.hours[2], "x")
        pipeline.ledger.finish(lease, site.hours[2], "FAILED", "io")
    rows = site.backfill(site.hours[2], site.hours[LAST], "failed")
    assert [row.hour for row in rows][:1] == [site.hours[2]]
    assert [row.learnt for row in site.rows()] == [row.learnt for row in before]


@pytest.mark.fault(1)
@pytest.mark.parametrize("place", ["backfill.hours-swapped-in", "swap.old-folder-removed", "backfill.promoted"])
@pytest.mark.slow  # three backfills of three hours
def test_backfill_that_died_at_its_end_ends_as_if_it_had_not(site, tmp_path, monkeypatch, place):
    """Repeated, it says of every hour what an undisturbed one says; no older version is promoted for the newest."""
    undisturbed = site.copy(tmp_path / "undisturbed")
    undisturbed.backfill(site.hours[2], site.hours[LAST], "all", promote=True)

    def die(name):
        if name == place:
            raise KeyboardInterrupt

    monkeypatch.setattr(failpoints, "on_reach", die)
    with pytest.raises(KeyboardInterrupt):
        site.backfill(site.hours[2], site.hours[LAST], "all", promote=True)
    monkeypatch.undo()
    site.backfill(site.hours[2], site.hours[LAST], "all", promote=True)
    ends = [[(row.hour, row.state, row.reason, row.version) for row in each.rows()] for each in (site, undisturbed)]
    assert ends[0] == ends[1]
    assert site.digests("workspace/hours") == undisturbed.digests("workspace/hours")
