"""All settings, checked when loaded: about forty knobs, each with a line beneath it.

Decisions: one YAML file, one pydantic model a section, frozen; an unknown key is refused with the nearest right one;
relative paths are taken from the current directory; `digest` covers what changes the bytes of a version and nothing
else (not the paths), so that two workspaces agree on version ids. The YAML reader is imported only to read a file: the
model server takes its section without one. docs/configuration.md is generated from this file.
"""

from __future__ import annotations

import hashlib
import json
import re
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails

from saec import layout
from saec.errors import ConfigError, nearest
from saec.hour_layout import DEFAULT_LAYOUT, layout_of

Share = Annotated[float, Field(ge=0.0, le=1.0)]
LOGIN = re.compile(r"://[^\s/@]*@")
"""User and password of a URL, which no message may show."""
Name = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.-]{0,62}$")]


_WHERE = ("source", "version", "layout", "format")
"""Settings of `data` that say where its files lie and how they are written, not what they hold."""
_SCHEDULING = ("due_after", "absent_after", "late", "frozen_after")
"""Settings of `data` that say when an hour is done, not what comes of it."""
_LATER: tuple[tuple[str, str, Any], ...] = (
    ("", "device", "cpu"),
    ("data", "delimiter", None),
    ("data", "header", []),
    ("data", "duplicates", "click-wins"),
    ("data", "click_delay", 0),
    ("data", "weight_column", None),
    ("data", "negative_sampling", None),
    ("data", "time_unit", None),
    ("compression", "clusterer", "saec"),
)
"""Settings that came later, with what they are where nobody sets them; in no section where it has no name."""


class Section(BaseModel):
    """Base of all sections: frozen, unknown keys refused, the line beneath a knob is its description."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


class DataConfig(Section):
    """Where an hour's rows come from, and what makes them unfit."""

    source: str
    """Folder or URL (file, s3, gs) that holds each hour's files, by UTC hours; or a Delta Lake or Iceberg table, its
    folder, `delta+URL`, `iceberg+URL` or `iceberg://CATALOG/TABLE`."""
    version: int | None = None
    """Version of a Delta table, or snapshot of an Iceberg table, that is read; null is the newest one."""
    layout: str = DEFAULT_LAYOUT
    """Where below `source` an hour lies, by %Y, %m, %d, %H and `*`: a folder of files, or the files themselves where
    the last name holds a `*` or ends like a file."""
    format: Literal["auto", "parquet", "csv", "jsonl"] = "auto"
    """What the files hold; auto tells it by their ending, .gz and .zst included."""
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] | None = None
    """Character between the values of CSV; null is a comma, in .tsv a tab."""
    header: list[str] = []
    """Names of the columns of CSV that has no line of names, in its order; with the line there, leave it empty."""
    time_column: Name
    """Timestamp column of the event; rows are trained on in its order."""
    time_unit: Literal["s", "ms", "us", "ns"] | None = None
    """What a time column of numbers counts since 1970-01-01T00 UTC; null refuses numbers."""
    label_column: Name
    """Integer or boolean column holding 0 or 1."""
    row_id_columns: list[Name] = []
    """Columns that together identify a row, for finding duplicates; all columns when empty."""
    duplicates: Literal["click-wins", "set-aside", "refuse"] = "click-wins"
    """What becomes of rows of one id with different labels: the earliest is learnt, with a click; none of them is,
    while they are few; or the hour is quarantined."""
    click_delay: int = Field(default=0, ge=0, le=48)
    """Hours by which a click may come later than its row, as a row of its own with the same id: an hour is done so much
    later, with the clicks that came by then."""
    weight_column: Name | None = None
    """Column of how many rows of the full traffic a row stands for, above 0; each stands for itself without."""
    negative_sampling: Annotated[float, Field(gt=0, le=1)] | Name | None = None
    """Share of the rows without a click that the log holds, or the column that holds it row by row: such a row then
    stands for one over it."""
    hash_key: str = "saec"
    """Key of the feature hash; changing it makes every feature a new one."""
    ignore_extra_columns: bool = False
    """Whether columns that no field names are passed over; otherwise they quarantine the hour."""
    max_null_share: Share = 0.5
    """Largest share of nulls in a nullable column before the hour is quarantined."""
    max_bad_share: Share = 0.01
    """Largest share of rows that row rules may set aside before the whole hour is quarantined."""
    max_click_shift: float = Field(default=10.0, ge=0)
    """Furthest an hour's click rate may be from the last day's, in standard deviations of its hours; 0: no limit."""
    max_rows: int = Field(default=20_000_000, gt=0)
    """Most rows of an hour, checked from the file's metadata before anything is read."""
    max_bytes: int = Field(default=8 << 30, gt=0)
    """Most uncompressed bytes of an hour, checked from the file's metadata before anything is read."""
    due_after: int = Field(default=0, ge=0)
    """Minutes after its end from which an hour is due: how far producers may lag behind."""
    absent_after: int = Field(default=2, ge=0)
    """Hours after its end that an hour's absent partition is waited for, then it is HELD(no-data) and stepped over."""
    late: Literal["ignore", "fold", "replay"] = "ignore"
    """Rows that come when their hour is done: only marked and measured, learnt with the next hour, or the hour and
    those after it done again and swapped in."""
    frozen_after: int = Field(default=48, ge=0)
    """Hours behind the newest beyond which a trained hour is frozen: not watched for late rows, nor done again."""

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
    nullable: bool = False
    """Whether nulls are allowed; they become one reserved feature of the field."""
    cap: Annotated[int, Field(ge=0)] | None = None
    """Integers above this count as this (long-tailed counters used as categories)."""
    boundaries: list[float] = []
    """Ascending bucket edges of a numeric field; when empty, buckets grow by a factor of the square root of two."""
    max_values: int = Field(default=8, ge=1, le=256)
    """Most values of a list that are used, the first ones; their vectors are averaged."""

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


