"""A training's speed as a row, and on a card 200 steps at ImageNet's shape from tar shards."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import toys
import vertebra
from test_data import tar
from vertebra.machine import system
from vertebra.measurements import Measurement, Table, now, shipped
from vertebra.metrics import MACHINE
from vertebra.reading import roofline
from vertebra.training import speeds
from vertebra.training.job import Hooks
from vertebra.training.run import Run

PLAIN = {
    "warmup_epochs": 0, "ema": 0, "augment": "none", "mixup": 0, "cutmix": 0, "erasing": 0, "amp": "bf16",
    "channels_last": "true",
}  # fmt: skip


def shards(folder: Path, count: int, each: int, classes: int, side: tuple[int, int]) -> Path:
    """WebDataset's tar files of JPEGs."""
    chance = np.random.default_rng(0)
    kept = []
    for _ in range(min(64, count * each)):
        spots = Image.fromarray(chance.integers(0, 255, (8, 8, 3), np.uint8)).resize(side)
        stream = io.BytesIO()
        spots.save(stream, "JPEG", quality=90)
        kept.append(stream.getvalue())
    folder.mkdir(parents=True)
    for shard in range(count):
        members = []
        for number in range(shard * each, (shard + 1) * each):
            members += [(f"{number:06}.jpg", kept[number % len(kept)]),
                        (f"{number:06}.cls", str(number % classes).encode())]  # fmt: skip
        tar(folder / f"train-{shard:05}.tar", members)
    return folder


def trained(
    tmp_path: Path, model: str, classes: int, side: int, pictures: tuple[int, int], steps: Sequence[int],
    **options: Any,
) -> Any:  # fmt: skip
    """A run from tar shards of so many epochs and steps in each, and its row of speed."""
    [epochs, in_epoch], [width, height] = steps, pictures
    batch = options.pop("batch")
    train = shards(tmp_path / "train", 4, in_epoch * batch // 4, classes, (width, height))
    other = shards(tmp_path / "val", 1, classes, classes, (width + 1, height))
    done = vertebra.train(
        model, train, recipe="modern", set={**PLAIN, "input_size": side, "epochs": epochs, "batch": batch},
        validation=other, inspect=False, output=tmp_path / "run", table=tmp_path / "table.sqlite", **options,
    )  # fmt: skip
    assert done.log[-1]["step"] == epochs * in_epoch
    [row] = vertebra.table(path=tmp_path / "table.sqlite", metric="training_throughput")
    assert row.value == done.rows[-1].value
    return row


def roof(row: Measurement, rate: float, bandwidth: float) -> list[Measurement]:
    """The machine's own rows, as `doctor` writes them, for the conditions of `row`."""
    common = {"model": MACHINE, "origin": "benched", "system": row.system, "device": row.device,
              "threads": row.threads, "measured_at": now()}  # fmt: skip
    peak = Measurement(
        metric="peak_operations_rate", value=rate, precision=row.precision, engine="eager", **common
    )
    return [peak, Measurement(metric="memory_bandwidth", value=bandwidth, **common)]


def test_a_run_s_speed_is_a_row_with_what_it_was_measured_under(tmp_path: Path) -> None:
    row = trained(tmp_path, "timm:test_resnet", 3, 32, (40, 36), (2, 2), batch=8, threads=1, workers=0)
    assert (row.model, row.precision, row.layout, row.engine) == (
        "timm:test_resnet",
        "bfloat16",
        "NHWC",
        "eager",
    )
    assert (row.batch_size, row.input_size, row.threads, row.device) == (8, 32, 1, "cpu")
    assert (row.system, row.grade, row.grade_reasons[0]) == (
        system.describe().id, "C", "one training, not repeated"
    )  # fmt: skip
    assert "with 0 workers" in row.grade_reasons[1]
    assert row.value > 0


def test_a_training_s_share_is_of_three_passes() -> None:
    """A pass of 8 images takes 16 G operations at 1e11 a second, so a step 0.48 s at best; it took 0.8 s."""
    row = Measurement(
        model="net", metric="training_throughput", value=10.0, origin="benched", system="box", device="cpu",
        precision="float32", engine="eager", batch_size=8, input_size=224, threads=2,
    )  # fmt: skip
    work = roofline.Work(operations=2e9, params=5e6, activations=1e6)
    assert roofline.training_share(row, roof(row, 1e11, 1e10), work) == pytest.approx(0.48 / 0.8)
    counts = {"macs": 1e9, "params": 5e6, "activations": 1e6, "input_size": 224}
    assert roofline.shares([row], roof(row, 1e11, 1e10), counts) == [pytest.approx(0.6)]
    assert roofline.training_share(replace(row, threads=1), roof(row, 1e11, 1e10), work) is None


@pytest.mark.parametrize(
    ("changes", "facts", "is_one"),
    [
        ({}, {}, True),
        ({"freeze_epochs": 1}, {}, False),
        ({"trained": "head"}, {}, False),
        ({}, {"hooks": Hooks(prepare=lambda network: network, name="changed")}, False),
        ({}, {"float64": True}, False),
    ],
)
def test_steps_of_several_kinds_have_no_speed(
    changes: dict[str, Any], facts: dict[str, Any], is_one: bool, tmp_path: Path
) -> None:
    place = toys.photos(tmp_path / "photos", 4)
    recipe = toys.recipe(warmup_epochs=0, **changes)
    job = toys.job(place, tmp_path / "run", recipe=recipe, **facts)
    done = Run(folder=job.folder, status="finished", step=2, epochs=2, seconds=1.0, waited=0.1, best=None,
               images_per_s=12.0)  # fmt: skip
    assert speeds.is_one_speed(job, done) is is_one
    assert not speeds.is_one_speed(job, replace(done, images_per_s=None))


# ------------------------------------------------------------------ on a card


def rate(work: Callable[[], Any], amount: float) -> float:
    """`amount` a second, of the fastest of five tens of calls."""
    best = 0.0
    for _ in range(6):
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(10):
            work()
        torch.cuda.synchronize()
        best = max(best, 10 * amount / (time.perf_counter() - start))
    return best


@pytest.mark.gpu
@pytest.mark.parametrize("compiled", [False, True])
def test_two_hundred_steps_at_imagenet_s_shape_on_a_card(compiled: bool, tmp_path: Path) -> None:
    """Images a second, and the share of the roofline that the card's own matrix product and copy give."""
    row = trained(
        tmp_path, "resnet50_acnet_deploy", 1000, 224, (500, 375), (4, 50), batch=64, device="cuda",
        compile=compiled,
    )  # fmt: skip
    assert (row.device, row.precision, row.engine) == ("cuda", "bfloat16", "compile" if compiled else "eager")
    one = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
    big, other = (torch.empty(2**28, device="cuda", dtype=torch.float32) for _ in range(2))
    machine = roof(row, rate(lambda: one @ one, 2 * 8192**3), rate(lambda: other.copy_(big), 2 * 4 * 2**28))
    Table(tmp_path / "table.sqlite").append(machine)
    [share] = roofline.shares([row], machine, shipped.totals(row.model))
    assert share is not None
    assert 0 < share < 1
    print(f"{row.value:.0f} images/s, {share:.1%} of the roofline; {'; '.join(row.grade_reasons)}")
