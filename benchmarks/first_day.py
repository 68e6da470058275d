"""Plays a new user's first day: takes ten unlike logs from `saec init` to published versions, by commands alone.

Decisions: the logs come from `saec.data.simulate`, so their truth is known. They are written in ten ways in which
public logs are found (layouts, zones, types, click rates) and contain what real logs do: row ids, constants, and a
column that is known only after a click. Beside each log there are settings written by hand, with the fields and the
cross that the truth has and everything else as in configs/quickstart.yaml. Both settings run on the same hours, and
both must publish. The AUC compared is that of the version made from the hour before, released or not, on whole hours,
pooled over the later half of the log. Times are those of the two commands, each in a new process.

    python -m benchmarks.first_day              # ten logs
    python -m benchmarks.first_day --logs 2     # the first two, small
    python -m benchmarks.first_day --globo      # the real log instead, all 233 hours, beside configs/globo.yaml
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import yaml

from benchmarks.record import ROOT, Figures
from saec.data.simulate import Simulation, simulate_hours
from saec.hours import Hour

FIRST = Hour.parse("2026-01-01T00")
WITHIN = 0.01
GLOBO = ROOT / "configs" / "globo.yaml"
GLOBO_SCORED, GLOBO_WITHIN = Hour.parse("2017-10-09T03"), 0.005
"""The hour from which on the real log is scored, and how close `saec init` should come to this project's settings."""
Hours = dict[Hour, pa.Table]
LISTS = ("item_tags",)
FIELDS: dict[str, dict[str, Any]] = {
    "user_id": {},
    "item_id": {},
    "item_tags": {"kind": "list", "max_values": 4},
    "site_domain": {"type": "string"},
    "device": {},
    "price": {
        "kind": "numeric",
        "type": "float",
        "boundaries": [0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 7.0, 10.0, 15.0],
    },
}


@dataclass(frozen=True)
class LogKind:
    """One way in which a log is found."""

    name: str
    rate: float
    """Share of rows that are clicked."""
    rows: int
    """Rows an hour."""
    hours: int
    write: Callable[[Hours, Path], str]
    """Writes the hours below a folder, and returns the source to name."""


def _renamed(table: pa.Table, **names: str) -> pa.Table:
    """A table with other names for some columns."""
    return table.rename_columns([names.get(name, name) for name in table.column_names])


def _whole(hours: Hours, *, shuffled: bool = False) -> pa.Table:
    """All rows as one table, without lists."""
    table = pa.concat_tables(hours.values())
    table = table.drop_columns([name for name in LISTS if name in table.column_names])
    return table.take(np.random.default_rng(1).permutation(len(table))) if shuffled else table


def _telling(table: pa.Table) -> pa.Table:
    """Add a column that only clicked rows have, and one that never changes."""
    random = np.random.default_rng(2)
    dwell = pa.array(random.integers(50, 60_000, len(table)), mask=pc.equal(table["clicked"], 0).to_numpy())
    return table.append_column("dwell_ms", dwell).append_column("source", pa.array(["web"] * len(table)))


def _with_time(table: pa.Table, values: Any, name: str = "event_time") -> pa.Table:
    """Replace the time by another form of it."""
    return _renamed(table.set_column(table.column_names.index("event_time"), "event_time", values), event_time=name)


def _text(table: pa.Table, form: str) -> Any:
    return pc.strftime(table["event_time"].cast(pa.timestamp("s", "UTC"), safe=False), form)


def csv_shuffled(hours: Hours, folder: Path) -> str:
    """One CSV in no order, ISO 8601."""
    table = _telling(_whole(hours, shuffled=True))
    pa_csv.write_csv(_with_time(table, _text(table, "%Y-%m-%dT%H:%M:%SZ")), folder / "clicks.csv")
    return "clicks.csv"


