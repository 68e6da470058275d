"""Gathers the facts of a version's model card from manifest, release log and ledger.

Decisions: nothing is measured again and nothing is stored, so a card never contradicts the figures it is made of, and
no version's bytes depend on it. It starts with what speaks against the version, in words, because a card that only
praises is useless. It separates two kinds of served hours: the hour after the version's own, which is measured whether
or not it was released, and all hours in which it was live.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saec.data.schema import parse_schema
from saec.gate.paired import Gap, Paired, over_hours
from saec.gate.slices import slices_over_hours
from saec.ledger import HourRow, report_record
from saec.plain_json import plain_json
from saec.report import text
from saec.report.headline import METRICS, TOLD, difference_text, plain_pairs, stand_in_text
from saec.report.records import comparisons, finite
from saec.report.slices import worse_text
from saec.serving.files import ORIGINAL_CODEBOOKS, SCHEMA
from saec.serving.members import read_share
from saec.store.manifest import version_hour
from saec.store.model_store import ModelStore

CALIBRATED = 0.05
"""Deviation of mean score over click rate from 1 above which the card mentions it."""
_SCHEMA_LIMIT = 1 << 20


def card(store: ModelStore, rows: Sequence[HourRow], version: str) -> dict[str, Any]:
    """The card's facts, plain values for JSON; see `saec.report.card_page` for the page.

    Args:
        store: holds the version.
        rows: of the ledger, oldest first, with their records from the version's hour on.
        version: its id.

    Raises:
        StoreError: reason "no-version", when there is none.
        IntegrityError: when its manifest or schema is damaged.
    """
    manifest, problems = store.manifest(version), store.verify(version)
    hour = version_hour(version)
    own = next((row for row in rows if row.hour == hour and row.version == version), None)
    record = report_record(own) if own else {}
    met = _Met.of(rows, version, own)
    return dict(
        plain_json(
            {
                "version": version,
                "hour": str(hour),
                **_standing(store, version),
                "whole": not problems,
                "problems": problems,
                "unfavourable": list(_unfavourable(manifest, record, met, problems)),
                "learnt": _learnt(rows, own, manifest),
                "schema": _schema(store, version),
                "share_of_original": None if problems else _share_of_original(store, version, manifest),
                "bytes": sum(entry["bytes"] for entry in manifest["files"].values()),
                "files": {name: entry["bytes"] for name, entry in sorted(manifest["files"].items())},
                "compression": manifest.get("compression") or {},
                "gate": {
                    "verdict": manifest.get("verdict") or {},
                    "metrics": manifest.get("metrics") or {},
                    "comparisons": comparisons(record),
                    "stood_in": stand_in_text(record),
                },
                **{name: _hours(records, pairs) for name, (_, records, pairs) in met.pairs().items()},
                "slices": [item.as_dict() for item in slices_over_hours(met.live)],
                "worse_than": met.worse_than,
                "made_from": {
                    name: manifest[name] for name in ("config", "data", "parents", "ranks") if name in manifest
                },
            }
        )
    )


def _standing(store: ModelStore, version: str) -> dict[str, Any]:
    """Whether it is live or held, its releases, and the version to roll back to."""
    releases = store.releases()
    last = releases[-1] if releases else None
    live = last is not None and last.version == version
    earlier = [other for other in store.versions() if other < version]
    before = last.previous if live and last else None
    return {
        "live": live,
        "held": bool(live and last and last.held),
        "releases": [release.model_dump(exclude={"token"}) for release in releases if release.version == version],
        "back_to": before if before in store.versions() else earlier[-1] if earlier else None,
    }


@dataclass(frozen=True)
class _Met:
    """Records of the hours that a version scored, oldest first."""

    after: list[dict[str, Any]]
    """The hour after its own, which every version scores, released or not; empty if the ledger does not have it."""
    live: list[dict[str, Any]]
    """Those that it served."""

    @classmethod
    def of(cls, rows: Sequence[HourRow], version: str, own: HourRow | None) -> _Met:
        """Of a version.

        The hour after tells of the version made from its parent: of this one only if the ledger still has that hour so,
        and if it was not the judged candidate that was published.
        """
        sound = [row for row in rows if row.record and not row.stale_because]
        ours = own is not None and not (own.record or {}).get("release_problem")
        after = [row for row in sound if ours and own and row.parent == own.hour]
        live = [row for row in sound if ((row.record or {}).get("watch") or {}).get("version") == version]
        return cls([report_record(row) for row in after[:1]], [report_record(row) for row in live])

    @property
    def worse_than(self) -> list[str]:
        """What the newest hour that it served shows it to be worse than."""
        return list(self.live[-1]["watch"]["worse_than"]) if self.live else []

    def pairs(self) -> dict[str, tuple[str, list[dict[str, Any]], dict[str, Paired]]]:
        """By what they are called in the card: which hours in words, their records, the version beside the others."""
        return {
            "hour_after": ("the hour after its own", self.after, _first(over_hours(self.after), "version")),
            "while_live": ("the hours that it was live", self.live, _first(over_hours(self.live), "live")),
        }


def _first(pairs: Mapping[str, Paired], model: str) -> dict[str, Paired]:
    """The pairs whose first model is the one that is asked for."""
    return {name: paired for name, paired in pairs.items() if name.startswith(f"{model}-")}


def _hours(records: Sequence[Mapping[str, Any]], pairs: Mapping[str, Paired]) -> dict[str, Any]:
    """Which hours, and the version beside the others on them."""
    return {
        "hours": len(records),
        "first": records[0]["hour"] if records else None,
        "last": records[-1]["hour"] if records else None,
        "pairs": plain_pairs(pairs),
    }


def _learnt(rows: Sequence[HourRow], own: HourRow | None, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The hours that it learnt, one after the other, back to the first that the ledger knows of."""
    by_hour = {row.hour: row for row in rows}
    chain, row = [], own
    while row is not None:
        chain.append(row.hour)
        row = by_hour.get(row.parent) if row.parent is not None else None
    last = version_hour(str(manifest["version"]))
    first = chain[-1] if chain else last
    return {
        "first": str(first),
        "last": str(last),
        "hours": max(len(chain), 1),
        "left_out": (last.index - first.index + 1) - max(len(chain), 1),
        "known": bool(chain),
        "rows": manifest.get("rows") or {},
        "late": manifest.get("late") or {},
    }


