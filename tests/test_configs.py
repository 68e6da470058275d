"""Every configuration that ships loads, and asks for the columns that the simulator or the importer writes."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from saec.config import Config, FieldConfig
from saec.constants import TRIAL
from saec.data.hourly_files import EVENT_TIME
from saec.data.importers import AVAZU_COLUMNS, CRITEO_COLUMNS
from saec.data.partitions import wanted_columns
from saec.data.simulate import Simulation, simulate_hour
from saec.hours import Hour
from saec.settings_file import load_config

ROOT = Path(__file__).parents[1]
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
HOUR = Hour.parse("2026-01-01T00")
IS_OF_TYPE = {
    "int": pa.types.is_integer,
    "float": pa.types.is_floating,
    "string": pa.types.is_string,
    "bool": pa.types.is_boolean,
}


def written_columns(name: str) -> pa.Schema:
    """The columns of an hour's file of one of the sources."""
    if name in ("quickstart", "standard"):
        return simulate_hour(Simulation(rows_per_hour=100), HOUR)[0].schema
    if name == "avazu":
        return AVAZU_COLUMNS.remove(AVAZU_COLUMNS.get_field_index("hour")).insert(0, pa.field("event_time", EVENT_TIME))
    if name == "criteo":
        return CRITEO_COLUMNS.insert(0, pa.field("event_time", EVENT_TIME))
    path = ROOT / ".." / "shared" / "data" / "globo" / "date=2017-10-02" / "hour=17" / "part-0.parquet"
    if not path.exists():
        pytest.skip(f"needs {path}")
    return pq.read_schema(path)


def holds(field: FieldConfig, kind: pa.DataType) -> bool:
    """Whether a column's type keeps the field's contract."""
    if field.kind == "list":
        return pa.types.is_list(kind) and IS_OF_TYPE[field.type](kind.value_type)
    return IS_OF_TYPE[field.type](kind)


@pytest.fixture(autouse=True)
def as_users_have_it(monkeypatch):
    """No constant is set."""
    monkeypatch.delenv(TRIAL)


@pytest.fixture(params=CONFIGS, ids=lambda path: path.stem)
def shipped(request) -> tuple[str, Config]:
    return request.param.stem, load_config(request.param)


def test_the_configurations_are_there():
    """None has been lost or renamed."""
    assert [path.stem for path in CONFIGS] == ["avazu", "criteo", "globo", "quickstart", "standard"]


def test_every_column_is_used_and_every_setting_finds_its_column(shipped):
    """Time, label, row id and fields name exactly the columns written: none is missing, none left over."""
    name, config = shipped
    assert set(wanted_columns(config)) == set(written_columns(name).names)


def test_every_fields_type_is_that_of_its_column(shipped):
    """An int field reads integers, a string field strings, a list field lists of them."""
    name, config = shipped
    columns = written_columns(name)
    wrong = [
        field.name
        for field in config.fields
        if field.source_column and not holds(field, columns.field(field.source_column).type)
    ]
    assert wrong == []


def test_workspaces_are_apart(shipped):
    """Two configurations never share a ledger or a store, and own data lies in the own workspace."""
    name, config = shipped
    assert config.workspace == Path("workspace") / name
    if name != "globo":
        assert config.data.source == f"workspace/{name}/data"


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks").rglob("*.yaml")), ids=lambda path: path.stem)
def test_benchmarks_have_settings_that_users_could_have(path):
    """What is measured is not another product."""
    assert load_config(path)


def test_configurations_have_different_digests():
    """Versions made under one cannot be taken for those of another; standard is quickstart, kept in other places."""
    digests = {path.stem: load_config(path).digest for path in CONFIGS}
    assert digests.pop("standard") == digests["quickstart"]
    assert len(set(digests.values())) == len(digests)
