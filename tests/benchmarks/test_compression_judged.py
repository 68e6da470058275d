"""How the compression benchmark pairs, pools over seeds, and what its page says."""

import math

import numpy as np
import pytest
import torch

from benchmarks.compression import figures, judged, runs
from benchmarks.compression.decoding import Groups
from benchmarks.compression.judged import Gap
from benchmarks.compression.page import Page
from benchmarks.compression.runs import Kept, chosen, scores_file
from benchmarks.compression.settings import Job
from benchmarks.compression.stretch import Census, bits_for

ROWS = 2_000
SIZES = {
    "original": 90_000,
    "saec@30": 2_900,
    "saec@100": 880,
    "hashing@30": 3_000,
    "hashing@100": 900,
    "hashing@1000": 90,
}
NOISE = {"original": 1.0, "saec@30": 0.9, "saec@100": 1.2, "hashing@30": 3.0, "hashing@100": 1.2, "hashing@1000": 6.0}

SETTING = {"codewords": 31, "ratio": 4.0, "fingerprint_bits": 6, "codebook_precision": "int8"}


@pytest.fixture
def kept(tmp_path) -> Kept:
    """Two seeds of six contestants: scores are the truth with so much noise, each its own."""
    random = np.random.default_rng(1)
    labels_B = random.integers(0, 2, ROWS).astype(np.uint8)
    stretch = {
        "config": "configs/x.yaml",
        "last": "2026-01-02T00",
        "hours": 4,
        "scored": 2,
    }
    kept = Kept.load(tmp_path / "results" / "compression-runs.json", stretch)
    for seed in (1, 2):
        for name, size in SIZES.items():
            scores_B = 1 / (1 + np.exp(-(labels_B - 0.5) * 2 - NOISE[name] * random.standard_normal(ROWS)))
            path = scores_file(tmp_path, name, seed)
            np.save(path, scores_B.astype(np.float32))
            run = {"name": name, "pass": name.partition("@")[0], "seed": seed, "choice": {}, "setting": SETTING}
            run |= {"bytes": size, "ratio": 90_000 / size, "ratio_embedding": 0.0}
            kept.add("runs", [{**run, "auc": 0.7 + seed / 100, "logloss": 0.6, "commit": "abc"}])
    kept.content |= {
        "rows": ROWS,
        "original_bytes": 90_000,
        "hardware": "a machine",
        "commands": ["do"],
        "truth": {"auc": 0.9, "logloss": 0.4, "constant": 0.69},
    }
    judged.judge(kept, labels_B, tmp_path)
    return kept


def test_a_peer_meets_the_largest_saec_that_is_no_larger(kept):
    """Sizes differ in the peer's favour only; a peer smaller than every Saec meets none."""
    assert judged.saec_no_larger(kept, "hashing@30") == "saec@30"
    assert judged.saec_no_larger(kept, "hashing@100") == "saec@100"
    assert judged.saec_no_larger(kept, "original") == "saec@30"
    assert judged.saec_no_larger(kept, "hashing@1000") is None


def test_differences_are_paired_and_signed(kept):
    """A Saec of less noise than the peer is above it in both metrics, beyond the interval; an equal one is not."""
    assert judged.gap(kept, "saec@30", "hashing@30", "auc").lower > 0
    assert judged.gap(kept, "saec@30", "hashing@30", "logloss").upper < 0
    equal = judged.gap(kept, "saec@100", "hashing@100", "auc")
    assert equal.lower < 0 < equal.upper
    assert judged.gap(kept, "hashing@30", "original", "auc").upper < 0
    assert judged.gap(kept, "saec@100", "hashing@30", "auc") is None


def test_seeds_do_not_average_the_rows_away():
    """Equal seeds leave the interval of one; different ones widen it by the variance of their mean."""
    once, thrice = Gap.over_seeds([(0.01, 0.002)]), Gap.over_seeds([(0.01, 0.002)] * 3)
    assert thrice == pytest.approx(once)
    spread = Gap.over_seeds([(0.00, 0.002), (0.02, 0.002)])
    assert spread.difference == pytest.approx(0.01)
    assert spread.reach == pytest.approx(1.96 * math.sqrt(0.002**2 + 0.0002 / 2))


