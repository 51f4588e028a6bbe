"""Networks from files and data sets, told apart by what they hold, whatever they are called."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import pytest

import golden_bundle
import vertebra
from vertebra import bundles, zoo
from vertebra.bundles import identity
from vertebra.campaigns import cases
from vertebra.data import datasets
from vertebra.errors import InvalidInputError, UnknownNameError
from vertebra.machine import system
from vertebra.measurements import Measurement, Table, latest, subjects, wide
from vertebra.measuring import evaluation
from vertebra.measuring.benchmarking import results
from vertebra.reading import comparison
from vertebra.zoo import adapters

ONE, OTHER = "3fa2b1c4" + 56 * "0", "9c0e17aa" + 56 * "1"
NET = "onnx:model.onnx"


def latency(model: str, value: float, **columns: Any) -> Measurement:
    told = {"engine": "onnxruntime", "device": "cpu", "precision": "float32", "batch_size": 1, "threads": 1,
            "input_size": 8, "scenario": "single-stream", "system": system.describe().id}  # fmt: skip
    return Measurement(model=model, metric="latency", value=value, origin="benched", **(told | columns))


def top1(model: str, value: float, **columns: Any) -> Measurement:
    told = {"dataset": "mine", "dataset_sha256": ONE, "split": "all", "engine": "onnxruntime",
            "precision": "float32", "samples": 6, "input_size": 8}  # fmt: skip
    return Measurement(model=model, metric="top1", value=value, origin="evaluated", **(told | columns))


@pytest.fixture
def table(tmp_path: Path) -> Table:
    return Table(tmp_path / "table.sqlite")


# ------------------------------------------------------------------ subjects and their names


def test_networks_of_one_name_are_two_figures_and_two_wide_rows() -> None:
    rows = [
        latency(NET, 0.001, network_sha256=ONE), top1(NET, 0.5, network_sha256=ONE),
        latency(NET, 0.002, network_sha256=OTHER), top1(NET, 0.0, network_sha256=OTHER),
    ]  # fmt: skip
    assert latest(rows) == rows
    found = {row.model: (row.value("top1"), row.value("latency")) for row in wide(rows)}
    assert found == {f"{NET}#3fa2b1c4": (0.5, 0.001), f"{NET}#9c0e17aa": (0.0, 0.002)}


@pytest.mark.parametrize("model", [NET, "timm:resnet18", "vgg16"])
def test_rows_without_a_digest_never_join_with_rows_that_have_one(model: str) -> None:
    rows = [top1(model, 0.5), latency(model, 0.001, network_sha256=ONE)]
    found = wide(rows)
    assert len(found) == 2
    assert all(len(set(row.figures) & {"top1", "latency"}) == 1 for row in found)


@pytest.mark.parametrize(
    ("given", "called"),
    [
        ([(NET, ONE)], [NET]),
        ([(NET, None)], [f"{NET} (no digest)"]),
        ([(NET, None), (NET, ONE)], [f"{NET} (no digest)", f"{NET}#3fa2b1c4"]),
        ([("vgg16", None), ("vgg16", ONE)], ["vgg16", "vgg16#3fa2b1c4"]),
        ([("vgg16", ONE)], ["vgg16"]),
        ([(NET, ONE), (NET, ONE[:12] + 52 * "2")], [f"{NET}#{ONE[:13]}", f"{NET}#{ONE[:12]}2"]),
    ],
)
def test_a_shared_name_has_the_beginning_of_the_digest(given: list[Any], called: list[str]) -> None:
    names = subjects.names([latency(model, 1.0, network_sha256=digest) for model, digest in given])
    assert [names[one] for one in given] == called


def test_two_quantisations_never_share_an_accuracy_and_keep_the_networks_counts() -> None:
    rounded = {"precision": "int8", "weights": "vgg16.paddle_in1k"}
    rows = [
        Measurement(model="vgg16", metric="params", value=9.0, origin="profiled"),
        top1("vgg16", 0.7, weights="vgg16.paddle_in1k"),
        latency("vgg16", 0.003, network_sha256=ONE, **rounded),
        top1("vgg16", 0.6, network_sha256=ONE, **rounded),
    ]
    assert [(row.model, row.value("top1"), row.value("params")) for row in wide(rows)] == [("vgg16", 0.6, 9)]
    more = latency("vgg16", 0.004, network_sha256=OTHER, **rounded)
    found = {row.model: (row.value("top1"), row.value("params")) for row in wide([*rows, more])}
    assert found == {"vgg16#3fa2b1c4": (0.6, 9), "vgg16#9c0e17aa": (None, 9)}


def test_a_quantised_network_from_a_file_has_no_counts_of_the_catalogue() -> None:
    params = Measurement(model="vgg16", metric="params", value=9.0, origin="profiled")
    mine = latency("vgg16", 0.003, network_sha256=ONE, precision="int8", weights="best.pth")
    assert [row.value("params") for row in wide([params, mine]) if row.value("latency")] == [None]


# ------------------------------------------------------------------ choosing by such a name


@pytest.mark.parametrize(
    ("name", "values"),
    [
        (NET, [1.0, 2.0, 3.0]),
        ("onnx:some/where/model.onnx", [1.0, 2.0, 3.0]),
        (f"{NET}#3fa2b1c4", [1.0]),
        (f"{NET}#9c0e", [2.0]),
        (f"{NET}#none", [3.0]),
        (f"{NET} (no digest)", [3.0]),
    ],
)
def test_the_table_is_filtered_by_a_name_with_a_digest(table: Table, name: str, values: list[float]) -> None:
    table.append([latency(NET, 1.0, network_sha256=ONE), latency(NET, 2.0, network_sha256=OTHER),
                  latency(NET, 3.0)])  # fmt: skip
    assert [row.value for row in vertebra.table(path=table, model=name)] == values


def test_a_digest_that_is_unknown_or_not_unique_is_refused(table: Table) -> None:
    table.append(
        [latency(NET, 1.0, network_sha256=ONE), latency(NET, 2.0, network_sha256=ONE[:10] + 54 * "e")]
    )
    with pytest.raises(UnknownNameError, match=r'No row is of "onnx:model.onnx#abcd"'):
        vertebra.table(path=table, model=f"{NET}#abcd")
    with pytest.raises(InvalidInputError, match=r"could be onnx:model.onnx#3fa2b1c400\w, "):
        vertebra.table(path=table, model=f"{NET}#3fa2")


def test_sides_are_named_with_a_digest(table: Table) -> None:
    table.append([latency(NET, 1.0, low=0.99, high=1.01, network_sha256=ONE)])
    table.append([latency(NET, 2.0, low=1.98, high=2.02, network_sha256=OTHER)])
    sides = [comparison.side(f"{NET}#{digest}", table) for digest in ("3fa2", "9c0e")]
    [one] = comparison.compare(*sides)
    assert (one.first.value, one.second.value) == (1.0, 2.0)
    assert "network_sha256 3fa2b1c4 → 9c0e17aa" in one.differing
    same = [comparison.side({"threads": 1}, table), comparison.side({"network_sha256": OTHER}, table)]
    assert [(one.first.value, one.second.value) for one in comparison.compare(*same)] != [(1.0, 1.0)]


# ------------------------------------------------------------------ where digests come from


@pytest.mark.parametrize(
    ("model", "weights", "sha256", "digest"),
    [
        ("vgg16", None, None, None),
        ("vgg16", "vgg16.paddle_in1k", ONE, None),  # no digest of them is published
        ("vgg16", "best.pth", ONE, ONE),
        ("vgg16", "vgg16", ONE, ONE),
        ("alexnet", "alexnet.tv_in1k", ONE, ONE),  # not the file that is published under this name
        ("timm:resnet18.a1_in1k", "resnet18.a1_in1k", ONE, None),
        ("timm:resnet18.a1_in1k", "resnet18.pth", ONE, ONE),
        ("timm:resnet18", "hf:me/mine/model.safetensors", ONE, ONE),
        (NET, "model.onnx", ONE, ONE),
    ],
)
def test_names_identify_only_weights_that_are_published(
    model: str, weights: str | None, sha256: str | None, digest: str | None
) -> None:
    assert identity.of_weights(model, weights, sha256) == digest


def test_published_weights_with_their_own_digest_need_none() -> None:
    from vertebra.zoo import weights

    known = weights.record("alexnet.tv_in1k")
    assert identity.of_weights("alexnet", known.name, known.sha256) is None


def onnx_network(path: Path, favourite: int = 0, *, beside: bool = False) -> str:
    """A network of three classes in 8x8 pixels that always answers the `favourite`."""
    onnx = pytest.importorskip("onnx")
    import numpy as np

    bias = np.zeros(3, np.float32)
    bias[favourite] = 5
    tensors = [("scale", np.zeros((192, 3), np.float32)), ("bias", bias)]
    value, number = onnx.helper.make_tensor_value_info, onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Flatten", ["x"], ["flat"]),
         onnx.helper.make_node("Gemm", ["flat", "scale", "bias"], ["y"])],
        "net", [value("x", number, ["n", 3, 8, 8])], [value("y", number, ["n", 3])],
        [onnx.numpy_helper.from_array(array, name) for name, array in tensors],
    )  # fmt: skip
    made = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(made, str(path), save_as_external_data=beside, location="values.bin", size_threshold=1)
    return f"onnx:{path}"


def test_data_beside_a_file_belong_to_the_network(tmp_path: Path) -> None:
    one, other = (onnx_network(tmp_path / str(n) / "net.onnx", n, beside=True) for n in (0, 1))
    assert (tmp_path / "0/net.onnx").read_bytes() == (tmp_path / "1/net.onnx").read_bytes()
    assert adapters.content_sha256(one) != adapters.content_sha256(other)
    whole = onnx_network(tmp_path / "2/net.onnx")
    content = (tmp_path / "2/net.onnx").read_bytes()
    assert adapters.content_sha256(whole) == hashlib.sha256(content).hexdigest()


def pictures(folder: Path, *classes: str, each: int = 2, shade: int = 0) -> Path:
    from PIL import Image

    for place, name in enumerate(classes):
        for number in range(each):
            file = folder / name / f"{name}{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8 + shade, 8), (place * 40 + shade, 0, 0)).save(file)
    return folder


def evaluated(model: str, data: Path, table: Table) -> Measurement:
    return vertebra.evaluate(model, data, labels="index", table=table).rows[0]


def benched(model: str, value: float, **engine: Any) -> Measurement:
    """A latency row of the case that `bench` makes."""
    from vertebra import engines

    [case] = cases.cases([model], ["onnxruntime"])
    [failure] = results.failed(case, engines.find("onnxruntime"), "no", system=system.describe().id).rows
    assert failure.network_sha256 == case.network_sha256
    return latency(case.model, value, network_sha256=case.network_sha256, weights=case.weights)


def test_an_onnx_file_and_its_bundle_are_one_network_and_another_file_of_the_name_is_not(
    tmp_path: Path, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VERTEBRA_CACHE", str(tmp_path / "cache"))
    one, other = (onnx_network(tmp_path / name / "model.onnx", place) for name, place in (("a", 0), ("b", 2)))
    data = pictures(tmp_path / "mine", "blue", "green", "red", each=2)
    (data / "red" / "red1.png").unlink()
    right, wrong = evaluated(one, data, table), evaluated(other, data, table)
    assert (right.model, right.value, wrong.model, wrong.value) == (NET, 0.4, NET, 0.2)
    assert len({right.network_sha256, wrong.network_sha256, None}) == 3
    table.append([benched(one, 0.001), benched(other, 0.002)])
    kept = vertebra.export(other, tmp_path / "bundle", labels=None)
    assert kept.network_sha256 == wrong.network_sha256
    assert cases.bundle_cases(kept, ["onnxruntime"])[0].network_sha256 == wrong.network_sha256
    picked = vertebra.pick(latency="1s", dataset="mine", table=table)
    assert [(row.value("top1"), row.value("latency")) for row in picked.ranked] == [
        (0.4, 0.001),
        (0.2, 0.002),
    ]


def checkpoint(path: Path, seed: int) -> Path:
    """Parameters for squeezenet1_1 with three classes."""
    torch = pytest.importorskip("torch")

    path.parent.mkdir(parents=True)
    network = zoo.build("squeezenet1_1", num_classes=3, seed=seed)
    torch.save(network.state_dict(), path)
    return path


def test_two_checkpoints_of_one_name_are_two_networks(tmp_path: Path, table: Table) -> None:
    files = [checkpoint(tmp_path / name / "best.pth", seed) for seed, name in enumerate(("runa", "runb"))]
    data = pictures(tmp_path / "mine", "blue", "green", "red", each=1)
    rows = [
        vertebra.evaluate("squeezenet1_1", data, labels="index", weights=file, table=table).rows[0]
        for file in files
    ]
    digests = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
    assert [(row.weights, row.network_sha256) for row in rows] == [("best.pth", one) for one in digests]
    kept = vertebra.table(path=table, metric="top1")
    assert [row.network_sha256 for row in kept] == digests
    assert [row.model for row in vertebra.table(path=table, metric="top1", wide=True)] == [
        f"squeezenet1_1#{one[:8]}" for one in digests
    ]


def test_a_bundle_of_a_checkpoint_is_the_checkpoints_network() -> None:
    content = hashlib.sha256(golden_bundle.WEIGHTS.read_bytes()).hexdigest()
    kept = bundles.read(golden_bundle.folder())
    assert kept.network_sha256 == content
    told = {"files": {"model.onnx": {"sha256": OTHER, "bytes": 1}, "proof.npz": {"sha256": ONE, "bytes": 1}}}
    mine = dataclasses.replace(kept, weights="best.pth", weights_sha256=ONE, **told)
    assert mine.network_sha256 == ONE
    assert dataclasses.replace(mine, weights=None, weights_sha256=None).network_sha256 is None
    assert dataclasses.replace(mine, precision="int8-weights").network_sha256 == ONE
    rounded = [
        dataclasses.replace(mine, precision="int8", files={"model.onnx": {"sha256": one, "bytes": 1}})
        for one in (ONE, OTHER)
    ]
    digests = {one.network_sha256 for one in rounded}
    assert len(digests | {ONE, OTHER, None}) == 5
    same = dataclasses.replace(rounded[1], folder=Path("elsewhere"), files=told["files"])
    assert same.network_sha256 == rounded[1].network_sha256  # the proof isn't the network


# ------------------------------------------------------------------ data sets


def test_a_copy_is_the_same_set_and_a_part_or_other_pictures_are_not(tmp_path: Path) -> None:
    def digest(folder: Path, count: int = 6) -> str:
        return datasets.open(folder).part(count).sha256

    one = digest(pictures(tmp_path / "a" / "data", "blue", "red", each=3))
    assert one == digest(pictures(tmp_path / "b" / "copy", "blue", "red", each=3))
    others = {
        digest(tmp_path / "a" / "data", 5),
        digest(pictures(tmp_path / "c" / "data", "blue", "red", each=3, shade=9)),
    }
    assert len({one, *others}) == 3


def test_the_row_of_an_evaluation_has_the_digest_of_the_pictures_that_were_used(tmp_path: Path) -> None:
    from vertebra.data.preprocess import Preprocess

    def answer(images: Any) -> Any:
        import numpy as np

        return np.eye(2, dtype=np.float32)[[0] * len(images)]

    data = datasets.open(pictures(tmp_path / "data", "blue", "red", each=3))
    record = Preprocess(input_size=(8, 8), resize=(8, 8), interpolation="bilinear")
    for limit, expected in ((None, data.sha256), (4, data.part(4).sha256)):
        found = evaluation.evaluate(data, answer, record, num_classes=2, by_index=True, limit=limit)
        conditions = {"model": "m", "engine": "e", "precision": "float32", "weights": "w"}
        assert {row.dataset_sha256 for row in evaluation.rows(found, conditions)} == {expected}


def test_sets_of_one_name_are_never_compared(table: Table) -> None:
    """One network on one folder called data, a copy of it on another: equal networks, other pictures."""
    table.append([top1("alexnet", 0.667), top1("vgg16", 1.0, dataset_sha256=OTHER, samples=9)])
    two = r"2 sets of images.*mine@3fa2b1c4 \(6 images, 1 network\), mine@9c0e17aa \(9 images, 1 network\)"
    for question in ({"dataset": "mine"}, {"origin": "evaluated"}):
        with pytest.raises(InvalidInputError, match=two) as refusal:
            vertebra.pick(objective="top1", table=table, **question)
        assert "--dataset" in str(refusal.value.hint)
    chosen = vertebra.pick(objective="top1", table=table, dataset="mine@9c0e")
    assert [row.model for row in chosen.ranked] == ["vgg16"]
    with pytest.raises(InvalidInputError, match="2 sets of images called mine"):
        vertebra.chart(x="top1", y="top1", table=table, dataset="mine")


def test_sets_of_one_name_are_told_with_their_splits(table: Table) -> None:
    table.append(
        [top1("alexnet", 0.667, split="val"), top1("vgg16", 1.0, split="test", dataset_sha256=OTHER)]
    )
    two = (
        r"mine@3fa2b1c4 \(split val, 6 images, 1 network\), mine@9c0e17aa \(split test, 6 images, 1 network\)"
    )
    with pytest.raises(InvalidInputError, match=two):
        vertebra.pick(objective="top1", table=table, dataset="mine")


def test_accuracies_from_before_data_sets_had_digests_never_join(table: Table) -> None:
    table.append([top1("alexnet", 0.667), top1("vgg16", 1.0, dataset_sha256=None)])
    with pytest.raises(InvalidInputError, match=r"mine@none \(6 images, 1 network, from before") as refusal:
        vertebra.pick(objective="top1", table=table, dataset="mine")
    assert refusal.value.hint == "choose one: --dataset mine@3fa2b1c4"
    chosen = vertebra.pick(objective="top1", table=table, dataset="mine@none")
    assert [row.model for row in chosen.ranked] == ["vgg16"]


def test_the_newest_row_of_one_set_does_not_hide_another_sets() -> None:
    rows = [top1("alexnet", 0.667), top1("alexnet", 1.0, dataset_sha256=OTHER)]
    assert latest(rows) == rows


def test_copies_of_the_whole_of_imagenets_validation_split_are_the_usual_set(table: Table) -> None:
    whole = {"dataset": "imagenet-1k", "split": "val"}
    table.append([top1("alexnet", 0.56, **whole), top1("vgg16", 0.7, **whole, dataset_sha256=OTHER),
                  top1("vgg19", 0.9, dataset="imagenet-1k", split="val[:500]")])  # fmt: skip
    for question in ({}, {"origin": "evaluated"}):
        picked = vertebra.pick(objective="top1", among="table", table=table, **question)
        assert [row.model for row in picked.ranked] == ["vgg16", "alexnet"]


def test_a_probe_of_today_replaces_one_of_the_same_pictures_from_before(table: Table) -> None:
    told = {"metric": "probe_top1", "origin": "evaluated", "dataset": "mine@0123456789", "split": "5-fold",
            "precision": "float32", "input_size": 8}  # fmt: skip
    old = Measurement(model="alexnet", value=0.5, **told)
    new = Measurement(model="alexnet", value=0.6, **told, dataset_sha256="0123456789" + 54 * "f")
    assert latest([old, new]) == [new]
    table.append([new, Measurement(model="vgg16", value=0.7, **told)])
    picked = vertebra.pick(objective="probe_top1", among="table", table=table, probed="mine")
    assert [row.model for row in picked.ranked] == ["vgg16", "alexnet"]
