"""The published files: complete, exact in their sizes, refused when altered, enough to score with."""

import dataclasses
import errno
import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from saec.compression.artifact import compression_figures, write_artifact, write_quantised_original
from saec.compression.challenger import Challenger
from saec.compression.codebooks import Centroids, Codebooks
from saec.compression.ensemble import QuantisedOriginal
from saec.compression.quantised import stored_bytes
from saec.errors import IntegrityError, StoreError, TrainingError
from saec.serving import Model
from saec.serving.files import (
    CODEBOOKS,
    INDEX,
    NETWORK,
    ORIGINAL_CODEBOOKS,
    ORIGINAL_NETWORK,
    SCHEMA,
    map_file,
    tensors,
)
from saec.train.tensors import network_arrays

FILES = [CODEBOOKS, INDEX, NETWORK, SCHEMA]


def challenger_of(click_hours, precision="float16", clusters=3):
    """A challenger with three clusters a field, and the keys and codes of its head: 20 users, 5 items, 7 tags."""
    rng = np.random.default_rng(0)
    compression = {
        "codewords": clusters,
        "codebook_precision": precision,
        "fingerprint_bits": 16,
        "network_precision": 32.0,
    }
    challenger = Challenger(click_hours.config(compression=compression))
    centroids = Centroids.joined([rng.normal(size=(clusters, 4)).astype(np.float32) for _ in range(3)])
    challenger.standards = dataclasses.replace(challenger.standards, centroids=centroids)
    challenger.codebooks = Codebooks.start(rng.normal(size=(3, 4)).astype(np.float32), centroids)
    keys_N = np.concatenate([click_hours.keys(f, np.arange(count)) for f, count in enumerate((20, 5, 7))])
    return challenger, keys_N, (1 + np.arange(len(keys_N)) % (1 + clusters)).astype(np.int16)


@pytest.fixture
def folder(click_hours, tmp_path):
    """The files of a version."""
    (tmp_path / "version").mkdir()
    write_artifact(tmp_path / "version", *challenger_of(click_hours))
    return tmp_path / "version"


def alter(path, **changed):
    """Write some arrays of a file anew; None takes one away."""
    arrays = {name: array for name, array in (load_file(path) | changed).items() if array is not None}
    save_file(arrays, path)


