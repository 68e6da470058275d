"""`ratio: auto`: up where nothing is lost, down where the current ratio loses."""

import dataclasses

import numpy as np
import pytest

from saec.compression.auto import AHEAD, ENOUGH_ROWS, KEPT, LADDER, START, Auto

MANY = ENOUGH_ROWS + 500


def at(step):
    """A dial that stands on a step and has seen nothing."""
    return dataclasses.replace(Auto.start(), step=step)


def hour(auto, added, *, gained=0.0, rows=MANY, seed=0):
    """One hour more: log loss added on average at the hour's ratio and at each trial; it varies from row to row."""
    noise_B = np.random.default_rng(seed).normal(0, 0.01, rows)
    added_TB = [mean + noise_B - noise_B.mean() for mean in added[: 1 + len(auto.trials)]]
    return auto.learned(added_TB, [gained] * len(added_TB))


SAVED, LOST = -0.01, 0.01


def test_the_ladder_doubles_in_three_steps():
    """From 25 on, every ratio is within rounding of a cube root of two times the one before."""
    assert LADDER[[0, 3, 6, 9]].tolist() == [25, 50, 100, 200]
    assert np.diff(np.log2(LADDER)) == pytest.approx(1 / 3, abs=0.04)
    assert Auto.start().ratio == LADDER[START]


def test_trials_are_the_next_ratios():
    """As many as there are ahead, fewer at the end of the ladder."""
    assert at(3).trials == LADDER[4 : 4 + AHEAD].tolist()
    assert at(len(LADDER) - 2).trials == [LADDER[-1]]
    assert at(len(LADDER) - 1).trials == []


def test_it_climbs_where_nothing_is_lost():
    """One step an hour, to the end of the ladder and no further."""
    auto, steps = at(len(LADDER) - 4), []
    for _ in range(6):
        auto = hour(auto, [SAVED] * 3)
        steps.append(auto.step)
    last = len(LADDER) - 1
    assert steps == [last - 2, last - 1, last, last, last, last]


def test_it_steps_down_where_the_present_step_loses():
    """Even when the trials look better; at the foot of the ladder it stays."""
    assert hour(at(5), [LOST, SAVED, SAVED]).step == 4
    assert hour(at(0), [LOST, LOST, LOST]).step == 0


def test_never_past_a_step_that_loses():
    """The next step lost, the one after it did not: the dial stays where it is."""
    assert hour(at(5), [SAVED, LOST, SAVED]).step == 5
    assert hour(at(5), [SAVED, SAVED, LOST]).step == 6


def test_it_settles_below_a_step_that_loses():
    """Where every ratio from 200 on loses, the dial goes up to the last one below and stays there."""
    auto, steps = at(6), []
    for number in range(8):
        auto = hour(auto, [LOST if ratio >= 200 else SAVED for ratio in (auto.ratio, *auto.trials)], seed=number)
        steps.append(auto.step)
    assert steps == [7, 8, 8, 8, 8, 8, 8, 8]


@pytest.mark.parametrize(("gained", "step"), [(-0.001, 4), (0.0, 6), (0.001, 6)])
def test_auc_must_not_fall(gained, step):
    """Log loss alone is not enough: a lower mean AUC is a loss."""
    assert hour(at(5), [SAVED] * 3, gained=gained).step == step


@pytest.mark.parametrize(("mean", "step"), [(-0.0004, 6), (-0.0001, 4)])
def test_nothing_lost_means_a_standard_error_below(mean, step):
    """Rows that differ by 0.01 have a mean of 2,500 known to 0.0002: a mean of -0.0004 is below 0, -0.0001 is not."""
    assert hour(at(5), [mean] * 3).step == step


@pytest.mark.parametrize("added", [SAVED, LOST])
def test_steps_need_rows_enough(added):
    """Neither up nor down on less than 2,000 rows; those of several hours add up."""
    auto = hour(at(5), [added] * 3, rows=ENOUGH_ROWS - 1)
    assert auto.step == 5
    assert hour(auto, [added] * 3, rows=100).step == (6 if added < 0 else 4)


def test_old_evidence_fades():
    """Losses of long ago are outweighed; each hour keeps 98 per cent of what was seen."""
    auto = hour(at(5), [SAVED] * 3)
    later = hour(dataclasses.replace(auto, step=5), [SAVED] * 3)
    assert later.rows_L[5:8] == pytest.approx([MANY * (1 + KEPT)] * 3)
    assert later.added_L[5:8] == pytest.approx([MANY * SAVED * (1 + KEPT)] * 3)
    assert later.rows_L[:5].tolist() == [0] * 5


def test_sums_belong_to_their_step():
    """What was seen as a trial is remembered of its ratio when the dial comes to it."""
    auto = hour(at(5), [SAVED, 2 * SAVED, 3 * SAVED])
    assert auto.added_L[5:8] / auto.rows_L[5:8] == pytest.approx([SAVED, 2 * SAVED, 3 * SAVED])
    before = at(5)
    hour(before, [SAVED] * 3)
    assert before.rows_L.sum() == 0


def test_it_remembers_through_its_arrays():
    """Taken up from its arrays it goes on to the bit as if it had stayed in memory."""
    stayed = saved = at(5)
    for number in range(4):
        added = [*[SAVED, SAVED, LOST][number % 2 :], SAVED]
        stayed, saved = (hour(auto, added, seed=number) for auto in (stayed, Auto.from_arrays(saved.arrays())))
        assert stayed.step == saved.step
        assert all(np.array_equal(array, saved.arrays()[name]) for name, array in stayed.arrays().items())
