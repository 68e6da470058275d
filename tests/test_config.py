"""Settings are checked when they are loaded, and say what is wrong with them."""

import copy
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from saec.config import Config, Section, ServingConfig, load_config
from saec.errors import ConfigError

GOOD = {
    "workspace": "w",
    "data": {"source": "d", "time_column": "time", "label_column": "clicked", "row_id_columns": ["id"]},
    "fields": [
        {"name": "user"},
        {"name": "tags", "kind": "list", "max_values": 3},
        {"name": "hour", "kind": "hour_of_day"},
    ],
    "crosses": [["user", "hour"]],
}


def changed(path, value):
    """The good settings, one of them (by its dotted path) replaced."""
    settings = copy.deepcopy(GOOD)
    *parents, last = path.split(".")
    place = settings
    for name in parents:
        place = place[int(name)] if isinstance(place, list) else place.setdefault(name, {})
    place[last] = value
    return settings


@pytest.fixture
def refused(tmp_path):
    """A function that loads settings which must be refused, and returns the message."""

    def load(settings):
        path = tmp_path / "c.yaml"
        path.write_text(settings if isinstance(settings, str) else yaml.safe_dump(settings))
        with pytest.raises(ConfigError) as caught:
            load_config(path)
        assert str(path) in str(caught.value)
        return str(caught.value)

    return load


def test_good_settings_load_and_derive_the_layout(tmp_path):
    """Fields come first, then crosses; a list takes as many slots as values."""
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(GOOD))
    config = load_config(path)
    assert config.field_names == ("user", "tags", "hour", "user&hour")
    assert config.slot_fields == (0, 1, 1, 1, 2, 3)
    assert config.store_url == str(Path("w/store"))
    assert config.ledger_url == "sqlite:///w/ledger.db"
    assert [field.source_column for field in config.fields] == ["user", "tags", None]


def test_store_and_ledger_can_be_elsewhere():
    """Their URLs are taken as they are."""
    config = Config.model_validate(GOOD | {"store": "s3://bucket/x", "ledger": "postgresql://host/db"})
    assert (config.store_url, config.ledger_url) == ("s3://bucket/x", "postgresql://host/db")


@pytest.mark.parametrize(
    ("path", "right"),
    [
        ("wrkspace", "workspace"),
        ("training.batch_row", "batch_rows"),
        ("model.widht", "width"),
        ("compression.codeword", "codewords"),
        ("compression.rato", "ratio"),
        ("gate.auc_margn", "auc_margin"),
        ("vocabulary.admit_afer", "admit_after"),
        ("retention.version", "versions"),
        ("data.tme_column", "time_column"),
        ("fields.1.max_value", "max_values"),
    ],
)
def test_an_unknown_setting_names_the_nearest_right_one(refused, path, right):
    """At every level the message says where, and which setting was probably meant."""
    assert f"{path}: no such setting; did you mean '{right}'?" in refused(changed(path, 1))


def test_the_margin_in_nats_says_what_it_is_now(refused):
    """The old setting is refused with the new one's name and how to come by its value."""
    assert "entropy_margin, a share of the base rate's entropy" in refused(changed("gate.logloss_margin", 0.005))


