"""Mirrors releases to an MLflow registry: each version with its figures, and the alias `live` on the live version.

Decisions: the release log is authoritative; the registry is a copy that no part of saec reads. The registry itself
records the number and token of the last mirrored release, so the next run makes up for anything missed while it was
down or changed by hand, and a replaced store is copied again. A version is searched before it is created, so a run that
dies in between leaves no duplicate. Its figures are those of an MLflow run at the version's hour, where MLflow's pages
can plot them. MLflow's own telemetry stays off.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from saec.errors import StoreError
from saec.mirrors.telling import log, undisturbed
from saec.store.manifest import version_hour

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from saec.config import Config
    from saec.hours import Hour
    from saec.ledger import Ledger
    from saec.store.model_store import ModelStore
    from saec.store.releases import Release

LIVE = "live"
"""The registry's alias of what is live."""
VERSION, RELEASE, HELD = "saec.version", "saec.release", "saec.held"
"""Tags: of a model version and its run, its id; of the model, the last release mirrored, and whether that holds."""
_CALM = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
"""Timeouts, so that an unreachable registry delays nothing; variables that are already set win."""


def mirror_releases(config: Config, ledger: Ledger, store: ModelStore) -> None:
    """Bring the registry up to the release log; nothing without `mirrors.mlflow`, and a warning where it fails."""
    if config.mirrors.mlflow is None:
        return
    with undisturbed("mirroring releases to MLflow", "the next run catches up"):
        for name, value in _CALM.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient  # noqa: PLC0415 - seconds to import, for those who mirror

        url = config.mirrors.mlflow
        _Registry(MlflowClient(url, url), config.pipeline_name(ledger.pipeline_id), config.store_url).catch_up(store)


class _Registry:
    """A pipeline's model in an MLflow registry."""

    def __init__(self, client: MlflowClient, name: str, store_url: str) -> None:
        self._client, self._name, self._store_url = client, name, store_url

    def catch_up(self, store: ModelStore) -> None:
        """Mirror every release that is not mirrored yet."""
        last = store.live()
        known = self._known()
        if last is None or known == _mark(last):
            return
        for release in _after(known, store):
            if release.version and release.action in ("publish", "rollback"):
                self._require(store, release)
        number = self._found(last.version) if last.version else None
        if number is not None:
            self._client.set_registered_model_alias(self._name, LIVE, number)
        self._client.set_registered_model_tag(self._name, HELD, str(last.held).lower())
        self._client.set_registered_model_tag(self._name, RELEASE, _mark(last))

    def _known(self) -> str:
        """The mark of the last release that was mirrored, empty before any; makes the model where it is not there."""
        found = self._client.search_registered_models(f"name = '{self._name}'", max_results=1)
        if not found:
            self._client.create_registered_model(self._name, description=_ABOUT)
            return ""
        return str((found[0].tags or {}).get(RELEASE, ""))

    def _found(self, version: str) -> str | None:
        """The registry's number of a version, None when it is not there."""
        wanted = f"name = '{self._name}' and tags.`{VERSION}` = '{version}'"
        found = self._client.search_model_versions(wanted, max_results=1)
        return str(found[0].version) if found else None

    def _require(self, store: ModelStore, release: Release) -> None:
        """Register a version with its figures, unless it is there or the store no longer has it."""
        version = str(release.version)
        if self._found(version) is not None:
            return
        try:
            manifest = store.manifest(version)
        except StoreError as error:
            log.warning("version %s is not mirrored to MLflow: %s", version, error)
            return
        verdict = manifest.get("verdict") or {}
        self._client.create_model_version(
            self._name,
            source=_address(self._store_url, self._name, version),
            run_id=self._run(version, version_hour(version), manifest),
            tags={
                VERSION: version,
                "saec.hour": str(manifest["hour"]),
                "saec.verdict": str(verdict.get("status", "")),
                "saec.config": str(manifest.get("config", "")),
                "saec.data": str(manifest.get("data", "")),
            },
            description=f"{release.action} by {release.actor}: {release.reason}\n\nsaec card {version}",
        )

    def _run(self, version: str, hour: Hour, manifest: Mapping[str, Any]) -> str:
        """The MLflow run of a version, with its figures at the end of its hour."""
        from mlflow.entities import Metric  # noqa: PLC0415 - as above

        experiment = self._client.get_experiment_by_name(self._name)
        folder = experiment.experiment_id if experiment else self._client.create_experiment(self._name)
        known = self._client.search_runs([folder], f"tags.`{VERSION}` = '{version}'", max_results=1)
        if known and known[0].info.status == "FINISHED":
            return str(known[0].info.run_id)
        end = (hour + 1).start_ms
        run = str(
            (
                known[0] if known else self._client.create_run(folder, hour.start_ms, {VERSION: version}, version)
            ).info.run_id
        )
        self._client.log_batch(run, [Metric(name, value, end, hour.index) for name, value in _figures(manifest)])
        self._client.set_terminated(run, "FINISHED", end)
        return run


_ABOUT = "Mirrored by saec from its release log, which alone decides what is served; changes here change nothing."


def _mark(release: Release) -> str:
    """What tells a release from any other, also from one of the same number in another store."""
    return f"{release.sequence}-{release.token}"


def _after(known: str, store: ModelStore) -> list[Release]:
    """The releases after a known one; all where it is not in the log."""
    releases = store.releases()
    place = next((index for index, release in enumerate(releases) if _mark(release) == known), -1)
    return releases[place + 1 :]


def _figures(manifest: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """The numbers of a manifest: the gate's and the served figures, ratios, rows and bytes."""
    files = manifest["files"]
    sizes = {name.partition(".")[0]: entry["bytes"] for name, entry in files.items()}
    for prefix, section in (
        ("gate.", manifest.get("metrics")),
        ("met.", manifest.get("served")),
        ("compression.", manifest.get("compression")),
        ("rows.", manifest.get("rows")),
        ("bytes.", {**sizes, "all": sum(sizes.values())}),
    ):
        for name, value in (section or {}).items():
            if isinstance(value, int | float) and math.isfinite(value):
                yield f"{prefix}{name}", float(value)


def _address(store_url: str, name: str, version: str) -> str:
    """Where a version lies: its URL, or a name where that is a folder of this machine, which MLflow would refuse."""
    root = store_url.rstrip("/") if "://" in store_url else f"saec://{name}"
    return f"{root}/versions/{version}"