class VocabularyConfig(Section):
    """Which features get a row of their own, and for how long."""

    admit_after: int = Field(default=2, ge=1)
    """Sightings in strictly earlier hours from which a feature has its own row; till then it uses the default row."""
    half_life: float = Field(default=168.0, gt=0)
    """Hours after which a sighting counts half in a feature's frequency."""
    evict_after: int = Field(default=720, ge=1)
    """Hours unseen after which a feature is forgotten."""
    evict_floor: float = Field(default=32.0, ge=0)
    """Features with at least this decayed frequency are kept however long they are unseen."""
    max_new_features: int = Field(default=2_000_000, ge=1)
    """Most new features of one field that one hour may bring; further ones use the default row (cardinality bursts)."""


class ModelConfig(Section):
    """The CTR network over the field embeddings."""

    network: Literal["deepfm", "dcnv2"] = "dcnv2"
    """Interaction part: factorisation machine beside a deep part, or low-rank cross layers beside one."""
    width: int = Field(default=16, ge=2, le=256)
    """Numbers in an embedding vector."""
    hidden: list[Annotated[int, Field(ge=1)]] = [256, 128]
    """Units of each layer of the deep part."""
    logit_cap: float = Field(default=0.0, ge=0)
    """Bound on how far a row's logit may be from the bias, approached smoothly; 0 sets none."""
    cross_layers: int = Field(default=2, ge=1, le=8)
    """Cross layers of dcnv2."""
    cross_rank: int = Field(default=64, ge=1)
    """Rank of each cross layer of dcnv2."""


class TrainingConfig(Section):
    """One pass over the hour's rows in time order."""

    batch_rows: int = Field(default=256, ge=1)
    """Rows of a training batch."""
    table_learning_rate: float = Field(default=0.2, gt=0)
    """Step size of row-wise Adagrad on embedding vectors."""
    table_prior: float = Field(default=2.0, gt=0)
    """Squared gradient, of a batch's rows summed up, that a vector starts with: larger makes rare features slower."""
    dense_learning_rate: float = Field(default=0.0002, gt=0)
    """Step size of AdamW on the network."""
    weight_decay: float = Field(default=0.1, ge=0)
    """Decoupled weight decay of AdamW."""
    feature_dropout: Share = 0.1
    """Share of features replaced by their field's default row while training: regularises, and trains that row."""
    gate_share: float = Field(default=0.3, gt=0.0, lt=1.0)
    """Share of the hour's rows, the latest ones, on which the gate compares before anything trains on them."""
    precision: Literal["auto", "float32", "bfloat16"] = "float32"
    """Arithmetic of the network's matrix products; auto takes bfloat16 where the processor has it built in."""


