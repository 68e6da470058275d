"""The card of a version says what manifest, release log and ledger say, and what speaks against it first."""

import json
from dataclasses import replace

import pytest

from saec.report.card import card
from saec.report.card_page import card_markdown
from saec.serving.files import CODEBOOKS, INDEX, NETWORK, ORIGINAL_CODEBOOKS, SCHEMA
from saec.store.manifest import version_hour
from tests.serving.odd_version import add_quantised_original


@pytest.fixture
def facts_of(done):
    """A function that makes the card of a version of the small pipeline, whose rows may be changed before."""
    rows = done.rows()

    def make(version, rows=rows):
        return card(done.store, rows, version)

    return make


def test_a_card_holds_what_the_manifest_says(done, facts_of):
    """Sizes, verdict and ratios are the manifest's; the live version is live, its releases are told, it is whole."""
    facts, manifest = facts_of(done.live), done.store.manifest(done.live)
    assert (facts["live"], facts["held"], facts["whole"]) == (True, False, True)
    assert facts["files"] == {name: entry["bytes"] for name, entry in manifest["files"].items()}
    assert facts["bytes"] == sum(facts["files"].values())
    assert facts["compression"] == manifest["compression"]
    assert facts["gate"]["verdict"] == manifest["verdict"]
    assert [release["action"] for release in facts["releases"]] == ["publish"]
    assert "token" not in facts["releases"][0]
    assert facts["back_to"] == done.store.versions()[-2]
    assert (facts["schema"]["label"], facts["schema"]["crosses"]) == ("clicked", ["site_domain&device"])
    json.dumps(facts, allow_nan=False)


def test_the_hours_learnt_are_followed_back_to_the_first(done, facts_of):
    """Each hour went on from its parent; one that taught nothing is counted as left out."""
    learnt = facts_of(done.live)["learnt"]
    assert (learnt["first"], learnt["last"]) == (str(done.hours[0]), str(done.hours[4]))
    assert (learnt["hours"], learnt["left_out"]) == (5, 0)
    rows = [row for row in done.rows() if row.hour != done.hours[2]]
    rows = [replace(row, parent=done.hours[1]) if row.hour == done.hours[3] else row for row in rows]
    learnt = facts_of(done.live, rows)["learnt"]
    assert (learnt["hours"], learnt["left_out"]) == (4, 1)


def test_the_hour_after_and_the_hours_while_live_are_told_apart(done, facts_of):
    """The newest has met none; the one before it met the hour after its own, which it also served."""
    *_, before, newest = done.store.versions()
    facts = facts_of(newest)
    assert (facts["hour_after"]["pairs"], facts["while_live"]["pairs"]) == ({}, {})
    assert "It has not scored an hour yet" in facts["unfavourable"][-1]
    facts, record = facts_of(before), done.rows()[-1].record
    assert facts["hour_after"]["first"] == facts["while_live"]["last"] == str(done.hours[4])
    pair = facts["hour_after"]["pairs"]["version-original"]
    assert pair["auc_version"] == pytest.approx(record["auc_version_served"])
    assert pair["auc_original"] == pytest.approx(record["auc_original_served"])
    assert facts["while_live"]["pairs"]["live-original"]["rows"] == record["rows"]


def test_an_hour_of_another_version_is_not_taken_for_its_own(done, facts_of):
    """Where the hour was done again, or the judged candidate was published, the hour after tells of another model."""
    before = done.store.versions()[-2]
    hour = version_hour(before)

    def with_own(**changed):
        return [replace(row, **changed) if row.hour == hour else row for row in done.rows()]

    own = next(row for row in done.rows() if row.hour == hour)
    assert facts_of(before, with_own(version=None))["hour_after"]["hours"] == 0
    assert not facts_of(before, with_own(version=None))["learnt"]["known"]
    stood_in = facts_of(before, with_own(record=own.record | {"release_problem": "its auc fell"}))
    assert stood_in["hour_after"]["hours"] == 0
    assert "the judged candidate, instead of" in stood_in["unfavourable"][0]


def with_gap(row, shift):
    """An hour whose live version was worse than the original by so much log loss, on every row alike."""
    record = json.loads(json.dumps(row.record))
    pair = record["served_pairs"]["live-original"]
    count = pair["loss"]["weight"]
    pair["loss"] |= {"total": shift * count, "squares": shift * shift * count}
    record["watch"] |= {"worse_than": ["the original"]}
    return replace(row, record=record)


def test_what_speaks_against_it_comes_first(done, facts_of):
    """A loss that is shown is called so, with its interval; the smaller ratio of all files is never left out."""
    before = done.store.versions()[-2]
    *rows, last = done.rows()
    facts = facts_of(before, [*rows, with_gap(last, 0.25)])
    said = facts["unfavourable"]
    assert said[0] == "The hours that it served show it to be worse than the original."
    [loss] = [line for line in said if "hours that it was live its log loss" in line]
    assert "+0.2500 (+0.2500 to +0.2500), which is significant" in loss
    assert any("all files, the network among them, only" in line for line in said)
    page = card_markdown(facts)
    assert page.index("What speaks against it") < page.index("Served figures") < page.index("How to go back")


def test_a_damaged_version_has_a_card_that_says_so(site):
    """The first line is the damage."""
    version = site.store.versions()[0]
    (site.folder / "workspace" / "store" / "versions" / version / "network.safetensors").write_bytes(b"")
    facts = card(site.store, site.rows(), version)
    assert not facts["whole"]
    assert "network.safetensors was altered" in facts["unfavourable"][0]


def test_a_card_says_whether_it_is_an_ensemble(site):
    """A version of one model has no share of the original; of an ensemble it is told, unless its files are damaged."""
    live, config = site.store.open(site.live), site.config()
    for share in (0.0, 0.25):
        with site.store.stage() as staged:
            for name in (INDEX, CODEBOOKS, NETWORK, SCHEMA):
                (staged / name).write_bytes((live / name).read_bytes())
            if share:
                add_quantised_original(staged, config, share)
            version = site.store.commit(staged, version_hour(site.live), {})
        facts = card(site.store, site.rows(), version)
        assert facts["share_of_original"] == share
        assert ("ensemble" in card_markdown(facts)) == bool(share)
    assert facts["share_of_original"] == 0.25
    assert "25 % of its logit is that of the quantised original" in card_markdown(facts)
    (site.store.open(version) / ORIGINAL_CODEBOOKS).write_bytes(b"")
    facts = card(site.store, site.rows(), version)
    assert facts["share_of_original"] is None
    assert "ensemble" not in card_markdown(facts)


def test_text_from_outside_stays_text(site):
    """A reason that people gave, and a value of a slice, cannot become markup."""
    hostile = "<script>x</script> [a](b)\n# heading"
    site.store.rollback(site.store.versions()[0], actor="ann", reason=hostile)
    page = card_markdown(card(site.store, site.rows(), site.store.versions()[0]))
    assert "&lt;script&gt;" in page
    assert "\n# heading" not in page
    assert "<script>" not in page


def test_the_page_names_a_command_for_either_way(done, facts_of):
    """From the live version to the one before; to one that is not live."""
    first, *_, before, live = done.store.versions()
    assert f"saec rollback {before} --reason" in card_markdown(facts_of(live))
    assert f"saec rollback {first} --reason" in card_markdown(facts_of(first))
