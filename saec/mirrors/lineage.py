"""Reports hours to an OpenLineage receiver: a run begins, completes or fails, with its inputs and outputs.

Decisions: one job per pipeline, one run per attempt at an hour. The run's id is derived from pipeline, hour and
attempt, so that its two events agree. PUBLISHED and HELD hours are COMPLETE, with the outcome in a facet; FAILED and
QUARANTINED ones are FAIL; a run that lost its lease is ABORT. Datasets follow OpenLineage's naming. Events are made and
sent with the package's own classes but without its client, which would add the git remote's address and environment
variables.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from saec import __version__
from saec.data.tables import place_of
from saec.mirrors.telling import undisturbed, without_login

if TYPE_CHECKING:
    from openlineage.client.event_v2 import InputDataset, OutputDataset, RunEvent
    from openlineage.client.transport import Transport

    from saec.config import Config
    from saec.ledger import HourRow, Ledger
    from saec.workspace import Workspace

KEY = "OPENLINEAGE_API_KEY"
"""Variable with the key that the receiver asks for, if it does."""
PRODUCER = f"urn:saec:{__version__}"
JOB = "hour"
_NAMESPACE = uuid.UUID("6f1c5a44-3b6e-5c55-9d0a-0f6a5d2a9f10")
_SECONDS = 5.0
_ENDS = {"PUBLISHED": "COMPLETE", "HELD": "COMPLETE", "QUARANTINED": "FAIL", "FAILED": "FAIL"}


class Lineage:
    """Reports hours; silent without `mirrors.openlineage`, and never blocks an hour."""

    def __init__(self, config: Config, ledger: Ledger, workspace: Workspace) -> None:
        """For the hours of a pipeline.

        Args:
            config: all settings.
            ledger: of the pipeline, which names it.
            workspace: of the pipeline, where its versions and its training state are.
        """
        self._config, self._ledger, self._workspace = config, ledger, workspace
        self._transport: Transport | None = None

    def begun(self, row: HourRow, parent: HourRow | None) -> None:
        """Report that an attempt at an hour has begun.

        Args:
            row: the hour.
            parent: the hour that it builds on.
        """
        self._tell("START", row, parent)

    def ended(self, row: HourRow, parent: HourRow | None) -> None:
        """Report how it ended; arguments as for `begun`."""
        self._tell(_ENDS[row.state], row, parent)

    def aborted(self, row: HourRow, parent: HourRow | None) -> None:
        """Report that another run replaced this one; arguments as for `begun`."""
        self._tell("ABORT", row, parent)

    def _tell(self, kind: str, row: HourRow, parent: HourRow | None) -> None:
        """Send an event."""
        if self._config.mirrors.openlineage is None:
            return
        with undisturbed(f"telling OpenLineage of hour {row.hour}", "which goes on"):
            self._opened().emit(self._event(kind, row, parent))

    def _event(self, kind: str, row: HourRow, parent: HourRow | None) -> RunEvent:
        """An event of a run."""
        from openlineage.client import event_v2, facet_v2  # noqa: PLC0415 - for those who tell

        event_v2.set_producer(PRODUCER)
        name = self._config.pipeline_name(self._ledger.pipeline_id)
        start, end = row.hour.start, (row.hour + 1).start
        facets: dict[str, Any] = {
            "nominalTime": facet_v2.nominal_time_run.NominalTimeRunFacet(_time(start), _time(end)),
            "processing_engine": facet_v2.processing_engine_run.ProcessingEngineRunFacet(__version__, "saec"),
        }
        if kind in ("FAIL", "ABORT"):
            said = without_login(f"{row.ending}: {row.message}") if kind == "FAIL" else "another run took the hour over"
            facets["errorMessage"] = facet_v2.error_message_run.ErrorMessageRunFacet(said, "PYTHON")
        if kind in ("COMPLETE", "FAIL"):
            facets["tags"] = facet_v2.tags_run.TagsRunFacet(
                [
                    facet_v2.tags_run.TagsRunFacetFields(key, value, "saec")
                    for key, value in (("outcome", row.state), ("reason", row.reason), ("version", row.version))
                    if value
                ]
            )
        kinds = facet_v2.job_type_job.JobTypeJobFacet("BATCH", "SAEC", "HOUR")
        return event_v2.RunEvent(
            eventTime=_time(datetime.now(UTC)),
            producer=PRODUCER,
            eventType=event_v2.RunState(kind),
            run=event_v2.Run(_run_id(name, row), facets),
            job=event_v2.Job(name, JOB, {"jobType": kinds}),
            inputs=[*self._inputs(row, parent)],
            outputs=[*self._outputs(row)] if kind == "COMPLETE" else [],
        )

    def _opened(self) -> Transport:
        """The connection, made when it is first needed."""
        if self._transport is None:
            from openlineage.client.transport import http  # noqa: PLC0415 - as above

            key = os.environ.get(KEY)
            self._transport = http.HttpTransport(
                http.HttpConfig(
                    url=str(self._config.mirrors.openlineage),
                    timeout=_SECONDS,
                    auth=http.ApiKeyTokenProvider({"api_key": key}) if key else http.TokenProvider({}),
                    retry={"total": 1},
                )
            )
        return self._transport

    def _inputs(self, row: HourRow, parent: HourRow | None) -> Iterator[InputDataset]:
        """The click log, and the training state that the hour started from."""
        from openlineage.client import event_v2, facet_v2  # noqa: PLC0415 - as above

        record, data = row.record or {}, self._config.data
        schema = [
            facet_v2.schema_dataset.SchemaDatasetFacetFields(name, type=kind) for name, kind in _columns(self._config)
        ]
        facets: dict[str, Any] = {"schema": facet_v2.schema_dataset.SchemaDatasetFacet(schema)}
        if read := record.get("table_version") or row.input_digest:
            facets["version"] = facet_v2.dataset_version_dataset.DatasetVersionDatasetFacet(str(read))
        statistics = (
            {
                "inputStatistics": facet_v2.input_statistics_input_dataset.InputStatisticsInputDatasetFacet(
                    record["rows"]
                )
            }
            if "rows" in record
            else {}
        )
        yield event_v2.InputDataset(*_named(place_of(data.source)), facets=facets, inputFacets=statistics)
        for checkpoint in (parent.learnt or ()) if parent else ():
            yield event_v2.InputDataset(*self._checkpoint(checkpoint))

    def _outputs(self, row: HourRow) -> Iterator[OutputDataset]:
        """The version, and the training state for the hour after."""
        from openlineage.client import event_v2, facet_v2  # noqa: PLC0415 - as above

        if row.version:
            files = self._workspace.store().manifest(row.version)["files"].values()
            found = facet_v2.output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(
                size=sum(entry["bytes"] for entry in files), fileCount=len(files)
            )
            version = facet_v2.dataset_version_dataset.DatasetVersionDatasetFacet(row.version)
            place = f"{self._config.store_url.rstrip('/')}/versions"
            yield event_v2.OutputDataset(
                *_named(place), facets={"version": version}, outputFacets={"outputStatistics": found}
            )
        for checkpoint in row.learnt or ():
            yield event_v2.OutputDataset(*self._checkpoint(checkpoint))

    def _checkpoint(self, name: str) -> tuple[str, str]:
        return _named(str(self._workspace.checkpoints.folder / name))


def _named(address: str) -> tuple[str, str]:
    """Namespace and name of what lies at a folder or URL, by OpenLineage's naming, without any login."""
    address = address.removeprefix("delta+").removeprefix("iceberg+")
    if "://" not in address:
        return "file", str(Path(address).absolute())
    parts = urlsplit(without_login(address))
    if parts.scheme == "file":
        return "file", parts.path
    return f"{parts.scheme}://{parts.netloc}", parts.path.strip("/") or "/"


def _columns(config: Config) -> Iterator[tuple[str, str]]:
    """The columns that are read, and what each holds."""
    yield config.data.time_column, "timestamp"
    yield config.data.label_column, "int"
    for field in config.fields:
        if field.source_column:
            yield field.source_column, f"list of {field.type}" if field.kind == "list" else field.type


def _run_id(name: str, row: HourRow) -> str:
    """The id of an attempt at an hour: the same for both its events, another one for the next attempt."""
    return str(uuid.uuid5(_NAMESPACE, f"{name} {row.hour} {row.fence} {row.attempts}"))


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
