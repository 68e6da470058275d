"""Settings are checked when they are loaded, and say what is wrong with them."""

import copy
import typing
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from saec.config import Config
from saec.constants import Section, constants
from saec.data.schema import parse_schema, schema_text
from saec.errors import ConfigError
from saec.settings_file import GONE, load_config, sections, settings_of

ROOT = Path(__file__).parents[1]
DIGESTS = {
    "avazu": "18d94da36af11c89",
    "criteo": "210d7300a93534d2",
    "globo": "a48cfc4f277c919f",
    "quickstart": "11a98abd0a8ab125",
    "standard": "11a98abd0a8ab125",
}
"""Of the configurations, as they were while there were 91 settings."""
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
        ("compression.rato", "ratio"),
        ("gate.auc_margn", "auc_margin"),
        ("vocabulary.admit_afer", "admit_after"),
        ("retentin", "retention"),
        ("data.tme_column", "time_column"),
        ("fields.1.max_value", "max_values"),
    ],
)
def test_an_unknown_setting_names_the_nearest_right_one(refused, path, right):
    """At every level the message says where, and which setting was probably meant."""
    assert f"{path}: no such setting; did you mean '{right}'?" in refused(changed(path, 1))


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("gate.logloss_margin", 0.005, "nats a row are now gate.entropy_margin, a share of the base rate's entropy"),
        ("serving.max_rows", 5, "an option, saec serve --max-rows, or SAEC_SERVER_MAX_ROWS"),
        ("retention.versions", 9, "one number of hours keeps both now, beside `data:`: retention: 48"),
        ("alarms.live_hours", 20, "it follows from alarms.hours now: twice as many"),
        ("data.max_bytes", 9, "it follows from data.max_rows now"),
        ("data.frozen_after", 9, "hours are frozen once they are older than `retention` keeps"),
        ("training.gate_share", 0.4, "it is the same for everybody now, 0.3"),
        ("compression.codewords", 255, "it is the same for everybody now"),
        ("data.version", 7, "it is the end of data.source now, as in lake/clicks@12"),
        ("training.precision", "auto", "it follows from training.batch_rows now"),
        ("data.max_null_share", 0.9, "each field says so itself now, as nullable: 0.9 in place of nullable: true"),
    ],
)
def test_what_was_a_setting_once_says_what_became_of_it(monkeypatch, refused, path, value, said):
    """It is refused by its name, with what to do, whatever else is wrong, and without it the file is sound."""
    monkeypatch.delenv("SAEC_TRIAL")
    message = refused(changed(path, value) | {"wrkspace": 1})
    assert f"  {path} is gone: " in message
    assert said in message
    assert "delete the line" in message
    assert message.count("\n  ") == 2


def test_a_constant_may_be_written_as_it_is(monkeypatch, tmp_path):
    """Settings of before that say what everybody has now are sound as they are."""
    monkeypatch.delenv("SAEC_TRIAL")
    path = tmp_path / "saec.yaml"
    path.write_text(yaml.safe_dump(changed("training.gate_share", 0.3)))
    assert load_config(path).training.gate_share == 0.3


def test_nothing_is_told_to_be_gone_that_is_there():
    """The table names no setting, and for what it sends to, there is one."""
    there = {path for path, _ in knobs(Config)}
    assert there.isdisjoint(GONE)
    assert {"alarms.hours", "retention", "data.max_rows", "gate.entropy_margin"} <= there


def test_constants_are_set_for_trials_alone(monkeypatch, tmp_path, refused):
    """With SAEC_TRIAL=1, as in these tests, a file may set them; without, no file can."""
    settings = changed("gate.min_rows", 50)
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(settings))
    assert load_config(tmp_path / "c.yaml").gate.min_rows == 50
    monkeypatch.setenv("SAEC_TRIAL", "0")
    assert "gate.min_rows is gone: it is the same for everybody now, 500" in refused(settings)