@pytest.mark.parametrize("precision", ["float16", "int8", "int4"])
def test_four_files_of_the_sizes_told(click_hours, tmp_path, precision):
    """Exactly the four files are written, their sizes are those on disk, and writing again gives the same bytes."""
    sizes = write_artifact(tmp_path, *challenger_of(click_hours, precision))
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(sizes) == FILES
    assert sizes == {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    write_artifact(tmp_path, *challenger_of(click_hours, precision))
    assert before == {path.name: path.read_bytes() for path in tmp_path.iterdir()}


@pytest.mark.parametrize("precision", ["float16", "int8", "int4"])
def test_two_more_files_make_an_ensemble(click_hours, tmp_path, precision):
    """They have the form of the version's own and the same clusters; nothing of the others changes."""
    challenger, *head = challenger_of(click_hours, precision)
    sizes, model = write_artifact(tmp_path, challenger, *head), Model.read(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    sizes |= quantised_original(tmp_path, challenger, model)
    assert sorted(sizes) == sorted([*FILES, ORIGINAL_CODEBOOKS, ORIGINAL_NETWORK])
    assert sizes == {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert before == {name: (tmp_path / name).read_bytes() for name in before}
    assert load_file(tmp_path / ORIGINAL_CODEBOOKS).keys() == load_file(tmp_path / CODEBOOKS).keys() | {"share"}
    retrained, original = Model.read(tmp_path).members
    assert (retrained.share, original.share) == (0.75, 0.25)
    np.testing.assert_allclose(original.codewords_TD, 2 * model.codewords_TD, rtol=0, atol=0.1)
    np.testing.assert_array_equal(retrained.codewords_TD, model.codewords_TD)
    for name, values in model.network.parameters.items():
        np.testing.assert_allclose(original.network.parameters[name], -values, rtol=0, atol=1e-2)


def quantised_original(folder, challenger, model, **changed):
    """Write an original of twice the vectors and the opposite network."""
    network = {name: -array for name, array in model.network.parameters.items()}
    given = {"network": network, "vectors_TD": 2 * model.codewords_TD, "share": 0.25} | changed
    return write_quantised_original(folder, counts_F=model.counts_F, compression=challenger.config.compression, **given)


def test_an_original_that_cannot_be_stored_is_not_published(click_hours, tmp_path):
    """A vector or a parameter that is not finite fails before a file is written."""
    challenger, *head = challenger_of(click_hours)
    write_artifact(tmp_path, challenger, *head)
    model = Model.read(tmp_path)
    for changed in (
        {"vectors_TD": np.full_like(model.codewords_TD, np.nan)},
        {"network": dict(model.network.parameters) | {"bias": np.array(np.inf, np.float32)}},
    ):
        with pytest.raises(TrainingError) as caught:
            quantised_original(tmp_path, challenger, model, **changed)
        assert caught.value.reason == "non-finite"
        assert sorted(path.name for path in tmp_path.iterdir()) == FILES


def test_codebooks_are_stored_as_narrow_as_configured(click_hours, tmp_path):
    """Half precision takes two bytes a number, int8 one and a scale a codeword, int4 half of one and a scale."""
    for precision, stored, scales in (
        ("float16", "float16", set()),
        ("int8", "int8", {"scale_T"}),
        ("int4", "uint8", {"scale_T"}),
    ):
        write_artifact(tmp_path, *challenger_of(click_hours, precision))
        arrays = load_file(tmp_path / CODEBOOKS)
        assert set(arrays) == {"codewords_TD", "counts_F"} | scales
        assert arrays["codewords_TD"].dtype == stored
        assert arrays["codewords_TD"].nbytes + 2 * 15 * len(scales) == 15 * stored_bytes(4, precision)
        assert all(arrays[name].dtype == np.float16 for name in scales)
        assert (arrays["counts_F"].dtype, arrays["counts_F"].tolist()) == (np.uint16, [3, 3, 3])


def test_next_to_a_large_index_codewords_have_bytes(click_hours, tmp_path):
    """Half bytes would save nothing there; both models of an ensemble are stored alike."""
    challenger, _, _ = challenger_of(click_hours, "int4")
    challenger.share = dataclasses.replace(challenger.share, step=2)
    challenger.quantised = QuantisedOriginal(
        network_arrays(challenger.learner.averaged), challenger.codebooks.vectors_TD, np.zeros((2, 3))
    )
    for keys, stored in ((1500, np.uint8), (3000, np.int8)):
        keys_N = np.arange(1, keys + 1, dtype=np.uint64)
        write_artifact(tmp_path, challenger, keys_N, (2 + keys_N % 3).astype(np.int16))
        for name in (CODEBOOKS, ORIGINAL_CODEBOOKS):
            assert load_file(tmp_path / name)["codewords_TD"].dtype == stored


@pytest.mark.parametrize(("precision", "rounding"), [("float16", 2**-10), ("int8", 1 / 127), ("int4", 1 / 7)])
def test_codewords_come_back_within_their_rounding(click_hours, tmp_path, precision, rounding):
    """No number is off by more than half a step of the largest of its codeword; zeros stay zeros."""
    challenger, keys_N, codes_N = challenger_of(click_hours, precision)
    challenger.codebooks.vectors_TD[5] = 0.0
    write_artifact(tmp_path, challenger, keys_N, codes_N)
    vectors_TD = challenger.codebooks.vectors_TD
    off_T = np.abs(Model.read(tmp_path).codewords_TD - vectors_TD).max(1)
    assert (off_T <= 0.51 * rounding * np.abs(vectors_TD).max(1)).all()


@pytest.mark.parametrize("size", [0.0, 1e-9, 1e-6, 1e-3, 60_000.0])
@pytest.mark.parametrize(("precision", "most", "tiny"), [("int8", 127, 1e-7), ("int4", 7, 2e-7)])
def test_scales_of_any_size_hold_their_codeword(click_hours, tmp_path, size, precision, most, tiny):
    """A scale in half precision is rounded up or down, to nothing even; the codeword is off by half a step at most."""
    challenger, keys_N, codes_N = challenger_of(click_hours, precision)
    challenger.codebooks.vectors_TD[5] = [size, -size, size / 3, 0.0]
    write_artifact(tmp_path, challenger, keys_N, codes_N)
    found_D = Model.read(tmp_path).codewords_TD[5]
    step = float(load_file(tmp_path / CODEBOOKS)["scale_T"][5])
    assert 0 < step < max(1.001 * size / most, 1e-7)
    # Where the scale was rounded down, the largest numbers are cut off at the most steps; `tiny` is what that comes to
    # where half precision has hardly a scale that small.
    assert np.abs(found_D - challenger.codebooks.vectors_TD[5]).max() <= max(0.51 * step, most * 2**-11 * step, tiny)


def test_newcomers_score_with_the_newcomers_codeword(click_hours, tmp_path):
    """Keys indexed with code 1 get it back, and only that codeword of the field says what their rows score."""
    challenger, keys_N, codes_N = challenger_of(click_hours)
    (newcomer, *_), (known, *_) = keys_N[:20][codes_N[:20] == 1], keys_N[:20][codes_N[:20] == 2]
    keys_BS = np.array([[newcomer, 0, 0, 0, 0], [known, 0, 0, 0, 0], [10**12, 0, 0, 0, 0]], np.uint64)
    write_artifact(tmp_path, challenger, keys_N, codes_N)
    before = Model.read(tmp_path)
    assert before.codes(keys_BS)[:, 0].tolist() == [1, 2, 0]
    challenger.codebooks.vectors_TD[challenger.standards.centroids.starts_F[0] + 1] += 1.0
    write_artifact(tmp_path, challenger, keys_N, codes_N)
    changed_B = Model.read(tmp_path).score_keys(keys_BS) != before.score_keys(keys_BS)
    assert changed_B.tolist() == [True, False, False]


def test_codes_beyond_a_byte_are_indexed(click_hours, tmp_path):
    """With 300 clusters a field, more than a byte counts, every key comes back with its code."""
    challenger, _, _ = challenger_of(click_hours, "int8", clusters=300)
    keys_N, codes_N = click_hours.keys(0, np.arange(301)), np.arange(1, 302, dtype=np.int16)
    write_artifact(tmp_path, challenger, keys_N, codes_N)
    artifact = Model.read(tmp_path)
    keys_BS = np.zeros((301, 5), np.uint64)
    keys_BS[:, 0] = keys_N
    assert artifact.counts_F.tolist() == [300] * 3
    assert artifact.codes(keys_BS)[:, 0].tolist() == codes_N.tolist()
    wanted_B = challenger.score(np.where(np.arange(5) == 0, codes_N[:, None], -1))
    np.testing.assert_allclose(artifact.score_keys(keys_BS), wanted_B, atol=2e-2)
    assert np.ptp(wanted_B) > 0.2


def test_an_empty_head_is_an_artifact_too(click_hours, tmp_path):
    """Before any feature has a code, every key falls on the default codeword."""
    challenger = Challenger(click_hours.config())
    write_artifact(tmp_path, challenger, np.zeros(0, np.uint64), np.zeros(0, np.int16))
    assert not Model.read(tmp_path).codes(np.arange(1, 11, dtype=np.uint64).reshape(2, 5)).any()


@pytest.mark.parametrize(
    ("precision", "wrong"),
    [("float16", np.nan), ("float16", np.inf), ("float16", 70_000.0), ("int8", np.nan), ("int4", -np.inf)],
)
def test_codewords_that_cannot_be_stored_are_not_published(click_hours, tmp_path, precision, wrong):
    """What is not finite, or overflows the codebook's precision, fails before a file is written."""
    challenger, keys_N, codes_N = challenger_of(click_hours, precision)
    challenger.codebooks.vectors_TD[2, 1] = wrong
    with pytest.raises(TrainingError, match=f"codewords.*{precision}") as caught:
        write_artifact(tmp_path, challenger, keys_N, codes_N)
    assert caught.value.reason == "non-finite"
    assert list(tmp_path.iterdir()) == []


def test_the_files_alone_score_in_a_fresh_process(click_hours, folder, tmp_path):
    """Moved elsewhere, with no checkpoint and no workspace, another process gives the same scores to the bit."""
    keys_BS = click_hours.rows(click_hours.first).keys_BS
    wanted = Model.read(folder).score_keys(keys_BS)
    shutil.move(folder, tmp_path / "moved")
    np.save(tmp_path / "keys.npy", keys_BS)
    script = (
        "import numpy as np; from pathlib import Path; from saec.serving import Model\n"
        "scores = Model.read(Path('moved')).score_keys(np.load('keys.npy')); np.save('scores.npy', scores)\n"
    )
    script = f"import sys; sys.path[:] = {sys.path!r}\n{script}"
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True)
    assert np.load(tmp_path / "scores.npy").tobytes() == wanted.tobytes()
    assert len(np.unique(wanted)) > 50


@pytest.mark.fault(71)
def test_no_pickle_is_read(folder, monkeypatch):
    """Reading an artifact never unpickles anything."""

    def fail(*arguments, **options):
        pytest.fail("something was unpickled")

    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, name, fail)
    Model.read(folder)


@pytest.mark.fault(71)
@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("data", [None, b"", b"\x80\x04N.", b"[]", b"\xff" * 200])
def test_a_file_that_is_not_one_is_refused_by_name(folder, name, data):
    """Absent, empty, or something else altogether."""
    (folder / name).unlink()
    if data is not None:
        (folder / name).write_bytes(data)
    with pytest.raises(IntegrityError, match=name):
        Model.read(folder)


@pytest.mark.fault(60, 71)
@pytest.mark.parametrize(
    ("name", "changed"),
    [
        (CODEBOOKS, {"counts_F": np.array([3, 3, 4], np.uint16)}),
        (CODEBOOKS, {"counts_F": np.array([3, 3], np.uint16)}),
        (CODEBOOKS, {"counts_F": None}),
        (CODEBOOKS, {"codewords_TD": None}),
        (CODEBOOKS, {"codewords_TD": np.zeros((14, 4), np.float16)}),
        (CODEBOOKS, {"codewords_TD": np.zeros((15, 5), np.float16)}),
        (CODEBOOKS, {"codewords_TD": np.zeros(15, np.float16)}),
        (CODEBOOKS, {"codewords_TD": np.zeros((15, 3), np.uint8)}),
        (CODEBOOKS, {"codewords_TD": np.zeros((), np.uint8)}),
        (CODEBOOKS, {"codewords_TD": np.zeros((1, 4), np.int8), "scale_T": np.ones(15, np.float16)}),
        (CODEBOOKS, {"codewords_TD": np.full((15, 4), np.nan, np.float16)}),
        (CODEBOOKS, {"scale_T": np.ones(5, np.float16)}),
        (NETWORK, {"steps_P": None}),
        (NETWORK, {"steps_P": np.ones(3, np.float32)}),
        (NETWORK, {"packed": np.zeros((3, 5), np.uint8)}),
        (INDEX, {"layout": None}),
        (INDEX, {"layout": np.zeros(6, np.uint64)}),
        (INDEX, {"cells": np.zeros(3, np.uint32)}),
    ],
)
def test_arrays_that_do_not_fit_are_refused_by_file(folder, name, changed):
    """Missing arrays, wrong shapes, counts that do not add up: an integrity error that names the file."""
    alter(folder / name, **changed)
    with pytest.raises(IntegrityError, match=name):
        Model.read(folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda schema: schema.update(format=2),
        lambda schema: schema.pop("format"),
        lambda schema: schema.pop("fields"),
        lambda schema: schema.pop("data"),
        lambda schema: schema.update(data=[]),
        lambda schema: schema["fields"].append({"name": "user"}),
        lambda schema: schema["model"].update(width="wide"),
        lambda schema: schema.update(crosses=[["user", "nobody"]]),
    ],
)
def test_a_schema_that_does_not_fit_is_refused(folder, change):
    """Another format, missing sections or settings that cannot be: the schema is named."""
    schema = json.loads((folder / SCHEMA).read_text())
    change(schema)
    (folder / SCHEMA).write_text(json.dumps(schema))
    with pytest.raises(IntegrityError, match=SCHEMA):
        Model.read(folder)


