"""The contract that every network of the zoo keeps, and the table that names them."""

from __future__ import annotations

import dataclasses
import importlib
import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from vertebra.errors import InvalidInputError, MissingRuntimeError, UnknownNameError
from vertebra.zoo import CLASSICS, build, find, models
from vertebra.zoo.acnet import AsymmetricBlock
from vertebra.zoo.layers import scale_output
from vertebra.zoo.registry import BUILDERS, register

NAMES = [model.name for model in models()]
# One of each family: what a family's code decides is tried on its smallest member.
FAMILIES = [
    "alexnet",
    "squeezenet1_1",
    "vgg11",
    "darknet53",
    "senet154_vd",
    "resnet18_acnet",
    "bn_nin",
    "googlenet",
    "bninception",
    "enet",
    "nasnetamobile",
    "shufflenet_g8",
    "mobilenetv2_expanded",
]


def grid(quick: list[str]) -> list[Any]:
    """Every network, those that are not `quick` marked slow."""
    return [name if name in quick else pytest.param(name, marks=pytest.mark.slow) for name in NAMES]


REAL = grid([*FAMILIES, "resnet18_acnet_deploy"])
LARGE = ("101", "152", "nasnetalarge")
SHAPES = grid([name for name in NAMES if not any(part in name for part in LARGE)])


def meta(name: str, **options: Any) -> Any:
    """The network without memory: shapes go through it as through a real one."""
    with torch.device("meta"):
        return build(name, **options).eval()