def test_a_setting_like_no_other_gets_no_hint(refused):
    """Nothing is suggested that is not near."""
    assert "zzz: no such setting\n" in refused(changed("zzz", 1)) + "\n"


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (
            "model.first_order",
            2.0,
            "model.first_order: Input should be less than or equal to 1, got '2.0'",
        ),
        ("fields.0.nullable", 0.0, "Input should be greater than 0"),
        ("model.hidden", [64, 0], "model.hidden.1: Input should be greater than or equal to 1, got '0'"),
        ("training.batch_rows", "many", "training.batch_rows: Input should be a valid integer"),
        ("compression.ratio", 0.5, "Input should be greater than or equal to 1, got '0.5'"),
        ("compression.ratio", "most", "Input should be 'auto', got 'most'"),
        ("model.network", "dlrm", "got 'dlrm'"),
        ("gate.auc_margin", float("inf"), "auc_margin: Input should be a finite number"),
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
    message = refused(changed("model.first_order", 2) | {"wrkspace": 1})
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
    "data.layout",
    "data.format",
    "data.absent_after",
    "data.due_after",
    "data.late",
    "retention",
    "alarms.notify",
    "alarms.hours",
    "report.slices",
    "mirrors.mlflow",
    "mirrors.openlineage",
    "serving.log",
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
    "workspace": "w2",
    "device": "cuda",
    "compression.ratio": "auto",
    "store": "s",
    "ledger": "sqlite://",
    "data.late": "fold",
    "data.layout": "%Y/%m/%d/%H",
    "data.format": "csv",
    "data.time_unit": "ms",
    "data.header": ["c"],
    "data.duplicates": "refuse",
    "data.weight_column": "w",
    "data.negative_sampling": 0.1,
    "alarms.notify": "slack-webhook/on-call",
    "report.slices": [GOOD["fields"][0]["name"]],
    "mirrors.mlflow": "http://localhost:5000",
    "mirrors.openlineage": "http://localhost:5000/lineage",
    "serving.log": "l",
}


def knobs(section: type[BaseModel], path=""):
    """Every setting by its dotted path, with its default; constants are none."""
    for name in settings_of(section):
        field = section.model_fields[name]
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
    same = Config.model_validate(changed(path, value)).digest == Config.model_validate(GOOD).digest
    assert same == (path in WITHOUT_EFFECT)


def leaves():
    """Everything that a person can set, by its dotted path, with its field; those of a field count once."""
    for name in settings_of(Config):
        if section := sections().get(name):
            yield from ((f"{name}.{knob}", section.model_fields[knob]) for knob in settings_of(section))
        else:
            yield name, Config.model_fields[name]


MOST_SETTINGS = 57


def test_there_are_no_more_settings_than_these():
    """Whoever adds one finds another that can go: derive it, make it constant, or say here why there is one more."""
    assert len(dict(leaves())) <= MOST_SETTINGS


def test_every_setting_is_described():
    """The lines beneath it are its documentation; of a number they say what happens if it is raised or lowered."""
    for path, field in leaves():
        assert field.description, path
        if {int, float} & kinds_of(field.annotation) and path != "fields.boundaries":
            assert "aised" in field.description, path
            assert "owered" in field.description, path


def kinds_of(annotation):
    """The types that a value may have, those in lists too."""
    parts = typing.get_args(annotation)
    return {annotation} | {kind for part in parts for kind in kinds_of(part)}


def test_every_constant_has_its_reason():
    """It says why nobody needs to turn it, where it is."""
    for section in sections().values():
        assert all(constants(section).values())


@pytest.mark.parametrize(("path", "digest"), DIGESTS.items())
def test_settings_of_before_keep_their_digest(path, digest):
    """What has become constant or follows from others counts as it did, so that a running site goes on as it is.

    The ratio was 200 by default then.
    """
    config = load_config(ROOT / "configs" / f"{path}.yaml")
    before = config.compression.model_copy(update={"ratio": 200.0})
    assert config.model_copy(update={"compression": before}).digest.startswith(digest)


def test_a_schema_tells_a_start_of_the_network_where_there_is_one():
    """The schemas of all others stay as they were, to the byte, and a start that is none is refused."""
    plain, started = (Config.model_validate(changed("model.first_order", value)) for value in (0.0, 0.5))
    assert "first_order" not in schema_text(plain)
    assert [parse_schema(schema_text(config).encode()).model.first_order for config in (plain, started)] == [0.0, 0.5]
    with pytest.raises(ValueError, match=r"model.first_order: wanted a number of at least 0, found -1"):
        parse_schema(schema_text(started).replace('"first_order":0.5', '"first_order":-1').encode())


def test_a_field_says_how_many_nulls_it_may_have():
    """True is half of the rows; a version says only that there may be nulls, and one limit for all counts as before."""
    configs = [Config.model_validate(changed("fields.0.nullable", value)) for value in (False, True, 0.5, 0.95, 1)]
    assert [config.fields[0].most_nulls for config in configs] == [0.0, 0.5, 0.5, 0.95, 1.0]
    assert len({config.digest for config in configs}) == 4, "true and 0.5 are the same"
    assert len({schema_text(config) for config in configs}) == 2