class CompressionConfig(Section):
    """How far the published model is compressed: one dial, from which everything else follows."""

    ratio: Annotated[float, Field(ge=1)] | Literal["auto"] = 200.0
    """Bytes of the original's rows and keys to bytes of what replaces them, approached over the first days; auto: the
    largest that costs nothing."""
    doubling_hours: int = Field(default=24, ge=0)
    """Hours in which a young pipeline's ratio doubles, from 25 up to the wanted one; 0 compresses fully at once."""
    codewords: int | None = Field(default=None, ge=1, le=4095)
    """Clusters of a field, in place of what the ratio gives; a field with fewer features stays direct."""
    clusterer: Literal["saec", "scikit-learn"] = "saec"
    """Who clusters: our own, or k-means of scikit-learn as a yardstick, far slower and no better."""
    codebook_precision: Literal["int8", "float16"] = "int8"
    """Numbers of the codebooks on disk."""
    network_precision: float = Field(default=2.0, ge=1.0, le=32.0)
    """Steps on disk to the root mean square of a layer's weights: more are more bytes and less rounding."""
    fingerprint_bits: int = Field(default=6, ge=2, le=16)
    """Bits that tell an indexed feature from an unknown one: one unknown in 2^bits is taken for a known one."""


class GateConfig(Section):
    """When a challenger is good enough: paired one-sided non-inferiority, on hours pooled until they decide."""

    auc_margin: float = Field(default=0.02, gt=0)
    """Largest loss of AUC that still counts as no loss."""
    entropy_margin: float = Field(default=0.015, gt=0)
    """Largest rise of log loss that still counts as no loss, as a share of the base rate's entropy."""
    confidence: float = Field(default=0.95, gt=0.5, lt=1.0)
    """Confidence with which the loss must be shown to be inside the margin, however often it is looked at."""
    rollback: bool = False
    """Whether a live version shown worse, by the hours that it served, than the one before it gives way to that one if
    there is nothing newer to publish; the store is then held until a person releases it."""
    min_rows: int = Field(default=500, ge=2)
    """Fewest rows, of all hours pooled, for a decision; below, the hour is HELD(too-few)."""
    min_class_rows: int = Field(default=30, ge=2)
    """Fewest rows of either label, of all hours pooled, for a decision; below, the hour is HELD(too-few)."""

    @model_validator(mode="before")
    @classmethod
    def _no_margin_in_nats(cls, given: Any) -> Any:
        if isinstance(given, dict) and "logloss_margin" in given:
            raise ValueError(
                "logloss_margin, nats a row, is now entropy_margin, a share of the base rate's entropy: "
                "0.01 nats at 20% clicks (entropy 0.5) are an entropy_margin of 0.02"
            )
        return given


class RetentionConfig(Section):
    """What is kept; the live version and the one before it are never removed."""

    versions: int = Field(default=48, ge=2)
    """Latest versions kept in the store."""
    checkpoints: int = Field(default=48, ge=2)
    """Latest hours whose training state is kept; a backfill cannot start before the oldest of them."""


class AlarmsConfig(Section):
    """When the pipeline calls for a person: in `saec status`, in `saec metrics`, and through Prefect's automations."""

    notify: Annotated[str, Field(pattern=r"^([a-z0-9-]+/[a-z0-9-]+)?$")] = ""
    """Prefect notification block that automations send to, as `slack-webhook/on-call`; when empty they only show."""
    quiet_minutes: int = Field(default=150, ge=1)
    """Minutes without any hour finished."""
    held_hours: int = Field(default=6, ge=1)
    """Hours in a row that published nothing: held by the gate or a person, quarantined or failed."""
    live_hours: int = Field(default=12, ge=1)
    """Hours since the live version was published."""
    disk_free_gb: float = Field(default=5.0, ge=0)
    """Free space where the workspace is, in GB; below it the disk counts as low."""


class ReportConfig(Section):
    """What reports show beyond the whole hour."""

    slices: list[Name] = []
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
    """The model server, `saec serve`."""

    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    """Address to listen on; beyond loopback, set an API key."""
    port: int = Field(default=8080, ge=0, le=65535)
    """Port to listen on; 0 takes a free one and says which."""
    workers: int = Field(default=1, ge=1, le=256)
    """Processes that answer on the port, each on one core."""
    log: Path | None = None
    """Folder of the log of scored rows, one file an hour, to be joined with their labels; nothing is logged without."""
    poll_seconds: float = Field(default=0.5, ge=0.05, le=60)
    """Seconds between two looks at the store's releases."""
    max_body_bytes: int = Field(default=1 << 20, ge=1024, le=1 << 26)
    """Most bytes of a request's body."""
    max_rows: int = Field(default=10_000, ge=1)
    """Most rows, or candidates, of a request."""
    cache: Path | None = None
    """Folder of this server alone that keeps the last good version, so that a restart answers with the store away."""
    api_key_file: Path | None = None
    """File whose first line is the key that requests must bear, if `SAEC_API_KEY` has none; without, none is asked."""

    def changed(self, **options: Any) -> ServingConfig:
        """The same with options of a command line in place of settings; options of None change nothing.

        Raises:
            ConfigError: naming the option that is not valid.
        """
        given = {name: value for name, value in options.items() if value is not None}
        try:
            return ServingConfig.model_validate(self.model_dump() | given)
        except ValidationError as error:
            problem = error.errors(include_input=False, include_url=False)[0]
            option = str(problem["loc"][0]).replace("_", "-")
            raise ConfigError(f"--{option}: {problem['msg']}") from None


