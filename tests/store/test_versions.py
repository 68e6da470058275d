"""Contract of the versions, over every kind of store."""

from __future__ import annotations

import json
import os

import pytest

from saec.errors import IntegrityError, StoreError
from saec.hours import Hour
from saec.integrity import set_aside
from saec.store.model_store import open_store
from saec.store.objects import LocalObjects

HOUR = Hour.parse("2017-10-01T03")


def damage(store, version, name, data):
    """Replace the stored bytes of one file of a version."""
    with store.stage() as staged:
        (staged / "x").write_bytes(data)
        store.objects.put(f"versions/{version}/{name}", staged / "x")


def test_an_empty_store_has_nothing(store):
    """Before the first commit there are no versions, releases or orphans, and nothing fails."""
    assert store.versions() == []
    assert store.releases() == []
    assert store.live() is None
    assert store.remove_orphans() == 0


def test_committed_files_come_back(store, commit):
    """An opened version holds the files that were staged and the manifest, which names digest and size of each."""
    version = commit(store, content=b"codes")
    assert version.startswith("20171001T03-")
    assert store.versions() == [version]
    folder = store.open(version)
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "manifest.json"} == {
        "codes.bin": b"codes",
        "schema.json": b"{}",
    }
    manifest = store.manifest(version)
    assert json.loads((folder / "manifest.json").read_bytes()) == manifest
    assert manifest["files"]["codes.bin"]["bytes"] == 5
    assert (manifest["version"], manifest["hour"], manifest["format"], manifest["rows"]) == (
        version,
        "2017-10-01T03",
        2,
        3,
    )


@pytest.mark.fault(16)
def test_the_same_content_is_the_same_version(store, commit, tmp_path):
    """Committing again changes nothing; another store gives the same id; other bytes, fields or hour another id."""
    version = commit(store)
    assert commit(store) == version
    assert commit(open_store(tmp_path / "other")) == version
    others = {commit(store, content=b"other"), commit(store, rows=4), commit(store, hour=HOUR + 1)}
    assert len(others | {version}) == 4
    assert store.versions() == sorted(others | {version})


@pytest.mark.fault(2)
def test_a_version_without_manifest_is_invisible_and_completed_by_the_next_commit(store, commit):
    """What a killed commit leaves is not a version; committing the content again makes it one."""
    version = commit(store)
    store.objects.delete(f"versions/{version}/manifest.json")
    store.objects.delete(f"versions/{version}/schema.json")
    assert store.versions() == []
    with pytest.raises(StoreError, match="no version") as caught:
        store.open(version)
    assert caught.value.reason == "no-version"
    assert commit(store) == version
    assert store.verify(version) == []


@pytest.mark.fault(3)
def test_an_unfinished_version_is_an_orphan(store, commit):
    """A sweep removes versions without a manifest and keeps the others."""
    kept, unfinished = commit(store), commit(store, content=b"other")
    store.objects.delete(f"versions/{unfinished}/manifest.json")
    assert store.remove_orphans() == 1
    assert store.objects.list("versions") == [
        f"versions/{kept}/{name}" for name in ("codes.bin", "manifest.json", "schema.json")
    ]


@pytest.mark.fault(26)
@pytest.mark.parametrize(
    ("name", "data", "problem"),
    [
        ("codes.bin", b"codez", "codes.bin was altered"),
        ("codes.bin", b"codes and more", "codes.bin was altered"),
        ("extra.bin", b"", "extra.bin is not in the manifest"),
        ("manifest.json", b"{", "not a manifest"),
        ("manifest.json", b"[" * 100_000, "not a manifest"),
        ("manifest.json", b"{}" + b" " * (1 << 20), "longer than"),
    ],
)
def test_damage_is_found_refused_and_repaired_by_a_commit(store, commit, name, data, problem):
    """Altered, unexpected or unreadable bytes are listed by verify and refused by open; committing again repairs."""
    version = commit(store)
    store.open(version)
    damage(store, version, name, data)
    problems = store.verify(version)
    assert len(problems) == 1
    assert problem in problems[0]
    if name == "manifest.json" or isinstance(store.objects, LocalObjects):  # a cache is whole still
        with pytest.raises(IntegrityError):
            store.open(version)
    if name != "extra.bin":
        assert commit(store) == version
        assert store.verify(version) == []


@pytest.mark.fault(71)
@pytest.mark.parametrize(
    "written",
    [
        lambda data: data + b"\n",
        lambda data: data.replace(b":", b": "),
        lambda data: data.replace(b"{", b'{"rows": 4,', 1),
    ],
)
def test_a_manifest_written_otherwise_was_altered(store, commit, tmp_path, written):
    """Other white space, or a name that is there twice, leaves the meaning and the id: the bytes are compared too."""
    version = commit(store)
    data = written(store.objects.get(f"versions/{version}/manifest.json", 1 << 20))
    (tmp_path / "manifest.json").write_bytes(data)
    store.objects.put(f"versions/{version}/manifest.json", tmp_path / "manifest.json")
    assert len(store.verify(version)) == 1
    with pytest.raises(IntegrityError, match="was altered"):
        store.open(version)


