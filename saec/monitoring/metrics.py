"""Writes the outlook as Prometheus metrics: `saec metrics`, and `<workspace>/metrics.prom` for node_exporter.

Decisions: metrics describe the ledger's state, not a process's counters, so every run writes all of them and nothing is
lost with a process. The file is replaced atomically, as node_exporter's textfile collector requires. Names contain the
unit. Unknown figures are left out rather than written as 0. Ages are given as the timestamp they count from, because a
file may be read long after it was written.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from saec import __version__
from saec.durable import make_folder, write_file
from saec.ledger import OUTCOMES, Ledger, report_record
from saec.monitoring.alarms import ALARMS, alarms
from saec.monitoring.outlook import SERVED_HOURS, Outlook, look
from saec.store.model_store import ModelStore

if TYPE_CHECKING:
    from prometheus_client.core import GaugeMetricFamily

    from saec.config import Config

FILE = "metrics.prom"
SERVED = {"live": "served", "version": "version_served", "original": "original_served"}
"""The models of the served figures: their labels, and their keys in the ledger's records."""
JUDGED = {"original": "original", "challenger": "compressed", "champion": "champion"}
"""The models on the gate rows: their labels, and their keys in the ledger's records."""
LOGGED = (
    ("rows", "rows", "Rows with labels that the request log knows"),
    ("coverage_ratio", "coverage", "Their share of all rows with labels"),
    ("auc", "auc", "AUC of the logged scores"),
    ("logloss", "logloss", "Log loss of the logged scores, in nats a row"),
    ("calibration_ratio", "calibration", "Mean logged score to click rate"),
    ("calibration_error", "ece", "Expected calibration error of the logged scores, over ten bins"),
)
"""Metrics of the request log: name, the record's key after `served_`, and what it is."""
Samples = Iterable[tuple[Mapping[str, str], float | None]]
Family = tuple[str, str, Samples]
"""A metric: its name, what it is, and its samples."""
log = logging.getLogger(__name__)


def metrics_text(config: Config, outlook: Outlook) -> bytes:
    """The outlook in Prometheus' text format."""
    from prometheus_client import CollectorRegistry, generate_latest  # noqa: PLC0415 - only who asks for it pays

    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collected(config, outlook))
    return generate_latest(registry)


def write_metrics(config: Config, ledger: Ledger, store: ModelStore) -> None:
    """Write the workspace's metrics file; a failure is only logged."""
    try:
        text = metrics_text(config, look(config, ledger, store))
        make_folder(config.workspace)
        write_file(config.workspace / FILE, text)
    except Exception:
        log.exception("%s is not written", config.workspace / FILE)


