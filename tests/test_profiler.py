from __future__ import annotations

import runpy
import subprocess
import sys
from functools import cache, partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from vertebra import zoo
from vertebra.errors import InvalidInputError, MeasurementError, UnknownNameError
from vertebra.measurements import shipped
from vertebra.measuring import profiler
from vertebra.measuring.profiler import historic
from vertebra.measuring.profiler import trace as tracing
from vertebra.measuring.profiler.shapes import KNOWN

ROOT = Path(__file__).resolve().parents[1]
TOOL = runpy.run_path(str(ROOT / "tools" / "profiles.py"))

# Counted by running PaddleClas 2.6.0 (ACNet: its branch release/static) and, for the last two columns,
# paddle.fluid.contrib.model_stat.summary of paddlepaddle 1.8.5 under Python 2.7, on the original networks:
# trainable parameters, batch-norm statistics, MACs of convolutions, MACs of fully connected layers,
# the tool's parameters, the tool's FLOPs.
ORIGINAL = {
    "alexnet": (61_100_840, 0, 655_566_528, 58_621_952, 61_090_499, 1_370_056_704),
    "squeezenet1_0": (1_248_424, 0, 777_221_152, 0, 1_244_448, 1_554_968_520),
    "squeezenet1_1": (1_235_496, 0, 349_537_280, 0, 1_231_552, 699_443_520),
    "vgg11": (132_860_584, 0, 7_485_456_384, 123_633_664, 132_851_395, 15_093_233_664),
    "vgg13": (133_044_904, 0, 11_184_832_512, 123_633_664, 133_035_715, 22_487_169_024),
    "vgg16": (138_353_320, 0, 15_346_630_656, 123_633_664, 138_344_131, 30_809_460_736),
    "vgg19": (143_661_736, 0, 19_508_428_800, 123_633_664, 143_652_547, 39_131_752_448),
    "darknet53": (41_609_928, 35_712, 9_284_091_904, 1_024_000, 41_608_929, 18_581_595_136),
    "senet154_vd": (121_737_048, 295_424, 24_330_944_512, 8_626_176, 114_284_837, 45_833_161_808),
    "resnet50_acnet": (33_119_912, 68_480, 5_353_979_904, 2_048_000, 33_118_913, 10_733_264_384),
    "resnet50_acnet_deploy": (25_553_192, 45_440, 4_087_136_256, 2_048_000, 25_548_353, 8_186_481_152),
}

# PaddleClas, "Other networks", 2020: parameters in M and FLOPs in G, as printed.
PRINTED = {
    "alexnet": (61.090, 1.370),
    "squeezenet1_0": (1.240, 1.550),
    "squeezenet1_1": (1.230, 0.690),
    "vgg11": (132.850, 15.090),
    "vgg13": (133.030, 22.480),
    "vgg16": (138.340, 30.810),
    "vgg19": (143.650, 39.130),
    "darknet53": (41.600, 18.580),
    "senet154_vd": (114.290, 45.830),
    "resnet50_acnet": (33.110, 10.730),
    "resnet50_acnet_deploy": (25.550, 8.190),
}

# The same tool's own split: parameters, FLOPs, number of operations.
ORIGINAL_SPLITS = {
    "senet154_vd": {
        "sigmoid": (0, -47_872, 50),
        "relu": (0, -44_759_984, 203),
        "pool2d": (0, 5_067_520, 55),
        "mul": (8_626_277, 8_626_176, 101),
        "conv2d": (105_363_136, 45_771_751_424, 157),
        "batch_norm": (295_424, 92_524_544, 157),
    },
    "resnet50_acnet": {
        "mul": (2_048_001, 2_048_000, 1),
        "relu": (0, -9_608_704, 49),
        "pool2d": (0, 1_906_688, 2),
        "conv2d": (31_002_432, 10_707_959_808, 87),
        "batch_norm": (68_480, 30_958_592, 87),
    },
    "resnet50_acnet_deploy": {
        "mul": (2_048_001, 2_048_000, 1),
        "relu": (0, -9_608_704, 49),
        "pool2d": (0, 1_906_688, 2),
        "conv2d": (23_454_912, 8_174_272_512, 53),
        "batch_norm": (45_440, 17_862_656, 36),
    },
}