def test_a_missing_file_is_found(store, commit):
    """A file that the manifest names and the store lacks is a problem."""
    version = commit(store)
    store.objects.delete(f"versions/{version}/codes.bin")
    assert store.verify(version) == ["codes.bin is missing"]


def test_every_field_of_the_manifest_is_covered_by_the_id(store, commit):
    """A manifest that says something else is refused, even where its files' digests are right."""
    version = commit(store)
    altered = {**store.manifest(version), "rows": 4}
    damage(store, version, "manifest.json", json.dumps(altered).encode())
    with pytest.raises(IntegrityError, match="was altered"):
        store.manifest(version)


@pytest.mark.fault(71)
@pytest.mark.parametrize(
    "version",
    [
        "../../etc",
        "20171001T03-0123456789ab/../x",
        "20171001T03-0123456789AB",
        "",
        "20171001T03-0123456789ab\n",
        "20171001T99-0123456789ab",
    ],
)
def test_no_text_but_a_version_id_reaches_a_path(store, version):
    """Everything else is refused before a path is made of it."""
    for method in (store.manifest, store.open, store.remove):
        with pytest.raises(Exception, match=r"version id|does not exist"):
            method(version)


@pytest.mark.parametrize("fields", [{"auc": float("nan")}, {"x": object()}, {"files": {}}, {"rows": "x" * (1 << 20)}])
def test_an_unfit_manifest_is_refused_before_anything_is_written(store, commit, fields):
    """Numbers that are not finite, things that are not JSON, the store's own fields and too much text are refused."""
    with pytest.raises(StoreError) as caught:
        commit(store, **fields)
    assert caught.value.reason == "manifest"
    assert store.objects.list("versions") == []


@pytest.mark.fault(71)
def test_staged_folders_hold_plain_named_files_only(local_store, tmp_path):
    """Links, folders, hidden or oddly named files, a manifest of one's own and an empty folder are refused."""
    (tmp_path / "secret").write_bytes(b"x")
    for make in (
        lambda folder: (folder / "link").symlink_to(tmp_path / "secret"),
        lambda folder: (folder / "sub").mkdir(),
        lambda folder: (folder / ".hidden").touch(),
        lambda folder: (folder / "a b").touch(),
        lambda folder: (folder / "manifest.json").touch(),
        lambda folder: None,
    ):
        with local_store.stage() as staged:
            make(staged)
            with pytest.raises(StoreError) as caught:
                local_store.commit(staged, HOUR, {})
        assert caught.value.reason == "staged"


@pytest.mark.fault(28)
def test_published_files_are_readable_by_every_user(local_store):
    """Files that a library wrote with mode 0600 become 0644, folders 0755, whatever the umask."""
    previous = os.umask(0o077)
    try:
        with local_store.stage() as staged:
            (staged / "codes.bin").write_bytes(b"codes")
            version = local_store.commit(staged, HOUR, {})
    finally:
        os.umask(previous)
    folder = local_store.open(version)
    assert {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()} == {
        "codes.bin": 0o644,
        "manifest.json": 0o644,
    }
    assert {path.stat().st_mode & 0o777 for path in (folder, folder.parent, folder.parent.parent)} == {0o755}


@pytest.mark.fault(71)
def test_links_in_a_local_store_are_never_followed(local_store, commit, tmp_path):
    """A file or a version's folder replaced by a link is a problem even where the bytes behind it are right."""
    version = commit(local_store)
    folder = local_store.open(version)
    outside = tmp_path / "outside"
    (folder / "codes.bin").rename(outside)
    (folder / "codes.bin").symlink_to(outside)
    assert len(local_store.verify(version)) == 1
    (folder / "codes.bin").unlink()
    outside.rename(folder / "codes.bin")
    assert local_store.verify(version) == []
    folder.rename(outside)
    folder.symlink_to(outside)
    assert local_store.versions() == []
    assert "symbolic link" in local_store.verify(version)[0]
    for change in (local_store.open, local_store.remove):
        with pytest.raises(IntegrityError, match="symbolic link"):
            change(version)
    assert len(list(outside.iterdir())) == 3


@pytest.mark.fault(71)
def test_a_pipe_in_place_of_a_file_does_not_hang(local_store, commit):
    """Whatever is no plain file is refused without being opened."""
    version = commit(local_store)
    path = local_store.open(version) / "codes.bin"
    path.unlink()
    os.mkfifo(path)
    assert "not a plain file" in local_store.verify(version)[0]


def test_a_damaged_version_is_moved_aside_with_all_its_files(store, commit):
    """In a folder as in an object store: under `set-aside/` the bytes are the same, and no version of it is left."""
    version = commit(store)
    names = store.objects.list(f"versions/{version}")
    kept = {name: store.objects.entry(name) for name in names if not name.endswith("codes.bin")}
    store.objects.put_if_absent(f"versions/{version}/added", b"x")
    assert set_aside(store) == sorted([*names, f"versions/{version}/added"])
    assert store.versions() == []
    assert store.objects.list("versions") == []
    assert {name: store.objects.entry(f"set-aside/1/{name}") for name in kept} == kept
