"""Damaged and hand-made files: an integrity error that names the file, and nothing else."""

import json
import os
import pickle
import struct

import numpy as np
import pytest
from safetensors.numpy import load_file, save, save_file

from saec.errors import IntegrityError, StoreError
from saec.serving import Model
from saec.serving.files import (
    CODEBOOKS,
    INDEX,
    NETWORK,
    ORIGINAL_CODEBOOKS,
    ORIGINAL_NETWORK,
    RECORDED,
    SCHEMA,
    tensors,
)
from tests.serving.odd_version import add_quantised_original

TENSORS = [CODEBOOKS, INDEX, NETWORK, RECORDED]
FILES = [*TENSORS, SCHEMA]


def crafted(header: dict | bytes, data: bytes = b"") -> bytes:
    """A safetensors file of any header."""
    head = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(head)) + head + data


ENTRY = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}
MALICIOUS = {
    "nothing": b"",
    "seven bytes": b"1234567",
    "pickle": pickle.dumps({"a": 1}),
    "header longer than the file": struct.pack("<Q", 1 << 19) + b"{}",
    "header over the limit": struct.pack("<Q", 2 << 20) + b"{}" + b" " * (2 << 20),
    "header of 2^64-1 bytes": b"\xff" * 8 + b"{}",
    "no JSON": crafted(b"\x80\x04N."),
    "a list": crafted(b"[]"),
    "deep nesting": crafted(b'{"a":' + b"[" * 100_000),
    "overlapping": crafted({"a": ENTRY, "b": {**ENTRY, "data_offsets": [8, 24]}}, bytes(24)),
    "the same bytes twice": crafted({"a": ENTRY, "b": ENTRY}, bytes(16)),
    "a hole": crafted({"a": ENTRY, "b": {**ENTRY, "data_offsets": [20, 36]}}, bytes(36)),
    "a hole in front": crafted({"a": {**ENTRY, "data_offsets": [4, 20]}}, bytes(20)),
    "bytes left over": crafted({"a": ENTRY}, bytes(20)),
    "beyond the end": crafted({"a": ENTRY}, bytes(12)),
    "far beyond the end": crafted({"a": {**ENTRY, "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}, bytes(16)),
    "negative": crafted({"a": {**ENTRY, "data_offsets": [-16, 0]}}, bytes(16)),
    "negative axis": crafted({"a": {**ENTRY, "shape": [-4]}}, bytes(16)),
    "backwards": crafted({"a": {**ENTRY, "data_offsets": [16, 0]}}, bytes(16)),
    "shape that overflows": crafted({"a": {**ENTRY, "shape": [1 << 62, 1 << 62, 0]}}, bytes(16)),
    "shape that does not fit": crafted({"a": {**ENTRY, "shape": [5]}}, bytes(16)),
    "fractional offsets": crafted({"a": {**ENTRY, "data_offsets": [0.0, 16.0]}}, bytes(16)),
    "true as an offset": crafted(b'{"a":{"dtype":"I8","shape":[1],"data_offsets":[false,true]}}', bytes(1)),
    "one offset": crafted({"a": {**ENTRY, "data_offsets": [0]}}, bytes(16)),
    "text as shape": crafted({"a": {**ENTRY, "shape": "4"}}, bytes(16)),
    "unknown type": crafted({"a": {**ENTRY, "dtype": "PICKLE"}}, bytes(16)),
    "type that is none": crafted({"a": {**ENTRY, "dtype": ["F32"]}}, bytes(16)),
    "another key": crafted({"a": {**ENTRY, "exec": "1"}}, bytes(16)),
    "no offsets": crafted({"a": {"dtype": "F32", "shape": [4]}}, bytes(16)),
    "many axes": crafted({"a": {**ENTRY, "shape": [4] + [1] * 99}}, bytes(16)),
    "a name twice": crafted(
        b'{"a":{"dtype":"I8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"I8","shape":[1],"data_offsets":[0,1]}}',
        bytes(1),
    ),
}


@pytest.mark.fault(71)
@pytest.mark.parametrize("data", MALICIOUS.values(), ids=MALICIOUS)
def test_tensors_that_do_not_lie_end_to_end_are_refused(tmp_path, data):
    """No header that the library would not write gets as far as an array."""
    with pytest.raises(IntegrityError, match=r"odd\.safetensors"):
        tensors(data, tmp_path / "odd.safetensors")


def test_what_the_library_writes_is_read(tmp_path):
    """All our types, scalars and empty arrays too, with the metadata that others may add."""
    arrays = {
        "a": np.arange(3, dtype=np.uint16),
        "b": np.array(2.5, np.float32),
        "c": np.zeros((0, 4), np.int8),
        "d": np.arange(6, dtype=np.uint64).reshape(2, 3),
        "e": np.ones(1, np.float16),
    }
    found = tensors(save(arrays, {"made": "by a test"}), tmp_path)
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.fault(26, 71)
@pytest.mark.parametrize("name", [*FILES, "manifest.json"])
@pytest.mark.parametrize(
    "damage", ["truncated", "emptied", "altered", "longer", "missing", "linked", "a folder", "a pipe"]
)
def test_a_damaged_file_is_refused_by_name(spoilt, name, damage):
    """Whatever happens to a file of a version, opening it says which file it was."""
    path = spoilt.folder / name
    data = path.read_bytes()
    path.unlink()
    match damage:
        case "truncated":
            path.write_bytes(data[:-1])
        case "emptied":
            path.write_bytes(b"")
        case "altered":
            path.write_bytes(data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1 :])
        case "longer":
            path.write_bytes(data + b"\0")
        case "linked":
            (spoilt.folder.parent / "elsewhere").write_bytes(data)
            path.symlink_to(spoilt.folder.parent / "elsewhere")
        case "a folder":
            path.mkdir()
        case "a pipe":
            os.mkfifo(path)
    with pytest.raises(IntegrityError, match=name.replace(".", r"\.")):
        Model.open(spoilt.folder)


@pytest.mark.fault(71)
def test_files_that_are_not_in_the_manifest_are_refused(spoilt):
    """Nothing may lie beside the files of a version."""
    (spoilt.folder / "extra.py").write_text("")
    with pytest.raises(IntegrityError, match=r"extra\.py is not in the manifest"):
        Model.open(spoilt.folder)


@pytest.mark.fault(71)
def test_a_version_lies_under_its_own_name(spoilt):
    """A version that was copied under another name is not opened, nor is a folder that is none."""
    other = spoilt.folder.with_name("20261121T09-0123456789ab")
    spoilt.folder.rename(other)
    with pytest.raises(IntegrityError, match=r"manifest\.json"):
        Model.open(other)
    with pytest.raises(StoreError):
        Model.open(other.parent / "elsewhere")
    with pytest.raises(StoreError):
        Model.open(other.parent / ".." / "versions")


@pytest.mark.fault(60, 71)
@pytest.mark.parametrize(
    ("name", "changed"),
    [
        (NETWORK, {"steps_P": np.full(16, np.nan, np.float32)}),
        (NETWORK, {"steps_P": np.full(16, np.inf, np.float32)}),
        (NETWORK, {"steps_P": np.full(16, 3e38, np.float32)}),
        (NETWORK, {"steps_P": np.ones(16, np.float16)}),
        (NETWORK, {"steps_P": np.ones(15, np.float32)}),
        (NETWORK, {"steps_P": np.ones((4, 4), np.float32)}),
        (NETWORK, {"packed": np.zeros(0, np.uint8)}),
        (NETWORK, {"packed": np.zeros(4, np.int8)}),
        (NETWORK, {"packed": np.full(99, 255, np.uint8)}),
        (NETWORK, {"more": np.zeros(1, np.float32)}),
        (CODEBOOKS, {"scale_T": np.array(1.0, np.float16)}),
        (CODEBOOKS, {"counts_F": np.zeros((2, 6), np.uint16)}),
        (INDEX, {"layout": np.zeros(6, np.uint64)}),
        (INDEX, {"cells": np.zeros(3, np.uint32)}),
    ],
)
def test_whole_files_that_make_no_model_are_refused(spoilt, name, changed):
    """Digests that fit do not help: numbers that are not finite and shapes that do not belong together."""
    path = spoilt.folder / name
    save_file(load_file(path) | changed, path)
    folder = spoilt.recommitted(forged=True)
    with pytest.raises(IntegrityError, match=name.replace(".", r"\.")):
        Model.open(folder)


@pytest.mark.fault(60, 71)
@pytest.mark.parametrize(
    ("name", "changed"),
    [
        *((ORIGINAL_CODEBOOKS, {"share": np.array(share, np.float32)}) for share in (0, 1, -0.1, 2, np.nan)),
        (ORIGINAL_CODEBOOKS, {"share": np.array([0.3, 0.3], np.float32)}),
        (ORIGINAL_CODEBOOKS, {"share": np.array([[0.3]], np.float32)}),
        (ORIGINAL_CODEBOOKS, {"share": np.array(0.3, np.float16)}),
        (ORIGINAL_CODEBOOKS, {"share": None}),
        (ORIGINAL_CODEBOOKS, {"counts_F": np.array([4, 6, *[5] * 10], np.uint16)}),
        (ORIGINAL_CODEBOOKS, {"counts_F": np.array([5] * 11, np.uint16)}),
        (ORIGINAL_CODEBOOKS, {"scale_T": np.full(84, np.nan, np.float16)}),
        (ORIGINAL_NETWORK, {"steps_P": np.full(16, np.nan, np.float32)}),
        (ORIGINAL_NETWORK, {"packed": np.zeros(0, np.uint8)}),
        (ORIGINAL_CODEBOOKS, None),
        (ORIGINAL_NETWORK, None),
    ],
)
def test_files_that_make_no_ensemble_are_refused(spoilt, name, changed):
    """A share out of range, clusters unlike the other codebooks', one file without the other."""
    add_quantised_original(spoilt.folder, spoilt.config, 0.3)
    path = spoilt.folder / name
    if changed is None:
        path.unlink()
    else:
        arrays = {key: array for key, array in (load_file(path) | changed).items() if array is not None}
        save_file(arrays, path)
    folder = spoilt.recommitted(forged=True)
    with pytest.raises(IntegrityError, match=name.replace(".", r"\.")):
        Model.open(folder)


def test_a_share_may_be_a_scalar_or_of_one_number(spoilt):
    """Both say the same; the two shares add up to one."""
    add_quantised_original(spoilt.folder, spoilt.config, 0.25)
    for shape in ((), (1,)):
        path = spoilt.folder / ORIGINAL_CODEBOOKS
        save_file(load_file(path) | {"share": np.full(shape, 0.25, np.float32)}, path)
        assert [member.share for member in Model.read(spoilt.folder).members] == [0.75, 0.25]


@pytest.mark.fault(71)
@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"format": 4},
        {"format": True},
        {"exec": "1"},
        {"fields": []},
        {"fields": {}},
        {"crosses": [["site"]]},
        {"crosses": [["site", "tags"]]},
        {"crosses": [["site", "nobody"]]},
        {"crosses": ["site"]},
        {"model": None},
        {"crosses": [["site", "mobile"]] * 2},
        {"crosses": [[1, 2]]},
        {"data": {}},
    ],
)
def test_a_schema_that_says_something_else_is_refused(spoilt, change):
    """Unknown keys, kinds and names; crosses of what is not there."""
    path = spoilt.folder / SCHEMA
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(IntegrityError, match=r"schema\.json"):
        Model.read(spoilt.folder)


