"""Holds the constants of the pipeline: numbers that could be settings, each with the reason why it is none.

Decisions: whatever neither a log, nor a machine, nor a person's judgement decides is the same for everybody, so that
there are few settings to read. The constants stand here and not beside their algorithms, because the digest of the
settings and the schema of a version include them: another value makes other versions. A settings file cannot set them.
Tests and benchmarks can, as arguments of the sections or, with `SAEC_TRIAL=1`, in a file.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

MOST_NULLS = 0.5
"""Largest share of nulls of a field that is only said to be nullable."""
TRIAL = "SAEC_TRIAL"
"""Environment variable that lets a settings file set constants, if it is 1."""


class Section(BaseModel):
    """Base of all sections: frozen, unknown keys refused, the line beneath a setting is its description."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


class Constants(Section):
    """Base of the constants of a section."""


class DataConstants(Constants):
    """Of `data`."""

    max_bytes: int | None = Field(default=None, gt=0)
    """Largest number of uncompressed bytes in an hour; by default it follows from `max_rows`."""


class VocabularyConstants(Constants):
    """Of `vocabulary`."""

    half_life: float = Field(default=168.0, gt=0)
    """Hours after which a sighting counts half in a feature's frequency: one week, so that each hour of the week counts
    alike."""
    evict_floor: float = Field(default=32.0, ge=0)
    """Features with at least this decayed frequency are never forgotten: they are few, and their rows were learnt from
    many clicks."""
    max_new_features: int = Field(default=2_000_000, ge=1)
    """Largest number of new features per field and hour, the most frequent ones; only a burst exceeds it. The others
    use the default row until they appear in a later hour."""


class ModelConstants(Constants):
    """Of `model`."""

    cross_layers: int = Field(default=2, ge=1, le=8)
    """Cross layers of dcnv2; `hidden` is what makes a network larger."""
    cross_rank: int = Field(default=64, ge=1)
    """Rank of each cross layer of dcnv2."""


class TrainingConstants(Constants):
    """Of `training`."""

    gate_share: float = Field(default=0.3, gt=0.0, lt=1.0)
    """Share of the hour's rows, the latest ones, on which the gate compares before anything trains on them. The
    published version has learnt them too, so a larger share gains certainty about a model that differs more from the
    published one."""
    weight_decay: float = Field(default=0.1, ge=0)
    """Decoupled weight decay of AdamW: over the first 96 hours of Globo's log, AUC and log loss without it are within
    0.0004 of those with it."""
    precision: Literal["auto", "float32", "bfloat16"] | None = None
    """Arithmetic of the network's matrix products; by default it follows from `batch_rows`."""


class CompressionConstants(Constants):
    """Of `compression`."""

    doubling_hours: int = Field(default=24, ge=0)
    """Hours in which a new pipeline's ratio doubles, from 25 up to the wanted one; 0 compresses fully at once. One day:
    with half a day, 155 hours of Globo's log were published instead of 171, and the live version fell behind on the
    third day."""
    codewords: int | None = Field(default=None, ge=1, le=4095)
    """Clusters per field instead of what the ratio gives: from 31 to 127 the models hardly differ; 15 are too few."""
    clusterer: Literal["saec", "scikit-learn"] = "saec"
    """Clustering code: our own; scikit-learn's k-means serves for comparison, is far slower and no better."""
    codebook_precision: Literal["int4", "int8", "float16"] = "int4"
    """Numbers of the codebooks on disk: int8 gives the AUC and log loss of float16 and float32, and int4 hardly
    less, in nearly half the bytes. Where bytes would take no more than a sixty-fourth of the index, int4 is int8."""
    network_precision: float = Field(default=2.0, ge=1.0, le=32.0)
    """Steps on disk per root mean square of a layer's weights: with 2 a network takes 66 kB instead of 663, for 0.0002
    of log loss and no AUC."""
    fingerprint_bits: int = Field(default=6, ge=2, le=16)
    """Bits that distinguish an indexed feature from an unknown one: one unknown feature in 2^bits is mistaken for a
    known one, in training too. 4 bits cost 0.004 of AUC on Globo's log and 2 bits 0.011; 8 bits are no better than 6 at
    one size."""


class GateConstants(Constants):
    """Of `gate`."""

    confidence: float = Field(default=0.95, gt=0.5, lt=1.0)
    """Confidence with which the gate must show that a loss is inside the margin, over all its looks; a site chooses the
    margins."""
    min_rows: int = Field(default=500, ge=2)
    """Smallest number of rows, over all pooled hours, for a decision, because the bounds hold for large samples; with
    fewer the hour is HELD(too-few)."""
    min_class_rows: int = Field(default=30, ge=2)
    """Smallest number of rows of each label, over all pooled hours, for a decision; with fewer the hour is
    HELD(too-few)."""


class AlarmsConstants(Constants):
    """Of `alarms`."""

    disk_free_gb: float = Field(default=5.0, ge=0)
    """Free GB at the workspace below which the disk counts as low. An hour that would not fit is refused before it
    begins, whatever this is."""


def constants(section: type[Section]) -> dict[str, str]:
    """The constants of a section, by name with their descriptions."""
    bases = [base for base in section.__mro__ if issubclass(base, Constants) and base is not section]
    return {name: field.description or "" for base in bases for name, field in base.model_fields.items()}