CLASSICS = pytest.mark.parametrize("name", zoo.CLASSICS)
OTHERS = [entry.name for entry in zoo.models() if entry.name not in zoo.CLASSICS]


@cache
def native(name: str) -> profiler.Profile:
    profile: profiler.Profile = TOOL["profile_native"](zoo.find(name))
    return profile


def profile_of(network: nn.Module, input_size: int, in_channels: int = 3) -> profiler.Profile:
    return profiler.profile(network, model="tiny", input_size=input_size, in_channels=in_channels)


def only_layer(profile: profiler.Profile) -> tuple[int, int, int]:
    (layer,) = profile.layers
    return layer.params, layer.macs, layer.activations


# --- the eleven, against the original libraries


@CLASSICS
def test_parameters_and_macs_are_those_of_the_original_network(name: str) -> None:
    params, _, macs_conv, macs_linear, *_ = ORIGINAL[name]
    profile = native(name)
    assert (profile.params, profile.macs_conv, profile.macs_linear) == (params, macs_conv, macs_linear)
    assert profile.macs == macs_conv + macs_linear
    assert profile.unused_params == 0


@CLASSICS
def test_buffers_are_the_original_statistics_and_one_counter_for_each_norm(name: str) -> None:
    profile = native(name)
    norms = sum(layer.kind == "BatchNorm2d" for layer in profile.layers)
    assert profile.buffers == ORIGINAL[name][1] + norms
    assert profile.weight_bytes == 4 * (profile.params + ORIGINAL[name][1]) + 8 * norms


@CLASSICS
def test_layers_and_stages_add_up_to_the_totals(name: str) -> None:
    profile = native(name)
    for parts in (profile.layers, profile.stages):
        assert sum(part.params for part in parts) == profile.params
        assert sum(part.macs for part in parts) == profile.macs
        assert sum(part.activations for part in parts) == profile.activations
    assert profile.stages[-1].output_shape == (1, 1000)


def test_layers_stand_in_call_order_with_their_shapes() -> None:
    layers = native("alexnet").layers
    assert layers[0] == shipped.Layer("stages.0.0", "Conv2d", (1, 64, 55, 55), 23_296, 70_276_800, 193_600)
    assert layers[-1] == shipped.Layer("head.classifier", "Linear", (1, 1000), 4_097_000, 4_096_000, 1000)
    assert [layer.stage for layer in layers] == sorted(
        (layer.stage for layer in layers), key=["stages.0", "stages.1", "stages.2", "head"].index
    )


def test_twice_the_size_makes_four_times_the_convolutions_and_the_same_head() -> None:
    _, _, macs_conv, macs_linear, *_ = ORIGINAL["vgg11"]
    profile = profiler.profile(partial(zoo.build, "vgg11"), model="vgg11", input_size=448)
    assert (profile.macs_conv, profile.macs_linear) == (4 * macs_conv, macs_linear)
    assert profile.params == ORIGINAL["vgg11"][0]


@pytest.mark.parametrize(
    "name", ["darknet53", *(pytest.param(entry.name, marks=pytest.mark.slow) for entry in zoo.models())]
)
def test_torchs_own_counter_gives_the_same_macs(name: str) -> None:
    entry = zoo.find(name)
    with torch.device("meta"):
        network = zoo.build(name).eval()
        images = torch.empty(1, 3, entry.input_size, entry.input_size)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(images)
    assert counter.get_total_flops() == 2 * native(name).macs


# --- small networks, by hand


def test_a_grouped_convolution_sees_its_group_only() -> None:
    profile = profile_of(nn.Conv2d(8, 12, 3, padding=1, groups=4), 10, in_channels=8)
    # 12 filters of 2 x 3 x 3, at 10 x 10 places
    assert only_layer(profile) == (12 * 18 + 12, 12 * 18 * 100, 12 * 100)


def test_a_dilated_convolution_has_the_taps_of_a_dense_one() -> None:
    profile = profile_of(nn.Conv2d(3, 5, 3, dilation=2, bias=False), 11)
    # 3 taps at a distance of 2 span 5, so 7 x 7 places
    assert only_layer(profile) == (5 * 27, 5 * 27 * 49, 5 * 49)