@pytest.mark.fault(71)
@pytest.mark.parametrize(
    ("section", "change"),
    [
        ("fields", {"name": "../../x"}),
        ("fields", {"name": "user "}),
        ("fields", {"kind": "code"}),
        ("fields", {"type": "float"}),
        ("fields", {"cap": -1}),
        ("fields", {"cap": True}),
        ("fields", {"max_values": 0}),
        ("fields", {"max_values": 257}),
        ("fields", {"nullable": 1}),
        ("fields", {"boundaries": [2.0, 1.0]}),
        ("fields", {"boundaries": [float("nan")]}),
        ("fields", {"boundaries": [True]}),
        ("fields", {"column": 7}),
        ("model", {"width": 1}),
        ("model", {"width": 2.0}),
        ("model", {"network": "exec"}),
        ("model", {"hidden": [0]}),
        ("model", {"hidden": [10**9]}),
        ("model", {"logit_cap": -1}),
        ("model", {"logit_cap": float("inf")}),
        ("model", {"cross_layers": 9}),
        ("data", {"hash_key": None}),
        ("data", {"time_column": "a b"}),
        ("model", {"cross_rank": 2}),
        ("model", {"hidden": [8]}),
        ("model", {"network": "deepfm"}),
    ],
)
def test_settings_that_cannot_be_are_refused(spoilt, section, change):
    """Each number and name of the schema is held to what the configuration would allow, or to the other files."""
    path = spoilt.folder / SCHEMA
    schema = json.loads(path.read_text())
    (schema["fields"][0] if section == "fields" else schema[section]).update(change)
    path.write_text(json.dumps(schema))
    with pytest.raises(IntegrityError, match=r"schema\.json|network\.safetensors"):
        Model.read(spoilt.folder)


def test_what_others_have_verified_is_not_read_twice(spoilt):
    """Without verification a flipped bit of the index is not looked for, but the file must still be an index."""
    path = spoilt.folder / INDEX
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    Model.open(spoilt.folder, verify=False)
    with pytest.raises(IntegrityError, match="was altered"):
        Model.open(spoilt.folder)
