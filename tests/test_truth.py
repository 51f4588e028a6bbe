"""Our networks against what other implementations gave for the same weights and images."""

from __future__ import annotations

import copy
import functools
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import golden_recipe
from vertebra.errors import WeightsError
from vertebra.zoo import CLASSICS, build, find, weights
from vertebra.zoo.acnet import ACNet, AsymmetricBlock

TOLERANCE = 1e-4


class Statistics(NamedTuple):
    shape: list[int]
    mean: float
    std: float
    first4: list[float]

    @classmethod
    def of(cls, values: Tensor) -> Statistics:
        wide = values.double()
        first = values.reshape(-1)[:4].tolist()
        return cls(list(values.shape), wide.mean().item(), wide.std(correction=0).item(), first)


convert = functools.partial(weights.convert, dialect="paddle")


def paddle_figures(name: str) -> dict[str, Any]:
    return golden_recipe.load(f"{find(name).aliases[0]}.paddleclas")


def paddle_arrays(name: str) -> dict[str, golden_recipe.Array]:
    """The golden arrays; in the deploy form, those of its convolutions are our fusion of trained branches."""
    drawn = golden_recipe.arrays(paddle_figures(name))
    if not name.endswith("_deploy"):
        return drawn
    fused = trained_acnet().reparameterize().state_dict()
    return drawn | {theirs: fused[ours].numpy() for theirs, ours in fused_names(list(drawn))}


def fused_names(names: list[str]) -> Iterator[tuple[str, str]]:
    yield "conv1_acsquare_weights", "stem.conv.weight"
    yield "conv1_acsquare_bias", "stem.conv.bias"
    for name in names:
        if name.startswith("res") and "_acsquare_" in name:
            stage, block = int(name[3]) - 2, ord(name[4]) - ord("a")
            part = "bias" if name.endswith("bias") else "weight"
            yield name, f"stages.{stage}.{block}.branch.conv2.{part}"


@functools.lru_cache(maxsize=1)
def trained_acnet() -> ACNet:
    """The network that several tests fuse; to be copied before it is changed."""
    network: ACNet = golden_network("resnet50_acnet")
    return network


def golden_network(name: str) -> Any:
    with torch.device("meta"):
        network = build(name)
    network.load_state_dict(convert(name, paddle_arrays(name)), assign=True)
    return network.eval()


def golden_images(golden: dict[str, Any]) -> Tensor:
    images = golden_recipe.images(tuple(golden["input"]["shape"]))
    assert golden_recipe.fingerprint(images) == golden["input"]["sha256_16"]
    return torch.from_numpy(images)


def logits_error(logits: Tensor, golden: dict[str, Any]) -> float:
    """The largest difference from the golden logits: 20 of each image, the mean and deviation of all."""
    assert logits.shape == (len(golden["logits"]), 1000)
    ours = torch.cat([logits[:, :20], logits.mean(1, True), logits.std(1, correction=0, keepdim=True)], dim=1)
    theirs = torch.tensor([[*row["first20"], row["mean"], row["std"]] for row in golden["logits"]])
    return (ours - theirs).abs().max().item()


