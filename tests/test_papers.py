"""The networks of the two comparisons, against counts and outputs of the papers' own definitions."""

from __future__ import annotations

import csv
import json
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import golden_recipe
from pretrainedmodels_names import TABLES
from vertebra.cli import cli
from vertebra.errors import UnknownNameError
from vertebra.zoo import adapters, build, find, models, papers
from vertebra.zoo.papers import BIANCO2018, CANZIANI2016, PAPERS, Entry

OURS = [model.name for model in models() if model.collection == "papers"]
SAMPLE = {entry.network for entry in random.Random(7).sample(BIANCO2018.entries, 6)}
#: Heavy ones, whose outputs are compared in the slow grid.
HEAVY = {"cafferesnet101", "fbresnet152", "nasnetalarge"}


def sampled(entry: Entry) -> Any:
    marks = [] if entry.network in SAMPLE else [pytest.mark.slow]
    return pytest.param(entry, marks=marks, id=entry.network)


def counted(name: str) -> dict[str, dict[str, str]]:
    with (golden_recipe.FOLDER / name).open(encoding="utf-8") as file:
        return {row["network"]: row for row in csv.DictReader(file)}


#: Bianco's own definitions (CeLuigi/models-comparison.pytorch at 51388f0), counted with torch's counter.
COUNTS = counted("bianco2018_counts.csv")


def meta(name: str) -> Any:
    with torch.device("meta"):
        return build(name).eval()


def conv_operations(network: nn.Module, images: Tensor) -> float:
    """By the rule of Bianco's script: convolutions alone, half for each bias divided by the groups."""
    total = 0.0

    def add(layer: nn.Module, _: Any, output: Tensor) -> None:
        nonlocal total
        assert isinstance(layer, nn.Conv2d)
        per_output = layer.weight[0].numel() + (0.5 / layer.groups if layer.bias is not None else 0)
        total += output[0].numel() * per_output

    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(add)
    network(images)
    return total


# The table.


def test_both_papers_are_whole_and_in_their_order() -> None:
    assert list(PAPERS) == ["canziani2016", "bianco2018"]
    assert [entry.network for entry in BIANCO2018.entries] == list(COUNTS)
    assert len(BIANCO2018.entries) == 44
    assert len(CANZIANI2016.entries) == 14
    for paper in PAPERS.values():
        assert (
            len({entry.network for entry in paper.entries}) == len(set(paper.models())) == len(paper.entries)
        )


def test_a_paper_is_found_in_any_case_and_an_unknown_one_suggests_the_close() -> None:
    assert papers.find("Bianco2018") is BIANCO2018
    with pytest.raises(UnknownNameError, match="bianco2008") as caught:
        papers.find("bianco2008")
    assert '"bianco2018"' in (caught.value.hint or "")


def test_every_network_of_the_collection_is_some_papers() -> None:
    named = {name for paper in PAPERS.values() for name in paper.models()}
    assert set(OURS) <= named
    assert {name for name in named if not adapters.is_foreign(name)} == set(OURS)


def test_the_libraries_know_the_networks_and_the_weights_that_are_named() -> None:
    pytest.importorskip("timm")
    torchvision = pytest.importorskip("torchvision")
    from timm.models import get_pretrained_cfg

    for entry in {entry for paper in PAPERS.values() for entry in paper.entries}:
        source, colon, name = entry.model.partition(":")
        assert not colon or name in adapters.known(source), entry
        library, _, weights = (entry.weights or "").partition(":")
        if library == "torchvision":
            network, _, tag = weights.partition(".")
            assert tag in torchvision.models.get_model_weights(network).__members__, entry
        elif library == "timm":
            assert get_pretrained_cfg(weights).has_weights, entry


def test_the_table_is_read_without_torch() -> None:
    code = "import sys; from vertebra.zoo import papers; print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"


# Their counts.


@pytest.mark.parametrize("entry", [sampled(entry) for entry in BIANCO2018.entries])
def test_parameters_and_macs_are_those_of_the_papers_definitions(entry: Entry) -> None:
    if adapters.is_foreign(entry.model):
        pytest.importorskip(entry.model.partition(":")[0])
    counts, network = COUNTS[entry.network], meta(entry.model)
    size = int(counts["input_size"])
    images = torch.empty(1, 3, size, size, device="meta")
    assert f"{sum(values.numel() for values in network.parameters()) / 1e6:.3f}" == counts["params_m"]
    with FlopCounterMode(display=False) as counter:
        conv = conv_operations(network, images)
    assert f"{counter.get_total_flops() / 2e9:.4f}" == counts["gmacs_all"]
    assert f"{conv / 1e9:.4f}" == counts["gmacs_conv"]
    if not adapters.is_foreign(entry.model):
        assert find(entry.model).input_size == size


#: Millions of parameters, and billions of operations, read off Canziani's charts by BertMoons/
#: Comparing-CNN-Architectures at 0107c4e. What the charts show otherwise than the networks are is left out:
#: AlexNet's operations, ENet, and Inception-v4's parameters.
READINGS = {
    "AlexNet": (60.56, None),
    "BN-AlexNet": (59.47, 1.25),
    "BN-NIN": (8.75, 2.5),
    "GoogLeNet": (6.8, 3.1),
    "ResNet-18": (11.69, 4),
    "VGG-16": (138, 31),
    "ResNet-50": (25.33, 8),
    "ResNet-101": (45.29, 15.5),
    "ResNet-152": (59.62, 23),
    "Inception-v3": (24.38, 11),
    "Inception-v4": (None, 18),
}