@pytest.mark.fault(71)
def test_a_header_longer_than_any_of_ours_is_not_parsed(folder, monkeypatch):
    """Over a megabyte of header, or of schema, is refused before the parser sees it."""
    (folder / SCHEMA).write_bytes(b"[" * (2 << 20))
    monkeypatch.setattr("saec.serving.model.parse_schema", lambda data: pytest.fail("was parsed"))
    with pytest.raises(IntegrityError, match=SCHEMA):
        Model.read(folder)
    (folder / INDEX).write_bytes((2 << 20).to_bytes(8, "little") + b"{" + b" " * (3 << 20))
    with pytest.raises(IntegrityError, match="header of 2,097,152 bytes"):
        tensors(map_file(folder / INDEX), folder / INDEX)


@pytest.mark.fault(71)
def test_no_memory_is_taken_for_a_network_that_the_file_does_not_hold(folder):
    """A schema that asks for a network of gigabytes is refused by what the file holds."""
    schema = json.loads((folder / SCHEMA).read_text())
    schema["model"].update(hidden=[10**7], cross_rank=10**7)
    (folder / SCHEMA).write_text(json.dumps(schema))
    with pytest.raises(IntegrityError, match=r"the \d{3},\d{3},\d{3} numbers of network parameters"):
        Model.read(folder)