def _schema(store: ModelStore, version: str) -> dict[str, Any]:
    """Its inputs, and the label that it predicts."""
    schema = parse_schema(store.objects.get(f"versions/{version}/{SCHEMA}", _SCHEMA_LIMIT))
    return {
        "label": schema.label_column,
        "time": schema.time_column,
        "columns": schema.columns,
        "fields": {field.name: field.kind for field in schema.fields},
        "crosses": ["&".join(cross) for cross in schema.crosses],
        "network": schema.model.network,
        "width": schema.model.width,
    }


def _share_of_original(store: ModelStore, version: str, manifest: Mapping[str, Any]) -> float:
    """What the quantised original's logit counts for in an ensemble; 0 where there is the retrained model alone."""
    if ORIGINAL_CODEBOOKS not in manifest["files"]:
        return 0.0
    path = f"versions/{version}/{ORIGINAL_CODEBOOKS}"
    return read_share(store.objects.get(path, manifest["files"][ORIGINAL_CODEBOOKS]["bytes"]), Path(path))


def _unfavourable(
    manifest: Mapping[str, Any], record: Mapping[str, Any], met: _Met, problems: Sequence[str]
) -> Iterator[str]:
    """What speaks against the version, most serious first."""
    yield from (f"Its stored bytes are damaged: {text.plain(problem)}." for problem in problems)
    if stand_in := stand_in_text(record):
        yield f"Published was {stand_in}."
    if met.worse_than:
        yield f"The hours that it served show it to be worse than {' and '.join(met.worse_than)}."
    for said, records, pairs in met.pairs().values():
        if records is met.after and met.after == met.live:
            continue  # said once, of the hours that it was live
        for name, paired in pairs.items():
            yield from _losses(said, TOLD[name.partition("-")[2]], paired)
    if slices := worse_text(slices_over_hours(met.live)):
        yield slices
    yield from _of_gate(manifest, record)
    if not met.after and not met.live:
        yield "It has not scored an hour yet: it was judged on the gate rows alone, minutes after those it learnt."


def _losses(said: str, reference: str, paired: Paired) -> Iterator[str]:
    """Where it is worse than a reference, with the interval, and whether that is significant."""
    gaps: tuple[tuple[str, Gap, float], ...] = (("AUC", paired.auc, 1.0), ("log loss", paired.logloss, -1.0))
    for metric, gap, better in gaps:
        if gap.difference * better < 0:
            shown = max(gap.lower * better, gap.upper * better) < 0
            yield (
                f"Over {said} its {metric} is worse than that of the {reference}: {difference_text(gap)}, "
                f"{'which is significant' if shown else 'which is not significant'}."
            )


def _of_gate(manifest: Mapping[str, Any], record: Mapping[str, Any]) -> Iterator[str]:
    """What the gate let pass, scores that mean too much or too little, and what the headline ratio leaves out."""
    metrics, compression = manifest.get("metrics") or {}, manifest.get("compression") or {}
    for item in comparisons(record):
        for metric, better in (("auc", 1.0), ("logloss", -1.0)):
            found, bound = (finite(item[f"{metric}_{what}"]) for what in ("difference", "bound"))
            if found is not None and found * better < 0:
                yield (
                    f"At the gate, {METRICS[metric]} was worse than that of {item['reference']}: "
                    f"{text.signed(found)}, at the bound {text.signed(bound)}."
                )
    for metric, better in (("auc", 1.0), ("logloss", -1.0)):
        own, original = (finite(metrics.get(f"{metric}_{model}")) for model in ("compressed", "original"))
        if own is not None and original is not None and own * better < original * better:
            yield (
                f"On the gate rows {METRICS[metric]} of the candidate was {text.decimal(own)}, that of the original "
                f"{text.decimal(original)}; this is no part of the verdict."
            )
    calibration = finite(metrics.get("calibration_compressed"))
    if calibration is not None and abs(calibration - 1.0) > CALIBRATED:
        yield f"On the gate rows mean score over click rate was {text.decimal(calibration, 3)}; calibrated is 1."
    total, whole = finite(compression.get("ratio_total")), finite(compression.get("ratio_version"))
    if total is not None and whole is not None and whole < total:
        yield (
            f"Rows and keys are {text.times(total)} smaller, but all files, the network among them, only "
            f"{text.times(whole)}."
        )
