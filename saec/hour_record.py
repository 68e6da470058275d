"""Builds the records of an hour: the manifest of its version, and its record in the ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from saec import device
from saec.plain_json import plain_json
from saec.train import ranks

if TYPE_CHECKING:
    from saec.data.ingest import IngestRecord
    from saec.records import Clustered, HourPlan, Judged, Retrained, Trained


def manifest_of(
    plan: HourPlan, ingested: IngestRecord, trained: Trained, retrained: Retrained, judged: Judged
) -> dict[str, Any]:
    """The manifest: where the version comes from and why it passed. It contains no clock time, so it is reproducible.

    Nothing here depends on how the original's state is laid out: the original is called by its identity. The
    challenger's state is always whole in one file and called by that file's hash.
    """
    return {
        "config": plan.config.digest,
        "data": ingested.input_sha256,
        **({"late": ingested.late} if ingested.late else {}),
        **({"clicks_from": ingested.clicks_from} if ingested.clicks_from else {}),
        **({"ranks": ranks.current.size} if ranks.current else {}),
        **({"device": gpu} if (gpu := device.model()) else {}),
        "parents": {"original": trained.learnt_from, "challenger": plan.challenger, "champion": plan.champion},
        "rows": {"train": trained.cut, "gate": trained.rows_gate},
        "judged": {file.name.rpartition("/")[2]: file.sha256 for file in judged.candidate},
        "metrics": plain_json(judged.metrics),  # an hour without a click has no AUC
        "served": plain_json({name: value for name, value in trained.served.items() if name != "served_pairs"}),
        "verdict": {"status": judged.verdict.status, "reason": judged.verdict.reason, "text": judged.verdict.text},
        "compression": retrained.figures,
        "recorded": {"scores": list(judged.recorded)},
    }


def record_of(
    ingested: IngestRecord, trained: Trained, clustered: Clustered, retrained: Retrained, judged: Judged
) -> dict[str, Any]:
    """The ledger's record: everything that the report shows of an hour, and what the next hour starts from."""
    return {
        "rows": ingested.rows,
        "clicks": ingested.clicks,
        **({"stand_for": ingested.stand_for} if ingested.stand_for else {}),
        "duplicates": ingested.duplicates,
        "contradicting": ingested.contradicting,
        "clicks_joined": ingested.clicks_joined,
        "clicks_of_earlier": ingested.clicks_of_earlier,
        "late": ingested.late,
        **({} if ingested.table_version is None else {"table_version": ingested.table_version}),
        "quarantined_rows": sum(ingested.quarantined.values()),
        "quarantined": ingested.quarantined,
        "rows_train": trained.cut,
        "rows_gate": trained.rows_gate,
        "features": trained.features,
        "new_features": trained.new_features,
        **trained.served,
        "slices": trained.slices,
        "watch": trained.watch,
        **trained.logged,
        **judged.metrics,
        **retrained.figures,
        "sizes": {name.partition(".")[0]: size for name, size in retrained.sizes.items()},
        "verdict": judged.verdict.as_dict(),
        "evidence": judged.verdict.evidence.as_dict(),
        "release_problem": judged.problem,
        "code_churn": clustered.churn,
        "utilisation": clustered.utilisation,
        "fields": clustered.by_field,
        "challenger": retrained.challenger,
    }
