"""Simulates hourly click data with a known truth: planted clusters, heavy tails, drift, new features every hour.

Columns: `impression_id` int64 (identifies a row) · `event_time` timestamp[ms, UTC], ascending · `user_id`, `item_id`
int64 · `item_tags` list<int32> (1 to 4) · `site_domain` string · `device` int32 · `price` float32 · `clicked` int8.
Which rows are clicked follows the equation in `saec.data.planted`.

Decisions:
- An hour is a pure function of (settings, hour): its generator is seeded with both, so that any hour can be made alone,
  in any order, twice, with equal bytes. Its cost grows with its rows alone, whatever the number of users and items.
- A user or item belongs to the standing population (birth 0) or is born in an hour; its id is `birth * 10^9 + number`,
  which says that it is new without looking at any other hour. A share `new_share` of the rows shows users born in that
  very hour, twice as many show users born in the days before, the rest shows the standing population; items likewise.
- Ranks follow a Zipf-Mandelbrot law, frequency ~ (rank + shift)^-tail, drawn by inverting its integral.
- The intercept is solved on one reference hour, so that the base rate holds however the clusters fell out.
- The true probability goes to a tree of its own, `truth` beside the data folder, where no field can read it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit

from saec.data.hourly_files import EVENT_TIME, write_hour
from saec.data.planted import MEAN_LOG_PRICE, ClickModel, Floats, Ids, Impressions, hashed, uniforms
from saec.errors import ConfigError
from saec.hours import HOUR_MS, Hour

BIRTH_STRIDE = 10**9
DEVICES = 6
MAX_TAGS = 4
_MEAN_AGE = 24
_SHIFT_SHARE = 0.001
_REFERENCE_HOUR = Hour.parse("2026-01-01T00")
_REFERENCE_ROWS = 20_000


@dataclass(frozen=True)
class Simulation:
    """What is simulated; checked when made.

    >>> Simulation(seed=7, users=20_000_000).sites
    500
    """

    seed: int = 1
    """Seed of everything drawn at random, the truth included."""
    rows_per_hour: int = 20_000
    """Mean rows of an hour over a day; the quietest (03 UTC) has half of them, the busiest (15 UTC) one and a half."""
    users: int = 20_000
    """Standing population of users; further ones are born every hour."""
    items: int = 2_000
    """Standing population of items; further ones are born every hour."""
    clusters: int = 32
    """Planted clusters of each field."""
    base_rate: float = 0.2
    """Share of rows that are clicked, over the days that drift moves it."""
    tail: float = 1.0
    """Exponent of the Zipf law of feature frequencies; larger is heavier at the head."""
    new_share: float = 0.05
    """Share of rows whose user is born in that hour, and of rows whose item is; at most a third."""
    drift: float = 0.2
    """Share of the variance of the clusters' effects that moves over days; 0 stands still."""

    def __post_init__(self) -> None:
        """Refuse dials out of range."""
        _require(1 <= self.rows_per_hour < BIRTH_STRIDE, "rows_per_hour", "1 to 10^9 - 1", self.rows_per_hour)
        _require(1 <= self.users < BIRTH_STRIDE, "users", "1 to 10^9 - 1", self.users)
        _require(1 <= self.items < BIRTH_STRIDE, "items", "1 to 10^9 - 1", self.items)
        _require(self.clusters >= 1, "clusters", "1 or more", self.clusters)
        _require(0.0 < self.base_rate < 1.0, "base_rate", "between 0 and 1", self.base_rate)
        _require(0.0 < self.tail <= 3.0, "tail", "above 0, at most 3", self.tail)
        _require(0.0 <= self.new_share <= 1 / 3, "new_share", "0 to 1/3", self.new_share)
        _require(0.0 <= self.drift <= 1.0, "drift", "0 to 1", self.drift)

    @property
    def sites(self) -> int:
        """Site domains; none are born later."""
        return max(20, min(10_000, self.items // 4))

    @property
    def tags(self) -> int:
        """Tags that items carry; none are born later."""
        return max(20, min(10_000, self.items // 10))

    @cached_property
    def truth(self) -> ClickModel:
        """The true click model."""
        return ClickModel(self.seed, self.clusters, self.drift)

    @cached_property
    def intercept(self) -> float:
        """The logit that, added to those of the truth, gives `base_rate` in the reference hour."""
        rng = np.random.default_rng(self.seed)
        logits_B = self.truth.logits(_impressions(self, _REFERENCE_HOUR, _REFERENCE_ROWS, rng), _REFERENCE_HOUR)
        return float(brentq(lambda level: expit(level + logits_B).mean() - self.base_rate, -30.0, 30.0))


@dataclass(frozen=True)
class SimulatedHour:
    """One hour as written."""

    hour: Hour
    rows: int
    clicks: int
    logloss_truth: float
    """Log loss of the true probabilities: no model can do better but by luck."""
    path: Path
    """The hour's data file."""


def simulate_hours(
    simulation: Simulation, first: Hour, hours: int, out: Path, on_hour: Callable[[SimulatedHour], None] | None = None
) -> list[SimulatedHour]:
    """Write `hours` hours from `first` on into `out`, and the true probabilities into `truth` beside it.

    An hour that is there already is replaced, its file whole at any moment.

    Args:
        simulation: what to simulate.
        first: the first hour.
        hours: how many hours, 1 or more.
        out: the data folder, as in `data.source`; `out.parent / "truth"` gets `impression_id` and `probability`.
        on_hour: called after each hour.

    Returns:
        What was written, hour by hour.

    Raises:
        ConfigError: when `hours` is below 1, or `out` is itself named `truth`.
    """
    _require(hours >= 1, "hours", "1 or more", hours)
    _require(out.name != "truth", "out", "a folder of another name, since the truth is written beside it", out)
    written = []
    for hour in (first + offset for offset in range(hours)):
        rows, probability_B = simulate_hour(simulation, hour)
        path = write_hour(out, hour, rows)
        write_hour(
            out.parent / "truth", hour, pa.table({"impression_id": rows["impression_id"], "probability": probability_B})
        )
        clicked_B = rows["clicked"].to_numpy()
        record = SimulatedHour(hour, rows.num_rows, int(clicked_B.sum()), _log_loss(clicked_B, probability_B), path)
        written.append(record)
        if on_hour is not None:
            on_hour(record)
    return written


def simulate_hour(simulation: Simulation, hour: Hour) -> tuple[pa.Table, Floats]:
    """The B rows of one hour, sorted by time, and their true probabilities (float64 [B])."""
    rng = np.random.default_rng([simulation.seed, hour.index])
    day_share = (hour.start.hour - 9) / 24
    rows = int(rng.poisson(simulation.rows_per_hour * (1 + 0.5 * math.sin(2 * math.pi * day_share))))
    shown = _impressions(simulation, hour, rows, rng)
    probability_B = expit(simulation.intercept + simulation.truth.logits(shown, hour))
    clicked_B = rng.random(rows) < probability_B
    times_B = hour.start_ms + np.sort(rng.integers(0, HOUR_MS, rows))
    offsets_B = np.concatenate(([0], np.cumsum(shown.tag_counts_B))).astype(np.int32)
    return pa.table(
        {
            "impression_id": hour.index * BIRTH_STRIDE + np.arange(rows),
            "event_time": pa.array(times_B).cast(EVENT_TIME),
            "user_id": shown.users_B,
            "item_id": shown.items_B,
            "item_tags": pa.ListArray.from_arrays(offsets_B, shown.tags_T.astype(np.int32)),
            "site_domain": _domains(shown.sites_B),
            "device": shown.devices_B.astype(np.int32),
            "price": shown.prices_B,
            "clicked": clicked_B.astype(np.int8),
        }
    ), probability_B


def _impressions(simulation: Simulation, hour: Hour, rows: int, rng: np.random.Generator) -> Impressions:
    """Draw who saw what where; an item's tags and usual price are hashes of its id."""
    born_users = max(1, round(simulation.rows_per_hour * simulation.new_share / 2))
    born_items = max(1, round(simulation.items * simulation.new_share / 4))
    items_B = _draw_features(simulation, hour, rows, (simulation.items, born_items), rng)
    tags_T, tag_counts_B = _tags(simulation, items_B)
    usual_B = uniforms(f"{simulation.seed}/price", items_B) * 2 - 1
    return Impressions(
        users_B=_draw_features(simulation, hour, rows, (simulation.users, born_users), rng),
        items_B=items_B,
        sites_B=_ranks(rng.random(rows), np.full(rows, simulation.sites), simulation.tail),
        devices_B=1 + rng.binomial(DEVICES - 1, 0.3, rows),
        tags_T=tags_T,
        tag_counts_B=tag_counts_B,
        prices_B=np.exp(MEAN_LOG_PRICE + usual_B + 0.5 * rng.standard_normal(rows)).astype(np.float32),
    )


def _draw_features(
    simulation: Simulation, hour: Hour, rows: int, population: tuple[int, int], rng: np.random.Generator
) -> Ids:
    """Ids of one growing field: born this hour, born in the days before, or standing.

    `population` is the number of standing features and of those that are born in an hour.
    """
    standing, born = population
    kind_B = rng.random(rows)
    ages_B = np.where(kind_B < simulation.new_share, 0, rng.geometric(1 / _MEAN_AGE, rows))
    is_born_B = kind_B < 3 * simulation.new_share
    births_B = np.where(is_born_B, hour.index - ages_B, 0)
    numbers_B = _ranks(rng.random(rows), np.where(is_born_B, born, standing), simulation.tail)
    return np.asarray(births_B * BIRTH_STRIDE + numbers_B)


def _ranks(uniform_B: Floats, sizes_B: Ids, tail: float) -> Ids:
    """Ranks 0 to size - 1 with frequency ~ (rank + shift)^-tail, by inverting the integral of that law."""
    low_B = 1 + _SHIFT_SHARE * sizes_B
    high_B = low_B + sizes_B
    if math.isclose(tail, 1.0):
        drawn_B = low_B * (high_B / low_B) ** uniform_B
    else:
        power = 1 - tail
        drawn_B = (low_B**power + uniform_B * (high_B**power - low_B**power)) ** (1 / power)
    return np.clip((drawn_B - low_B).astype(np.int64), 0, sizes_B - 1)


def _tags(simulation: Simulation, items_B: Ids) -> tuple[Ids, Ids]:
    """The tags of each row's item, one after the other (int64 [T]), and how many each row has (int64 [B])."""
    counts_B = (1 + hashed(f"{simulation.seed}/tags", items_B) % np.uint64(MAX_TAGS)).astype(np.int64)
    places_B4 = np.stack([uniforms(f"{simulation.seed}/tag{place}", items_B) for place in range(MAX_TAGS)], axis=1)
    tags_B4 = _ranks(places_B4, np.full(places_B4.shape, simulation.tags), simulation.tail)
    return tags_B4[np.arange(MAX_TAGS) < counts_B[:, None]], counts_B


def _domains(sites_B: Ids) -> pa.Array:
    return pc.binary_join_element_wise("site", pa.array(sites_B).cast(pa.string()), ".example", "")


def _log_loss(clicked_B: NDArray[np.int8], probability_B: Floats) -> float:
    return float(-np.mean(np.log(np.where(clicked_B == 1, probability_B, 1 - probability_B))))


def _require(holds: bool, name: str, wanted: str, found: object) -> None:
    if not holds:
        raise ConfigError(f"simulation {name} must be {wanted}, got {found}")