@pytest.mark.parametrize("change", [{"width": 8}, {"hidden": [9]}, {"network": "deepfm"}])
def test_a_schema_of_another_network_is_refused(folder, change):
    """Whatever layout the schema tells, parameters or codewords of another one do not go into it unnoticed."""
    schema = json.loads((folder / SCHEMA).read_text())
    schema["model"].update(change)
    (folder / SCHEMA).write_text(json.dumps(schema))
    with pytest.raises(IntegrityError, match=r"network\.safetensors|codebooks\.safetensors"):
        Model.read(folder)


def test_ratios_are_plain_arithmetic():
    """1,000 rows of 16 numbers against 50 codewords, 300 codes and 1,000 bytes of files that replace the table."""
    sizes = {INDEX: 600, CODEBOOKS: 400, NETWORK: 4000, SCHEMA: 832}
    figures = compression_figures(rows=1000, width=16, network=2000, codewords=50, head=300, slots=1, sizes=sizes)
    assert figures == {
        "vectors_original": 1000,
        "vectors_compressed": 50,
        "bytes_original": 72_000,
        "bytes_compressed": 1000,
        "bytes_version_original": 80_000,
        "bytes_version": 10_000 + 136 - 72,
        "ratio_vectors": 20.0,
        "ratio_embedding": pytest.approx(64_000 / 700),
        "ratio_total": 72.0,
        "ratio_version": pytest.approx(80_000 / 10_064),
    }


