"""Tiny ONNX files, made node by node: a mean of each colour, a product, and what a test adds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper, save_model

WEIGHT = np.random.default_rng(2).normal(size=(3, 4)).astype(np.float32)


def network(
    path: Path,
    *ending: Any,
    weight: np.ndarray = WEIGHT,
    shape: Sequence[Any] = ("n", 3, 16, 16),
    output: str = "logits",
    before: Sequence[Any] = (),
    pooled: str = "x",
    constants: Sequence[tuple[str, np.ndarray]] = (),
    opset: int = 17,
    **saved: Any,
) -> str:
    """GlobalAveragePool, Flatten, MatMul, then the nodes of `ending`; the name by which it is loaded."""
    nodes = [
        *before,
        helper.make_node("GlobalAveragePool", [pooled], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["logits"]),
        *ending,
    ]
    kept = [numpy_helper.from_array(value, name) for name, value in (("w", weight), *constants)]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "net", [value("x", TensorProto.FLOAT, list(shape))],
        [value(output, TensorProto.FLOAT, [shape[0], weight.shape[1]])], kept,
    )  # fmt: skip
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    save_model(made, path, **saved)
    return f"onnx:{path}"


def node(kind: str, takes: Sequence[str], gives: str, **attributes: Any) -> Any:
    return helper.make_node(kind, list(takes), [gives], **attributes)


def rounded(path: Path) -> str:
    """The network in QDQ form: its input and its parameters in eight bits."""
    scale, zero = np.float32(0.05), np.int8(0)
    whole = np.clip(np.rint(WEIGHT / scale), -128, 127).astype(np.int8)
    before = [
        node("QuantizeLinear", ["x", "s", "z"], "q"), node("DequantizeLinear", ["q", "s", "z"], "d"),
        node("DequantizeLinear", ["w8", "s", "z"], "w"),
    ]  # fmt: skip
    return _without_w(path, before, [("w8", whole), ("s", np.array(scale)), ("z", np.array(zero))], "d")


def halved(path: Path) -> str:
    """The network with float16 parameters between float32 ends."""
    before = [node("Cast", ["w16"], "w", to=TensorProto.FLOAT)]
    return _without_w(path, before, [("w16", WEIGHT.astype(np.float16))], "x")


def _without_w(path: Path, before: Sequence[Any], constants: Sequence[Any], pooled: str) -> str:
    import onnx

    name = network(path, before=before, constants=constants, pooled=pooled)
    made = onnx.load(str(path))
    made.graph.initializer.remove(next(one for one in made.graph.initializer if one.name == "w"))
    onnx.save(made, str(path))
    return name