def images(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def small_size(name: str) -> int:
    return max(32, find(name).min_size)


@pytest.fixture(scope="module", params=REAL)
def network(request: pytest.FixtureRequest) -> Any:
    """A seeded network of 7 classes; module-scoped, so that tests share it and few stand in memory."""
    return build(request.param, num_classes=7, seed=0).eval()


@pytest.fixture
def name(network: Any, request: pytest.FixtureRequest) -> str:
    return str(request.node.callspec.params["network"])


# Every network, with real numbers.


def test_an_untrained_network_gives_outputs_of_ordinary_size(network: Any, name: str) -> None:
    with torch.inference_mode():
        outputs = network.forward_stages(images(2, 3, small_size(name), small_size(name)))
        logits = network.forward_head(outputs[-1])
    tiny = torch.finfo(torch.float32).tiny
    for values in outputs:
        assert 0.1 < values.std() < 10
        assert (values[values != 0].abs() >= tiny).all()
    assert logits.shape == (2, 7)
    assert 1e-3 < logits.std() < 100


def test_forward_is_features_then_head_and_the_last_stage_is_the_features(network: Any, name: str) -> None:
    x = images(1, 3, small_size(name), small_size(name) + 9)
    with torch.inference_mode():
        features = network.forward_features(x)
        assert torch.equal(network.forward_stages(x)[-1], features)
        assert torch.equal(network.forward_head(features), network(x))


def test_every_parameter_gets_a_gradient(network: Any, name: str) -> None:
    torch.manual_seed(0)
    network.train()
    try:
        logits = network(images(4, 3, small_size(name), small_size(name)))
        nn.functional.cross_entropy(logits, torch.tensor([0, 1, 2, 3])).backward()
        for parameter_name, parameter in network.named_parameters():
            assert parameter.grad is not None, parameter_name
            assert parameter.grad.isfinite().all(), parameter_name
            assert parameter.grad.any(), parameter_name
    finally:
        network.zero_grad(set_to_none=True)
        network.eval()


# Every network, by shapes alone.


@pytest.mark.parametrize("name", SHAPES)
def test_the_features_are_those_announced(name: str) -> None:
    network = meta(name, num_classes=11, in_channels=5)
    for batch, height, width in ((1, 224, 224), (3, max(65, network.min_size), 96)):
        outputs = network.forward_stages(torch.empty(batch, 5, height, width, device="meta"))
        assert network.forward_head(outputs[-1]).shape == (batch, 11)
        assert len(outputs) == len(network.feature_info) >= 2
        for output, (stage, channels, reduction) in zip(outputs, network.feature_info, strict=True):
            assert output.shape[:2] == (batch, channels)
            assert network.get_submodule(stage) is not None
            # Floor rounding and unpadded stems lose a few pixels of the quotient, never gain more than one.
            for side, full in ((output.shape[2], height), (output.shape[3], width)):
                assert full / reduction - 3 <= side <= full / reduction + 1


@pytest.mark.parametrize("name", SHAPES)
def test_the_smallest_size_works_and_one_less_is_refused(name: str) -> None:
    network, least = meta(name), find(name).min_size
    assert network.min_size == least
    assert network(torch.empty(1, 3, least, least, device="meta")).shape == (1, 1000)
    for height, width in ((least - 1, least), (least, least - 1)):
        with pytest.raises(InvalidInputError, match=f"{height}x{width}") as caught:
            network(torch.empty(1, 3, height, width, device="meta"))
        assert caught.value.hint is not None
        assert f"{least}x{least}" in caught.value.hint


@pytest.mark.parametrize("name", SHAPES)
def test_min_size_is_set_by_the_layers_not_by_the_check(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network, least = meta(name), find(name).min_size
    monkeypatch.setattr(network, "min_size", 0)
    with pytest.raises(RuntimeError):
        network(torch.empty(1, 3, least - 1, least - 1, device="meta"))


@pytest.mark.parametrize("name", SHAPES)
def test_resetting_the_head_changes_the_last_layer_only(name: str) -> None:
    network = meta(name)
    before = dict(network.named_parameters())
    network.reset_head(3)
    after = dict(network.named_parameters())
    changed = {key for key in after if after[key] is not before[key]}
    assert changed == {"head.classifier.weight", "head.classifier.bias"}
    assert list(after) == list(before)
    assert network.num_classes == 3
    size = small_size(name)
    assert network(torch.empty(2, 3, size, size, device="meta")).shape == (2, 3)


@pytest.mark.parametrize("name", SHAPES)
def test_operations_are_counted_without_memory(name: str) -> None:
    network = meta(name)
    with FlopCounterMode(display=False) as counter:
        network(torch.empty(1, 3, 224, 224, device="meta"))
    assert all(parameter.device.type == "meta" for parameter in network.parameters())
    assert counter.get_total_flops() > 1e6


# One network of each family.


@pytest.mark.parametrize("name", grid(["squeezenet1_1", "resnet18_acnet", "resnet18_acnet_deploy"]))
def test_a_state_dict_makes_the_round_trip(name: str) -> None:
    first, second = (build(name, num_classes=5, seed=seed).eval() for seed in (1, 2))
    x = images(1, 3, small_size(name), small_size(name))
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    with torch.inference_mode():
        assert not torch.equal(first(x), second(x))
        second.load_state_dict(torch.load(file))
        assert torch.equal(first(x), second(x))


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("shape", [(3, 64, 64), (1, 4, 64, 64), (1, 3, 64)])
def test_a_wrong_shape_is_refused(name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidInputError, match="3, height, width"):
        meta(name)(torch.empty(shape, device="meta"))


@pytest.mark.parametrize("name", FAMILIES)
def test_whole_numbers_are_refused_as_images(name: str) -> None:
    with pytest.raises(InvalidInputError, match="uint8"):
        meta(name)(torch.empty(1, 3, 64, 64, device="meta", dtype=torch.uint8))


@pytest.mark.parametrize("name", ["squeezenet1_1", "resnet18_acnet"])
def test_a_reset_head_keeps_the_type_and_starts_unbiased(name: str) -> None:
    network = build(name, num_classes=4, seed=0).double().eval()
    network.reset_head(9)
    logits = network(images(2, 3, 64, 64).double())
    assert logits.shape == (2, 9)
    assert logits.dtype == torch.float64
    assert not network.classifier.bias.any()


def exported_onnx(name: str, folder: Path) -> Iterator[tuple[Tensor, Tensor]]:
    """What eager gives and what onnxruntime gives, at two batch sizes of one exported file."""
    onnxruntime = pytest.importorskip("onnxruntime")
    network = build(name, num_classes=5, seed=0).eval()
    path, size = folder / "network.onnx", small_size(name)
    torch.onnx.export(
        network,
        (images(2, 3, size, size),),
        path,
        dynamo=True,
        verbose=False,
        input_names=["images"],
        output_names=["logits"],
        dynamic_shapes={"images": {0: torch.export.Dim("batch")}},
    )
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for batch in (1, 3):
        x = images(batch, 3, size, size, seed=batch)
        with torch.inference_mode():
            yield network(x), torch.from_numpy(session.run(None, {"images": x.numpy()})[0])


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("name", grid(["squeezenet1_1"]))
def test_an_onnx_export_with_dynamic_batch_gives_the_same(name: str, tmp_path: Path) -> None:
    for ours, theirs in exported_onnx(name, tmp_path):
        torch.testing.assert_close(theirs, ours, rtol=1e-3, atol=1e-4)


# The families' own promises.


def test_alexnet_and_vgg_pool_nothing_away_at_the_native_size() -> None:
    for name, side in (("alexnet", 6), ("vgg11", 7)):
        network = meta(name)
        features = network.forward_features(torch.empty(1, 3, 224, 224, device="meta"))
        assert features.shape[2:] == (side, side)
        x = images(*features.shape)
        assert torch.equal(network.head.pool(x), x)


def random_norms(network: nn.Module) -> None:
    """Statistics and affine parameters such as training leaves them."""
    generator = torch.Generator().manual_seed(0)
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            assert part.running_mean is not None
            assert part.running_var is not None
            for values, low, high in (
                (part.running_mean, -0.2, 0.2),
                (part.running_var, 0.5, 1.5),
                (part.weight.data, 0.3, 0.9),
                (part.bias.data, -0.2, 0.2),
            ):
                values.uniform_(low, high, generator=generator)


@pytest.mark.parametrize(
    "layers",
    [
        18,
        pytest.param(50, marks=pytest.mark.slow),
        pytest.param(101, marks=pytest.mark.slow),
        pytest.param(152, marks=pytest.mark.slow),
    ],
)
def test_a_reparameterized_acnet_is_its_deploy_network(layers: int) -> None:
    trained: Any = build(f"resnet{layers}_acnet", num_classes=6, seed=0).double()
    random_norms(trained)
    trained.eval()
    fused = trained.reparameterize()
    assert not any(isinstance(part, AsymmetricBlock) for part in fused.modules())
    assert any(isinstance(part, AsymmetricBlock) for part in trained.modules())
    deployed = build(f"resnet{layers}_acnet_deploy", num_classes=6).double().eval()
    deployed.load_state_dict(fused.state_dict())
    x = images(2, 3, 64, 64).double()
    with torch.inference_mode():
        expected = trained(x)
        scale = expected.abs().max()
        assert (fused(x) - expected).abs().max() / scale < 1e-10
        assert torch.equal(deployed(x), fused(x))


def test_scaling_a_layer_without_norms_scales_its_weights() -> None:
    layer = nn.Conv2d(2, 2, 1, bias=False)
    x = images(1, 2, 3, 3)
    before = layer(x)
    scale_output(layer, 0.5)
    torch.testing.assert_close(layer(x), before / 2)


# Building.


def test_a_seed_makes_a_network_reproducible_and_leaves_the_global_state_alone() -> None:
    state = torch.get_rng_state()
    first, second, other = (build("squeezenet1_1", seed=seed).stem[0].weight for seed in (3, 3, 4))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)
    build("squeezenet1_1")
    assert not torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("option", ["num_classes", "in_channels"])
@pytest.mark.parametrize("value", [0, -1, 2.5, True])
def test_a_count_below_one_is_refused(option: str, value: Any) -> None:
    with pytest.raises(InvalidInputError, match=option):
        meta("squeezenet1_1", **{option: value})


def test_building_without_torch_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingRuntimeError) as caught:
        build("alexnet")
    assert caught.value.hint == 'install it with: pip install "vertebra[torch]"'