@pytest.mark.parametrize(
    "network",
    [name if name.startswith("BN") else pytest.param(name, marks=pytest.mark.slow) for name in READINGS],
)
def test_the_older_networks_are_as_large_as_the_charts_show(network: str) -> None:
    entry = next(entry for entry in CANZIANI2016.entries if entry.network == network)
    if adapters.is_foreign(entry.model):
        pytest.importorskip(entry.model.partition(":")[0])
    params, operations = READINGS[network]
    built, size = meta(entry.model), find(entry.model).input_size
    if params is not None:
        assert sum(values.numel() for values in built.parameters()) / 1e6 == pytest.approx(params, rel=0.05)
    if operations is not None:
        size = 299 if network == "Inception-v4" else size
        with FlopCounterMode(display=False) as counter:
            built(torch.empty(1, 3, size, size, device="meta"))
        assert counter.get_total_flops() / 1e9 == pytest.approx(operations, rel=0.4)


def test_caffes_alexnet_and_torch7s_nin_have_the_parameters_that_their_layers_add_up_to() -> None:
    # Caffe's: kernel x kernel x inputs / groups x outputs + outputs, layer after layer.
    caffes = [(121 * 3, 96), (25 * 48, 256), (9 * 256, 384), (9 * 192, 384), (9 * 192, 256)]
    caffes += [(9216, 4096), (4096, 4096), (4096, 1000)]
    assert params("bvlc_alexnet") == sum((inputs + 1) * outputs for inputs, outputs in caffes) == 60_965_224
    torchs = [(121 * 3, 96), (25 * 96, 256), (9 * 256, 384), (9 * 384, 1024)]
    each = [(inputs + 1) * width + 2 * (width + 1) * width + 6 * width for inputs, width in torchs]
    assert params("bn_nin") == sum(each) + 1025 * 1000


def params(name: str) -> int:
    return sum(values.numel() for values in meta(name).parameters())


# Their outputs.


def their_arrays(name: str, golden: dict[str, Any]) -> Iterator[tuple[str, Tensor]]:
    """Ours by name, drawn under their names."""
    parts = dict(meta(name).named_modules())
    low, high = golden["recipe"]["bn_weight"]
    for theirs, ours in TABLES[name][1]():
        for part, values in parts[ours].state_dict().items():
            kind = kind_of(parts[ours], part)
            drawn = golden_recipe.array(f"{theirs}.{part}", tuple(values.shape), kind, bn_weight=(low, high))
            yield f"{ours}.{part}", torch.from_numpy(drawn)


def kind_of(layer: nn.Module, part: str) -> str:
    if part == "num_batches_tracked":
        return "bn_count"
    if isinstance(layer, nn.BatchNorm2d):
        return {"running_mean": "bn_mean", "running_var": "bn_var"}.get(part, f"bn_{part}")
    if part == "bias":
        return "bias"
    return "conv_weight" if isinstance(layer, nn.Conv2d) else "linear_weight"


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in HEAVY else name for name in TABLES]
)
def test_our_definition_gives_the_logits_of_the_papers(name: str) -> None:
    golden = golden_recipe.load(f"{TABLES[name][0]}.pretrainedmodels")
    network = meta(name)
    network.load_state_dict(dict(their_arrays(name, golden)), assign=True)
    assert sum(values.numel() for values in network.parameters()) == golden["params"]["trainable"]
    images = golden_recipe.images(tuple(golden["input"]["shape"]))
    assert golden_recipe.fingerprint(images) == golden["input"]["sha256_16"]
    with torch.inference_mode():
        logits = network(torch.from_numpy(images))
    for ours, theirs in zip(logits, golden["logits"], strict=True):
        tolerance = 1e-4 * max(1, theirs["std"])
        assert ours[:20].tolist() == pytest.approx(theirs["first20"], abs=tolerance)
        assert ours.mean().item() == pytest.approx(theirs["mean"], abs=tolerance)
        assert ours.std(correction=0).item() == pytest.approx(theirs["std"], abs=tolerance)


# The command.


def listed(*arguments: str) -> Any:
    return CliRunner().invoke(cli, ["list", *arguments])


def test_list_shows_a_papers_networks_by_both_names() -> None:
    run = listed("--paper", "bianco2018", "--json")
    assert run.exit_code == 0, run.output
    rows = {row["network"]: row for row in json.loads(run.output)}
    assert len(rows) == 44
    assert rows["BN-Inception"]["model"] == "bninception"
    assert rows["VGG-16"]["weights of the paper's accuracy"] == "torchvision:vgg16.IMAGENET1K_V1"


def test_list_refuses_a_paper_beside_what_has_none() -> None:
    assert listed("engines", "--paper", "bianco2018").exit_code == 2
    assert listed("--paper", "nobody2020").exit_code == 1


def test_the_page_lists_what_the_table_says() -> None:
    page = (Path(__file__).parents[1] / "docs" / "catalogue.md").read_text(encoding="utf-8")
    for name in OURS:
        assert f"`{name}`" in page
