"""`saec export`: a version for other engines."""

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
