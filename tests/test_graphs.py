"""The graphs that ship: the store and its refusals, licences, and a sample proved against eager PyTorch."""

from __future__ import annotations

import contextlib
import importlib.util
import math
import random
import re
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest

from vertebra.errors import InvalidInputError, UnknownNameError, VertebraError
from vertebra.exporting import filled
from vertebra.measurements.shipped import catalogue
from vertebra.measuring import graphs as counting
from vertebra.zoo import CLASSICS
from vertebra.zoo.graphs import drawing, store

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))
NAMES = sorted(store.names())
GRAPHS = [graph for name in NAMES for graph in store.graphs(name)]
#: all of a family are alike, and the small ones are quick
SMALL = [name for name in NAMES if (count := catalogue.find(name)) is not None and count.macs < 2e9]
LICENCES = {"Apache-2.0", "MIT", "BSD-3-Clause"}


def opened(graph: store.Graph, *, features: bool = True) -> onnx.ModelProto:
    """The skeleton with its parameters as inputs: a whole model."""
    proto = onnx.ModelProto.FromString(store.skeleton(graph, features=features))
    for key, _, shape in graph.parameters():
        proto.graph.input.append(onnx.helper.make_tensor_value_info(key, onnx.TensorProto.FLOAT, shape))
    return proto


def test_the_classics_have_graphs_at_their_native_size():
    assert set(CLASSICS) <= store.names()
    for name in CLASSICS:
        assert store.find(name).native_size == catalogue.counts()[name].input_size


@pytest.mark.parametrize(
    ("name", "size", "found"),
    [
        ("squeezenet1_1", None, None),
        ("SqueezeNet1_1", 96, None),
        ("alexnet", None, 224),
        ("alexnet", 224, 224),
    ],
)
def test_find(name, size, found):
    graph = store.find(name, size)
    assert (graph.name, graph.input_size) == (name.lower(), found)
    assert (graph.library, graph.licence) == ("vertebra", "Apache-2.0")


@pytest.mark.parametrize(
    ("name", "size", "error", "told"),
    [
        ("squeezenet1_1", 28, InvalidInputError, "use 29 or more"),
        ("alexnet", 225, InvalidInputError, "use 224"),
        ("resnet51", None, UnknownNameError, "vertebra list"),
    ],
)
def test_what_there_is_not(name, size, error, told):
    with pytest.raises(error) as caught:
        store.find(name, size)
    assert told in str(caught.value.hint)


@pytest.mark.parametrize(
    ("failed", "told"),
    [
        ("took more than 900 s", "it can't be traced (took more than 900 s)"),
        ("its logits are 1.9e-04 of their spread away from eager's", "its graph isn't proved (its logits"),
        ("two images give answers 1.0e-09 of the spread apart: they prove little", "its graph isn't proved"),
        ("TypeError: Unsupported attribute type: SymbolicTensor", "its kernels depend on the picture"),
    ],
)
def test_the_reason_says_whether_it_was_traced(failed, told):
    import graphs as tool

    assert tool._reason(failed).startswith(told)


def test_networks_without_a_graph_say_why():
    for name, reason in store.without().items():
        assert name not in store.names()
        with pytest.raises(InvalidInputError, match=re.escape(reason[:20])):
            store.find(name)


def hollow(graph: store.Graph, folder: Path) -> Path:
    """The graph with zeros as parameters, in a file of holes: for counting, which doesn't look at values."""
    proto = onnx.ModelProto.FromString(store.skeleton(graph))
    size = 0
    for key, _, shape in graph.parameters():
        one = proto.graph.initializer.add(
            name=key, data_type=onnx.TensorProto.FLOAT, dims=shape, data_location=onnx.TensorProto.EXTERNAL
        )
        length = 4 * math.prod(shape)
        for entry, value in {"location": "hollow.data", "offset": size, "length": length}.items():
            one.external_data.add(key=entry, value=str(value))
        size += length
    with (folder / "hollow.data").open("wb") as file:
        file.truncate(size)
    (folder / "hollow.onnx").write_bytes(proto.SerializeToString())
    return folder / "hollow.onnx"


def counted(name: str, folder: Path) -> tuple[int, int | str]:
    """Parameters and multiply-accumulates in a network's first graph, or why these can't be counted."""
    graph = store.graphs(name)[0]
    try:
        found = counting.profile(hollow(graph, folder), model=name, input_size=graph.native_size)
    except VertebraError as error:
        return graph.params, error.message
    return graph.params, found.macs


def check_counts(names: list[str], folder: Path) -> None:
    """All as the shipped profile has them."""
    counts = {name: catalogue.find(name) for name in names}
    alike = [name for name, count in counts.items()
             if count is not None and count.input_size == store.graphs(name)[0].native_size]  # fmt: skip
    found = {name: counted(name, folder) for name in alike}
    other = {name: one for name, one in found.items() if one != (counts[name].params, counts[name].macs)}
    assert not other
    assert len(alike) >= 0.98 * len(names)


