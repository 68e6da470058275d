"""Defines all settings, each with what it is for and what happens if it is raised or lowered.

Decisions: one pydantic model per section, frozen; relative paths start from the current directory. Numbers that nobody
needs to turn are constants (`saec.constants`); what only the model server needs are options of `saec serve`.
`saec.settings_file` reads a file of settings, `saec.settings_digest` says which of them change a version.
docs/configuration.md is generated from this file.
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
    """Where an hour's rows come from, and when they are unfit."""

    source: str
    """Folder or URL (file, s3, gs) with the files of each UTC hour; or a Delta Lake or Iceberg table: its folder,
    `delta+URL`, `iceberg+URL` or `iceberg://CATALOG/TABLE`. `@N` after a table reads its version or snapshot N."""
    layout: str = DEFAULT_LAYOUT
    """Where below `source` an hour lies, as a pattern of %Y, %m, %d, %H and `*`: a folder of files, or the files
    themselves if the last name contains `*` or has a file's ending."""
    format: Literal["auto", "parquet", "csv", "jsonl"] = "auto"
    """Format of the files; auto goes by their endings, .gz and .zst included."""
    header: list[str] = Field(default=[])
    """Column names, in order, of CSV files that have no line of names; otherwise leave it empty."""
    time_column: Name
    """Column with the time of the event; rows are trained on in its order."""
    time_unit: Literal["s", "ms", "us", "ns"] | None = None
    """Unit of a numeric time column, counted from 1970-01-01T00 UTC; null refuses numbers."""
    label_column: Name
    """Column with the label, 0 or 1."""
    row_id_columns: list[Name] = Field(default=[])
    """Columns that together identify a row; duplicates are found by them. Empty means all columns."""
    duplicates: Literal["click-wins", "set-aside", "refuse"] = "click-wins"
    """What happens to rows with one id and different labels. `click-wins`: the earliest row counts, as a click.
    `set-aside`: none of them counts, as long as they are few. `refuse`: the hour is quarantined."""
    click_delay: int = Field(default=0, ge=0, le=48)
    """Hours by which a click may arrive later than its row, as a row of its own with the same id. Raised: later clicks
    are learnt, and every hour is trained that much later. Lowered: hours are trained sooner, and later clicks are
    lost."""
    weight_column: Name | None = None
    """Column that says how many rows of the full traffic a row stands for, above 0; null counts each row once."""
    negative_sampling: Annotated[float, Field(gt=0, le=1)] | Name | None = None
    """Share of the rows without a click that the log kept, or the column that holds this share for each row; such a row
    stands for 1/share rows. Raised above the true share: scores are too high. Lowered below it: scores are too low."""
    hash_key: str = "saec"
    """Key of the feature hash. Another key makes every feature a new one."""
    ignore_extra_columns: bool = False
    """Whether to ignore columns that no field reads; otherwise they quarantine the hour."""
    max_bad_share: Share = 0.01
    """Largest share of bad rows and broken lines that is set aside; with more, the whole hour is quarantined. Raised:
    hours are learnt from their good rows, however few. Lowered: a broken feed is noticed sooner."""
    max_click_shift: float = Field(default=10.0, ge=0)
    """How far an hour's click rate may be from that of the last day, in standard deviations between hours; 0 sets no
    limit. Raised: sudden changes are learnt. Lowered: wrong labels are held sooner, and so are real changes."""
    max_rows: int = Field(default=20_000_000, gt=0)
    """Largest number of rows in an hour, checked in the files' metadata before anything is read; the hour may then have
    430 uncompressed bytes per row, and always 1 GiB. Raised: larger hours are accepted and take more memory. Lowered:
    an oversized file is refused sooner."""
    due_after: int = Field(default=0, ge=0)
    """Minutes after its end at which an hour is due, to let slow producers finish. Raised: fewer rows come late, and
    versions are published later. Lowered: versions are published sooner, and more rows may come late."""
    absent_after: int = Field(default=2, ge=0)
    """Hours to wait, after its end, for an hour whose partition is absent; then it is HELD(no-data) and skipped.
    Raised: late partitions are trained in order. Lowered: a gap delays the hours after it for less time."""
    late: Literal["ignore", "fold", "replay"] = "ignore"
    """What happens to rows that arrive after their hour was trained. `ignore`: they are counted. `fold`: the next hour
    learns them. `replay`: the hour and those after it are redone and released."""

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
    """One field of the model, read from a column or from the event's time."""

    name: Name
    """Name of the field in crosses, reports and the serving schema."""
    kind: Literal["categorical", "numeric", "list", "hour_of_day", "day_of_week"] = "categorical"
    """How values become features; hour_of_day and day_of_week come from `time_column` and read no column of their
    own."""
    column: Name | None = None
    """Column to read; by default the one with the field's name."""
    type: Literal["int", "string", "float", "bool"] = "int"
    """Type that the column's values must have (in a list: its elements); anything else quarantines the hour."""
    nullable: StrictBool | Annotated[float, Field(gt=0, le=1)] = False
    """Whether nulls are allowed, or the largest share of an hour's rows that may be null; true allows half. Nulls
    become one feature of the field. Raised: a column that a producer lost is noticed later. Lowered: it is noticed
    sooner, and sound hours may be refused."""
    cap: Annotated[int, Field(ge=0)] | None = None
    """Integers above this count as this; for counters with a long tail that are used as categories. Raised: more values
    are distinguished. Lowered: fewer are, each learnt from more rows."""
    boundaries: list[float] = Field(default=[])
    """Ascending bucket edges of a numeric field; if empty, each bucket is wider than the one before by a factor of √2.
    More edges distinguish numbers more finely, each bucket from fewer rows."""
    max_values: int = Field(default=8, ge=1, le=256)
    """Number of values of a list that are used, from its start; their vectors are averaged. Raised: longer lists are
    used whole, and rows take more memory. Lowered: later values are ignored."""

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
    """Sightings in earlier hours after which a feature gets its own row; before, it uses the default row. Raised: fewer
    rows, each learnt from more clicks. Lowered: rare features are distinguished sooner, from less evidence."""
    evict_after: int = Field(default=720, ge=1)
    """Hours without a sighting after which a feature is forgotten. Raised: features that return late are still known,
    and the training state grows. Lowered: memory, disk and time per hour shrink."""


