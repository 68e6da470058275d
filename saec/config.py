"""All settings, each with what it is for and what happens if it is raised or lowered.

Decisions: one pydantic model a section, frozen; relative paths are taken from the current directory; `digest` covers
what changes the bytes of a version and nothing else (not the paths), so that two workspaces agree on version ids. What
nobody needs to turn is constant (`saec.constants`); what only the model server needs are options of `saec serve`. A
file of settings is read by `saec.settings_file`. docs/configuration.md is generated from this file.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, StrictBool, field_validator, model_validator

from saec import layout
from saec.constants import (
    MOST_NULLS,
    AlarmsConstants,
    CompressionConstants,
    DataConstants,
    GateConstants,
    ModelConstants,
    RunConstants,
    Section,
    TrainingConstants,
    VocabularyConstants,
)
from saec.errors import nearest
from saec.hour_layout import DEFAULT_LAYOUT, layout_of
from saec.settings_digest import digest_of

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.-]{0,62}$")]

_LARGE_BATCH = 1024
"""Rows of a batch from which bfloat16 is worth that bytes differ between kinds of processors."""
_ROW_BYTES, _LEAST_BYTES = 430, 1 << 30
"""Uncompressed bytes of an hour that are never too many, a row and in all."""


class DataConfig(DataConstants):
    """Where an hour's rows come from, and what makes them unfit."""

    source: str
    """Folder or URL (file, s3, gs) that holds each hour's files, by UTC hours; or a Delta Lake or Iceberg table, its
    folder, `delta+URL`, `iceberg+URL` or `iceberg://CATALOG/TABLE`; `@N` at its end reads version or snapshot N."""
    layout: str = DEFAULT_LAYOUT
    """Where below `source` an hour lies, by %Y, %m, %d, %H and `*`: a folder of files, or the files themselves where
    the last name holds a `*` or ends like a file."""
    format: Literal["auto", "parquet", "csv", "jsonl"] = "auto"
    """What the files hold; auto tells it by their ending, .gz and .zst included."""
    header: list[str] = Field(default=[])
    """Names of the columns of CSV that has no line of names, in its order; with the line there, leave it empty."""
    time_column: Name
    """Timestamp column of the event; rows are trained on in its order."""
    time_unit: Literal["s", "ms", "us", "ns"] | None = None
    """What a time column of numbers counts since 1970-01-01T00 UTC; null refuses numbers."""
    label_column: Name
    """Integer or boolean column holding 0 or 1."""
    row_id_columns: list[Name] = Field(default=[])
    """Columns that together identify a row, for finding duplicates; all columns when empty."""
    duplicates: Literal["click-wins", "set-aside", "refuse"] = "click-wins"
    """What becomes of rows of one id with different labels: the earliest is learnt, with a click; none of them is,
    while they are few; or the hour is quarantined."""
    click_delay: int = Field(default=0, ge=0, le=48)
    """Hours by which a click may come later than its row, as a row of its own with the same id. Raised: late clicks are
    learnt too, and an hour is done so much later. Lowered: hours are done sooner, and late clicks count as none."""
    weight_column: Name | None = None
    """Column of how many rows of the full traffic a row stands for, above 0; each stands for itself without."""
    negative_sampling: Annotated[float, Field(gt=0, le=1)] | Name | None = None
    """Share of the rows without a click that the log holds, or the column that holds it row by row: such a row then
    stands for one over it. Raised or lowered away from what is true: every score is too high, or too low."""
    hash_key: str = "saec"
    """Key of the feature hash; changing it makes every feature a new one."""
    ignore_extra_columns: bool = False
    """Whether columns that no field names are passed over; otherwise they quarantine the hour."""
    max_bad_share: Share = 0.01
    """Largest share of rows that row rules may set aside before the whole hour is quarantined. Raised: hours are learnt
    from what is sound of them. Lowered: a feed that breaks is seen sooner."""
    max_click_shift: float = Field(default=10.0, ge=0)
    """Furthest an hour's click rate may be from the last day's, in standard deviations of its hours; 0: no limit.
    Raised: sudden changes are learnt. Lowered: labels that are wrong are held sooner, and true changes with them."""
    max_rows: int = Field(default=20_000_000, gt=0)
    """Most rows of an hour, checked from the file's metadata before anything is read; its uncompressed bytes may be 430
    a row, or 1 GiB. Raised: larger hours are learnt, and take more memory. Lowered: a bomb is refused sooner."""
    due_after: int = Field(default=0, ge=0)
    """Minutes after its end from which an hour is due: how far producers may lag behind. Raised: an hour is whole when
    it is read, and published later. Lowered: it is published sooner, and more of its rows may come late."""
    absent_after: int = Field(default=2, ge=0)
    """Hours after its end that an hour's absent partition is waited for, then it is HELD(no-data) and stepped over.
    Raised: hours stay in their order where some come late. Lowered: a gap holds those after it up for less long."""
    late: Literal["ignore", "fold", "replay"] = "ignore"
    """Rows that come when their hour is done: only marked and measured, learnt with the next hour, or the hour and
    those after it done again and swapped in."""

    @property
    def most_bytes(self) -> int:
        """Most uncompressed bytes of an hour."""
        return self.max_bytes or max(_LEAST_BYTES, self.max_rows * _ROW_BYTES)

    @property
    def weight_columns(self) -> tuple[str, ...]:
        """Columns that say what a row stands for."""
        return tuple(name for name in (self.weight_column, self.negative_sampling) if isinstance(name, str))

    @property
    def weighted(self) -> bool:
        """Whether rows stand for more or less than themselves."""
        return self.weight_column is not None or self.negative_sampling is not None

    @model_validator(mode="after")
    def _clicks_can_be_joined(self) -> Self:
        if self.click_delay and (not self.row_id_columns or self.duplicates != "click-wins"):
            raise ValueError(
                "click_delay joins clicks by row_id_columns, which must name columns, and wants duplicates: click-wins"
            )
        return self

    @field_validator("layout")
    @classmethod
    def _tells_the_hour(cls, pattern: str) -> str:
        return layout_of(pattern).pattern


