"""`saec export` and `saec delta`: a version for other engines, and what changed for servers far away."""

import sys

import onnx
import onnxruntime as ort

from saec.serving import Model


def folder_of(shell, version):
    return shell.site.folder / "workspace" / "store" / "versions" / version


def test_the_live_version_is_exported(shell):
    """The file scores the version's recorded rows as the manifest says."""
    out = shell.site.folder / "model.onnx"
    answer = shell.json("export", "--out", out)
    assert answer == {"version": shell.site.live, "out": str(out), "inputs": "keys", "bytes": out.stat().st_size}
    model = Model.open(folder_of(shell, shell.site.live))
    keys_BS = model.encode([{"user_id": 3, "item_id": 4, "item_tags": [], "device": 1, "price": 0.5}])
    (scores_B,) = ort.InferenceSession(out).run(["score"], {"keys": keys_BS})
    assert abs(scores_B[0] - model.score_keys(keys_BS)[0]) < 1e-6
    earlier = shell.site.store.versions()[0]
    shell("export", "--version", earlier, "--inputs", "codes", "--out", out)
    assert [each.name for each in onnx.load(out).graph.input] == ["codes"]
    assert onnx.load(out).metadata_props[0].value == earlier


def test_export_without_its_extra_says_what_to_install(shell, monkeypatch):
    """Without the package onnx it is a matter of installation, not a fault."""
    monkeypatch.setitem(sys.modules, "onnx", None)
    for name in ("saec.export.onnx", "saec.export.graph"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    said = shell("export", "--out", shell.site.folder / "model.onnx", code=2).output
    assert "install saec[onnx]" in said


def test_a_delta_is_made_and_applied(shell):
    """One command's file and the base's folder give the other version whole; a second command says where it is."""
    *_, base, version = shell.site.store.versions()
    out = shell.site.folder / "far" / "hour.delta"
    assert "cannot write" in shell("delta", "make", "--from", base, "--to", version, "--out", out, code=1).output
    out.parent.mkdir()
    answer = shell.json("delta", "make", "--from", base, "--to", version, "--out", out)
    assert answer["bytes"] == out.stat().st_size < answer["whole"]
    answer = shell.json("delta", "apply", out, "--base", folder_of(shell, base), "--out", out.parent / "versions")
    folder = out.parent / "versions" / version
    assert answer == {"version": version, "folder": str(folder)}
    assert Model.open(folder).version == version


def test_a_damaged_delta_is_refused(shell):
    """The message says so, the exit code is that of a failure, and there is no version."""
    *_, base, version = shell.site.store.versions()
    out = shell.site.folder / "hour.delta"
    shell("delta", "make", "--from", base, "--to", version, "--out", out)
    out.write_bytes(out.read_bytes()[:-9])
    said = shell("delta", "apply", out, "--base", folder_of(shell, base), "--out", shell.site.folder / "far", code=1)
    assert "fetch it again" in said.output
    assert not (shell.site.folder / "far").exists()
    shell("delta", "apply", out.with_name("none"), "--base", out, "--out", out, code=1)