def tap_paths(name: str) -> dict[str, str]:
    """Our module for each golden tap; a tap that is called again is `name#2`, `name#3`, …"""
    fc_head = {
        "_pool": "head.pool",
        "_out": "head.classifier",
        "pool2d_avg": "head.pool",
        "out": "head.classifier",
    }
    family = find(name).family
    if family == "AlexNet":
        convs = ("_conv1", "stages.0"), ("_conv2", "stages.1"), ("_conv3", "stages.2.0")
        return dict(convs) | {
            "_conv4": "stages.2.2",
            "_conv5": "stages.2",
            "_fc6": "head.fc6",
            "_fc7": "head.fc7",
            "_fc8": "head.classifier",
        }
    if family == "SqueezeNet":
        fires = {"squeezenet1_0": (3, 4, 1), "squeezenet1_1": (2, 2, 4)}[name]
        places = [
            f"stages.{stage}.{fire}" for stage, count in enumerate(fires) for fire in range(1, count + 1)
        ]
        return {f"_conv{number}": place for number, place in enumerate(places, 1)} | {
            "_conv": "stem.0",
            "_pool": "stages.0.0",
            "_pool#2": "stages.1.0",
            "_pool#3": "stages.2.0",
            "_conv9": "head.classifier",
            "_avg_pool": "head.pool",
        }
    if family == "VGG":
        return {f"conv_block_{stage + 1}": f"stages.{stage}" for stage in range(5)} | {
            "fc1": "head.fc1",
            "fc2": "head.fc2",
            "fc3": "head.classifier",
        }
    if family == "DarkNet":
        return (
            fc_head
            | {"_conv1": "stem", "_conv2": "stages.0.0"}
            | {f"_downsample_{stage - 1}": f"stages.{stage}.0" for stage in range(1, 5)}
            | {
                f"_basic_block_{stage}{block}": f"stages.{stage}.{block}"
                for stage in range(5)
                for block in range(1, 9)
            }
        )
    if family == "SENet":
        stem = {f"conv1_{number + 1}": f"stem.{number}" for number in range(3)} | {"pool2d_max": "stem.3"}
        blocks = {
            f"bb_{stage}_{block}": f"stages.{stage}.{block}" for stage in range(4) for block in range(36)
        }
        return fc_head | stem | blocks
    return {"maxpool": "stem.pool"} | {
        f"res{stage + 2}{'abcdef'[block]}": f"stages.{stage}.{block}"
        for stage in range(4)
        for block in range(6)
    }


def call_numbered(names: list[str]) -> list[str]:
    seen: Counter[str] = Counter()
    labels = []
    for name in names:
        seen[name] += 1
        labels.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return labels


class Observation(NamedTuple):
    name: str
    logits: Tensor
    taps: dict[str, Statistics]


@pytest.fixture(scope="module", params=CLASSICS)
def observed(request: pytest.FixtureRequest) -> Observation:
    """What a network gave for the golden images: its logits, and each tapped module's output."""
    name: str = request.param
    network, golden = golden_network(name), paddle_figures(name)
    taps: dict[str, Statistics] = {}

    def watch(path: str) -> Callable[[nn.Module, Any, Tensor], None]:
        # Taken at once: the ReLU that follows works in place.
        return lambda module, args, output: taps.__setitem__(path, Statistics.of(output))

    modules = dict(network.named_modules())
    for path in set(tap_paths(name).values()) & modules.keys():
        modules[path].register_forward_hook(watch(path))
    with torch.inference_mode():
        return Observation(name, network(golden_images(golden)), taps)


def test_logits_are_those_of_paddleclas(observed: Observation) -> None:
    assert logits_error(observed.logits, paddle_figures(observed.name)) <= TOLERANCE


def test_intermediate_outputs_are_those_of_paddleclas(observed: Observation) -> None:
    taps, paths = paddle_figures(observed.name)["taps"], tap_paths(observed.name)
    compared = 0
    for label, tap in zip(call_numbered([tap["name"] for tap in taps]), taps, strict=True):
        if label not in paths:
            continue
        ours = observed.taps[paths[label]]
        assert ours.shape == tap["shape"], label
        assert ours.mean == pytest.approx(tap["mean"], rel=1e-5, abs=TOLERANCE), label
        assert ours.std == pytest.approx(tap["std"], rel=1e-5, abs=TOLERANCE), label
        assert ours.first4 == pytest.approx(tap["first4"], rel=1e-5, abs=TOLERANCE), label
        compared += 1
    skipped = sum(tap["name"].strip("_") in ("drop", "drop1", "drop2", "relu", "flatten") for tap in taps)
    assert compared == len(taps) - skipped


