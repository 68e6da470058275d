"""Inconsistencies are found and named; setting aside moves files and removes none."""

from saec.hours import Hour
from saec.integrity import examine, set_aside


def found(site) -> set[tuple[str, str]]:
    """Kind and name of everything that does not fit."""
    with site.pipeline() as pipeline:
        return {(finding.kind, finding.what) for finding in examine(pipeline.workspace, pipeline.ledger)}


def test_nothing_is_found_where_all_is_well(site):
    """Also not in a store that has been held and gone back."""
    site.store.rollback(site.store.versions()[0], actor="ann", reason="odd")
    assert found(site) == set()


def test_what_does_not_fit_is_told_by_kind(site):
    """Checkpoints and releases missing or altered, a version and an hour unfinished, a stray file, an unknown one."""
    store, workspace = site.folder / "workspace" / "store", site.folder / "workspace"
    with site.store.stage() as staged:
        (staged / "x").write_bytes(b"x")
        unknown = site.store.commit(staged, site.hours[0], {})
    (store / "versions" / "20260301T12-0123456789ab").mkdir()
    (store / "versions" / "20260301T12-0123456789ab" / "codes").write_bytes(b"x")
    (store / "notes.txt").write_text("x")
    (store / "releases" / "00000001.json").write_text("{}")
    (store / "releases" / "00000002.json").unlink()
    original, challenger = site.rows()[-1].learnt
    (workspace / "checkpoints" / f"{original}.safetensors").unlink()
    (workspace / "checkpoints" / f"{challenger}.safetensors").write_bytes(b"x")
    with site.pipeline() as pipeline:
        lease = pipeline.ledger.acquire("a run that died", 0)
        pipeline.ledger.begin(lease, site.hours[5], "config")
    assert found(site) == {
        ("unreachable", unknown),
        ("orphan", "versions/20260301T12-0123456789ab"),
        ("orphan", "notes.txt"),
        ("altered", "releases/00000001.json"),
        ("missing", "releases/00000002.json"),
        ("missing", f"checkpoint {original}"),
        ("altered", f"checkpoint {challenger}"),
        ("orphan", f"hour {site.hours[5]}"),
    }


def test_an_hour_that_was_never_released_is_told(site):
    """The ledger says PUBLISHED, and the release log lost the record."""
    last = site.rows()[-1]
    (site.folder / "workspace" / "store" / "releases" / f"{len(site.store.releases()):08d}.json").unlink()
    assert found(site) == {("missing", f"hour {last.hour}")}


def test_damage_is_set_aside_and_kept(site):
    """A damaged version and a stray file are moved, byte for byte; the live version, though damaged, is not."""
    folder, old = site.folder / "workspace" / "store", site.store.versions()[0]
    for version in (old, site.live):
        (folder / "versions" / version / "network.safetensors").write_bytes(b"bad")
    (folder / "notes.txt").write_text("x")
    before, live = site.digests(), site.live
    moved = set_aside(site.store)
    assert "notes.txt" in moved
    assert site.live == live
    assert old not in site.store.versions()
    assert site.store.verify(live) != []
    after = site.digests()
    assert after == {f"set-aside/1/{name}" if name in moved else name: sha for name, sha in before.items()}
    assert set_aside(site.store) == []
    (folder / "notes.txt").write_text("y")
    assert set_aside(site.store) == ["notes.txt"]
    assert (folder / "set-aside" / "2" / "notes.txt").read_text() == "y"
    assert Hour.parse(old[:11]) in site.hours


def test_a_version_set_aside_is_made_again(site, undisturbed):
    """A backfill of its hour publishes the same bytes."""
    old = site.rows()[2]
    (site.folder / "workspace" / "store" / "versions" / old.version / "index.safetensors").write_bytes(b"")
    assert set_aside(site.store)
    site.backfill(old.hour, old.hour, "all")
    assert site.store.verify(old.version) == []
    assert site.digests(of=old.version) == undisturbed.digests(of=old.version) | {
        name: sha for name, sha in site.digests(of=old.version).items() if name.startswith("set-aside/")
    }
