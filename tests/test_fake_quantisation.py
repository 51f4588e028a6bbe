"""Training in fake eight bits: levels, gradients, ranges, and an int8 Bundle that follows the trained one."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

from torch import nn  # noqa: E402

import vertebra  # noqa: E402
from vertebra import bundles, engines, zoo  # noqa: E402
from vertebra.data.preprocess import Preprocess, preprocess_many  # noqa: E402
from vertebra.engines import Settings, Subject  # noqa: E402
from vertebra.errors import InvalidInputError, WeightsError  # noqa: E402
from vertebra.training import fake_quantisation as fake  # noqa: E402
from vertebra.zoo import checkpoints  # noqa: E402
from vertebra.zoo.compressed import KEY, Compressed, Ranges, read  # noqa: E402
from vertebra.zoo.rounding import FakeQuantise, round_weights, rounded  # noqa: E402


def quantiser(low: float, high: float, *, source: Any = "moving", frozen_after: int = 100) -> FakeQuantise:
    """One whose first batch had these ends."""
    made = FakeQuantise(source=source, frozen_after=frozen_after)
    made.train()(torch.tensor([low, high]))
    return made


@pytest.mark.parametrize(
    ("low", "high", "value", "expected"),
    [
        (0.0, 255.0, 3.4, 3.0),  # levels one apart
        (0.0, 255.0, 2.5, 2.0),  # half to even
        (0.0, 255.0, -1.0, 0.0),
        (0.0, 255.0, 300.0, 255.0),
        (-100.0, 155.0, -100.4, -100.0),
        (-100.0, 155.0, 156.0, 155.0),
        (51.0, 102.0, 0.3, 0.4),  # widened to hold 0: 0.4 apart
        (-0.5, 254.5, 0.0, 0.0),  # 0 is a level whatever the ends
        (0.0, 0.0, 0.0, 0.0),
    ],
)
def test_values_are_rounded_to_256_levels_one_of_which_is_0(low, high, value, expected):
    made = quantiser(low, high).eval()
    assert made(torch.tensor([value])).item() == pytest.approx(expected, abs=1e-6)


def test_the_gradient_passes_inside_the_range_and_learns_its_ends_outside():
    made = quantiser(-10.0, 245.0, source="learnt")
    values = torch.tensor([3.25, -30.0, 400.0, 7.0], requires_grad=True)
    made(values).backward(torch.tensor([1.0, 2.0, 4.0, 8.0]))
    assert values.grad.tolist() == [1.0, 0.0, 0.0, 8.0]
    # 3.25 was rounded by -0.25 level: it grows with the level's width, which is a 255th of high - low.
    size = (4 * 255) ** -0.5
    assert made.high.grad.item() == pytest.approx((4.0 - 0.25 / 255) * size, rel=1e-5)
    assert made.low.grad.item() == pytest.approx((2.0 + 0.25 / 255) * size, rel=1e-5)


def test_weights_are_rounded_channel_by_channel_and_pass_their_gradient():
    weight = torch.tensor([[64.0, 1.4], [0.32, -0.64], [0.0, 0.0]], requires_grad=True)
    rounded = round_weights(weight)
    torch.testing.assert_close(rounded, torch.tensor([[64.0, 1.0], [0.32, -0.64], [0.0, 0.0]]))
    rounded.backward(torch.ones(3, 2))
    assert torch.equal(weight.grad, torch.ones(3, 2))


def test_a_moving_range_follows_the_batches_and_stays_at_the_end():
    made = FakeQuantise(source="moving", frozen_after=3, momentum=0.5)
    seen = []
    for one in (4.0, 8.0, 16.0, 90.0):
        made.train()(torch.tensor([-one, 2 * one]))
        seen.append(made.ends())
    assert seen == [(-4.0, 8.0), (-6.0, 12.0), (-11.0, 22.0), (-11.0, 22.0)]
    made.eval()(torch.tensor([-500.0, 500.0]))
    assert made.ends() == (-11.0, 22.0)


def test_without_a_batch_values_pass_and_there_is_no_range():
    made = FakeQuantise(source="moving", frozen_after=3).eval()
    assert made(torch.tensor([0.123])).item() == pytest.approx(0.123)
    with pytest.raises(InvalidInputError, match="no batch"):
        made.ends()


# ------------------------------------------------------------------ networks


def normed(channels: int) -> nn.BatchNorm2d:
    made = nn.BatchNorm2d(channels)
    nn.init.uniform_(made.running_mean, -0.5, 0.5)
    nn.init.uniform_(made.running_var, 0.5, 2.0)
    nn.init.uniform_(made.weight, 0.5, 1.5)
    return made


class Residual(nn.Module):
    """What the quantiser meets: norms in and out of a Sequential, a sum, a concatenation, a gate, pools."""

    def __init__(self, num_classes: int = 4) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False), normed(8), nn.ReLU())
        self.first, self.norm = nn.Conv2d(8, 8, 3, padding=1), normed(8)
        self.left, self.right = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.gate = nn.Conv2d(16, 16, 1)
        self.full = nn.Linear(16, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = self.stem(images)
        x = torch.relu(self.norm(self.first(x)) + x)
        x = self.pool(torch.cat([torch.relu(self.left(x)), torch.relu(self.right(x))], 1))
        x = x * self.gate(x.mean((2, 3), keepdim=True)).sigmoid()
        return self.full(x.mean((2, 3)))


def residual() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Residual()


def squeezed() -> nn.Module:
    return zoo.build("squeezenet1_1", num_classes=4, seed=0)


def of_timm(name: str) -> nn.Module:
    timm = pytest.importorskip("timm")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return timm.create_model(name, num_classes=4)


NETWORKS = {
    "residual": residual,
    "squeezenet1_1": squeezed,
    "timm's residual": lambda: of_timm("test_resnet"),
    "timm's inverted residual": lambda: of_timm("test_efficientnet"),
}


def pictures(count: int, size: int = 32, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Squares of four colours, in noise."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.arange(count) % 4
    colours = torch.tensor([[1.0, -1, 0], [-1, 1, 0], [0, -1, 1], [1, 1, -1]])
    noise = torch.randn(count, 3, size, size, generator=generator)
    return noise + colours[targets][:, :, None, None], targets


def trained(prepared: nn.Module, steps: int, rate: float = 1e-3) -> nn.Module:
    optimizer = torch.optim.Adam(prepared.parameters(), rate)
    prepared.train()
    with torch.random.fork_rng(devices=[]):  # for dropout
        torch.manual_seed(0)
        for step in range(steps):
            images, targets = pictures(16, seed=step)
            loss = nn.functional.cross_entropy(prepared(images), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return prepared.eval()


def in_onnx(network: nn.Module, folder: Path) -> Path:
    from vertebra.exporting import onnx
    from vertebra.exporting.folding import fold_batch_norms
    from vertebra.exporting.orders import Order

    folder.mkdir()
    fold_batch_norms(network.eval())
    onnx.write(network, pictures(2)[0], folder, Order(None, "float32"))
    return folder / "model.onnx"


def answers(path: Path, engine: str, images: np.ndarray) -> np.ndarray:
    if engine == "onnxruntime":
        import onnxruntime

        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        return session.run(None, {"images": images})[0]
    import openvino

    compiled = openvino.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return compiled(images)[0].copy()


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("residual", "learnt"),
        ("timm's residual", "moving"),
        ("timm's inverted residual", "learnt"),
        pytest.param("squeezenet1_1", "moving", marks=pytest.mark.slow),
        pytest.param("squeezenet1_1", "learnt", marks=pytest.mark.slow),
    ],
)
def test_what_was_trained_is_what_the_int8_graph_answers(name, source, tmp_path):
    from vertebra.exporting.quantisation import learnt, onnxruntime

    network = NETWORKS[name]()
    prepared = trained(fake.prepare(network, steps=8, source=source), 8)
    network.load_state_dict(fake.saved(prepared))
    images = pictures(64, seed=99)[0]
    with torch.inference_mode():
        expected, whole = prepared(images).numpy(), network.eval()(images).numpy()
    path = in_onnx(network, tmp_path / "net")
    ranges = fake.ranges(prepared)
    placed = learnt.place(path, ranges)
    assert placed.lost == 0
    made = tmp_path / "0" / "model.onnx"
    made.parent.mkdir()
    onnxruntime.write(path, [images.numpy()[:8]], made, [], placed.tensors)
    spread = whole.std()
    rounding = np.sqrt(np.mean((expected - whole) ** 2)) / spread
    for engine in ("onnxruntime", "openvino"):
        if engine in engines.available():
            got = answers(made, engine, images.numpy())
            away = np.sqrt(np.mean((got - expected) ** 2)) / spread
            assert away < 0.5 * rounding
            assert away < 0.06


# ------------------------------------------------------------------ from weights to a Bundle


@pytest.fixture(scope="module")
def patches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of the colours that the networks here are trained on."""
    folder = tmp_path_factory.mktemp("pictures")
    images, _ = pictures(24, seed=7)
    for number, image in enumerate(images.permute(0, 2, 3, 1).numpy()):
        pixels = np.clip(image * 32 + 128, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:02}.png")
    return folder


