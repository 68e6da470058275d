"""Prometheus metrics of the model server: requests, latency, and the version that answers.

Decisions: counters of requests live here, everything about versions is read off `Standing` when Prometheus asks. They
are plain numbers, since only the event loop counts: a request pays for no lock. Few series: paths are those of the API
or "other", one version is named at a time. Latency is that of scoring answers, from the request's head to the last
byte handed to the network.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import accumulate

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from saec import __version__
from saec.server.live import Standing
from saec.server.request_log import RequestLog

_BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.5)


class ServerMetrics:
    """All metrics of one server."""

    def __init__(self, standing: Standing, request_log: RequestLog | None) -> None:
        self.requests: Counter[tuple[str, int]] = Counter()
        """Answers by path and status."""
        self.at_work = 0
        """Requests being answered."""
        self.among: Callable[[bytes], bytes] | None = None
        """What puts the metrics of other workers beside this one's."""
        self._rows, self._seconds, self._by_bucket = 0, 0.0, [0] * (len(_BUCKETS) + 1)
        self._registry = registry = CollectorRegistry()
        registry.register(_Asked(self))
        registry.register(_Standing(standing, request_log))
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)

    def scored(self, rows: int, seconds: float) -> None:
        """Count an answer with scores."""
        self._rows += rows
        self._seconds += seconds
        self._by_bucket[bisect_left(_BUCKETS, seconds)] += 1

    def own_text(self) -> bytes:
        """Everything of this process in Prometheus' text format."""
        return generate_latest(self._registry)

    def text(self) -> bytes:
        """The same, with that of other workers where there are some."""
        return self.among(self.own_text()) if self.among else self.own_text()

    def collect(self) -> Iterator[Metric]:
        """The families that are counted here."""
        requests = CounterMetricFamily(
            "saec_server_requests", "Requests by path and status.", labels=["path", "status"]
        )
        for (path, status), count in list(self.requests.items()):  # counted on by another thread
            requests.add_metric([path, str(status)], count)
        yield requests
        bounds = [*map(floatToGoString, (*_BUCKETS, float("inf")))]
        yield HistogramMetricFamily(
            "saec_server_score_seconds",
            "Seconds of answers with scores.",
            sum_value=self._seconds,
            buckets=[*zip(bounds, map(float, accumulate(self._by_bucket)), strict=True)],
        )
        yield CounterMetricFamily("saec_server_scored_rows", "Rows scored.", self._rows)
        yield GaugeMetricFamily("saec_server_requests_at_work", "Requests being answered.", self.at_work)


class _Asked(Collector):
    """Collector interface of prometheus-client: the counters."""

    def __init__(self, metrics: ServerMetrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        """Every family."""
        return self._metrics.collect()


class _Standing(Collector):
    """What prometheus-client asks for: the server's state."""

    def __init__(self, standing: Standing, request_log: RequestLog | None) -> None:
        self._standing, self._request_log = standing, request_log

    def collect(self) -> Iterator[Metric]:
        """Every family that is known."""
        seen = self._standing
        build = GaugeMetricFamily("saec_server_build_info", "The saec that serves.", labels=["version"])
        build.add_metric([__version__], 1)
        yield build
        yield from self._live()
        yield CounterMetricFamily("saec_server_swaps", "Times one version took another's place.", seen.swaps)
        yield CounterMetricFamily("saec_server_refused_versions", "Times a version could not be used.", seen.refusals)
        yield GaugeMetricFamily(
            "saec_server_version_refused", "1 while the store's live version cannot be used.", seen.refused is not None
        )
        yield CounterMetricFamily("saec_server_failed_polls", "Looks at the store that failed.", seen.failed_polls)
        if seen.seen_at:
            yield GaugeMetricFamily(
                "saec_server_last_poll_timestamp_seconds", "When the store last answered.", seen.seen_at.timestamp()
            )
        if self._request_log:
            rows = CounterMetricFamily("saec_server_logged_rows", "Rows for the request log.", labels=["outcome"])
            rows.add_metric(["written"], self._request_log.written)
            rows.add_metric(["dropped"], self._request_log.dropped)
            yield rows

    def _live(self) -> Iterator[Metric]:
        """What is live, when something is."""
        live = self._standing.live
        yield GaugeMetricFamily("saec_server_ready", "1 while a version answers.", live is not None)
        if live is None:
            return
        info = GaugeMetricFamily("saec_server_live_version_info", "The version that answers.", labels=["version"])
        info.add_metric([live.model.version], 1)
        yield info
        trained_to = (live.hour + 1).start
        for name, described, value in (
            (
                "from_cache",
                "1 while it is the last good one of before a restart, the store not having answered.",
                float(live.from_cache),
            ),
            ("since_timestamp_seconds", "When it began to answer.", live.since.timestamp()),
            (
                "age_seconds",
                "Since the end of the hour it was last trained on.",
                (datetime.now(UTC) - trained_to).total_seconds(),
            ),
            ("held", "1 while a person holds publishing.", float(live.release.held)),
        ):
            yield GaugeMetricFamily(f"saec_server_live_version_{name}", described, value)