def test_page_says_where_saec_is_not_above(kept, tmp_path):
    """The page names the peers that are not beaten or were not met, and no others; the figure is drawn."""
    text = Page({"A log": ("compression", kept)}).text()
    not_above = text.partition("### Where Saec is not shown to be better than")[2]
    assert "hashing trick at 1/100: AUC no significant difference" in not_above
    assert "hashing trick at 1/1000: no Saec was measured at so few bytes" in not_above
    assert "at 1/30:" not in not_above
    assert "| hashing trick | 3,000 | 30.0 |" in text
    assert text.index("AUC no significant difference") < text.index("| over | 1/30 | 1/100 | 1/1000 |")
    [row] = [line for line in text.splitlines() if line.startswith("| hashing trick | +")]
    assert row.endswith("| no Saec as small |")
    assert f"{(0.715 - 0.5) / 0.4:.1%}" in text
    figures.draw(kept, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes()[1:4] == b"PNG"


def test_page_says_what_each_costs_and_who_does_not_exist(kept):
    """Runs that were timed have their seconds beside their bytes; a peer without a form of a size is named, not run."""
    text = Page({"A log": ("compression", kept)}).text()
    assert "What each costs" not in text
    assert "Where a peer does not exist" not in text
    run = {
        "name": "cafe@30",
        "pass": "cafe",
        "seed": 1,
        "choice": {},
        "setting": {},
        "bytes": 3_000,
        "ratio": 30.0,
        "ratio_embedding": 0.0,
        "auc": 0.7,
        "logloss": 0.6,
        "commit": "abc",
    }
    kept.add("runs", [{**run, "learning_seconds": 120.0, "scoring_us": 4.25}])
    missing = {"name": "cce@1000", "pass": "cce", "seed": 1, "choice": {}, "left_out": "9 bytes, 5 wanted"}
    kept.add("runs", [missing])
    kept.add("runs", [missing])
    text = Page({"A log": ("compression", kept)}).text()
    assert "| CAFE | 3,000 | 120 | 4.2 |" in text
    assert text.count("- CCE at 1/1000: 9 bytes, 5 wanted.") == 1
    assert "does not exist |" in next(line for line in text.splitlines() if line.startswith("| CCE"))
    assert "cce@1000" not in {found["name"] for found in kept.content["runs"]}


def test_differences_stay_when_scores_are_gone(kept, tmp_path):
    """On another machine, where scores of earlier passes are not, what was compared is kept; nothing is made up."""
    before = kept.content["compared"]
    gone = scores_file(tmp_path, "hashing@30", 1)
    gone.unlink()
    judged.judge(kept, np.random.default_rng(2).integers(0, 2, ROWS).astype(np.uint8), tmp_path)

    def kept_of(found):
        return [old for old in found if old["seed"] == 1 and "hashing@30" in (old["first"], old["second"])]

    assert kept_of(kept.content["compared"]) == kept_of(before) != []
    assert kept.content["compared"] != before


def test_differences_go_with_the_run_that_they_are_of(kept):
    """A run made anew is compared anew or not at all; those of other runs and seeds stay."""
    before = kept.content["compared"]
    again = next(run for run in kept.content["runs"] if (run["name"], run["seed"]) == ("hashing@30", 1))
    kept.add("runs", [again])
    gone = [old for old in before if old["seed"] == 1 and "hashing@30" in (old["first"], old["second"])]
    assert gone
    assert kept.content["compared"] == [old for old in before if old not in gone]


def test_what_is_known_is_not_run_again(kept):
    """A run is found by name, seed and choices after reading the file anew; another stretch starts afresh."""
    again = Kept.load(kept.path, kept.content["stretch"])
    assert again.find("runs", Job("hashing", 30, 2)) is not None
    assert again.find("runs", Job("hashing", 30, 3)) is None
    assert again.find("runs", Job("hashing", 30, 2, (("rate", 2.0),))) is None
    again.forget(["hashing"])
    assert again.find("runs", Job("hashing", 30, 2)) is None
    assert again.find("runs", Job("original", 0, 2)) is not None
    assert Kept.load(kept.path, {"hours": 1}).content["runs"] == []


def test_choices_follow_the_nearer_tuning(kept):
    """What was best at 1/30 holds above 1/100, then that at 1/100 down to 1/1000; others start as listed."""
    kept.content["choices"] = {f"hashing@{ratio}": {"rate": ratio / 10} for ratio in (30, 100, 300)}
    rates = [chosen(kept, "hashing", ratio)["rate"] for ratio in (10, 100, 300, 1000, 3000)]
    assert rates == [3.0, 10.0, 10.0, 10.0, 30.0]
    first = {"rows": "from the start", "start": "as configured", "prior": "as configured", "rate": 1.0}
    assert chosen(kept, "filtered", 30) == first
    assert runs.originals(kept, (1,))[0].choice == tuple(list(first.items())[1:])
    kept.content["choices"]["original"] = {"start": 1.0, "rate": 2.0}
    assert [job.choice for job in runs.originals(kept, (1, 2))] == [(("start", 1.0), ("rate", 2.0))] * 2


@pytest.mark.parametrize(("best", "rates"), [(8.0, [1, 2, 4, 8, 16]), (0.25, [1, 2, 0.5, 0.25, 0.125])])
def test_rates_go_on_beyond_the_ends(kept, monkeypatch, best, rates):
    """Every choice is tried once, the best of each axis kept, in rounds; past the ends as long as it helps."""
    made = []

    def passed(job, **_):
        made.append(dict(job.choice))
        merit = -abs(made[-1]["rate"] - best) / 100 - (made[-1]["block"] == 8) - (made[-1]["start"] == 1.0)
        return [
            {
                "name": job.name,
                "seed": 1,
                "choice": dict(job.choice),
                "auc": merit,
                "logloss": 0.0,
                "ratio": 30,
                "seconds": 1,
            }
        ]

    monkeypatch.setattr(runs, "run", passed)
    axes = {"block": (8, 16), "start": ("as configured", 1.0), "rate": (1.0, 2.0)}
    runs.tune(kept, "robe", axes, None, (10, 30), 1)
    assert kept.content["choices"]["robe@30"] == {"block": 16, "start": "as configured", "rate": best}
    assert [(choice["block"], choice["rate"]) for choice in made] == [
        (8, 1),
        (16, 1),
        *((16, rate) for rate in rates),
        (8, best),
        (16, best),
    ]
    runs.tune(kept, "robe", axes, None, (10, 30), 1)
    assert len(made) == 9


@pytest.mark.parametrize(("reachable", "block"), [(True, 8), (False, 16)])
def test_a_smaller_size_starts_from_the_choice_at_the_larger(kept, monkeypatch, reachable, block):
    """It has a choice of its own; where no choice can be made so small there, it is the larger one's."""

    def passed(job, **_):
        small, asked = job.ratio == 100, {"name": job.name, "seed": 1, "choice": dict(job.choice)}
        if small and not reachable:
            return [{**asked, "left_out": "too small"}]
        merit = float((asked["choice"]["block"] == 16) != small)
        return [{**asked, "auc": merit, "logloss": 0.0, "ratio": job.ratio, "seconds": 1}]

    monkeypatch.setattr(runs, "run", passed)
    runs.tune(kept, "robe", {"block": (8, 16), "start": ("as configured",)}, None, (30, 200), 1)
    assert kept.content["choices"]["robe@30"]["block"] == 16
    assert kept.content["choices"]["robe@100"]["block"] == block


def test_equal_numbers_are_summed_as_one():
    """Groups are those of `np.unique`, and sums are over them."""
    numbers = np.random.default_rng(0).integers(0, 50, 200)
    groups = Groups(numbers)
    distinct, inverse = np.unique(numbers, return_inverse=True)
    assert (groups.distinct == distinct).all()
    assert (groups.inverse == inverse).all()
    values_NW = np.random.default_rng(1).normal(size=(200, 3)).astype(np.float32)
    expected = np.zeros((len(distinct), 3))
    np.add.at(expected, inverse, values_NW)
    assert groups.sum(torch.from_numpy(values_NW)).numpy() == pytest.approx(expected, abs=1e-5)


def test_threshold_fits_the_budget():
    """The lowest frequency whose head fits in the mean of the hours; a feature more would not."""
    hours = [np.array([9, 7, 5, 3, 1], np.float32), np.array([8, 6, 4, 2], np.float32)]
    census = Census(1.0, hours, np.array([5]))
    assert 5.0 < census.threshold(lambda head: 10 * head, 20.0) <= 6.0
    assert 0.0 <= census.threshold(lambda head: 10 * head, 1e9) <= 1.0


def test_bits_that_number_things():
    """Two things take one bit, 256 eight, 257 nine."""
    assert [bits_for(count) for count in (1, 2, 256, 257)] == [1, 1, 8, 9]