class _Collected:
    """What prometheus-client asks for: families of samples."""

    def __init__(self, config: Config, outlook: Outlook) -> None:
        self._config, self._outlook = config, outlook

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Every family that has a sample."""
        from prometheus_client.core import GaugeMetricFamily  # noqa: PLC0415

        for name, described, samples in (
            *self._standing(),
            *self._served(),
            *self._compared(),
            *self._judged(),
            *self._logged(),
        ):
            known = [(labels, value) for labels, value in samples if value is not None]
            if known:
                family = GaugeMetricFamily(name, described, labels=list(known[0][0]))
                for labels, value in known:
                    family.add_metric(list(labels.values()), value)
                yield family

    def _standing(self) -> Iterator[Family]:
        """The state of the pipeline."""
        seen = self._outlook
        ended = Counter(row.state for row in seen.rows)
        firing = {alarm.name for alarm in alarms(seen, self._config.alarms)}
        live = {"version": seen.live_version or ""}
        yield "saec_build_info", "The saec that wrote this.", [({"version": __version__}, 1)]
        yield (
            "saec_hours",
            "Hours of the ledger by how they ended.",
            [({"outcome": outcome}, ended[outcome]) for outcome in OUTCOMES],
        )
        yield (
            "saec_last_hour_finished_timestamp_seconds",
            "When an hour last ended, however it did.",
            _one(seen.finished.timestamp() if seen.finished else None),
        )
        yield (
            "saec_newest_hour_timestamp_seconds",
            "First instant of the newest hour that was begun.",
            _one(seen.rows[-1].hour.start.timestamp() if seen.rows else None),
        )
        yield "saec_live_version_info", "The live version.", [(live, 1 if seen.live_version else None)]
        yield (
            "saec_live_version_published_timestamp_seconds",
            "When the live version became live.",
            _one(seen.live_since.timestamp() if seen.live_since else None),
        )
        yield "saec_live_version_age_seconds", "The same as an age, when this was written.", _one(seen.live_seconds)
        yield (
            "saec_live_version_data_timestamp_seconds",
            "End of the last hour that the live version has learnt.",
            _one(seen.data_until.timestamp() if seen.data_until else None),
        )
        yield (
            "saec_publishing_held",
            "1 while a person holds publishing.",
            _one(float(seen.live.held) if seen.live else 0),
        )
        yield (
            "saec_unpublished_hours",
            "Hours that ended since the last one that was published.",
            _one(len(seen.unpublished)),
        )
        yield "saec_backlog_hours", "Hours that are due.", _one(len(seen.due))
        yield "saec_backlog_seconds", "How long they are likely to take.", _one(seen.backlog_seconds)
        yield "saec_stale_hours", "Hours whose result is out of date.", _one(len(seen.stale))
        yield "saec_lease_held", "1 while a run is at work.", _one(float(seen.lease is not None))
        yield "saec_disk_free_bytes", "Free where the workspace is.", _one(seen.disk_free)
        yield (
            "saec_alarm",
            "1 for each alarm that is set off by the settings' thresholds.",
            [({"alarm": name}, float(name in firing)) for name in ALARMS],
        )

    def _served(self) -> Iterator[Family]:
        """The newest hour with served figures."""
        newest = self._newest("served", "whose served figures are known", *(f"auc_{key}" for key in SERVED.values()))
        if newest is None:
            return
        known, of, dated = newest
        yield dated
        for metric, described in (("auc", "AUC"), ("logloss", "Log loss in nats a row")):
            yield (
                f"saec_served_{metric}",
                f"{described} on all rows before they were learnt, {of}.",
                [({"model": model}, known.get(f"{metric}_{key}")) for model, key in SERVED.items()],
            )

    def _compared(self) -> Iterator[Family]:
        """The served figures of the last hours, as paired differences."""
        pairs = [
            (dict(zip(("model", "reference"), name.split("-"), strict=True)), paired)
            for name, paired in self._outlook.served.items()
        ]
        over = f"the last {SERVED_HOURS} hours of the ledger"
        yield (
            "saec_served_window_rows",
            f"Rows of {over} that both models scored.",
            [(labels, paired.rows) for labels, paired in pairs],
        )
        for metric, described in (("auc", "AUC"), ("logloss", "Log loss")):
            for part, said in (
                ("difference", "pooled"),
                ("lower", "lower end of its 95% interval"),
                ("upper", "upper end of its 95% interval"),
            ):
                name = f"saec_served_{metric}_difference" + ("" if part == "difference" else f"_{part}")
                yield (
                    name,
                    f"{described} of a model minus that of its reference over {over}, {said}.",
                    [(labels, _finite(getattr(getattr(paired, metric), part))) for labels, paired in pairs],
                )

    def _judged(self) -> Iterator[Family]:
        """The newest hour that reached the gate."""
        newest = self._newest("judged", "that came to the gate", "auc_compressed")
        if newest is None:
            return
        known, of, dated = newest
        yield dated
        for metric, described in (("auc", "AUC"), ("logloss", "Log loss in nats a row")):
            yield (
                f"saec_{metric}",
                f"{described} on the gate rows {of}.",
                [({"model": model}, known.get(f"{metric}_{key}")) for model, key in JUDGED.items()],
            )
        for what, described in (("bytes", "Bytes of embeddings, keys counted,"), ("vectors", "Embedding vectors")):
            yield (
                f"saec_embedding_{what}",
                f"{described} {of}.",
                [({"model": model}, known.get(f"{what}_{JUDGED[model]}")) for model in ("original", "challenger")],
            )
        yield (
            "saec_compression_ratio",
            f"Bytes of the original's embeddings to the challenger's, {of}.",
            _one(known.get("ratio_total")),
        )
        yield (
            "saec_version_ratio",
            f"The same with both networks and every file of the version, {of}.",
            _one(known.get("ratio_version")),
        )
        yield (
            "saec_hour_rows",
            f"Rows trained on, judged on and set aside, {of}.",
            [
                ({"part": part}, known.get(key))
                for part, key in (("train", "rows_train"), ("gate", "rows_gate"), ("quarantined", "quarantined_rows"))
            ],
        )
        yield "saec_new_features", f"Features never seen before, {of}.", _one(known.get("new_features"))
        yield (
            "saec_step_seconds",
            f"Seconds by step, {of}.",
            [({"step": step}, seconds) for step, seconds in (known.get("seconds") or {}).items()],
        )

    def _logged(self) -> Iterator[Family]:
        """The newest hour that has a request log."""
        newest = self._newest("logged", "with a request log", "served_rows")
        if newest is None:
            return
        known, of, dated = newest
        yield dated
        for name, key, described in LOGGED:
            yield f"saec_logged_{name}", f"{described}, {of}.", _one(known.get(f"served_{key}"))
        yield (
            "saec_logged_lines",
            f"Lines of the request log that count for nothing, {of}.",
            [({"problem": key}, (known.get("served_log") or {}).get(key)) for key in ("unreadable", "torn")],
        )

    def _newest(self, name: str, which: str, *keys: str) -> tuple[dict[str, Any], str, Family] | None:
        """The newest hour that knows one of some figures: its record, how its figures are described, and its date.

        Args:
            name: what such hours are called in names of metrics.
            which: what such an hour is, for people.
            keys: the figures.
        """
        row = next(
            (
                row
                for row in reversed(self._outlook.rows)
                if row.record and any(row.record.get(key) is not None for key in keys)
            ),
            None,
        )
        if row is None:
            return None
        date = f"saec_{name}_hour_timestamp_seconds"
        dated = (date, f"First instant of the newest hour {which}.", _one(row.hour.start.timestamp()))
        return report_record(row), f"of the newest hour {which}, see {date}", dated


def _one(value: float | None) -> Samples:
    """The only sample of a family."""
    return [({}, value)]


def _finite(value: float) -> float | None:
    """A figure that the rows tell, None for one that they do not."""
    return value if math.isfinite(value) else None