class FieldConfig(Section):
    """One field of the model, read from one column (or from the event's time)."""

    name: Name
    """The field's name in crosses, reports and the serving schema."""
    kind: Literal["categorical", "numeric", "list", "hour_of_day", "day_of_week"] = "categorical"
    """How values become features; the last two are derived from `time_column` and read no column."""
    column: Name | None = None
    """Column to read; the field's own name when left out."""
    type: Literal["int", "string", "float", "bool"] = "int"
    """Contract on the column's values (of a list: on its elements); anything else quarantines the hour."""
    nullable: StrictBool | Annotated[float, Field(gt=0, le=1)] = False
    """Whether nulls are allowed, or up to which share of an hour's rows; true is half of them. They become one reserved
    feature of the field. Raised: a column that a producer lost is seen later. Lowered: sound hours may be refused."""
    cap: Annotated[int, Field(ge=0)] | None = None
    """Integers above this count as this (long-tailed counters used as categories). Raised: more values are told apart.
    Lowered: fewer are, each learnt from more rows."""
    boundaries: list[float] = Field(default=[])
    """Ascending bucket edges of a numeric field; when empty, buckets grow by a factor of the square root of two. More
    of them tell numbers apart finer, each from fewer rows."""
    max_values: int = Field(default=8, ge=1, le=256)
    """Most values of a list that are used, the first ones; their vectors are averaged. Raised: longer lists count
    whole, and rows take more room. Lowered: the later values of a list are passed over."""

    @property
    def most_nulls(self) -> float:
        """Largest share of an hour's rows that may be null."""
        return MOST_NULLS if self.nullable is True else float(self.nullable)

    @property
    def source_column(self) -> str | None:
        """The column this field reads, or None for a field derived from the event's time."""
        return layout.source_column(self)

    @property
    def slots(self) -> int:
        """Columns this field takes in the key matrix: `max_values` for a list, else 1."""
        return layout.slots(self)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.kind == "numeric" and self.type not in ("int", "float"):
            raise ValueError(f"numeric field {self.name!r} needs type int or float, got {self.type}")
        if self.kind in ("categorical", "list") and self.type == "float":
            raise ValueError(f"field {self.name!r} of floats must be of kind numeric, got {self.kind}")
        if self.boundaries != sorted(set(self.boundaries)):
            raise ValueError(f"boundaries of field {self.name!r} must ascend without repeats")
        if self.type == "float" and len(set(map(layout.single, self.boundaries))) < len(self.boundaries):
            raise ValueError(
                f"boundaries of field {self.name!r} are alike as 32-bit floats, as which numbers of a "
                "field of floats are compared; leave one out, or use type int"
            )
        if self.cap is not None and self.type != "int":
            raise ValueError(f"cap of field {self.name!r} needs type int, got {self.type}")
        return self