def test_the_ratios_of_an_ensemble_count_both_codebooks():
    """The original's codebooks replace the table too; its network is among all files."""
    sizes = {INDEX: 600, CODEBOOKS: 400, NETWORK: 4000, SCHEMA: 832, ORIGINAL_CODEBOOKS: 440, ORIGINAL_NETWORK: 4000}
    figures = compression_figures(rows=1000, width=16, network=2000, codewords=50, head=300, slots=1, sizes=sizes)
    assert figures["bytes_compressed"] == 1440
    assert figures["ratio_total"] == 50.0
    assert figures["ratio_embedding"] == pytest.approx(64_000 / 1140)
    assert figures["bytes_version"] == 10_064 + 4440


@pytest.mark.fault(20)
@pytest.mark.parametrize("name", [INDEX, CODEBOOKS, NETWORK, SCHEMA])
def test_a_full_disk_is_told_with_the_file(click_hours, tmp_path, monkeypatch, name):
    """Whichever file it is: FAILED(disk-full) follows from the reason, and a person from the path."""
    write = Path.write_bytes

    def full(path, data):
        if path.name == name:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(StoreError, match=f"cannot write .*{name}: No space left") as caught:
        write_artifact(tmp_path, Challenger(click_hours.config()), np.zeros(0, np.uint64), np.zeros(0, np.int16))
    assert caught.value.reason == "disk-full"