def test_a_setting_like_no_other_gets_no_hint(refused):
    """Nothing is suggested that is not near."""
    assert "zzz: no such setting\n" in refused(changed("zzz", 1)) + "\n"


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("training.gate_share", 1.0, "training.gate_share: Input should be less than 1, got '1.0'"),
        ("model.hidden", [64, 0], "model.hidden.1: Input should be greater than or equal to 1, got '0'"),
        ("training.batch_rows", "many", "training.batch_rows: Input should be a valid integer"),
        ("compression.codewords", 4096, "codewords: Input should be less than or equal to 4095, got '4096'"),
        ("compression.ratio", 0.5, "Input should be greater than or equal to 1, got '0.5'"),
        ("compression.ratio", "most", "Input should be 'auto', got 'most'"),
        ("compression.codebook_precision", "int4", "codebook_precision: Input should be 'int8' or 'float16'"),
        ("model.network", "dlrm", "got 'dlrm'"),
        ("vocabulary.half_life", float("inf"), "half_life: Input should be a finite number"),
        ("training.table_learning_rate", float("nan"), "table_learning_rate: Input should be a finite number"),
        ("fields.0.boundaries", [1.0, float("nan")], "fields.0.boundaries.1: Input should be a finite number"),
        ("data.max_rows", 0, "data.max_rows: Input should be greater than 0"),
        ("fields", [], "fields: List should have at least 1 item"),
        ("fields.0.name", "user&site", "fields.0.name: String should match pattern"),
        ("fields.0.type", "float", "field 'user' of floats must be of kind numeric"),
        ("fields.0", {"name": "p", "kind": "numeric", "type": "string"}, "numeric field 'p' needs type int or float"),
        ("fields.0", {"name": "user", "boundaries": [2.0, 1.0]}, "boundaries of field 'user' must ascend"),
        ("fields.0", {"name": "user", "boundaries": [1.0, 1.0]}, "boundaries of field 'user' must ascend"),
        ("fields.0", {"name": "user", "type": "string", "cap": 3}, "cap of field 'user' needs type int, got string"),
        ("fields.0", {"name": "user", "cap": -1}, "fields.0.cap"),
        ("fields.1.name", "user", "two fields have the same name"),
        ("fields.0.column", "clicked", "field 'user' reads the label column 'clicked'"),
        ("crosses", [["user", "huor"]], "cross user&huor names no field 'huor'; did you mean 'hour'?"),
        ("crosses", [["user", "tags"]], "cross user&tags names 'tags', a list, which cannot be crossed"),
        ("report", {"slices": ["huor"]}, "report.slices names no field 'huor'; did you mean 'hour'?"),
        ("report", {"slices": ["tags"]}, "report.slices names 'tags', of kind list; wanted fields that read one value"),
        ("mirrors.mlflow", "sqlite:///m.db", "mirrors.mlflow: String should match pattern"),
        ("mirrors", {"openlineage": "http://ann:pw@x"}, "openlineage: String should match pattern"),
        ("crosses", [["user"]], "crosses.0: List should have at least 2 items"),
        ("crosses", [["user", "hour"], ["user", "hour"]], "cross user&hour is there twice"),
    ],
)
def test_settings_that_cannot_be_are_refused(refused, path, value, said):
    """Each message says which setting, what was wanted and what was found."""
    settings = changed(path, value) if path != "fields.0" else GOOD | {"fields": [value, *GOOD["fields"][1:]]}
    assert said in refused(settings)


def test_all_problems_are_told_at_once(refused):
    """One line a problem."""
    message = refused(changed("training.gate_share", 2) | {"wrkspace": 1})
    assert message.count("\n  ") == 2


@pytest.mark.parametrize(
    ("text", "said"), [("- a\n- b\n", "must be a mapping"), ("", "must be a mapping"), ("a: [", "not readable YAML")]
)
def test_files_that_hold_no_settings(refused, text, said):
    """A list, nothing at all and broken YAML are each told apart."""
    assert said in refused(text)


@pytest.mark.fault(73)
@pytest.mark.parametrize(
    "settings",
    [
        changed("ledger", ["postgresql+psycopg://saec:canary@postgres/ledger"]),
        changed("store", {"url": "s3://saec:canary@models/x"}),
        changed("mirrors", {"mlflow": "http://saec:canary@x"}),
        "ledger: postgresql://x:can ary: canary@postgres/ledger\n",
        "ledger: [postgresql://saec:canary@postgres/ledger\n",
    ],
)
def test_no_message_shows_a_password(refused, settings):
    """A URL in the wrong place, or a line that is no YAML, is complained of without what it holds."""
    assert "canary" not in refused(settings)


def test_an_absent_file_says_what_to_pass(tmp_path):
    """The message names the file and an example."""
    with pytest.raises(ConfigError, match=r"no configuration file .*absent\.yaml.*--config"):
        load_config(tmp_path / "absent.yaml")


def test_a_log_needs_rows_that_can_be_told_apart(refused):
    """Without row ids a request log could never be joined."""
    assert "data.row_id_columns" in refused(changed("data.row_id_columns", []) | {"serving": {"log": "log"}})


