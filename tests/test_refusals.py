"""Refusals: of an operator that a converter can't take, its name, its layer and the engines that can."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")

import small_networks  # noqa: E402
from vertebra import engines  # noqa: E402
from vertebra.engines import Subject  # noqa: E402
from vertebra.errors import MeasurementError  # noqa: E402
from vertebra.exporting import export  # noqa: E402
from vertebra.exporting.orders import Order, layer_of  # noqa: E402

LAYER = r"of the layer features\.odd \(Odd\)"


@pytest.fixture(scope="module", autouse=True)
def _networks_importable() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parent))
        yield


#: engine -> an operator that its converter really lacks, and how that one is called there
LACKING = {
    "onnxruntime": ("erfinv", "prims.erf_inv"),
    "openvino": ("det", "Det"),
    "mnn": ("bernoulli", "Bernoulli"),
    "ncnn": ("bernoulli", "aten::bernoulli"),
}


@pytest.mark.parametrize("engine", LACKING)
def test_an_operator_that_a_converter_lacks_is_told_with_its_layer_and_a_way_out(
    engine: str, tmp_path: Path
) -> None:
    if engines.missing(engine) is not None:
        pytest.skip(f"no {engine} here")
    operator, called = LACKING[engine]
    odd = Subject("odd", builder="small_networks:lacking_net", arguments={"operator": operator})
    with pytest.raises(MeasurementError, match=f"can't take the operator {called} {LAYER}: ") as caught:
        export(odd, tmp_path / "odd", input_size=24, engine=engine)
    assert "eager, compile, aotinductor" in str(caught.value.hint)
    assert "\n" not in caught.value.message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("engine", ["onnxruntime", "aotinductor"])
def test_a_network_that_no_graph_can_hold_runs_in_eager_alone(engine: str, tmp_path: Path) -> None:
    if engines.missing(engine) is not None:
        pytest.skip(f"no {engine} here")
    tangled = Subject("tangled", builder="small_networks:tangled_net")
    with pytest.raises(MeasurementError, match=r"can't take this network: Could not guard") as caught:
        export(tangled, tmp_path / "tangled", input_size=24, engine=engine)
    assert str(caught.value.hint).endswith(": eager")
    assert list(tmp_path.iterdir()) == []


def _refusing(*_: Any, **__: Any) -> Any:
    raise RuntimeError("Lowering not found: aten.linalg_det.default\nand much more")


#: converter -> the modules that it imports, whose named function refuses here
STAND_INS = {
    "litert": {"litert_torch": "convert"},
    "executorch": {
        "executorch": None,
        "executorch.backends": None,
        "executorch.backends.xnnpack": None,
        "executorch.backends.xnnpack.partition": None,
        "executorch.backends.xnnpack.partition.xnnpack_partitioner": "XnnpackPartitioner",
        "executorch.exir": "to_edge_transform_and_lower",
    },
}


@pytest.mark.parametrize("name", STAND_INS)
def test_a_converter_that_is_not_here_tells_the_same(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module_name, function in STAND_INS[name].items():
        module = ModuleType(module_name)
        if function is not None:
            setattr(module, function, _refusing)
        monkeypatch.setitem(sys.modules, module_name, module)
    if name == "executorch":
        partitioner = sys.modules["executorch.backends.xnnpack.partition.xnnpack_partitioner"]
        partitioner.XnnpackPartitioner = object  # type: ignore[attr-defined]
    converter = importlib.import_module(f"vertebra.exporting.{name}")
    network = small_networks.lacking_net(operator="det")
    told = rf"converter for {name} can't take the operator aten\.linalg_det {LAYER}: Lowering not found"
    with pytest.raises(MeasurementError, match=told) as caught:
        converter.write(network, torch.zeros(1, 3, 24, 24), tmp_path, Order(1, "float32"))
    assert "onnxruntime and openvino run most" in str(caught.value.hint)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("operator", "layer"),
    [
        ("aten.linalg_det", "features.odd (Odd)"),
        ("aten::linalg_det", "features.odd (Odd)"),
        ("prims.det", "features.odd (Odd)"),
        ("aten.linear", "full (Linear)"),
        ("aten.conv2d", None),
    ],
)
def test_the_layer_of_an_operator_is_found_under_any_of_its_names(operator: str, layer: str | None) -> None:
    network = small_networks.lacking_net(operator="det")
    assert layer_of(network, torch.zeros(2, 3, 24, 24), operator) == layer


def test_no_layer_is_told_of_a_network_that_cannot_be_captured() -> None:
    assert layer_of(small_networks.tangled_net(), torch.zeros(2, 3, 24, 24), "aten.sum") is None