class Config(Section):
    """Everything one pipeline needs to know."""

    workspace: Path = Path("workspace")
    """Folder for the ledger, training state and reports."""
    store: str = ""
    """Folder or URL of the model store; `store` in the workspace when empty."""
    ledger: str = ""
    """SQLAlchemy URL of the ledger; SQLite in the workspace when empty."""
    seed: int = 1
    """Seed of everything drawn at random."""
    threads: int = Field(default=1, ge=1)
    """Threads of the numeric libraries; more than one pays from batches of some thousand rows on."""
    device: Literal["cpu", "cuda", "auto"] = "cpu"
    """Where models train and codewords are searched: the processor, an NVIDIA GPU, or that where one is usable. Bytes
    of a GPU are its own; no GPU has run this yet."""
    data: DataConfig
    fields: list[FieldConfig] = Field(min_length=1)
    crosses: list[Annotated[list[Name], Field(min_length=2, max_length=8)]] = []
    """Fields whose values together make a feature of a further field, named `a&b`."""
    vocabulary: VocabularyConfig = VocabularyConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    compression: CompressionConfig = CompressionConfig()
    gate: GateConfig = GateConfig()
    retention: RetentionConfig = RetentionConfig()
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
        settings = self.model_dump(
            mode="json",
            exclude={
                "workspace": True,
                "store": True,
                "ledger": True,
                "retention": True,
                "alarms": True,
                "serving": True,
                "report": True,
                "mirrors": True,
                "data": {*_WHERE, *_SCHEDULING},
            },
        )
        for section, name, default in _LATER:  # so that settings of before they were there keep their digest
            of = settings[section] if section else settings
            if of[name] == default:
                del of[name]
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def load_config(path: str | Path) -> Config:
    """Read and check a YAML file of settings.

    Raises:
        ConfigError: naming the file, the knob, what was wanted and what was found.
    """
    import yaml  # noqa: PLC0415 - not installed beside the model server, which reads no file of settings

    path = Path(path)
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"no configuration file {path}; name one: --config configs/quickstart.yaml") from None
    except yaml.MarkedYAMLError as error:  # its own text shows the line, which may hold a password
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError(f"configuration {path} is not readable YAML: {error.problem} in line {line}") from None
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise ConfigError(f"configuration {path} is not readable YAML: {error}") from None
    if not isinstance(raw, dict):
        raise ConfigError(f"configuration {path} must be a mapping of settings, got {type(raw).__name__}")
    try:
        return Config.model_validate(raw)
    except ValidationError as error:
        problems = "\n".join(_describe(problem) for problem in error.errors())
        raise ConfigError(f"configuration {path} is not valid:\n{problems}") from None


def _describe(problem: ErrorDetails) -> str:
    """One line for one pydantic complaint: where, what, and the nearest known key."""
    location = problem["loc"]
    where = ".".join(str(part) for part in location)
    if problem["type"] == "extra_forbidden":
        return f"  {where}: no such setting{nearest(str(location[-1]), _known_keys(location[:-1]))}"
    found = LOGIN.sub("://***@", str(problem.get("input")))
    return f"  {where or 'settings'}: {problem['msg']}, got {found[:80]!r}"


def _known_keys(location: tuple[object, ...]) -> list[str]:
    """Names of the settings of the section at a location."""
    sections: dict[str, type[Section]] = {
        "data": DataConfig,
        "fields": FieldConfig,
        "vocabulary": VocabularyConfig,
        "model": ModelConfig,
        "training": TrainingConfig,
        "compression": CompressionConfig,
        "gate": GateConfig,
        "retention": RetentionConfig,
        "alarms": AlarmsConfig,
        "report": ReportConfig,
        "mirrors": MirrorsConfig,
        "serving": ServingConfig,
    }
    return list((sections[str(location[0])] if location else Config).model_fields)