def test_settings_are_frozen():
    """A loaded configuration cannot drift from its digest."""
    config = Config.model_validate(GOOD)
    with pytest.raises(ValueError, match="frozen"):
        config.seed = 2


WITHOUT_EFFECT = {
    "workspace",
    "store",
    "ledger",
    "data.source",
    "data.version",
    "data.layout",
    "data.format",
    "data.absent_after",
    "data.due_after",
    "data.late",
    "data.frozen_after",
    "retention.versions",
    "retention.checkpoints",
    "alarms.notify",
    "alarms.quiet_minutes",
    "alarms.held_hours",
    "alarms.live_hours",
    "alarms.disk_free_gb",
    "report.slices",
    "mirrors.mlflow",
    "mirrors.openlineage",
    *(f"serving.{name}" for name in ServingConfig.model_fields),
}
OTHER = {
    "data.time_column": "t",
    "data.label_column": "c",
    "data.row_id_columns": ["row"],
    "data.hash_key": "k",
    "data.source": "elsewhere",
    "fields": GOOD["fields"][:1] + GOOD["fields"][2:],
    "crosses": [],
    "model.network": "deepfm",
    "model.hidden": [8],
    "training.precision": "bfloat16",
    "workspace": "w2",
    "device": "cuda",
    "compression.codebook_precision": "float16",
    "compression.ratio": "auto",
    "store": "s",
    "ledger": "sqlite://",
    "data.late": "fold",
    "compression.clusterer": "scikit-learn",
    "data.layout": "%Y/%m/%d/%H",
    "data.format": "csv",
    "data.time_unit": "ms",
    "data.version": 3,
    "data.delimiter": ";",
    "data.header": ["c"],
    "data.duplicates": "refuse",
    "data.weight_column": "w",
    "data.negative_sampling": 0.1,
    "alarms.notify": "slack-webhook/on-call",
    "report.slices": [GOOD["fields"][0]["name"]],
    "mirrors.mlflow": "http://localhost:5000",
    "mirrors.openlineage": "http://localhost:5000/lineage",
    "serving.host": "0.0.0.0",
    "serving.log": "l",
    "serving.cache": "c",
    "serving.api_key_file": "k",
}


def knobs(section: type[BaseModel], path=""):
    """Every knob by its dotted path, with its default."""
    for name, field in section.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Section):
            yield from knobs(kind, f"{path}{name}.")
        else:
            yield f"{path}{name}", field.default


SECTIONS = {path.partition(".")[0] for path, _ in knobs(Config) if "." in path}


def another(path, default):
    """A value that the knob does not have by default."""
    if path in OTHER:
        return OTHER[path]
    if isinstance(default, bool):
        return not default
    return default + 1 if isinstance(default, int) and default != 255 else default * 0.9 if default else 0.5


@pytest.mark.parametrize("path", [path for path, _ in knobs(Config)])
def test_the_digest_covers_what_changes_a_version_and_nothing_else(path):
    """Every knob but the paths, the patience for late data, the retention and the alarms changes it."""
    value = another(path, dict(knobs(Config))[path])
    if path == "compression.codewords":
        value = 100
    same = Config.model_validate(changed(path, value)).digest == Config.model_validate(GOOD).digest
    assert same == (path in WITHOUT_EFFECT)


def test_every_knob_is_described():
    """The line beneath a knob is its documentation."""
    undescribed = [
        f"{section.__name__}.{name}"
        for section in [Config, *Section.__subclasses__()]
        for name, field in section.model_fields.items()
        if not field.description
    ]
    assert [name for name in undescribed if name.partition(".")[2] not in ("fields", *SECTIONS)] == []


def test_an_option_that_is_not_valid_is_named():
    """Options of `saec serve` are checked as settings are, and only those that were given change anything."""
    settings = ServingConfig(port=8081).changed(host=None, max_rows=5)
    assert (settings.host, settings.port, settings.max_rows) == ("127.0.0.1", 8081, 5)
    with pytest.raises(ConfigError, match=r"--max-rows: .*greater"):
        settings.changed(max_rows=0)