class VocabularyConfig(VocabularyConstants):
    """Which features get a row of their own, and for how long."""

    admit_after: int = Field(default=2, ge=1)
    """Sightings in strictly earlier hours from which a feature has its own row; till then it uses the default row.
    Raised: fewer rows, each better known. Lowered: rare features are told apart sooner, from less; 1 overfits."""
    evict_after: int = Field(default=720, ge=1)
    """Hours unseen after which a feature is forgotten. Raised: who comes back late is still known, and the state grows.
    Lowered: memory, disk and an hour's time shrink."""


class ModelConfig(ModelConstants):
    """The CTR network over the field embeddings."""

    network: Literal["deepfm", "dcnv2"] = "dcnv2"
    """Interaction part: factorisation machine beside a deep part, or low-rank cross layers beside one."""
    width: int = Field(default=16, ge=2, le=256)
    """Numbers in an embedding vector. Raised: finer vectors, with memory and time in proportion. Lowered: coarser ones.
    Another width is another model: it begins in a new workspace."""
    hidden: list[Annotated[int, Field(ge=1)]] = Field(default=[256, 128])
    """Units of each layer of the deep part. Raised: room for more to learn, with time in proportion. Lowered: faster,
    and enough where an hour has few rows. Other layers are another model."""
    logit_cap: float = Field(default=0.0, ge=0)
    """Bound on how far a row's logit may be from the bias, approached smoothly; 0 sets none. Raised: surer scores.
    Lowered: new features seen a few times cannot be too sure of themselves; wanted where labels are near 50:50."""


class TrainingConfig(TrainingConstants):
    """One pass over the hour's rows in time order."""

    batch_rows: int = Field(default=256, ge=1)
    """Rows of a training batch. Raised: faster on large hours, with fewer steps; from 1,024 on, matrix products are in
    bfloat16 where the processor has it built in. Lowered: more steps, slower; wanted where an hour has few rows."""
    table_learning_rate: float = Field(default=0.2, gt=0)
    """Step size of row-wise Adagrad on embedding vectors. Raised: follows change faster, and overfits sooner. Lowered:
    steadier, and slower to learn."""
    table_prior: float = Field(default=2.0, gt=0)
    """Squared gradient, of a batch's rows summed up, that a vector starts with. Raised: rare features learn slower.
    Lowered: their first rows move them further."""
    dense_learning_rate: float = Field(default=0.0002, gt=0)
    """Step size of AdamW on the network. Raised: the network follows change faster, and forgets faster. Lowered: it is
    steadier, and slow where hours are few."""
    weight_decay: float = Field(default=0.1, ge=0)
    """Decoupled weight decay of AdamW. Raised: a smoother network. Lowered: one that fits the last hours closer."""
    feature_dropout: Share = 0.1
    """Share of features replaced by their field's default row while training, which trains that row too. Raised: less
    is learnt by heart. Lowered: features are followed closer, and unknown ones are scored worse."""

    @property
    def arithmetic(self) -> Literal["auto", "float32", "bfloat16"]:
        """Of the network's matrix products; auto is bfloat16 where the processor has it built in."""
        return self.precision or ("auto" if self.batch_rows >= _LARGE_BATCH else "float32")


