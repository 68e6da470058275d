"""Loads the compiled kernel, defines its structures, and chooses between it and numpy.

Decisions: compiled code is an optional second way to the same scores. It is used if it exists beside its source
(`saec.build_kernel` makes it) and was built from exactly that source; `SAEC_ENGINE` overrides the choice.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from dataclasses import dataclass
from functools import cache

from saec.build_kernel import library_path, stamp
from saec.errors import ConfigError

ENGINE_VARIABLE = "SAEC_ENGINE"
ENGINES = ("auto", "numpy", "compiled")
MOST_PARTS = 8
"""Most parts of a cross."""
_INSTRUCTIONS = {4: "plain", 8: "AVX2", 16: "AVX-512"}


class ModelStruct(ctypes.Structure):
    """The kernel's `Model`."""

    _fields_ = [
        *(
            (name, ctypes.c_int64)
            for name in (
                "isa",
                "fields",
                "slots",
                "width",
                "deep",
                "layers",
                "rank",
                "hidden",
                "codewords",
                "row",
                "words",
                "shards",
                "pairs",
            )
        ),
        *(
            (name, ctypes.c_void_p)
            for name in (
                "field_slots",
                "counts",
                "starts",
                "cells",
                "layouts",
                "shard_starts",
                "table",
                "start",
                "units",
                "weights",
                "biases",
                "last",
            )
        ),
        *((name, ctypes.c_double) for name in ("cap", "bias", "share")),
    ]


class PlanStruct(ctypes.Structure):
    """The kernel's `Plan`."""

    _fields_ = [
        ("own", ctypes.c_void_p),
        ("own_numbers", ctypes.c_int64),
        ("shared_numbers", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in ("ups", "downs", "shared_ups", "shared_downs")),
    ]


FIELD, CROSS = struct.Struct("<qqQQQQqqqq"), struct.Struct(f"<q{MOST_PARTS}qQQ")
_SIZES = ctypes.sizeof(ModelStruct) << 32 | ctypes.sizeof(PlanStruct) << 16 | FIELD.size << 8 | CROSS.size


@dataclass(frozen=True)
class Library:
    """The kernel, loaded."""

    functions: ctypes.CDLL
    lanes: int
    """Numbers of the vectors that it computes with."""

    @property
    def name(self) -> str:
        """Its name in logs."""
        return f"compiled ({_INSTRUCTIONS[self.lanes]})"


def load(path: os.PathLike[str] | str, lanes: int | None = None) -> Library:
    """Load a kernel.

    Args:
        path: the file.
        lanes: vectors to compute with, 4, 8 or 16; the longest that this processor has when left out.

    Raises:
        OSError: when it cannot be loaded or was built from another source.
    """
    functions = ctypes.CDLL(os.fspath(path))
    for name, result, arguments in (
        ("saec_stamp", ctypes.c_char_p, ""),
        ("saec_sizes", ctypes.c_int64, ""),
        ("saec_lanes", ctypes.c_int64, ""),
        ("saec_scratch", ctypes.c_int64, "ppi"),
        ("saec_keys", ctypes.c_int, "pipipppbiipi"),
        ("saec_score", ctypes.c_int, "ppipipipip"),
        ("saec_peel", ctypes.c_int, "piiiippppp"),
        ("saec_fill", ctypes.c_int, "ppiiippp"),
    ):
        function = getattr(functions, name, None)
        if function is None:
            raise OSError(f"{path} is no kernel of saec")
        kinds = {"p": ctypes.c_void_p, "i": ctypes.c_int64, "b": ctypes.c_char_p}
        function.restype, function.argtypes = result, [kinds[kind] for kind in arguments]
    if functions.saec_stamp().decode() != stamp() or functions.saec_sizes() != _SIZES or sys.byteorder != "little":
        raise OSError(f"{path} was built from another source")
    most = functions.saec_lanes()
    return Library(functions, most if lanes is None else min(lanes, most))


@cache
def found() -> tuple[Library | None, str]:
    """The kernel of this installation, and what to say of it."""
    path = library_path()
    if not path.exists():
        return None, "the compiled kernel is not built; python -m saec.build_kernel makes it"
    try:
        library = load(path)
    except OSError as error:
        return None, f"{error}; build it again: python -m saec.build_kernel"
    return library, library.name


def chosen(engine: str | None) -> tuple[Library | None, str]:
    """The kernel to score with, None for numpy, and what to say of it.

    Args:
        engine: `auto`, `numpy` or `compiled`; the environment's `SAEC_ENGINE` when None, `auto` without.

    Raises:
        ConfigError: for another name, or when compiled code is wanted and there is none.
    """
    engine = engine or os.environ.get(ENGINE_VARIABLE) or "auto"
    if engine not in ENGINES:
        raise ConfigError(f"there is no engine {engine[:64]!r}; set {ENGINE_VARIABLE} to one of {', '.join(ENGINES)}")
    if engine == "numpy":
        return None, "numpy"
    library, said = found()
    if library is None and engine == "compiled":
        raise ConfigError(f"{ENGINE_VARIABLE}=compiled: {said}")
    return library, said if library else f"numpy ({said})"
