"""Changed definitions under the same names: refused, carried over by permission, and old models read by their own."""

import copy
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest

from saec.config import Config
from saec.data.hourly_files import write_hour
from saec.gate.metrics import auc
from saec.serving import Model
from tests.conftest import Site

LAST, NEXT = 4, 5
"""Of the hours of a site: the last one done, and the one to be done next."""
EDGES = [1.0, 2.0, 3.0, 5.0]


def changed(site: Site, name: str, **what: Any) -> Config:
    """The settings with another definition of a field."""
    return with_fields(site, [{**field, **what} if field["name"] == name else field for field in fields_of(site)])


def with_fields(site: Site, fields: list[dict], **sections: Any) -> Config:
    """The settings with other fields."""
    settings = site.config().model_dump(mode="json") | {"fields": fields}
    for section, values in sections.items():
        settings[section] = settings[section] | values if isinstance(values, dict) else values
    return Config.model_validate(settings)


def fields_of(site: Site) -> list[dict]:
    return copy.deepcopy(site.config().model_dump(mode="json")["fields"])


def refused(site: Site, config: Config) -> str:
    """The message of the next hour, which must be refused for what its fields mean."""
    (row,) = site.advance(site.hours[NEXT], config=config)
    assert (row.hour, row.state, row.reason, row.checkpoint) == (site.hours[NEXT], "FAILED", "meaning", None)
    return row.message


def migrate(shell, config: Config, *words: str) -> dict[str, dict]:
    """What `saec migrate` says becomes of each field."""
    shell.config.write_text(config.model_dump_json())
    return {change["name"]: change for change in shell.json("migrate", *words)["fields"]}


def answers(site: Site, version: str, row) -> float:
    """The AUC of a version's answers to the raw rows of an hour, as the model server gives them."""
    model = Model.open(site.store.open(version), engine="numpy")  # as the pipeline
    table = pq.read_table(site.file(row.hour), partitioning=None)
    return auc(table["clicked"].to_numpy().astype(np.uint8), model.score(table.select(list(model.schema.readers))))


@pytest.fixture
def shell(site):
    from tests.cli.conftest import Shell  # noqa: PLC0415 - the command line's own fixture, over this file's site

    return Shell(site)


@pytest.mark.case(1)
@pytest.mark.parametrize(
    ("field", "what", "said"),
    [
        ("price", {"boundaries": EDGES}, "field 'price' is changed: boundaries were none, are [1.0, 2.0, 3.0, 5.0]"),
        *(
            pytest.param(*change, marks=pytest.mark.slow)
            for change in (
                ("user_id", {"cap": 40}, "field 'user_id' is changed: cap was none, is 40"),
                ("device", {"kind": "numeric"}, "field 'device' is changed: kind was categorical, is numeric"),
                ("device", {"column": "item_id"}, "field 'device' is changed: column was device, is item_id"),
                ("item_tags", {"max_values": 2}, "field 'item_tags': max_values was 4, is 2"),
            )
        ),
    ],
)
def test_a_changed_definition_is_refused(site, undisturbed, field, what, said):
    """Nothing is learnt, the message has field, old, new and the way on; with the old settings it goes on."""
    config, serving = changed(site, field, **what), site.serving()
    message = refused(site, config)
    assert said in message
    assert "Put the settings back" in message
    assert "saec migrate" in message
    assert refused(site, config) == message
    assert site.serving() == serving
    assert [row.hour for row in site.advance(site.hours[-1])] == site.hours[NEXT:]
    assert [row.version for row in site.rows()] == [row.version for row in undisturbed.rows()]