def test_parameters_are_counted_as_the_catalogue_counts_them():
    for name in NAMES:
        count, graph = catalogue.find(name), store.graphs(name)[0]
        if count is not None and graph.native_size == count.input_size:
            assert graph.params == count.params, name


def test_parameters_and_macs_in_a_sample_equal_the_shipped_profile(tmp_path):
    check_counts(random.Random(98).sample(SMALL, min(15, len(SMALL))), tmp_path)


@pytest.mark.slow
def test_parameters_and_macs_of_every_graph_equal_the_shipped_profile(tmp_path):
    check_counts(NAMES, tmp_path)


def some(count: int, seed: int = 16) -> list[store.Graph]:
    return random.Random(seed).sample(GRAPHS, min(count, len(GRAPHS)))


@pytest.mark.parametrize("graph", some(6), ids=lambda graph: graph.name)
def test_a_skeleton_is_a_whole_model_but_for_its_parameters(graph):
    for features in (False, True):
        proto = opened(graph, features=features)
        onnx.checker.check_model(proto)
        outputs = [one.name for one in proto.graph.output]
        assert outputs == ["logits", "features"][: 1 + features]
        assert len(proto.graph.output[0].type.tensor_type.shape.dim) == 2


@pytest.mark.parametrize("graph", some(12), ids=lambda graph: graph.name)
def test_every_initialiser_is_accounted_for(graph):
    """From the state dict, each once; computed, in the store by content; or a few numbers inside."""
    proto = onnx.ModelProto.FromString(store.skeleton(graph, features=True))
    inside = [one.name for one in proto.graph.initializer]
    keys = [one.key for one in graph.parameters()]
    computed = {one.name: one for one in graph.constants()}
    assert len({*inside, *keys}) == len(inside) + len(keys)
    for one in proto.graph.initializer:
        size = onnx.numpy_helper.to_array(one).nbytes
        assert size > 64 if one.name in computed else size <= 64
    taken = {name for node in proto.graph.node for name in node.input}
    made = {name for node in proto.graph.node for name in node.output}
    assert taken - made - {"images", ""} == {*inside, *keys}  # "": an operator's input that is left out
    assert {one.key for one in graph.unused}.isdisjoint(keys)


def test_every_graph_has_a_licence_that_allows_it_and_says_whose_it_is():
    for graph in GRAPHS:
        licences = graph.licence.split(" AND ")
        assert set(licences) <= LICENCES
        assert "opyright" in graph.copyright
        assert graph.file.endswith(".py")
    told = store.notices(GRAPHS[0])
    assert GRAPHS[0].copyright in told
    assert store.CHANGES in told
    assert "Apache License" in store.notices(store.find("alexnet"))


def test_the_notices_that_ship_name_every_owner():
    text = (ROOT / "THIRD_PARTY_NOTICES").read_text()
    for graph in GRAPHS:
        if graph.library != "vertebra":
            assert f"{graph.library} {graph.version}" in text
            assert graph.file in text
            assert all(line in text for line in graph.copyright.splitlines())


def test_no_source_path_or_trace_is_in_the_data():
    strange = re.compile(rb"(?:/\w[\w.-]*){2,}/|\.py\b|Traceback|stack_trace|\bself\.|pkg\.torch|aten::")
    for graph in GRAPHS:
        content = store.skeleton(graph, features=True)
        for one in graph.constants():
            content = content.replace(store.constant(one), b"")
        found = strange.search(content)
        assert found is None, (graph.name, found)
        proto = onnx.ModelProto.FromString(store.skeleton(graph))
        assert not any(node.name or node.doc_string or node.metadata_props for node in proto.graph.node)


def test_shipped_answers_are_of_two_different_images():
    for graph in GRAPHS:
        if graph.answers is not None:
            first, second = graph.answers.logits
            assert len(first) == len(second) == len(graph.answers.classes)
            assert first != second
            assert graph.answers.size == graph.native_size or graph.answers.size == graph.input_size


def test_a_graph_that_was_not_proved_takes_the_traced_size_alone():
    assert all(graph.input_size is not None for graph in GRAPHS if graph.answers is None)


def quick(name: str) -> bool:
    """Whether it is drawn and answered in about a second."""
    return all(graph.params < 30e6 for graph in store.graphs(name)) and name in SMALL


def marked(names: list[str]) -> list[Any]:
    return [name if quick(name) else pytest.param(name, marks=pytest.mark.slow) for name in sorted(names)]


