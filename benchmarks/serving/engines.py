"""The engines compared: ours with a published version, torch and onnxruntime with the uncompressed model.

    python -m benchmarks.serving.engines ENGINE FOLDER FEATURES

Decisions: an engine is a process of its own, on one thread, so that its memory is its own; it takes orders as JSON
lines from `benchmarks.serving` and answers seconds a request, by the clock and of CPU. All make keys from the same
values; the uncompressed ones once by our encoder in numpy and once by our compiled one, and find rows by the trainer's
open-addressing map, the quickest that we have in numpy. Ours is compiled, and in numpy for comparison.

Shapes: B rows, S slots, F fields, V features, D width.
"""

# ruff: noqa: PLC0415 - what an engine does not need is not to be in its memory
from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.serving.traffic import Request, requests
from saec.serving import Model
from saec.serving.compiled_keys import KeyEncoder
from saec.serving.kernel import chosen
from saec.serving.rows import columns_of

if TYPE_CHECKING:
    from saec.config import Config

Score = Callable[[Request], NDArray[np.float64]]


def ours(folder: Path, engine: str) -> Score:
    """Our library, from the files of the version."""
    model = _version(folder, engine)
    return lambda request: model.score_candidates(*request)


def our_ensemble(folder: Path, engine: str) -> Score:
    """The same, from the version of two models."""
    model = _version(folder, engine, models=2)
    return lambda request: model.score_candidates(*request)


def in_torch(folder: Path, engine: str) -> Score:
    """The network in torch on the table in memory."""
    import torch
    from torch.nn.functional import embedding

    from saec.model.networks import build_network
    from saec.train.tensors import load_network

    torch.set_num_threads(1)
    config, original, arrays = _uncompressed(folder)
    network = build_network(config.model, len(config.field_names), config.seed).eval()
    load_network(network, arrays, "network")
    places, rows_VD = _places(folder, original["keys_V"], engine), torch.from_numpy(original["rows_VD"])

    def score(request: Request) -> NDArray[np.float64]:
        with torch.inference_mode():
            logits_B = network(embedding(torch.from_numpy(places(request)), rows_VD))
            scores_B: NDArray[np.float64] = torch.sigmoid(logits_B.double()).numpy()
            return scores_B

    return score


def in_onnxruntime(folder: Path, engine: str) -> Score:
    """The network as an ONNX graph; the table goes in by reference, for a graph holds 2 GB at most."""
    import onnxruntime

    from saec.export.graph import Graph
    from saec.export.onnx import NetworkGraph

    version = _version(folder)
    _, original, arrays = _uncompressed(folder)
    rows_VD, graph = original["rows_VD"], Graph()
    places_BS = graph.input("places", np.int64, ["B", len(version.schema.slot_fields)])
    vectors_BFD = graph.op("Gather", graph.input("rows", np.float32, ["V", rows_VD.shape[1]]), places_BS)
    logits_B = NetworkGraph(graph, version.schema.model, arrays).logits(vectors_BFD)
    model = graph.finish(graph.op("Sigmoid", graph.cast(logits_B, np.float64)), "score", np.float64, {})
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    places = _places(folder, original["keys_V"], engine)
    rows = onnxruntime.OrtValue.ortvalue_from_numpy(rows_VD)

    def score(request: Request) -> NDArray[np.float64]:
        (scores,) = session.run_with_ort_values(
            ["score"], {"places": onnxruntime.OrtValue.ortvalue_from_numpy(places(request)), "rows": rows}
        )
        scores_B: NDArray[np.float64] = scores.numpy()
        return scores_B

    return score


_TORCH, _ONNX = ("torch", "saec.train.tensors", "saec.model.networks"), ("onnxruntime", "saec.export.onnx")
ENGINES: dict[str, tuple[tuple[str, ...], Callable[[Path, str], Score], str]] = {
    "saec": ((), ours, "compiled"),
    "saec in numpy": ((), ours, "numpy"),
    "saec, an ensemble": ((), our_ensemble, "compiled"),
    "torch": (_TORCH, in_torch, "numpy"),
    "onnxruntime": (_ONNX, in_onnxruntime, "numpy"),
    "torch with compiled keys": (_TORCH, in_torch, "compiled"),
    "onnxruntime with compiled keys": (_ONNX, in_onnxruntime, "compiled"),
}
"""What each engine imports, how it is loaded, and what our part of it runs in."""


def _version(folder: Path, engine: str = "numpy", models: int = 1) -> Model:
    """The version of so many models."""
    version = sorted((folder / "store" / "versions").iterdir())[models - 1]  # by their hours
    return Model.open(version, engine=engine)


def _uncompressed(folder: Path) -> tuple[Config, dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
    """Settings, the original's keys and rows, and the network's parameters."""
    from safetensors.numpy import load_file

    from benchmarks.serving.world import CONFIG, NETWORK, ORIGINAL
    from saec.settings_file import load_config

    return load_config(CONFIG), load_file(folder / ORIGINAL), load_file(folder / NETWORK)


def _places(folder: Path, keys_V: NDArray[np.uint64], engine: str) -> Callable[[Request], NDArray[np.int64]]:
    """What gives the rows of the uncompressed table for a request."""
    from saec.data.keymap import KeyMap

    version, keymap = _version(folder), KeyMap(keys_V)
    fields = len(version.schema.field_names)
    library, _ = chosen(engine)
    compiled = KeyEncoder(library, version.schema) if library else None

    def places(request: Request) -> NDArray[np.int64]:
        user, candidates = request
        columns = columns_of(candidates, version.schema, shared=user)
        of_fields = (
            compiled.encode_fields(*columns, len(candidates)) if compiled else version.encoder.encode_fields(*columns)
        )
        assert of_fields is not None
        keys_BS = np.concatenate([np.broadcast_to(keys_B1, (len(candidates), 1)) for keys_B1 in of_fields], axis=1)
        found_BS = keymap.find(keys_BS.ravel()).reshape(keys_BS.shape)
        return np.where(found_BS < 0, np.arange(fields), found_BS + fields)

    return places


def work(engine: str, folder: Path, features: int) -> None:
    """Load the engine, tell what that took, then time requests as ordered until the orders end."""
    modules, load, ran_in = ENGINES[engine]
    for module in modules:
        __import__(module)
    first = requests(features, 1, 1000, seed=0)[0]  # numpy's random numbers and the request itself are not the engine's
    before, started = _resident(), time.perf_counter()
    score = load(folder, ran_in)
    score(first)
    _answer({"load_s": time.perf_counter() - started, "bytes": _resident() - before, "before": before})
    for line in sys.stdin:
        order = json.loads(line)
        seconds, cpu, total = [], [], 0.0
        for request in requests(features, **order):
            started, ran = time.perf_counter(), time.process_time()
            scores_B = score(request)
            cpu.append(time.process_time() - ran)
            seconds.append(time.perf_counter() - started)
            total += float(scores_B.sum())
        _answer({"seconds": seconds, "cpu": cpu, "sum": total})


def _resident() -> int:
    """Bytes of this process in memory."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _answer(message: dict[str, Any]) -> None:
    """Tell the benchmark."""
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    work(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