@pytest.fixture(scope="module")
def taught() -> nn.Module:
    return trained(fake.prepare(squeezed(), steps=20), 20)


@pytest.fixture(scope="module")
def weights(taught: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "taught.pth"
    torch.save(
        {"state_dict": fake.saved(taught), KEY: Compressed(ranges=fake.ranges(taught)).to_json()}, path
    )
    return path


RECORD = Preprocess(
    input_size=(32, 32), resize=32, interpolation="bilinear", mean=(0.5,) * 3, std=(0.125,) * 3
)


def exported(weights: Path, patches: Path, folder: Path, **options: Any) -> bundles.Bundle:
    vertebra.export(
        "squeezenet1_1", folder, weights=weights, preprocess=RECORD, precision="int8", calibrate=patches,
        guard=0.3, **options,
    )  # fmt: skip
    return bundles.read(folder)


@pytest.fixture(scope="module")
def bundle(weights: Path, patches: Path, tmp_path_factory: pytest.TempPathFactory) -> bundles.Bundle:
    return exported(weights, patches, tmp_path_factory.mktemp("int8") / "net", engine="openvino")


def test_the_bundle_is_in_eight_bits_with_every_range_that_was_trained(bundle):
    assert bundle.format == "onnx"
    assert bundle.precision == "int8"
    told = bundle.quantisation
    assert told["by"] == "onnxruntime.quantization"
    assert told["learnt_ranges"] == {"taken": 38, "without_tensor": 0}


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_the_bundle_answers_as_the_network_that_was_trained(engine, taught, weights, patches, bundle):
    if engine not in engines.available():
        pytest.skip(f"{engine} isn't installed")
    asked = Settings(batch_size=24, input_size=32, num_classes=4, precision="int8", threads=1)
    running = engines.load(engine, Subject(bundle.model, bundle=str(bundle.folder)), asked)
    images = np.stack([*preprocess_many(sorted(patches.iterdir()), RECORD)])
    with torch.inference_mode():
        expected = taught(torch.from_numpy(images)).numpy()
        whole = zoo.build("squeezenet1_1", weights=weights).eval()(torch.from_numpy(images)).numpy()
    away = np.sqrt(np.mean((running.run(images) - expected) ** 2))
    assert away < 0.06 * expected.std()
    assert away < 0.5 * np.sqrt(np.mean((whole - expected) ** 2))
    reference, logits = bundle.reference_pair(2)
    with torch.inference_mode():
        assert np.allclose(logits, taught(torch.from_numpy(reference)).numpy(), atol=1e-5)


def test_the_network_is_built_again_as_it_was_trained_from_weights_and_ranges(taught, weights):
    again = rounded(zoo.build("squeezenet1_1", weights=weights), checkpoints.compressed(weights).ranges)
    images, _ = pictures(4, seed=3)
    with torch.inference_mode():
        torch.testing.assert_close(again(images), taught(images), rtol=1e-5, atol=1e-5)
    with pytest.raises(WeightsError, match="aren't those of this Residual"):
        rounded(residual(), checkpoints.compressed(weights).ranges)


def test_a_quantiser_that_would_measure_its_own_ranges_is_refused(weights, patches, tmp_path):
    pytest.importorskip("nncf")
    with pytest.raises(InvalidInputError, match="learnt in training"):
        exported(weights, patches, tmp_path / "net", engine="openvino", quantiser="nncf")


def test_the_float32_network_of_the_weights_is_the_one_without_rounding(taught, weights):
    images, _ = pictures(4, seed=3)
    plain = copy.deepcopy(taught)
    for part in fake.quantisers(plain):
        part.batches.zero_()  # lets values pass
    with torch.inference_mode():
        expected = zoo.build("squeezenet1_1", weights=weights).eval()(images)
        assert not torch.allclose(plain(images), expected, atol=1e-5)  # the weights are rounded there too
        for name in taught.meta["plan"].layers:
            torch.nn.utils.parametrize.remove_parametrizations(
                plain.get_submodule(name), "weight", leave_parametrized=False
            )
        torch.testing.assert_close(plain(images), expected, rtol=1e-5, atol=1e-5)


def test_folded_norms_come_back_under_their_own_names():
    network = residual().eval()
    images, _ = pictures(4)
    with torch.inference_mode():
        before = network(images)
    state = fake.saved(fake.prepare(network, steps=1))
    assert state.keys() == network.state_dict().keys()
    again = Residual().eval()
    again.load_state_dict(state)
    with torch.inference_mode():
        torch.testing.assert_close(again(images), before, rtol=1e-4, atol=1e-5)


def test_preparing_leaves_the_network_as_it_was_and_a_copy_is_prepared_too():
    network = residual()
    before = copy.deepcopy(network.state_dict())
    prepared = trained(fake.prepare(network, steps=2), 2)
    assert all(torch.equal(before[name], one) for name, one in network.state_dict().items())
    assert fake.ranges(copy.deepcopy(prepared)) == fake.ranges(prepared)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"source": "guessed"}, "guessed"), ({"steps": 0}, "at least one"), ({"frozen_share": 1.0}, "below 1")],
)
def test_settings_out_of_range_are_refused(options, message):
    with pytest.raises(InvalidInputError, match=message):
        fake.prepare(residual(), **{"steps": 5, **options})


class Tangled(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images if images.sum() > 0 else -images


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (Tangled, "depend on its data"),
        (nn.ReLU, "nothing can be in eight bits"),
        (lambda: zoo.build("resnet18_acnet", num_classes=2, seed=0), "three branches"),
    ],
)
def test_networks_that_cannot_be_prepared_are_refused(network, message):
    with pytest.raises(InvalidInputError, match=message):
        fake.prepare(network(), steps=5)


def test_ranges_are_read_back_as_they_were_written_and_others_refused():
    ranges = Ranges({"stem": (-1.0, 2.5)}, {"stem": (0.0, 3.0)}, {"Add": ((-1.0, 1.0), (0.0, 2.0))})
    assert read(Compressed(ranges=ranges).to_json()).ranges == ranges
    for bad in ([1.0, 2.0], [-1.0], [float("-inf"), 1.0], ["a", "b"]):
        wrong = Compressed(ranges=Ranges({"stem": bad}, {}, {})).to_json()
        with pytest.raises(WeightsError, match="can't be read"):
            read(wrong)


def test_weights_without_a_record_have_none(tmp_path):
    torch.save(squeezed().state_dict(), tmp_path / "plain.pth")
    assert checkpoints.compressed(tmp_path / "plain.pth") == Compressed()