@pytest.mark.parametrize("name", CLASSICS)
def test_parameters_and_multiply_accumulates_are_exact(name: str) -> None:
    golden = paddle_figures(name)
    with torch.device("meta"):
        network = build(name).eval()
        images = torch.empty(1, *golden["input"]["shape"][1:])
    assert sum(parameter.numel() for parameter in network.parameters()) == golden["params"]["trainable"]
    with FlopCounterMode(display=False) as counter:
        network(images)
    counts = {operator: flops // 2 for operator, flops in counter.get_flop_counts()["Global"].items()}
    conv = counts.pop(torch.ops.aten.convolution, 0)
    assert (conv, sum(counts.values())) == (golden["flops"]["macs_conv"], golden["flops"]["macs_linear"])


def test_alexnet_gives_the_logits_of_torchvision() -> None:
    golden = golden_recipe.load("alexnet.torchvision")
    with torch.device("meta"):
        network = build("alexnet").eval()
    network.load_state_dict(
        weights.convert("alexnet", golden_recipe.arrays(golden), dialect="torchvision"), assign=True
    )
    with torch.inference_mode():
        assert logits_error(network(golden_images(golden)), golden) <= TOLERANCE


def block_case(case: dict[str, Any], recipe: dict[str, Any]) -> tuple[AsymmetricBlock, Tensor]:
    block = AsymmetricBlock(
        case["in"], case["out"], case["kernel"], stride=case["stride"], groups=case["groups"]
    )
    branches = {"square": "square", "ver": "vertical", "hor": "horizontal"}
    state = {}
    for name, values in golden_recipe.arrays({"recipe": recipe, "state": case["state"]}).items():
        module, parameter = name.split(".")
        branch, part = module.split("_")
        state[f"{branches[branch]}.{part}.{parameter}"] = torch.from_numpy(values)
    block.load_state_dict(state)
    return block.eval(), torch.from_numpy(golden_recipe.images(tuple(case["input_shape"])))


@pytest.mark.parametrize("index", range(6))
def test_an_asymmetric_block_and_its_fusion_are_those_of_the_authors(index: int) -> None:
    golden = golden_recipe.load("ACBlock")
    assert len(golden["cases"]) == 6
    case = golden["cases"][index]
    block, images = block_case(case, golden["recipe"])
    fused = block.fuse()
    expected = torch.tensor(case["output_first40"])
    with torch.inference_mode():
        for output in (block(images), fused(images)):
            assert list(output.shape) == case["output_shape"]
            torch.testing.assert_close(output.reshape(-1)[:40], expected, rtol=0, atol=1e-5)
            assert output.mean().item() == pytest.approx(case["output_mean"], abs=1e-5)
            assert output.std(correction=0).item() == pytest.approx(case["output_std"], abs=1e-5)
    kernel = torch.tensor(case["fused_kernel"]).reshape(case["fused_kernel_shape"])
    torch.testing.assert_close(fused.weight.detach(), kernel, rtol=0, atol=1e-6)
    assert fused.bias is not None
    torch.testing.assert_close(fused.bias.detach(), torch.tensor(case["fused_bias"]), rtol=0, atol=1e-6)


def test_every_fused_kernel_of_resnet50_acnet_is_that_of_the_authors() -> None:
    golden = paddle_figures("resnet50_acnet_deploy")
    arrays = paddle_arrays("resnet50_acnet_deploy")
    assert len(golden["fused_heads"]) == 2 * 17
    for name, first4, total, magnitude in golden["fused_heads"]:
        assert arrays[name].reshape(-1)[:4].tolist() == pytest.approx(first4, abs=1e-6), name
        assert arrays[name].sum(dtype=np.float64) == pytest.approx(total, abs=1e-3), name
        assert np.abs(arrays[name]).sum(dtype=np.float64) == pytest.approx(magnitude, rel=1e-6), name


@pytest.mark.parametrize("size", [64, 65])
def test_reparameterizing_changes_no_output_by_1e_10_in_float64(size: int) -> None:
    network = copy.deepcopy(trained_acnet()).double()
    images = torch.from_numpy(golden_recipe.images((2, 3, size, size))).double()
    with torch.inference_mode():
        trained, fused = network(images), network.reparameterize()(images)
    assert trained.std() > 0.1
    assert (trained - fused).abs().max() < 1e-10


# A proof that the truth test can fail: each fault below is one that a careless port makes.


def replace_modules(network: nn.Module, kind: type[nn.Module], make: Callable[[Any], nn.Module]) -> None:
    for parent in list(network.modules()):
        for name, part in list(parent.named_children()):
            if type(part) is kind:
                setattr(parent, name, make(part))


def round_pools_up(network: Any) -> None:
    for part in network.modules():
        if isinstance(part, nn.MaxPool2d):
            part.ceil_mode = True


def leak(network: Any) -> None:
    replace_modules(network, nn.ReLU, lambda _: nn.LeakyReLU(0.01, inplace=True))


def widen_epsilon(network: Any) -> None:
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.eps = 1e-3


def forget_dropout(network: Any) -> None:
    network.classifier.weight.data.mul_(2)


def pad_stem(network: Any) -> None:
    network.stem[0].padding = (1, 1)


def swap_asymmetric_branches(network: Any) -> None:
    for part in network.modules():
        if isinstance(part, AsymmetricBlock):
            vertical, horizontal = part.vertical[0].weight.data, part.horizontal[0].weight.data
            part.vertical[0].weight.data = horizontal.transpose(2, 3).contiguous()
            part.horizontal[0].weight.data = vertical.transpose(2, 3).contiguous()


FAULTS: dict[str, list[Callable[[Any], None]]] = {
    "squeezenet1_0": [round_pools_up, forget_dropout, pad_stem],
    "squeezenet1_1": [round_pools_up],
    "darknet53": [leak, widen_epsilon],
    "resnet50_acnet": [swap_asymmetric_branches],
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_deliberate_fault_breaks_the_truth(name: str) -> None:
    sound, golden = golden_network(name), paddle_figures(name)
    images = golden_images(golden)
    for fault in FAULTS[name]:
        network = copy.deepcopy(sound)
        fault(network)
        with torch.inference_mode():
            assert logits_error(network(images), golden) > 50 * TOLERANCE, fault.__name__


# The converter refuses what doesn't fit.


@pytest.fixture(scope="module")
def squeezenet_arrays() -> dict[str, golden_recipe.Array]:
    return paddle_arrays("squeezenet1_1")


def test_missing_weights_are_named(squeezenet_arrays: dict[str, golden_recipe.Array]) -> None:
    arrays = {name: values for name, values in squeezenet_arrays.items() if name != "_conv.bias"}
    with pytest.raises(WeightsError, match=r"1 missing: _conv\.bias"):
        convert("squeezenet1_1", arrays)


def test_unexpected_weights_are_named(squeezenet_arrays: dict[str, golden_recipe.Array]) -> None:
    arrays = squeezenet_arrays | {"_conv10.weight": np.zeros((1,), np.float32)}
    with pytest.raises(WeightsError, match=r"1 unexpected: _conv10\.weight"):
        convert("squeezenet1_1", arrays)


def test_a_wrong_shape_is_named_even_where_the_count_is_right(
    squeezenet_arrays: dict[str, golden_recipe.Array],
) -> None:
    weight = squeezenet_arrays["_conv1._conv._conv.weight"]
    arrays = squeezenet_arrays | {"_conv1._conv._conv.weight": weight.swapaxes(0, 1)}
    with pytest.raises(WeightsError, match=r"_conv1\._conv\._conv\.weight has the shape \(64, 16, 1, 1\)"):
        convert("squeezenet1_1", arrays)


def test_weights_of_the_sibling_variant_are_refused(
    squeezenet_arrays: dict[str, golden_recipe.Array],
) -> None:
    with pytest.raises(WeightsError, match=r"_conv\.weight has the shape"):
        convert("squeezenet1_0", squeezenet_arrays)


def test_integers_are_not_taken_for_weights(squeezenet_arrays: dict[str, golden_recipe.Array]) -> None:
    arrays = squeezenet_arrays | {"_conv.bias": np.zeros(64, np.int8)}
    with pytest.raises(WeightsError, match=r"_conv\.bias contains int8"):
        convert("squeezenet1_1", arrays)


def test_the_number_of_classes_is_that_of_the_weights(
    squeezenet_arrays: dict[str, golden_recipe.Array],
) -> None:
    arrays = squeezenet_arrays | {
        name: squeezenet_arrays[name][:10] for name in ("_conv9.weight", "_conv9.bias")
    }
    network = build("squeezenet1_1", num_classes=10)
    network.load_state_dict(convert("squeezenet1_1", arrays))
    torch.testing.assert_close(network.classifier.weight.detach().numpy(), arrays["_conv9.weight"] / 2)


def test_converted_weights_own_their_memory(squeezenet_arrays: dict[str, golden_recipe.Array]) -> None:
    arrays = {name: values.copy() for name, values in squeezenet_arrays.items()}
    state = convert("squeezenet1_1", arrays)
    before = state["stem.0.bias"].clone()
    arrays["_conv.bias"][:] = 7
    assert torch.equal(state["stem.0.bias"], before)
