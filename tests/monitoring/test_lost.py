"""Losing the source, the store, the live version or the ledger."""

import shutil

import pytest

from saec.ledger import HourRow
from saec.monitoring.lost import look_at_source, look_into


def lost(site):
    """What is missing of a site's store."""
    return look_into(site.store, site.rows()).lost


def store_folder(site):
    return site.folder / "workspace" / "store"


def test_a_store_that_holds_what_is_live_has_lost_nothing(site):
    """Neither has one of a pipeline that never published."""
    assert lost(site) is None
    assert look_into(type(site)(site.folder / "elsewhere").store, []).lost is None


@pytest.mark.case(5)
def test_a_store_that_is_gone(site):
    """The ledger knows that hours were published: to have nothing live is a loss; the newest hour can be redone."""
    shutil.rmtree(store_folder(site))
    found = lost(site)
    assert "3 hours of the ledger are PUBLISHED" in found.message
    assert found.command == f"run --hour {site.hours[4]} --replace"


@pytest.mark.case(5)
@pytest.mark.parametrize(
    ("spoilt", "said"),
    [
        ("", "the store does not hold it"),
        ("network.safetensors", "its network.safetensors is missing"),
        ("manifest.json", "has no version"),
    ],
)
def test_a_live_version_that_is_not_whole(site, spoilt, said):
    """The whole version, one file, or its manifest: the way back is the newest version that is sound."""
    whole, damaged, live = site.store.versions()
    folder = store_folder(site) / "versions"
    shutil.rmtree(folder / live) if not spoilt else (folder / live / spoilt).unlink()
    (folder / damaged / "index.safetensors").write_bytes(b"")
    found = lost(site)
    assert found.message.startswith(f"{live} is live, and ")
    assert said in found.message
    assert found.command == f'rollback {whole} --reason "..."'


@pytest.mark.case(5)
def test_a_release_log_that_is_gone_or_damaged(site):
    """Without it a kept version is to be made live again; a damaged record is told of, and no crash."""
    shutil.rmtree(releases := store_folder(site) / "releases")
    assert lost(site).command == f'rollback {site.store.versions()[-1]} --reason "..."'
    releases.mkdir()
    (releases / "00000001.json").write_text("{")
    assert "cannot be read" in lost(site).message


@pytest.mark.case(5)
def test_a_ledger_that_is_gone(site):
    """Something is live, and no hour is known: a run would learn anew without a word."""
    assert "the ledger knows of no hour" in look_into(site.store, []).lost.message


@pytest.mark.case(6)
def test_a_source_without_hours(simulated, tmp_path):
    """A folder that is absent is lost, before and after hours were read from it; one that is empty, only after."""
    new = type(simulated)(tmp_path)
    assert "does not exist" in look_at_source(new.config(), []).message
    (tmp_path / "data").mkdir()
    assert look_at_source(new.config(), []) is None
    done = [HourRow(new.hours[0], "PUBLISHED", attempts=1, fence=1, input_digest="0" * 64)]
    assert "is empty" in look_at_source(new.config(), done).message
    stepped_over = [HourRow(new.hours[0], "HELD", attempts=1, fence=1, reason="no-data")]
    assert look_at_source(new.config(), stepped_over) is None
    assert look_at_source(simulated.config(), done) is None


@pytest.mark.case(6)
def test_simulate_is_named_for_the_own_folder_alone(simulated, tmp_path):
    """A folder in the workspace may be filled so; any other one is somebody's."""
    site = type(simulated)(tmp_path)
    own = site.config(data={"source": str(tmp_path / "workspace" / "data")})
    assert (look_at_source(own, []).command, look_at_source(site.config(), []).command) == ("simulate", "run")