def test_a_transposed_convolution_works_once_for_each_input_place() -> None:
    profile = profile_of(nn.ConvTranspose2d(4, 6, 2, stride=2, groups=2), 5, in_channels=4)
    # each of 4 x 5 x 5 inputs meets 3 filters of 2 x 2; the output is 6 x 10 x 10
    assert only_layer(profile) == (4 * 3 * 4 + 6, 4 * 25 * 3 * 4, 600)


def test_a_linear_layer_counts_for_each_element_of_a_sequence() -> None:
    profile = profile_of(nn.Linear(7, 11), 7)
    assert only_layer(profile) == (88, 3 * 7 * 7 * 11, 3 * 7 * 11)
    assert (profile.macs_conv, profile.macs_linear) == (0, 1617)


def test_a_bias_adds_a_parameter_and_no_work() -> None:
    without = profile_of(nn.Conv2d(3, 4, 3, bias=False), 8)
    biased = profile_of(nn.Conv2d(3, 4, 3), 8)
    assert biased.macs == without.macs == 4 * 27 * 36
    assert biased.params == without.params + 4


class Gram(nn.Module):
    """A matrix product outside any layer, after one layer and a functional convolution of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.filters = nn.Parameter(torch.ones(2, 3, 1, 1))
        self.relu = nn.ReLU()

    def forward(self, images: Tensor) -> Tensor:
        maps = self.relu(nn.functional.conv2d(images, self.filters))
        return maps @ maps.transpose(-1, -2)


def test_work_outside_any_layer_belongs_to_the_module_around_it() -> None:
    profile = profile_of(Gram(), 6)
    assert [(layer.name, layer.kind) for layer in profile.layers] == [("(network)", "Gram"), ("relu", "ReLU")]
    # convolution: 2 filters of 3 at 36 places; product: two maps of 6 x 6 times 6 x 6
    assert (profile.macs_conv, profile.macs_linear) == (2 * 3 * 36, 2 * 6 * 6 * 6)
    assert profile.layers[0][3:] == (6, 216 + 432, 72 + 72)


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(16, num_heads=4, batch_first=True)

    def forward(self, images: Tensor) -> Tensor:
        tokens = images.flatten(2).transpose(1, 2)
        attended: Tensor = self.attention(tokens, tokens, tokens, need_weights=False)[0]
        return attended


def test_attention_is_counted_whole_in_evaluation() -> None:
    profile = profile_of(Attention(), 5, in_channels=16)
    projections, products = 25 * 16 * (48 + 16), 2 * 25 * 25 * 16
    assert profile.macs == projections + products
    assert only_layer(profile)[0] == profile.params == 16 * 64 + 64


def test_profiling_leaves_torchs_attention_setting_alone() -> None:
    before = torch.backends.mha.get_fastpath_enabled()
    profile_of(Attention(), 5, in_channels=16)
    assert torch.backends.mha.get_fastpath_enabled() is before


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 3, 1)
        self.twin = nn.Conv2d(3, 3, 1)
        self.twin.weight = self.convolution.weight

    def forward(self, images: Tensor) -> Tensor:
        output: Tensor = self.twin(self.convolution(self.convolution(images)))
        return output


def test_a_module_called_twice_works_twice_and_holds_its_parameters_once() -> None:
    first, second, _ = profile_of(Twice(), 4).layers
    assert (first.params, first.macs) == (9 + 3, 9 * 16)
    assert second == first._replace(params=0)


def test_a_shared_parameter_is_counted_once() -> None:
    profile = profile_of(Twice(), 4)
    assert profile.params == 9 + 3 + 3
    assert profile.layers[-1][0] == "twin"
    assert profile.layers[-1].params == 3


class Borrowing(nn.Module):
    def __init__(self, lender: nn.Linear) -> None:
        super().__init__()
        self.lender = lender

    def forward(self, images: Tensor) -> Tensor:
        return nn.functional.linear(images, self.lender.weight)


def test_a_parameter_whose_owner_is_never_called_belongs_to_its_first_user() -> None:
    lender = nn.Linear(4, 4, bias=False)
    profile = profile_of(nn.Sequential(Borrowing(lender), Borrowing(lender)), 4)
    assert [(layer.name, layer.params) for layer in profile.layers] == [("0", 16), ("1", 0)]


class Auxiliary(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Conv2d(3, 4, 1)
        self.auxiliary = nn.Sequential(nn.Conv2d(4, 10, 1), nn.BatchNorm2d(10))

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.trunk(images)
        return self.auxiliary(features) if self.training else features


def test_what_the_answer_does_not_need_is_counted_apart() -> None:
    profile = profile_of(Auxiliary(), 4)
    assert (profile.params, profile.unused_params, profile.buffers) == (16, 50 + 20, 0)


def test_layers_that_do_nothing_in_evaluation_are_left_out() -> None:
    profile = profile_of(nn.Sequential(nn.Identity(), nn.Dropout(), nn.ReLU()), 4)
    assert [layer.name for layer in profile.layers] == ["2"]


def test_a_network_without_parameters_has_zeros() -> None:
    profile = profile_of(nn.MaxPool2d(2), 4)
    assert (profile.params, profile.macs, profile.weight_bytes) == (0, 0, 0)
    assert profile.layers == (shipped.Layer("(network)", "MaxPool2d", (1, 3, 2, 2), 0, 0, 0),)


def test_unstored_buffers_are_not_counted() -> None:
    network = nn.Conv2d(3, 1, 1)
    network.register_buffer("kept", torch.zeros(5))
    network.register_buffer("rebuilt", torch.zeros(7), persistent=False)
    assert profile_of(network, 4).buffers == 5


# --- given networks, bad input, memory


def test_a_built_network_gives_the_same_profile_and_stays_as_it_is() -> None:
    network = zoo.build("squeezenet1_1", seed=0)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    profile = profiler.profile(network, model="squeezenet1_1", input_size=224)
    assert profile == native("squeezenet1_1")
    assert network.training
    assert not any(module._forward_hooks for module in network.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_the_weights_size_is_that_of_the_stored_state_in_float32() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    stored = sum(tensor.numel() * tensor.element_size() for tensor in network.state_dict().values())
    assert profile_of(network, 4).weight_bytes == stored
    assert profile_of(network.half(), 4).weight_bytes == stored


def test_an_impossible_size_is_named_with_the_smallest_that_works() -> None:
    with pytest.raises(InvalidInputError, match="40x40") as caught:
        profiler.profile(partial(zoo.build, "alexnet"), model="alexnet", input_size=40)
    assert "63x63" in (caught.value.hint or "")


@pytest.mark.parametrize(("input_size", "in_channels"), [(0, 3), (-4, 3), (32, 0)])
def test_sizes_below_one_are_refused(input_size: int, in_channels: int) -> None:
    with pytest.raises(InvalidInputError, match="Can't profile tiny"):
        profile_of(nn.ReLU(), input_size, in_channels)


def test_a_network_that_fails_is_a_measurement_error_with_its_own_reason() -> None:
    with pytest.raises(MeasurementError, match=r"\(1, 3, 8, 8\) through tiny: .*channel"):
        profile_of(nn.Conv2d(4, 1, 1), 8)


class Branching(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images if images.sum() > 0 else -images


def test_a_path_that_depends_on_values_is_refused_and_explained() -> None:
    with pytest.raises(MeasurementError, match="through tiny") as caught:
        profile_of(Branching(), 8)
    assert "depend on values" in (caught.value.hint or "")


def test_a_builder_that_looks_into_tensors_of_its_own_is_counted_all_the_same() -> None:
    def build() -> nn.Module:
        return nn.Conv2d(3, int(torch.ones(4).sum()), 1)

    assert profiler.profile(build, model="tiny", input_size=8) == profile_of(build(), 8)


def test_a_builder_that_fails_is_refused_and_explained() -> None:
    def build() -> nn.Module:
        return nn.Conv2d(3, int("four"), 1)

    with pytest.raises(MeasurementError, match="Can't build tiny") as caught:
        profiler.profile(build, model="tiny", input_size=8)
    assert "build it first" in (caught.value.hint or "")


# --- shapes told at once


def _meta(*shape: int) -> Tensor:
    return torch.empty(shape, device="meta")


IMAGES, TOKENS, PLAIN = _meta(1, 6, 8, 8), _meta(1, 9, 16), _meta(5, 7)
ARGUMENTS: dict[str, tuple[object, ...]] = {
    "add": (IMAGES, _meta(1, 6, 1, 1)),
    "sub": (_meta(1, 6, 1, 1), IMAGES),
    "mul": (IMAGES, 2.0),
    "div": (IMAGES, IMAGES),
    "pow": (IMAGES, 2),
    "clamp_min": (IMAGES, 0.1),
    "mean": (IMAGES, [-1, 2], True),
    "linalg_vector_norm": (IMAGES, 2, [1]),
    "addmm": (_meta(3), PLAIN, _meta(7, 3)),
    "mm": (PLAIN, _meta(7, 3)),
    "bmm": (_meta(2, 5, 7), _meta(2, 7, 3)),
    "convolution": (IMAGES, _meta(9, 2, 3, 3), None, [2, 1], [1, 2], [2, 1], False, [0, 0], 3),
    "native_batch_norm": (IMAGES, _meta(6), _meta(6), _meta(6), _meta(6), False, 0.1, 1e-5),
    "native_group_norm": (IMAGES, _meta(6), _meta(6), 1, 6, 64, 2, 1e-5),
    "native_layer_norm": (TOKENS, [16], _meta(16), _meta(16), 1e-5),
    "upsample_bilinear2d": (IMAGES, [16, 12], False),
    "upsample_bicubic2d": (IMAGES, [16, 12], False),
    "upsample_nearest2d": (IMAGES, [16, 12]),
    "_softmax": (TOKENS, -1, False),
    "_safe_softmax": (TOKENS, -1),
}


@pytest.mark.parametrize("packet", KNOWN, ids=lambda packet: packet.__name__)
def test_a_shape_that_is_told_at_once_is_torchs_own(packet: object) -> None:
    arguments = ARGUMENTS.get(packet.__name__, (IMAGES,))
    told = KNOWN[packet](*arguments)
    given = packet(*arguments)
    first_told, first_given = (one[0] if isinstance(one, tuple) else one for one in (told, given))
    assert (first_told.shape, first_told.dtype) == (first_given.shape, first_given.dtype)
    assert first_told.is_meta


@pytest.mark.parametrize(
    "name",
    ["alexnet", "torchvision:mobilenet_v3_small", "timm:vit_tiny_patch16_224", "timm:edgenext_xx_small"],
)
def test_counts_are_the_same_without_the_shortcuts(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = zoo.find(name)
    quick = TOOL["profile_native"](entry)
    monkeypatch.setattr(tracing, "KNOWN", {})
    slow = TOOL["profile_native"](entry)
    assert (quick.totals(), quick.stages) == (slow.totals(), slow.stages)


# --- the convention of published counts


def test_fvcores_rule_adds_norms_and_pools() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.GroupNorm(2, 4), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.LayerNorm(4),
    )  # fmt: skip
    profile = profile_of(network, 5)
    # 12 weights at 25 places; 2 for 100 elements of a batch norm, 5 of a group norm, 1 of the pool; 5 x 4
    assert profile.macs == 300
    assert profile.macs_fvcore == 300 + 200 + 500 + 100 + 20


def test_no_weights_are_made() -> None:
    # Linux counts the peak in KiB, macOS in bytes: either way VGG19's 575 MB would show.
    script = (
        "import resource; from functools import partial\n"
        "from vertebra import zoo; from vertebra.measuring import profiler\n"
        "def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "def go(name): profiler.profile(partial(zoo.build, name), model=name, input_size=224)\n"
        "go('vgg11'); before = peak(); go('vgg19'); print((peak() - before) / before)"
    )
    pytest.importorskip("resource")
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert float(run.stdout) < 0.2


# --- the rule of 2020


@CLASSICS
def test_the_2020_rule_gives_the_original_tools_figures(name: str) -> None:
    stat = native(name).model_stat
    assert stat is not None
    assert (stat.params, stat.operations) == ORIGINAL[name][4:]


@CLASSICS
def test_the_2020_rule_gives_the_printed_figures(name: str) -> None:
    stat = native(name).model_stat
    assert stat is not None
    assert stat.params / 1e6 == pytest.approx(PRINTED[name][0], abs=0.01)
    assert stat.operations / 1e9 == pytest.approx(PRINTED[name][1], abs=0.01)


@pytest.mark.parametrize("name", ORIGINAL_SPLITS)
def test_the_2020_rule_splits_as_the_original_tool_did(name: str) -> None:
    stat = native(name).model_stat
    assert stat is not None
    assert dict(stat.by_kind) == {
        kind: historic.Share(*share) for kind, share in ORIGINAL_SPLITS[name].items()
    }


def test_what_senet154_vds_printed_parameters_lack_is_its_grouped_filters() -> None:
    stages = [(3, 256), (8, 512), (36, 1024), (3, 2048)]  # blocks, channels
    grouped = sum(blocks * channels * (channels // 64) * 9 for blocks, channels in stages)
    full_biases = sum(blocks * (channels // 16 + channels) for blocks, channels in stages) + 1000
    one_bias_each = 2 * sum(blocks for blocks, _ in stages) + 1
    profile = native("senet154_vd")
    assert profile.model_stat is not None
    assert profile.params - profile.model_stat.params == grouped + full_biases - one_bias_each
    assert grouped == 7_400_448


def test_the_2020_rule_is_silent_where_the_page_is() -> None:
    assert profile_of(nn.Conv2d(3, 4, 1), 8).model_stat is None
    # the original AlexNet took no such size, and so has no figure there
    resized = profiler.profile(partial(zoo.build, "alexnet"), model="alexnet", input_size=288)
    assert resized.model_stat is None


# --- rows, and the profiles that ship


def test_rows_say_what_they_depend_on() -> None:
    found = {row.metric: row for row in profiler.rows(native("darknet53"), measured_at="2026-01-02")}
    assert {row.origin for row in found.values()} == {"profiled"}
    assert found["params"].value == 41_609_928
    assert found["params"].input_size is None
    assert found["macs"].value == 9_285_115_904
    assert found["macs"].input_size == found["activations"].input_size == 256
    assert found["weight_bytes"].precision == "float32"
    assert found["model_stat_operations"].value == 18_581_595_136
    assert found["macs"].measured_at == "2026-01-02"
    assert found["macs"].versions["torch"] == torch.__version__.split("+")[0]


def test_networks_outside_the_page_have_no_historic_rows() -> None:
    metrics = {row.metric for row in profiler.rows(profile_of(nn.Conv2d(3, 4, 1), 8))}
    assert metrics == {"params", "buffers", "weight_bytes", "macs", "activations"}


@pytest.mark.parametrize(
    "name", [*zoo.CLASSICS, *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)]
)
def test_the_shipped_profile_is_the_computed_one(name: str) -> None:
    profile = native(name)
    assert tuple(shipped.layers(name)) == profile.layers
    assert tuple(shipped.stages(name)) == profile.stages
    assert shipped.totals(name) == profile.totals()


def test_every_network_of_the_zoo_ships_its_profile() -> None:
    assert shipped.models() == tuple(entry.name for entry in zoo.models())


def test_the_shipped_file_is_what_the_command_writes() -> None:
    written = Path(shipped.__file__).with_name("classics_layers.json").read_text(encoding="utf-8")
    alexnet = TOOL["document"]([native("alexnet")])
    assert alexnet[2:-3] in written
    assert len(written) < 400_000


def test_an_unknown_shipped_profile_suggests_close_names() -> None:
    with pytest.raises(UnknownNameError, match="vgg91") as caught:
        shipped.layers("vgg91")
    assert "vgg19" in (caught.value.hint or "")


def test_shipped_profiles_are_read_without_torch() -> None:
    script = (
        "import sys; from vertebra.measurements import shipped\n"
        "shipped.layers('vgg16'); print('torch' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"


def test_the_documents_table_is_the_commands() -> None:
    text = (ROOT / "docs" / "flops.md").read_text(encoding="utf-8")
    assert TOOL["table"](native(name) for name in zoo.CLASSICS) in text