OURS = [name for name in NAMES if ":" not in name]
QUICK = [name for name in NAMES if ":" in name and quick(name)]
FORTY = [*random.Random(40).sample(QUICK, min(30, len(QUICK)))]
FORTY += random.Random(41).sample(sorted({*NAMES} - {*OURS, *FORTY}), min(10, len(NAMES) - len(FORTY)))


#: has a graph for each of two sizes, which draw the same parameters
OF_TWO_SIZES = "timm:tf_efficientnetv2_b2"


@pytest.mark.parametrize("name", [*marked(OURS), *marked(FORTY), OF_TWO_SIZES])
def test_ours_and_forty_others_answer_as_eager_did(name, tmp_path):
    """Drawn, on ONNX Runtime, against the logits of eager PyTorch that ship."""
    for graph in store.graphs(name):
        size = graph.input_size or graph.native_size
        kept = filled.write(graph, tmp_path / str(size), model=name, input_size=size, compared=False)
        assert kept.graph is not None
        assert kept.graph["against_eager"] <= 1e-4


@pytest.mark.parametrize("name", [*random.Random(7).sample(SMALL, min(2, len(SMALL)))], ids=lambda name: name)
def test_a_sample_of_graphs_is_proved_against_eager_again(name, tmp_path):
    prove(name, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*OURS, *FORTY])
def test_ours_and_forty_others_are_proved_against_eager_again(name, tmp_path):
    prove(name, tmp_path)


def test_what_is_packed_is_unpacked_and_packed_again_as_it_was(tmp_path):
    import graphs as tool

    def unpacked(work, data):
        tool.unpack(work, chosen, data)
        return {path.relative_to(work): path.read_bytes() for path in work.rglob("*") if path.is_file()}

    chosen = [
        "squeezenet1_1",
        "timm:swin_tiny_patch4_window7_224",
        "torchvision:resnet18",
        "timm:convit_tiny",
    ]
    work, data = tmp_path / "work", tmp_path / "data"
    first = unpacked(work, tool.DATA)
    assert sum(path.suffix == ".json" for path in first) == len(chosen)
    assert sum(path.suffix == ".part" for path in first) == 6
    assert any(path.parts[0] == "constants" for path in first)
    data.mkdir()
    tool.pack(work, data, tmp_path / "notices")
    assert unpacked(tmp_path / "again", data) == first
    assert "Apache-2.0" in (tmp_path / "notices").read_text()
    assert {path.suffix for path in data.iterdir()} == {".json", ".xz"}


def prove(name: str, folder: Path) -> None:
    library = store.find(name).library
    if library != "vertebra" and importlib.util.find_spec(library) is None:
        pytest.skip(f"needs {library}")
    import graph_making

    for graph in store.graphs(name):
        found = graph_making.proved(graph, folder)
        assert max(found.logits, found.features) <= 1e-4


def test_graphs_of_one_network_that_were_proved_at_several_levels_are_not_packed():
    import graphs as tool

    one = {"name": "timm:one", "graphs": [{"level": 0.7}, {"level": 0.7}]}
    other = {"name": "timm:other", "graphs": [{"level": 0.7}, {"level": 1.0}]}
    assert tool._levels([one]) == {"timm:one": 0.7}
    with pytest.raises(SystemExit, match="timm:other"):
        tool._levels([one, other])


def test_graphs_whose_parameters_are_drawn_in_another_way_by_now_are_not_packed(tmp_path, monkeypatch):
    """Their answers would be others: two networks shipped with such ones."""
    import graphs as tool

    tool.unpack(tmp_path / "work", ["squeezenet1_1"], tool.DATA)
    scale_of = drawing.scale_of
    monkeypatch.setattr(
        drawing, "scale_of", lambda key, *more: (0.0, 0.5) if "bias" in key else scale_of(key, *more)
    )
    (tmp_path / "data").mkdir()
    with pytest.raises(SystemExit, match="squeezenet1_1: its parameters were drawn by another rule"):
        tool.pack(tmp_path / "work", tmp_path / "data", tmp_path / "notices")
    assert not list((tmp_path / "data").iterdir())


def test_looking_at_operators_first_makes_the_same_graph(monkeypatch):
    import graph_making as making

    def made() -> Any:
        network = making.eager("timm:test_vit", has_memory=False)
        making.with_features(network)
        traced = making.trace(network, 160, multiple=0)
        return making.stripped(making.simplified(traced), traced.state)

    quick = made()
    monkeypatch.setattr(making, "_operators_first", contextlib.nullcontext)
    whole = made()
    assert (quick.core, quick.extra, quick.record) == (whole.core, whole.extra, whole.record)


def test_drawn_pictures_have_the_size_of_normalised_photographs():
    images = drawing.draw("timm:resnet18", "images", (2, 3, 64, 64))
    assert images.var() == pytest.approx(1, rel=0.02)
    assert (images[0] != images[1]).any()
