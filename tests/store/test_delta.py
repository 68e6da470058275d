"""Deltas: base plus delta is the full version to the byte; anything else is refused and leaves nothing behind."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save

from saec.errors import IntegrityError, StoreError
from saec.store import delta as deltas
from saec.store.delta import apply_delta, make_delta
from saec.store.manifest import MANIFEST


@pytest.fixture(scope="module")
def versions(done):
    """Folders of the site's published versions, oldest first; not to be changed."""
    return sorted((done.folder / "workspace" / "store" / "versions").iterdir())[-3:]


@pytest.fixture(scope="module")
def delta(versions):
    """From the last version but one to the last."""
    return make_delta(*versions[-2:])


def contents(folder):
    """Every file below a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def taken_apart(delta):
    """What a delta says of itself, and its payloads."""
    length = int.from_bytes(delta[:8], "little")
    return json.loads(json.loads(delta[8 : 8 + length])["__metadata__"]["delta"]), load(delta)


def put_together(about, payloads):
    return bytes(save(payloads, {"delta": json.dumps(about)}))


def test_base_plus_delta_is_the_full_version(versions, tmp_path):
    """From every version to every other, each file is the same to the byte, the manifest too; so is the delta."""
    for base in versions:
        for new in versions:
            delta = make_delta(base, new)
            folder = apply_delta(base, delta, tmp_path / base.name)
            assert (folder.name, contents(folder)) == (new.name, contents(new))
            assert delta == make_delta(base, new)


def test_a_delta_is_smaller_than_the_version(versions, delta):
    """The unchanged schema costs nothing, the network and the codewords less than their own bytes."""
    about, payloads = taken_apart(delta)
    assert about["methods"]["schema.json"] == "same"
    assert about["methods"]["network.safetensors"] == "words4"
    assert payloads["network.safetensors"].size < 0.85 * len(contents(versions[-1])["network.safetensors"])
    assert len(delta) < 0.9 * sum(map(len, contents(versions[-1]).values()))


def test_a_servers_host_can_apply_deltas():
    """The module loads with numpy and safetensors alone: nothing of training, pydantic or Arrow comes with it."""
    said = subprocess.run([sys.executable, "-c", "import sys, saec.store.delta; print(*sys.modules)"], check=True,
                          capture_output=True, text=True).stdout
    assert not {"torch", "pydantic", "pyarrow", "obstore", "click"} & {*said.split()}


def test_applying_again_changes_nothing(versions, delta, tmp_path):
    """A version that is there already, whole, is left; one that is damaged is named, and not overwritten."""
    folder = apply_delta(versions[-2], delta, tmp_path)
    stamp = (folder / MANIFEST).stat().st_mtime_ns
    assert apply_delta(versions[-2], delta, tmp_path) == folder
    assert (folder / MANIFEST).stat().st_mtime_ns == stamp
    (folder / "schema.json").write_bytes(b"{}")
    with pytest.raises(StoreError, match="not the whole version") as caught:
        apply_delta(versions[-2], delta, tmp_path)
    assert caught.value.reason == "exists"


def test_another_base_is_refused(versions, delta, tmp_path):
    """A delta is only applied to the version it was made from, and only if that is whole."""
    with pytest.raises(IntegrityError, match=f"leads from version '{versions[-2].name}'"):
        apply_delta(versions[-3], delta, tmp_path / "out")
    spoilt = shutil.copytree(versions[-2], tmp_path / versions[-2].name)
    data = bytearray((spoilt / "network.safetensors").read_bytes())
    data[-1] ^= 1
    (spoilt / "network.safetensors").write_bytes(data)
    with pytest.raises(IntegrityError, match="network"):
        apply_delta(spoilt, delta, tmp_path / "out")
    (spoilt / "network.safetensors").unlink()
    with pytest.raises(IntegrityError, match="not a whole version"):
        apply_delta(spoilt, delta, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_damaged_delta_is_refused(versions, delta, tmp_path):
    """Whichever byte is another, and wherever the delta ends, there is an IntegrityError and nothing was written."""
    rng = np.random.default_rng(0)
    places = [*range(12), *rng.integers(0, len(delta), 60).tolist(), len(delta) - 1]
    flips = [bytes([delta[place] ^ 1 << int(rng.integers(8))]) for place in places]
    spoilt = [delta[:place] + flip + delta[place + 1 :] for place, flip in zip(places, flips, strict=True)]
    for data in [*spoilt, *(delta[:place] for place in places), b"", delta + b"\0"]:
        try:
            folder = apply_delta(versions[-2], data, tmp_path / "out")
        except IntegrityError:
            assert not (tmp_path / "out").exists()
        else:  # spaces and names of the header that mean the same
            assert contents(folder) == contents(versions[-1])
            shutil.rmtree(tmp_path / "out")


@pytest.mark.parametrize("change", [
    {"version": "../../20260301T12-0123456789ab"}, {"version": "20260301T12-0123456789ab"}, {"version": None},
    {"format": 2}, {"methods": []}, {"methods": {}}, {"methods": {MANIFEST: "whole"}}, {"base": None},
    {"methods": {MANIFEST: "words3"}}, {"methods": {MANIFEST: ["whole"]}},
], ids=str)
def test_a_foreign_delta_is_refused(versions, delta, tmp_path, change):
    """Metadata that lead elsewhere, or nowhere, are refused, and no path leaves the folder."""
    about, payloads = taken_apart(delta)
    with pytest.raises(IntegrityError):
        apply_delta(versions[-2], put_together(about | change, payloads), tmp_path / "out")
    assert not [*tmp_path.rglob("*")]


def test_a_payload_that_unpacks_to_more_is_cut_off(versions, delta, tmp_path, monkeypatch):
    """No more is decompressed than the manifest says the file has."""
    about, payloads = taken_apart(delta)
    about["methods"]["schema.json"] = "whole"
    payloads["schema.json"] = np.frombuffer(deltas.lzma.compress(bytes(50 << 20)), np.uint8)
    most, plain = [], deltas._decompressed
    monkeypatch.setattr(deltas, "_decompressed", lambda *given: most.append(len(plain(*given))) or plain(*given))
    with pytest.raises(IntegrityError, match="schema"):
        apply_delta(versions[-2], put_together(about, payloads), tmp_path / "out")
    assert max(most) <= 1 << 20


def test_nothing_is_half_written(versions, delta, tmp_path, monkeypatch):
    """A full disk or a crash on the way leaves no version; the next attempt succeeds and tidies up."""
    calls = []

    def full(*given):
        calls.append(given)
        if len(calls) == 3:
            raise OSError(28, "No space left on device")
        return plain(*given)

    plain = os.write
    monkeypatch.setattr(os, "write", full)
    with pytest.raises(StoreError) as caught:
        apply_delta(versions[-2], delta, tmp_path)
    assert caught.value.reason == "disk-full"
    assert not [*tmp_path.glob("2*")]
    left = tmp_path / ".staging" / "left-by-a-kill"
    left.mkdir(parents=True)
    folder = apply_delta(versions[-2], delta, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]


@settings(max_examples=100, deadline=None)
@given(st.data(), st.sampled_from([1, 2, 4]))
def test_differences_come_back(data, size):
    """Of any two files of one length, the old one and the differences give the new one."""
    old = data.draw(st.binary(max_size=40))
    new = data.draw(st.binary(min_size=len(old), max_size=len(old)))
    assert deltas._from_differences(old, deltas._differences(old, new, size), size) == new
