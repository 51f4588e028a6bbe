"""Divergence: of a converted network that answers otherwise, the layer where it begins."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")

from vertebra import bundles, engines  # noqa: E402
from vertebra.engines import Subject  # noqa: E402
from vertebra.errors import MeasurementError  # noqa: E402
from vertebra.exporting import conversion, divergence, export, intermediates  # noqa: E402
from vertebra.exporting.divergence import Layer  # noqa: E402

SIZE = 30  # the pools give 14 and 6 pixels a side, or rounded up 15 and 7
CONVERTERS = {"onnxruntime": "onnx"} | {
    name: name for name in ("openvino", "ncnn", "mnn", "litert", "executorch", "aotinductor")
}
HERE = [engine for engine in CONVERTERS if conversion.missing(engine) is None]
OPENED = [engine for engine in HERE if CONVERTERS[engine] in intermediates.OPENED]
AGAIN = [engine for engine in HERE if engine not in OPENED]


@pytest.fixture(scope="module", autouse=True)
def _networks_importable() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parent))
        yield


def told(change: Callable[[Any], None], engine: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """What is said of a converter that makes the `change` to the network on its way."""
    converter = importlib.import_module(f"vertebra.exporting.{CONVERTERS[engine]}")
    faithful = converter.write

    def faulty(network: Any, *rest: Any) -> None:
        with torch.no_grad():
            change(getattr(network, "network", network))  # within what shows its layers
        faithful(network, *rest)

    # the batch norms' own epsilons must still be there when the converter comes
    monkeypatch.setattr("vertebra.exporting.folding.fold_batch_norms", lambda network: network)
    monkeypatch.setattr(converter, "write", faulty)
    subject = Subject("branched", builder="small_networks:branched_net")
    with pytest.raises(MeasurementError, match="Wrong outputs") as caught:
        export(subject, folder / "net", input_size=SIZE, engine=engine)
    assert not (folder / "net").exists()
    return caught.value.message


def setting(layer: str, name: str, value: Any) -> Callable[[Any], None]:
    return lambda network: setattr(network.get_submodule(layer), name, value)


def shift_bias(network: Any) -> None:
    network.full.bias[3] += 1


FAULTS: dict[str, tuple[Callable[[Any], None], str]] = {
    "an epsilon in one branch": (setting("left.1", "eps", 1e-3), r"left\.1 \(BatchNorm2d"),
    "an epsilon in the other": (setting("right.1", "eps", 1e-3), r"right\.1 \(BatchNorm2d"),
    "the first pool rounded up": (
        setting("pool1", "ceil_mode", True),
        r"pool1 \(MaxPool2d\), for which the graph has no tensor of that size",
    ),
    "the second pool rounded up": (
        setting("pool2", "ceil_mode", True),
        r"pool2 \(MaxPool2d\), for which the graph",
    ),
    "a bias": (shift_bias, r"full \(Linear\), off by [\d.]+ of its spread; before it"),
}


#: Without the mark "slow": every fault of one engine, and one fault of each that converts quickly.
QUICK = {
    ("openvino", "an epsilon in one branch"),
    ("ncnn", "the second pool rounded up"),
    ("mnn", "an epsilon in the other"),
    ("executorch", "an epsilon in one branch"),
}
GRID = [
    pytest.param(
        fault, engine, marks=[] if engine == HERE[0] or (engine, fault) in QUICK else pytest.mark.slow
    )
    for engine in HERE
    for fault in FAULTS
    if engine != "aotinductor" or fault == "an epsilon in the other"  # a minute each
]


@pytest.mark.parametrize(("fault", "engine"), GRID)
def test_the_layer_that_a_converter_changed_is_named(
    fault: str, engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change, layer = FAULTS[fault]
    assert re.search(f"It begins at the layer {layer}", told(change, engine, tmp_path, monkeypatch))


@pytest.mark.parametrize("engine", OPENED)
def test_a_fault_after_the_last_layer_is_told_as_that(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def softmax(network: Any) -> None:
        answer = network.forward
        network.forward = lambda images: torch.softmax(answer(images), 1)

    message = told(softmax, engine, tmp_path, monkeypatch)
    assert "all layers agree: the fault is after the last layer" in message


@pytest.mark.parametrize("engine", OPENED)
def test_a_faithful_converter_leaves_no_layer_in_doubt(engine: str, tmp_path: Path) -> None:
    from vertebra.engines.eager import build

    subject = Subject("branched", builder="small_networks:branched_net")
    kept = export(subject, tmp_path / "net", input_size=SIZE, engine=engine)
    images = kept.reference_pair(1)[0]
    layers = divergence.compare(build(subject), images, divergence.tensors(kept, images), limit := 3e-4)
    assert {"pool1", "pool2", "full"} <= {layer.name for layer in layers}
    assert max(layer.error for layer in layers) < limit


# ------------------------------------------------------------------ a LiteRT Bundle that is kept here

KEPT = bundles.read(Path(__file__).parent / "golden" / "litert")
SMALL = Subject("small", builder="small_networks:small_net", arguments={"num_classes": 10, "seed": 3})


def small(change: Callable[[Any], None] | None = None) -> Any:
    """The network that was converted, or one with a `change`."""
    from vertebra.engines.eager import build

    network = build(SMALL)
    with torch.no_grad():
        if change is not None:
            change(network)
    return network


def halve(layer: str) -> Callable[[Any], None]:
    return lambda network: network.get_submodule(layer).weight.mul_(0.5)


@pytest.mark.skipif(engines.missing("litert") is not None, reason=str(engines.missing("litert")))
@pytest.mark.parametrize(
    ("change", "layer"),
    [
        (setting("1", "eps", 0.01), r"1 \(BatchNorm2d"),
        (setting("4", "output_size", (2, 8)), r"4 \(AdaptiveAvgPool2d\)"),
        (halve("6"), r"6 \(Linear"),
        (halve("8"), r"8 \(Linear\)"),
    ],
)
def test_the_layer_that_a_litert_bundle_has_otherwise_is_named(
    change: Callable[[Any], None], layer: str
) -> None:
    images = KEPT.reference_pair(1)[0]
    assert "all layers agree" in divergence.describe(KEPT, small(), images)
    assert re.search(f"It begins at the layer {layer}", divergence.describe(KEPT, small(change), images))


# ------------------------------------------------------------------ formats that show only their end


@pytest.mark.slow
@pytest.mark.parametrize("engine", AGAIN)
def test_a_fault_of_the_file_alone_is_told_as_that(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Any] = []

    def first_time(network: Any) -> None:
        calls.append(network)
        if len(calls) == 1:
            shift_bias(network)

    message = told(first_time, engine, tmp_path, monkeypatch)
    assert len(calls) == 2
    assert "is right on the reference images: the fault is only in the first file" in message


def as_if_closed(network: Any, monkeypatch: pytest.MonkeyPatch, shown: Callable[..., Any]) -> str:
    """What is said of a format that shows nothing but its end, where converting again gives `shown`."""
    monkeypatch.setattr(intermediates, "shown", shown)
    return divergence.describe(replace(KEPT, format="executorch"), network, KEPT.reference_pair(1)[0])


@pytest.mark.parametrize(
    ("sign", "verdict"),
    [
        (-1, r"as an output: In float32 all layers agree: the fault is after the last layer"),
        (
            1,
            "as an output, the network is right on the reference images: the fault is only in the first file",
        ),
    ],
)
def test_right_layers_leave_the_end_or_the_file(
    sign: int, verdict: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shown(_: Any, network: Any, images: Any) -> list[Any]:
        with torch.inference_mode():
            end, *answers = intermediates._Showing(network)(torch.from_numpy(images))
        return [sign * end.numpy(), *(answer.numpy() for answer in answers)]

    assert verdict in as_if_closed(small(), monkeypatch, shown)


def test_a_network_that_is_not_converted_a_second_time_is_told_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any) -> list[Any]:
        raise MeasurementError("The converter can't take so many outputs.")

    told = as_if_closed(small(), monkeypatch, refused)
    assert told == "The layer at fault can't be found: The converter can't take so many outputs."


def test_layers_that_give_more_than_fits_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(divergence, "_MOST_BYTES", 100_000)
    told = as_if_closed(small(), monkeypatch, lambda *_: pytest.fail("converted"))
    # four times 16 * 20 * 20 floats, twice 256, twice 64, and 10
    assert (
        told == "The layer at fault can't be found: the layers' outputs take 105 kB; at most 100 kB are kept."
    )


# ------------------------------------------------------------------ the verdict alone


def layers(*errors: float) -> list[Layer]:
    return [Layer(f"layer{number}", "Conv2d", error, True) for number, error in enumerate(errors)]


def test_the_first_layer_is_the_one_that_jumps_and_not_the_one_that_is_worst() -> None:
    said = divergence.verdict(layers(1e-6, 1e-6, 2e-4, 1e-3, 1.7e-3), 3e-4)
    assert "It begins at the layer layer2 (Conv2d), off by 0.0002" in said
    assert "the worst is layer4 (Conv2d), off by 0.0017" in said


def test_an_error_that_grows_evenly_is_pinned_on_nobody() -> None:
    said = divergence.verdict(layers(1e-5, 5e-5, 2e-4, 6e-4), 3e-4)
    assert said == (
        "No layer is much worse than those before it; "
        "the worst is layer3 (Conv2d), off by 0.0006 of its spread."
    )


def test_layers_that_are_off_by_rounding_alone_are_all_acquitted() -> None:
    assert "all layers agree" in divergence.verdict(layers(1e-6, 2e-5, 1e-5), 3e-4)
    assert "the graphs agree" in divergence.verdict([], 3e-4)