class ModelConfig(ModelConstants):
    """The CTR network on top of the field embeddings."""

    network: Literal["deepfm", "dcnv2"] = "dcnv2"
    """Interaction part: `dcnv2` has low-rank cross layers beside a deep part, `deepfm` a factorisation machine."""
    width: int = Field(default=16, ge=2, le=256)
    """Length of an embedding vector. Raised: finer vectors, with memory and time in proportion. Lowered: coarser ones.
    A model of another width starts in a new workspace."""
    hidden: list[Annotated[int, Field(ge=1)]] = Field(default=[256, 128])
    """Units of each layer of the deep part. Raised: more capacity, with time in proportion. Lowered: faster, and
    sufficient for small hours. A model with other layers starts in a new workspace."""
    first_order: float = Field(default=0.0, ge=0, le=1)
    """Weight with which the first number of every vector enters the logit by itself when a model starts. Raised: a
    feature is learnt from its first clicks on, as by a linear model; better where most features are seen a few times
    and their effects add up. Lowered: the network finds out what each number is for; better where effects depend on
    each other. A model with another start starts in a new workspace."""
    logit_cap: float = Field(default=0.0, ge=0)
    """Bound on the distance of a logit from the bias, approached smoothly; 0 sets none. Raised: scores may be more
    extreme. Lowered: features seen only a few times cannot make a score extreme; useful if labels are near 50:50."""


class TrainingConfig(TrainingConstants):
    """One pass over the hour's rows, in time order."""

    batch_rows: int = Field(default=256, ge=1)
    """Rows of a training batch. Raised: large hours train faster, in fewer steps; from 1,024 rows on, matrix products
    use bfloat16 if the processor supports it. Lowered: more steps, slower; useful for small hours."""
    table_learning_rate: float = Field(default=0.2, gt=0)
    """Step size of row-wise Adagrad for embedding vectors. Raised: follows changes faster and overfits sooner. Lowered:
    steadier and slower to learn."""
    table_prior: float = Field(default=2.0, gt=0)
    """Sum of squared gradients that a vector starts with. Raised: rare features learn more slowly. Lowered: their first
    rows move them further."""
    dense_learning_rate: float = Field(default=0.0002, gt=0)
    """Step size of AdamW for the network. Raised: follows changes faster and forgets faster. Lowered: steadier, and
    slow if there are few hours."""

    @property
    def arithmetic(self) -> Literal["auto", "float32", "bfloat16"]:
        """Of the network's matrix products; auto is bfloat16 where the processor has it built in."""
        return self.precision or ("auto" if self.batch_rows >= _LARGE_BATCH else "float32")


