"""Builds ONNX graphs, one operation per call; it names all values, so that calling code reads as arithmetic."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, checker, helper, numpy_helper

OPERATOR_SET, IR_VERSION = 18, 10
"""The oldest operators with bitwise logic, and a file version that runtimes from 2024 on read."""


class Graph:
    """A graph being built; values go by their names.

    >>> graph = Graph()
    >>> graph.op("Add", graph.input("x", np.float32, ["B"]), graph.constant(np.float32(1)))
    'Add_0'
    """

    def __init__(self) -> None:
        self._nodes: list[NodeProto] = []
        self._constants: dict[tuple[str, tuple[int, ...], bytes], TensorProto] = {}
        self._inputs: list[ValueInfoProto] = []

    def input(self, name: str, dtype: type[np.generic], shape: list[str | int]) -> str:
        """An input of the graph; a size by name is free."""
        self._inputs.append(_described(name, dtype, shape))
        return name

    def constant(self, array: NDArray[Any] | np.generic) -> str:
        """A constant; equal ones are kept once."""
        array = np.asarray(array)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            self._constants[key] = numpy_helper.from_array(array, f"constant_{len(self._constants)}")
        return self._constants[key].name

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """One operation; the name of its result."""
        name = f"{kind}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, list(inputs), [name], name, **attributes))
        return name

    def cast(self, value: str, dtype: type[np.generic]) -> str:
        """The value as another type."""
        return self.op("Cast", value, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def finish(self, result: str, name: str, dtype: type[np.generic], metadata: dict[str, str]) -> ModelProto:
        """The model whose one output, a number a row, is a result; checked."""
        self._nodes.append(helper.make_node("Identity", [result], [name], name))
        graph = helper.make_graph(
            self._nodes, "saec", self._inputs, [_described(name, dtype, ["B"])], [*self._constants.values()]
        )
        model = helper.make_model(
            graph, producer_name="saec", opset_imports=[helper.make_opsetid("", OPERATOR_SET)], ir_version=IR_VERSION
        )
        helper.set_model_props(model, metadata)
        checker.check_model(model, full_check=True)
        return model


def _described(name: str, dtype: type[np.generic], shape: list[str | int]) -> ValueInfoProto:
    """Type and shape of an input or output."""
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape)