def tsv_epoch(hours: Hours, folder: Path) -> str:
    """One gzipped TSV, epoch seconds, names of its own."""
    table = _whole(hours)
    table = _with_time(table, pc.divide(table["event_time"].cast(pa.int64()), 1_000), "ts")
    table = _renamed(table, clicked="label", user_id="uid", item_id="ad_id")
    with gzip.open(folder / "log.tsv.gz", "wb") as file:
        pa_csv.write_csv(table, file, pa_csv.WriteOptions(delimiter="\t"))
    return "log.tsv.gz"


def _lines(table: pa.Table) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in table.to_pylist()).encode()


def jsonl_offset(hours: Hours, folder: Path) -> str:
    """One file of JSON lines with lists, times with an offset, a truth value as the label."""
    table = _telling(pa.concat_tables(hours.values()))
    later = pc.add(table["event_time"], timedelta(hours=2))
    text = pc.strftime(later.cast(pa.timestamp("s", "UTC"), safe=False), "%Y-%m-%dT%H:%M:%S+02:00")
    table = _with_time(table, text, "time")
    table = table.set_column(table.column_names.index("clicked"), "is_click", table["clicked"].cast(pa.bool_()))
    (folder / "events.jsonl").write_bytes(_lines(table))
    return "events.jsonl"


def jsonl_hourly(hours: Hours, folder: Path) -> str:
    """A flat file an hour of JSON lines in zstandard, epoch milliseconds."""
    (folder / "log").mkdir()
    for hour, rows in hours.items():
        table = _renamed(_with_time(rows, rows["event_time"].cast(pa.int64()), "timestamp"), clicked="click")
        with pa.CompressedOutputStream(str(folder / f"log/clicks-{hour.start:%Y-%m-%dT%H}.jsonl.zst"), "zstd") as file:
            file.write(_lines(table))
    return "log"


def hive_unpadded(hours: Hours, folder: Path) -> str:
    """Hive folders of other names, hours without a leading zero, times without a zone."""
    for hour, rows in hours.items():
        path = folder / f"log/dt={hour.start:%Y-%m-%d}/hr={hour.start.hour}/part-00000.snappy.parquet"
        path.parent.mkdir(parents=True)
        pq.write_table(_with_time(rows, rows["event_time"].cast(pa.timestamp("us"))), path)
    return "log"


def parquet_avazu(hours: Hours, folder: Path) -> str:
    """One Parquet file whose rows say no more than YYMMDDHH, as Avazu's do."""
    table = _whole(hours)
    table = _with_time(table, pc.cast(_text(table, "%y%m%d%H"), pa.int64()), "hour")
    pq.write_table(_renamed(table, clicked="click", impression_id="id"), folder / "train.parquet")
    return "train.parquet"


def as_wanted(hours: Hours, folder: Path) -> str:
    """The default layout."""
    for hour, rows in hours.items():
        path = folder / f"log/date={hour.start:%Y-%m-%d}/hour={hour.start:%H}/part-0.parquet"
        path.parent.mkdir(parents=True)
        pq.write_table(rows, path)
    return "log"


def local_zone(hours: Hours, folder: Path) -> str:
    """Folders by the hours of Berlin, timestamps of that zone, int16 and float64."""
    for hour, rows in hours.items():
        local = hour + 1
        path = folder / f"log/date={local.start:%Y-%m-%d}/hour={local.start:%H}/a.parquet"
        path.parent.mkdir(parents=True)
        table = _with_time(rows, rows["event_time"].cast(pa.timestamp("ms", "Europe/Berlin")))
        for name, kind in (("device", pa.int16()), ("price", pa.float64())):
            table = table.set_column(table.column_names.index(name), name, table[name].cast(kind))
        pq.write_table(table, path)
    return "log"


def rare_clicks(hours: Hours, folder: Path) -> str:
    """CSV in a folder an hour, a path of numbers; few clicks."""
    for hour, rows in hours.items():
        path = folder / f"log/{hour.start:%Y/%m/%d/%H}/part-0.csv"
        path.parent.mkdir(parents=True)
        table = _whole({hour: rows})
        pa_csv.write_csv(_with_time(table, _text(table, "%Y-%m-%d %H:%M:%S")), path)
    return "log"