# The table of names.


def test_the_names_and_the_decorated_builders_are_equal() -> None:
    for model in models():
        module, _, function = model.builder.partition(":")
        assert getattr(importlib.import_module(module), function) is BUILDERS[model.name]
    assert set(BUILDERS) == set(NAMES)


def test_a_builder_registered_twice_is_refused() -> None:
    def alexnet() -> Any:
        raise NotImplementedError

    before = dict(BUILDERS)
    with pytest.raises(ValueError, match='"alexnet" is registered twice'):
        register(alexnet)
    assert before == BUILDERS


def test_every_published_spelling_finds_its_network_in_any_case() -> None:
    spellings = [(spelling, model) for model in models() for spelling in (model.name, *model.aliases)]
    for spelling, model in spellings:
        for written in (spelling, spelling.upper(), spelling.lower()):
            assert find(written) is model
    lowered = {(spelling.lower(), model.name) for spelling, model in spellings}
    assert len({spelling for spelling, _ in lowered}) == len(lowered), "one spelling names two networks"
    assert find("ResNet50_ACNet_deploy").name == "resnet50_acnet_deploy"


def test_an_unknown_name_suggests_the_close_ones() -> None:
    with pytest.raises(UnknownNameError, match='Unknown model "resnet50_acne"') as caught:
        find("resnet50_acne")
    assert caught.value.hint is not None
    assert '"resnet50_acnet"' in caught.value.hint
    assert "vertebra list" in caught.value.hint


def test_the_classics_come_first_and_in_order() -> None:
    assert tuple(NAMES[: len(CLASSICS)]) == CLASSICS
    assert len(CLASSICS) == 11
    assert len(set(NAMES)) == len(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_record_is_filled_in(name: str) -> None:
    model = find(name)
    assert 1980 <= model.year <= 2100
    assert model.url.startswith("https://")
    assert model.arxiv_id is None or model.url == f"https://arxiv.org/abs/{model.arxiv_id}"
    assert model.idea.endswith(".")
    assert model.place.endswith(".")
    assert model.min_size < model.input_size
    assert all(value != "" for value in dataclasses.asdict(model).values())


def test_finding_a_network_loads_no_torch() -> None:
    code = "import sys; from vertebra.zoo import find; find('vgg11'); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