class CompressionConfig(CompressionConstants):
    """How far the published model is compressed: one dial, from which the rest follows."""

    ratio: Annotated[float, Field(ge=1)] | Literal["auto"] = 100.0
    """Bytes of the original's rows and keys divided by the bytes of what replaces them, reached over the first days;
    auto finds the largest ratio that costs nothing. Raised: smaller versions, with codes for fewer features. Lowered:
    larger versions, closer to the original."""


class GateConfig(GateConstants):
    """When a challenger is good enough: a paired one-sided non-inferiority test on pooled hours."""

    auc_margin: float = Field(default=0.02, gt=0)
    """Largest loss of AUC that counts as none. Raised: the gate decides on fewer rows and may publish a worse model.
    Lowered: less can be lost, and hours stay undecided for longer."""
    entropy_margin: float = Field(default=0.015, gt=0)
    """Largest rise of log loss that counts as none, as a share of the base rate's entropy. Raised or lowered: as with
    `auc_margin`."""
    rollback: bool = False
    """Whether a live version gives way to the one before it when the hours it served show it to be worse and nothing
    newer can be published. The store is then held until a person ends the hold."""


class AlarmsConfig(AlarmsConstants):
    """When a person is called: in `saec status`, in `saec metrics` and by Prefect's automations."""

    hours: int = Field(default=6, ge=1)
    """Consecutive hours without a publication that set off an alarm. A live version twice as old does too, and so do 25
    minutes for each of these hours in which no hour ends. Raised: fewer alarms, later. Lowered: more alarms, sooner."""
    notify: Annotated[str, Field(pattern=r"^([a-z0-9-]+/[a-z0-9-]+)?$")] = ""
    """Prefect notification block that automations send to, such as `slack-webhook/on-call`; if empty, they only create
    events."""

    @property
    def live_hours(self) -> int:
        """Hours since the live version was published from which it counts as old."""
        return 2 * self.hours

    @property
    def quiet_minutes(self) -> int:
        """Minutes without any hour finished."""
        return 25 * self.hours


class ReportConfig(Section):
    """What reports show besides the whole hour."""

    slices: list[Name] = Field(default=[])
    """Fields by whose values the live version and the original are also compared; each of the hour's eight most
    frequent values is a slice."""


_ADDRESS = r"^https?://[^\s/@]+(/[^\s@]*)?$"
"""Of a service that is told things: without a login, which would end up in logs."""


class MirrorsConfig(Section):
    """Outside services that are told of releases and hours (extra `mirrors`); none is read, no hour fails for one."""

    mlflow: Annotated[str, Field(pattern=_ADDRESS)] | None = None
    """Address of an MLflow server; its registry receives every release with its figures. `MLFLOW_TRACKING_TOKEN`, or
    `_USERNAME` and `_PASSWORD`, hold the login."""
    openlineage: Annotated[str, Field(pattern=_ADDRESS)] | None = None
    """Address of an OpenLineage receiver for events at the start and end of each hour; `OPENLINEAGE_API_KEY` holds its
    key."""


class ServingConfig(Section):
    """What the pipeline knows of the model server; everything else is an option of `saec serve`."""

    log: Path | None = None
    """Folder of the log of scored rows: `saec serve` writes one file per hour, and the pipeline joins the rows with
    their labels. Null logs nothing."""


class Config(Section):
    """Everything that one pipeline needs to know."""

    workspace: Path = Path("workspace")
    """Folder of the ledger, the training state and the reports."""
    store: str = ""
    """Folder or URL of the model store; by default `store` in the workspace."""
    ledger: str = ""
    """SQLAlchemy URL of the ledger; by default SQLite in the workspace."""
    seed: int = 1
    """Seed of all random draws. Raised or lowered: another draw, as good as this one."""
    threads: int = Field(default=1, ge=1)
    """Threads of the numeric libraries. Raised: faster from batches of some thousand rows on, slower below. Lowered:
    leaves cores to other processes. Versions made with different numbers of threads differ in their bytes."""
    device: Literal["cpu", "cuda", "auto"] = "cpu"
    """Where models train and codewords are searched: the processor, an NVIDIA GPU, or a GPU if one is usable. A GPU's
    bytes differ from a processor's."""
    retention: int = Field(default=48, ge=2)
    """Number of latest hours whose training state and versions are kept. Raised: older hours can be redone, learn late
    rows and be rolled back to, and the disk fills more. Lowered: the disk fills less. The live version and the one
    before it are always kept."""
    data: DataConfig
    fields: list[FieldConfig] = Field(min_length=1)
    crosses: list[Annotated[list[Name], Field(min_length=2, max_length=8)]] = Field(default=[])
    """Groups of fields whose combined values make a feature of a further field, named `a&b`."""
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