class CompressionConfig(CompressionConstants):
    """How far the published model is compressed: one dial, from which everything else follows."""

    ratio: Annotated[float, Field(ge=1)] | Literal["auto"] = 200.0
    """Bytes of the original's rows and keys to bytes of what replaces them, approached over the first days; auto: the
    largest that costs nothing. Raised: smaller versions, and fewer features with a code of their own. Lowered: larger
    ones, closer to the original."""


class GateConfig(GateConstants):
    """When a challenger is good enough: paired one-sided non-inferiority, on hours pooled until they decide."""

    auc_margin: float = Field(default=0.02, gt=0)
    """Largest loss of AUC that still counts as no loss. Raised: fewer rows decide, and a worse model may be published.
    Lowered: less may be lost, and hours stay undecided for longer."""
    entropy_margin: float = Field(default=0.015, gt=0)
    """Largest rise of log loss that still counts as no loss, as a share of the base rate's entropy. Raised and lowered,
    it does what `auc_margin` does."""
    rollback: bool = False
    """Whether a live version shown worse, by the hours that it served, than the one before it gives way to that one if
    there is nothing newer to publish; the store is then held until a person releases it."""


class AlarmsConfig(AlarmsConstants):
    """When the pipeline calls for a person: in `saec status`, in `saec metrics`, and through Prefect's automations."""

    hours: int = Field(default=6, ge=1)
    """Hours in a row that publish nothing before it is an alarm; so is a live version twice as old, and a time of 25
    minutes for each of these without any hour finished. Raised: fewer calls, later ones. Lowered: sooner and more."""
    notify: Annotated[str, Field(pattern=r"^([a-z0-9-]+/[a-z0-9-]+)?$")] = ""
    """Prefect notification block that automations send to, as `slack-webhook/on-call`; when empty they only show."""

    @property
    def live_hours(self) -> int:
        """Hours since the live version was published from which it counts as old."""
        return 2 * self.hours

    @property
    def quiet_minutes(self) -> int:
        """Minutes without any hour finished."""
        return 25 * self.hours


class ReportConfig(Section):
    """What reports show beyond the whole hour."""

    slices: list[Name] = Field(default=[])
    """Fields by whose values live and original are also compared: the eight most frequent of the hour are slices."""


_ADDRESS = r"^https?://[^\s/@]+(/[^\s@]*)?$"
"""Of a service that is told things: without a login, which would end up in logs."""


class MirrorsConfig(Section):
    """Who outside is told of releases and hours (extra `mirrors`); nothing is read back, and no hour fails for it."""

    mlflow: Annotated[str, Field(pattern=_ADDRESS)] | None = None
    """Address of an MLflow server whose registry gets every release with its figures; `MLFLOW_TRACKING_TOKEN`, or
    `_USERNAME` and `_PASSWORD`, hold the login."""
    openlineage: Annotated[str, Field(pattern=_ADDRESS)] | None = None
    """Address of an OpenLineage receiver that is told how each hour begins and ends; `OPENLINEAGE_API_KEY` holds its
    key."""


class ServingConfig(Section):
    """What the pipeline knows of the model server; all else is told to `saec serve`."""

    log: Path | None = None
    """Folder of the log of scored rows, one file an hour, which `saec serve` writes and the pipeline joins with their
    labels; nothing is logged without."""