def delta_table(hours: Hours, folder: Path) -> str:
    """A Delta table partitioned by day, appended to hour by hour, the first hour written twice and deleted once."""
    from deltalake import DeltaTable, write_deltalake  # noqa: PLC0415 - an extra

    for hour, rows in hours.items():
        day = pa.array([f"{hour.start:%Y-%m-%d}"] * len(rows))
        write_deltalake(str(folder / "log"), rows.append_column("day", day), partition_by=["day"], mode="append")
    table = DeltaTable(str(folder / "log"))
    table.delete("device = 5")
    return "log"


LOGS = (
    LogKind("one CSV in no order", 0.2, 3_000, 14, csv_shuffled),
    LogKind("gzipped TSV, epoch seconds", 0.05, 4_000, 14, tsv_epoch),
    LogKind("JSON lines, times with an offset", 0.5, 3_000, 14, jsonl_offset),
    LogKind("JSON lines by hour, epoch milliseconds", 0.1, 3_000, 14, jsonl_hourly),
    LogKind("Hive folders of other names", 0.3, 3_000, 14, hive_unpadded),
    LogKind("one Parquet file, YYMMDDHH", 0.17, 3_000, 14, parquet_avazu),
    LogKind("Parquet in the default layout", 0.35, 3_000, 14, as_wanted),
    LogKind("Parquet by the hours of Berlin", 0.02, 6_000, 14, local_zone),
    LogKind("CSV by hour, 0.2% clicks", 0.002, 24_000, 20, rare_clicks),
    LogKind("Delta table by day", 0.1, 3_000, 14, delta_table),
)


@dataclass(frozen=True)
class Day:
    """How a first day went."""

    auc: float
    """Of `saec init`'s settings."""
    auc_by_hand: float
    published: int
    """Hours published."""
    published_by_hand: int
    ratio: float
    """Bytes of the original's rows and keys over those of the newest version's."""
    ratio_by_hand: float
    init_seconds: float
    run_seconds: float