@pytest.mark.case(11)
@pytest.mark.parametrize(
    ("fields", "sections", "said"),
    [
        (lambda fields: fields[1:], {}, "field 'user_id' is removed"),
        (lambda fields: [*fields, {"name": "hour_of_day", "kind": "hour_of_day"}], {}, "field 'hour_of_day' is added"),
        (lambda fields: [fields[1], fields[0], *fields[2:]], {}, "field 'item_id' is moved"),
        (lambda fields: fields, {"crosses": []}, "field 'site_domain&device' is removed"),
        (
            lambda fields: fields,
            {"data": {"hash_key": "x"}},
            "field 'user_id' is changed: data.hash_key is another one",
        ),
        (lambda fields: fields, {"model": {"width": 8}}, "model.width was 4, is 8"),
        (lambda fields: fields, {"model": {"network": "deepfm"}}, "model.network was dcnv2, is deepfm"),
        (lambda fields: fields, {"model": {"first_order": 0.5}}, "model.first_order was 0.0, is 0.5"),
        (
            lambda fields: fields,
            {"data": {"label_column": "impression_id", "row_id_columns": []}},
            "data.label_column was",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_differs_is_named_by_its_section(site, fields, sections, said):
    """Fields that come, go or move are told apart from sizes of the network, which nothing carries over."""
    message = refused(site, with_fields(site, fields(fields_of(site)), **sections))
    assert said in message
    assert ("begin a new workspace" in message) == (said.startswith(("model.", "data.label")))


@pytest.mark.parametrize(
    "sections",
    [
        {"fields": "nullable"},
        {"training": {"batch_rows": 128}},
        pytest.param({"model": {"logit_cap": 4.0}}, marks=pytest.mark.slow),
        pytest.param({"seed": 2}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_what_changes_no_meaning_goes_on(site, sections):
    """Contracts and knobs of training may change from hour to hour."""
    config = (
        changed(site, "user_id", nullable=True)
        if "fields" in sections
        else with_fields(site, fields_of(site), **sections)
    )
    (row,) = site.advance(site.hours[NEXT], config=config)
    assert row.state == "PUBLISHED"


@pytest.mark.case(1)
def test_references_are_scored_through_their_own_schema(site, shell):
    """The hour after a migration scores what is live on keys of its own; the same figure as the server's answers."""
    config, live = changed(site, "price", boundaries=EDGES), site.live
    told = migrate(shell, config, "--dry-run")
    assert {name for name, change in told.items() if change["what"] == "changed"} == {"price"}
    refused(site, config)
    assert migrate(shell, config) == told
    (row,) = site.advance(site.hours[NEXT], config=config)
    assert row.state == "PUBLISHED"
    assert row.record["auc_served"] == row.record["auc_version_served"] == answers(site, live, row)
    assert Model.open(site.store.open(row.version)).schema.fields[5].boundaries == tuple(EDGES)
    (after,) = site.advance(site.hours[-1], config=config)
    assert after.record["auc_served"] == answers(site, row.version, after)


@pytest.mark.case(1, 11)
def test_fields_come_go_change_and_move(site, shell):
    """One migration for all of it: the hour is learnt, kept features keep their rows, and the state then fits."""
    tags, price = (field for field in fields_of(site) if field["name"] in ("item_tags", "price"))
    others = [field for field in fields_of(site) if field["name"] in ("item_id", "device", "user_id")]
    config = with_fields(
        site,
        [
            {"name": "day_of_week", "kind": "day_of_week"},
            {**price, "boundaries": EDGES},
            {**tags, "max_values": 2},
            *others[::-1],
        ],
        crosses=[["device", "price"]],
        data={"ignore_extra_columns": True},
    )
    told = migrate(shell, config)
    assert {name: change["what"] for name, change in told.items()} == {
        "day_of_week": "added",
        "price": "changed",
        "item_tags": "moved",
        "device": "moved",
        "item_id": "moved",
        "user_id": "moved",
        "device&price": "added",
        "site_domain": "removed",
        "site_domain&device": "removed",
    }
    live, before = site.live, site.rows()[LAST].record
    row, after = site.advance(site.hours[-1], config=config)
    assert row.record["auc_served"] == answers(site, live, row)
    dropped = sum(told[name]["features"] for name in ("price", "site_domain", "site_domain&device"))
    assert row.record["features"] >= before["features"] - dropped
    assert row.record["new_features"] < row.record["features"] / 2
    assert after.record["auc_served"] == answers(site, row.version, after)


@pytest.mark.slow  # two hours; fields that move are in the test above too
def test_a_pure_change_of_order_changes_no_score(site, shell):
    """Moved fields take their vectors and their part of the network along: the original scores as it would have."""
    config = with_fields(site, fields_of(site)[::-1])
    migrate(shell, config)
    moved, straight = site.copy(site.folder.parent / "moved"), site
    (there,) = moved.advance(site.hours[NEXT], config=with_workspace(moved, config))
    (here,) = straight.advance(site.hours[NEXT])
    assert there.record["logloss_original_served"] == pytest.approx(here.record["logloss_original_served"], abs=1e-6)
    assert there.record["auc_version_served"] == here.record["auc_version_served"]


def with_workspace(site: Site, config: Config) -> Config:
    """The same settings over another site's folders."""
    own = site.config()
    return config.model_copy(
        update={"workspace": own.workspace, "data": config.data.model_copy(update={"source": own.data.source})}
    )


def test_a_renamed_column_may_be_kept(site, shell):
    """With --keep, a field whose column has another name goes on; a field of other buckets cannot be kept."""
    hour = site.hours[NEXT]
    table = pq.read_table(site.file(hour), partitioning=None)
    write_hour(
        site.folder / "data",
        hour,
        table.rename_columns(["device_kind" if name == "device" else name for name in table.column_names]),
    )
    config = changed(site, "device", column="device_kind")
    assert migrate(shell, config)["device"]["what"] == "changed"
    kept = migrate(shell, config, "--keep", "device")
    assert (kept["device"]["what"], kept["site_domain&device"]["what"]) == ("kept", "kept")
    assert migrate(shell, changed(site, "price", boundaries=EDGES), "--keep", "price")["price"]["what"] == "changed"
    shell("migrate", "--keep", "devise", code=2)
    (row,) = site.advance(hour, config=config)
    assert row.state == "PUBLISHED"
    assert "auc_served" not in row.record, "the column that it reads is gone: it could not have answered"


def test_a_removed_column_ends_the_comparison(site, shell, caplog):
    """What is live reads a column that is no longer delivered: it cannot answer the rows, which is said."""
    hour = site.hours[NEXT]
    table = pq.read_table(site.file(hour), partitioning=None)
    write_hour(site.folder / "data", hour, table.drop_columns(["price"]))
    config = with_fields(site, fields_of(site)[:-1])
    migrate(shell, config)
    (row,) = site.advance(hour, config=config)
    assert "column 'price' is not there" in caplog.text
    assert "auc_served" not in row.record
    assert row.checkpoint


def test_a_nullable_column_that_is_gone_is_null(site, shell):
    """As in a request that leaves it out: the model goes on being compared."""
    hour, live = site.hours[NEXT], site.live
    table = pq.read_table(site.file(hour), partitioning=None)
    whole = table.set_column(5, "site_domain", pa.nulls(len(table), pa.string()))
    write_hour(site.folder / "data", hour, table.drop_columns(["site_domain"]))
    config = with_fields(site, [field for field in fields_of(site) if field["name"] != "site_domain"], crosses=[])
    migrate(shell, config)
    (row,) = site.advance(hour, config=config)
    model = Model.open(site.store.open(live))
    wanted = auc(table["clicked"].to_numpy().astype(np.uint8), model.score(whole.select(list(model.schema.readers))))
    assert row.record["auc_served"] == wanted


@pytest.mark.slow  # a dozen hours
def test_backfill_over_the_border_and_rollback(site, shell):
    """Hours before the border are done again by the same permission; an old version may be live again."""
    config, old = changed(site, "price", boundaries=EDGES), site.live
    rows = site.backfill(site.hours[3], site.hours[LAST], "all", config=config, replace=True)
    assert {row.reason for row in rows} == {"meaning"}
    with site.pipeline(config) as pipeline:
        from saec.schedule.backfill import give_up  # noqa: PLC0415 - for this one call

        if pipeline.ledger.backfills.current():
            give_up(pipeline)
    migrate(shell, config)
    site.advance(site.hours[NEXT], config=config)
    redone = site.backfill(site.hours[3], site.hours[NEXT], "all", config=config, replace=True, promote=True)
    assert [row.hour for row in redone] == site.hours[3 : NEXT + 1]
    assert all(row.checkpoint for row in redone)
    site.store.rollback(old, actor="a test", reason="better")
    (row,) = site.advance(site.hours[-1], config=config)
    assert row.record["auc_served"] == answers(site, old, row)
    assert (row.state, row.reason) == ("HELD", "held")


def test_late_rows_of_other_definitions_are_not_learnt_twice(site, shell, caplog):
    """After a migration the rows learnt before cannot be told from those delivered again: none is folded in."""
    config = changed(site, "price", boundaries=EDGES)
    migrate(shell, config)
    config = config.model_copy(update={"data": config.data.model_copy(update={"late": "fold"})})
    site.redeliver(site.hours[LAST], every=0, rows=slice(0, -1))
    site.advance(site.hours[NEXT], config=config)
    row = site.rows()[NEXT]
    assert row.record["late"] == {}
    assert "other definitions of its fields" in caplog.text


def test_migrating_what_fits_permits_nothing(shell):
    """There is nothing to carry over."""
    assert "nothing to carry over" in shell("migrate").output
    assert not (shell.site.folder / "workspace" / "checkpoints" / "migrations.json").exists()


def test_what_cannot_be_carried_over_is_refused(site, shell):
    """Sizes of the network: a new workspace is the way on."""
    shell.config.write_text(with_fields(site, fields_of(site), model={"hidden": [4]}).model_dump_json())
    assert "model.hidden was [8], is [4]" in shell("migrate", code=2).output


@pytest.mark.slow  # two hours; a column that is gone is in the tests above too
def test_a_removed_field_is_still_read_from_text(site, shell):
    """CSV is decoded with the types of the settings: a column that only the live version reads has that version's."""
    without_lists = [field for field in fields_of(site) if field["kind"] != "list"]
    config = with_fields(site, without_lists, data={"ignore_extra_columns": True})
    migrate(shell, config)
    site.advance(site.hours[NEXT], config=config)
    live, last = site.live, site.hours[-1]
    table = pq.read_table(site.file(last), partitioning=None).drop_columns(["item_tags"])
    site.file(last).unlink()
    pa_csv.write_csv(table, site.file(last).with_suffix(".csv"))
    fields = [field for field in without_lists if field["name"] != "site_domain"]
    config = with_fields(site, fields, crosses=[], data={"ignore_extra_columns": True})
    migrate(shell, config)
    (row,) = site.advance(last, config=config)
    model = Model.open(site.store.open(live))
    wanted = auc(table["clicked"].to_numpy().astype(np.uint8), model.score(table.select(list(model.schema.readers))))
    assert row.record["auc_served"] == wanted