class Config(RunConstants):
    """Everything one pipeline needs to know."""

    workspace: Path = Path("workspace")
    """Folder for the ledger, training state and reports."""
    store: str = ""
    """Folder or URL of the model store; `store` in the workspace when empty."""
    ledger: str = ""
    """SQLAlchemy URL of the ledger; SQLite in the workspace when empty."""
    threads: int = Field(default=1, ge=1)
    """Threads of the numeric libraries. Raised: faster from batches of some thousand rows on, slower below. Lowered:
    the machine has room for others. Bytes of a version differ between numbers of threads."""
    device: Literal["cpu", "cuda", "auto"] = "cpu"
    """Where models train and codewords are searched: the processor, an NVIDIA GPU, or that where one is usable. Bytes
    of a GPU are its own; no GPU has run this yet."""
    retention: int = Field(default=48, ge=2)
    """Latest hours whose training state and versions are kept. Raised: hours further back can be done again, learn late
    rows and be rolled back to, and the disk is fuller. Lowered: it is emptier. The live version always stays, and the
    one before it."""
    data: DataConfig
    fields: list[FieldConfig] = Field(min_length=1)
    crosses: list[Annotated[list[Name], Field(min_length=2, max_length=8)]] = Field(default=[])
    """Fields whose values together make a feature of a further field, named `a&b`."""
    vocabulary: VocabularyConfig = VocabularyConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    compression: CompressionConfig = CompressionConfig()
    gate: GateConfig = GateConfig()
    alarms: AlarmsConfig = AlarmsConfig()
    report: ReportConfig = ReportConfig()
    mirrors: MirrorsConfig = MirrorsConfig()
    serving: ServingConfig = ServingConfig()

    @model_validator(mode="after")
    def _names_agree(self) -> Self:
        kinds = {field.name: field.kind for field in self.fields}
        if len(kinds) != len(self.fields):
            raise ValueError("two fields have the same name")
        for index, cross in enumerate(self.crosses):
            if cross in self.crosses[:index]:
                raise ValueError(f"cross {'&'.join(cross)} is there twice")
            for name in cross:
                if name not in kinds:
                    raise ValueError(f"cross {'&'.join(cross)} names no field {name!r}{nearest(name, kinds)}")
                if kinds[name] == "list":
                    raise ValueError(f"cross {'&'.join(cross)} names {name!r}, a list, which cannot be crossed")
        return self

    @model_validator(mode="after")
    def _label_is_no_field(self) -> Self:
        for field in self.fields:
            if field.source_column == self.data.label_column:
                raise ValueError(f"field {field.name!r} reads the label column {self.data.label_column!r}")
        return self

    @model_validator(mode="after")
    def _slices_are_of_single_values(self) -> Self:
        fields = {field.name: field for field in self.fields}
        for name in self.report.slices:
            if name not in fields:
                raise ValueError(f"report.slices names no field {name!r}{nearest(name, fields)}")
            if fields[name].kind == "list" or fields[name].source_column is None:
                raise ValueError(
                    f"report.slices names {name!r}, of kind {fields[name].kind}; wanted fields that read "
                    "one value of a column"
                )
        return self

    @model_validator(mode="after")
    def _time_is_no_field(self) -> Self:
        for field in self.fields:
            if field.source_column == self.data.time_column:
                raise ValueError(
                    f"field {field.name!r} reads the time column {self.data.time_column!r}; give it kind "
                    "hour_of_day or day_of_week, which read the time by themselves"
                )
        return self

    @model_validator(mode="after")
    def _log_can_be_joined(self) -> Self:
        if self.serving.log and not self.data.row_id_columns:
            raise ValueError("serving.log is joined with labels by data.row_id_columns, which names no column")
        return self

    @property
    def store_url(self) -> str:
        """Where versions and releases live."""
        return self.store or str(self.workspace / "store")

    @property
    def ledger_url(self) -> str:
        """SQLAlchemy URL of the ledger."""
        return self.ledger or f"sqlite:///{self.workspace / 'ledger.db'}"

    def pipeline_name(self, pipeline_id: str) -> str:
        """What the pipeline is called outside: its workspace's folder, and its ledger's id of it."""
        return f"{self.workspace.absolute().name}-{pipeline_id}"

    @property
    def hash_key(self) -> str:
        """Key of the feature hash."""
        return self.data.hash_key

    @cached_property
    def field_names(self) -> tuple[str, ...]:
        """Names of all F fields of the model: the declared ones, then the crosses."""
        return layout.field_names(self.fields, self.crosses)

    @cached_property
    def slot_fields(self) -> tuple[int, ...]:
        """For each of the S columns of the key matrix, the index of its field."""
        return layout.slot_fields(self.fields, self.crosses)

    @cached_property
    def digest(self) -> str:
        """sha256 (hex) of the settings that change the bytes of a version."""
        return digest_of(self)