def first_day(kind: LogKind, folder: Path, seed: int = 1) -> Day:
    """Live through the first day of a log.

    Raises:
        RuntimeError: a command failed, with what it said.
    """
    simulation = Simulation(seed=seed, rows_per_hour=kind.rows, base_rate=kind.rate, users=3_000, items=300)
    done = simulate_hours(simulation, FIRST, kind.hours, folder / "simulated" / "data")
    source = kind.write({hour.hour: pq.read_table(hour.path, partitioning=None) for hour in done}, folder)
    return _beside(folder, source, by_hand, FIRST + kind.hours // 2)


def _beside(folder: Path, source: str, by_hand: Callable[[dict[str, Any]], dict[str, Any]], later: Hour) -> Day:
    """`saec init` and `saec run`, then `saec run` with settings made by hand from what init wrote."""
    started = time.perf_counter()
    _saec(folder, "init", source)
    init_seconds = time.perf_counter() - started
    started = time.perf_counter()
    _saec(folder, "run", codes=(0, 3))
    run_seconds = time.perf_counter() - started
    (folder / "hand.yaml").write_text(yaml.safe_dump(by_hand(yaml.safe_load((folder / "saec.yaml").read_text()))))
    _saec(folder, "run", "--config", "hand.yaml", codes=(0, 3))
    (auc, published, ratio), (auc_by_hand, published_by_hand, ratio_by_hand) = (
        _served(folder, config, later) for config in ("saec.yaml", "hand.yaml")
    )
    return Day(auc, auc_by_hand, published, published_by_hand, ratio, ratio_by_hand, init_seconds, run_seconds)


def real_log(folder: Path) -> Day:
    """The same on the real log, beside the settings that this project keeps for it."""
    by_hand = yaml.safe_load(GLOBO.read_text()) | {"workspace": "by-hand"}
    by_hand["data"]["source"] = str((ROOT / by_hand["data"]["source"]).resolve())
    return _beside(folder, by_hand["data"]["source"], lambda _: by_hand, GLOBO_SCORED)


def by_hand(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings as somebody would write them who knows the log: source, names, and the fields and cross of the truth."""
    names = {"uid": "user_id", "ad_id": "item_id"}
    there = {names.get(field["name"], field["name"]): field["name"] for field in settings["fields"]}
    fields = [{"name": there[name], **field} for name, field in FIELDS.items() if name in there]
    fields.append({"name": "hour_of_day", "kind": "hour_of_day"})
    data = settings["data"] | {"ignore_extra_columns": True}
    return {
        "workspace": "by-hand",
        "data": data,
        "fields": fields,
        "crosses": [["site_domain", "device"]],
        "model": {"hidden": [64, 32]},
        "training": {"batch_rows": 256},
    }


def _served(folder: Path, config: str, first: Hour) -> tuple[float, int, float]:
    """AUC of the version made from the hour before, pooled over later hours; hours published in all; newest ratio."""
    summary = json.loads(_saec(folder, "report", "--summary", "--json", "--from", str(first), "--config", config))
    whole = json.loads(_saec(folder, "report", "--summary", "--json", "--config", config))
    hours = json.loads(_saec(folder, "report", "--json", "--from", str(first), "--config", config))
    ratios = [hour["ratio_total"] for hour in hours if hour.get("ratio_total")]
    return (
        float(summary["served"]["all"]["version-original"]["auc_version"]),
        int(whole["outcomes"]["PUBLISHED"]),
        float(ratios[-1]),
    )


def _saec(folder: Path, *words: str, codes: tuple[int, ...] = (0,)) -> str:
    """Run a command in a folder; returns what it printed."""
    ended = subprocess.run(
        [sys.executable, "-m", "saec.cli.main", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    if ended.returncode not in codes:
        raise RuntimeError(f"saec {' '.join(words)} left with {ended.returncode}:\n{ended.stdout}{ended.stderr}")
    return ended.stdout


def main() -> None:
    """Live through all first days, and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--logs", type=int, default=len(LOGS), help="how many of the logs")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--globo", action="store_true", help="the real log instead")
    given = parser.parse_args()
    figures = Figures("first_day_globo" if given.globo else "first_day")
    for kind in [None] if given.globo else LOGS[: given.logs]:
        with tempfile.TemporaryDirectory() as folder:
            day = first_day(kind, Path(folder), given.seed) if kind else real_log(Path(folder))
        _keep(
            figures,
            kind.name if kind else "the news log",
            kind.hours if kind else 233,
            day,
            WITHIN if kind else GLOBO_WITHIN,
        )
    figures.finish()


def _keep(figures: Figures, name: str, hours: int, day: Day, within: float) -> None:
    figures.add(
        f"{name}: AUC by saec init",
        round(day.auc, 4),
        "AUC",
        f">= {day.auc_by_hand - within:.4f}",
        day.auc >= day.auc_by_hand - within,
    )
    figures.add(f"{name}: AUC by hand", round(day.auc_by_hand, 4), "AUC")
    figures.add(f"{name}: hours published", day.published, f"of {hours}", ">= 1", day.published >= 1)
    figures.add(f"{name}: hours published by hand", day.published_by_hand, f"of {hours}")
    figures.add(f"{name}: ratio by saec init, newest version", round(day.ratio), "times smaller")
    figures.add(f"{name}: ratio by hand", round(day.ratio_by_hand), "times smaller")
    figures.add(f"{name}: saec init", round(day.init_seconds, 1), "s")
    figures.add(f"{name}: saec run", round(day.run_seconds, 1), "s")
    print(name, day, flush=True)


if __name__ == "__main__":
    main()
