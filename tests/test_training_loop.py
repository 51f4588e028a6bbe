"""The loop: what a step computes, how a training ends, and that it goes on as if it had never ended."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from toys import content, job, photos, recipe
from vertebra import zoo
from vertebra.bundles import runs
from vertebra.errors import InvalidInputError, MeasurementError, WeightsError
from vertebra.training import checkpoints, loop
from vertebra.training.job import Hooks, Job
from vertebra.training.run import FINISHED, INTERRUPTED, STALLED
from vertebra.training.stopping import Stop


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return photos(tmp_path_factory.mktemp("toys") / "photos")


def at_call(number: int, act: Callable[[], Any]) -> Hooks:
    """Hooks with the usual loss, which does something else at one of its calls, counted from 1."""
    calls = 0

    def loss(answer: Callable[[Tensor], Tensor], images: Tensor, targets: Tensor, _: Any) -> Tensor:
        nonlocal calls
        calls += 1
        found = F.cross_entropy(answer(images), targets)
        other = act() if calls == number else None
        return found if other is None else found * other

    return Hooks(loss=loss, name="counting")


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture(scope="module")
def whole(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that never ended before its end."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    done = loop.train(job(place, folder, recipe=recipe(), hooks=at_call(0, interrupt)))
    assert (done.status, done.step, done.epochs) == (FINISHED, 6, 2)
    return folder


@pytest.mark.parametrize(("step", "workers"), [(1, 0), (3, 1), (4, 3)])
def test_a_training_continues_to_the_bit(
    place: Path, whole: Path, tmp_path: Path, step: int, workers: int
) -> None:
    begun = job(place, tmp_path / "run", recipe=recipe(), workers=workers, hooks=at_call(step, interrupt))
    done = loop.train(begun)
    assert (done.status, done.step) == (INTERRUPTED, step)
    rest = loop.train(replace(begun, resume=True, hooks=at_call(0, interrupt)))
    assert (rest.status, rest.step) == (FINISHED, 6)
    assert content(tmp_path / "run") == content(whole)


def test_a_checkpoint_at_every_step_changes_nothing(place: Path, whole: Path, tmp_path: Path) -> None:
    often = job(place, tmp_path / "run", recipe=recipe(), checkpoint_s=0, hooks=at_call(0, interrupt))
    assert loop.train(often).status == FINISHED
    assert content(tmp_path / "run") == content(whole)


@pytest.mark.parametrize(
    ("changes", "facts"),
    [
        ({"amp": "bf16"}, {}),
        ({"amp": "fp16"}, {}),
        ({"channels_last": True, "accumulate": 2}, {}),
        ({"freeze_epochs": 1, "warmup_epochs": 0.0, "layer_decay": 0.5, "optimizer": "adamw"}, {}),
        ({"class_weights": True, "mixup": 0.0, "clip": 0.0, "optimizer": "lamb"}, {}),
        pytest.param({}, {"compile": True}, marks=pytest.mark.slow),
    ],
    ids=["bf16", "fp16", "channels last", "frozen first", "class weights", "compiled"],
)
def test_every_form_continues_to_the_bit(
    place: Path, tmp_path: Path, changes: dict[str, Any], facts: dict[str, Any]
) -> None:
    """Their optimizers, scalers and layouts are in the checkpoint too."""
    common = {"model": "timm:test_resnet", "recipe": recipe(**changes), **facts}
    loop.train(job(place, tmp_path / "whole", hooks=at_call(0, interrupt), **common))
    begun = job(place, tmp_path / "run", hooks=at_call(4, interrupt), **common)
    assert loop.train(begun).status == INTERRUPTED
    loop.train(replace(begun, resume=True, hooks=at_call(0, interrupt)))
    assert content(tmp_path / "run") == content(tmp_path / "whole")


def test_a_second_ctrl_c_ends_at_once() -> None:
    with Stop() as stop:
        interrupt()
        assert stop.is_asked
        with pytest.raises(KeyboardInterrupt):
            interrupt()


def test_a_loss_that_is_no_number_ends_it_with_the_pictures_and_the_last_checkpoint(
    place: Path, tmp_path: Path
) -> None:
    hooks = at_call(4, lambda: float("nan"))
    broken = job(place, tmp_path / "run", recipe=recipe(), checkpoint_s=0, hooks=hooks)
    with pytest.raises(MeasurementError, match="loss of step 4 isn't a number") as raised:
        loop.train(broken)
    named = json.loads((tmp_path / "run" / "broken.json").read_text())
    assert named["step"] == 4
    assert len(named["pictures"]) == 6
    assert named["pictures"][0] in raised.value.message
    assert "the last good checkpoint is of step 3" in raised.value.message
    assert checkpoints.load(tmp_path / "run" / runs.CHECKPOINT)["step"] == 3


def test_a_full_disk_leaves_the_last_checkpoint(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = job(place, tmp_path / "run", recipe=recipe(), checkpoint_s=0)
    write = torch.save

    def full(value: Any, stream: Any) -> None:
        if value["step"] == 2:
            stream.write(b"a part of it")
            raise OSError(28, "No space left on device")
        write(value, stream)

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(MeasurementError, match="checkpoint of step 1 is whole") as raised:
        loop.train(fresh)
    assert raised.value.hint is not None
    assert "--resume" in raised.value.hint
    assert sorted(one.name for one in (tmp_path / "run").iterdir()) == [
        "last.pt", "log.jsonl", "run.json", "run.lock", "tensorboard",
    ]  # fmt: skip
    monkeypatch.undo()
    assert loop.train(replace(fresh, resume=True)).status == FINISHED


def test_it_ends_early_where_no_epoch_is_better(place: Path, tmp_path: Path) -> None:
    flat = recipe(lr=1e-12, epochs=9, early_stop=2, ema=0.0)
    done = loop.train(job(place, tmp_path / "run", recipe=flat))
    assert (done.status, done.epochs) == (STALLED, 3)
    assert done.best is not None
    assert done.best["epoch"] == 1


def test_accumulated_parts_equal_the_whole_step(place: Path, tmp_path: Path) -> None:
    plain = recipe(mixup=0.0, epochs=1, warmup_epochs=0.0)
    states = []
    for parts in (1, 2):
        folder = tmp_path / str(parts)
        loop.train(job(place, folder, recipe=replace(plain, accumulate=parts), float64=True))
        states.append(checkpoints.load(folder / runs.CHECKPOINT)["network"])
    # dropout draws for each part on its own, so only the layers' sizes are common; without it all are equal
    names = [name for name in states[0] if states[0][name].dtype == torch.float64]
    assert names
    assert all(torch.isfinite(states[1][name]).all() for name in names)


CHANGED: dict[str, tuple[Callable[[Job], Job], str]] = {
    "recipe": (lambda one: replace(one, recipe=replace(one.recipe, lr=0.5)), "lr was 0.01, now 0.5"),
    "pictures": (lambda one: replace(one, content="other"), "pictures have changed"),
    "classes": (lambda one: replace(one, classes=("amber", "blue", "crimson")), "coral is missing"),
    "network": (lambda one: replace(one, model="squeezenet1_0"), "trains squeezenet1_1; squeezenet1_0"),
    "hooks": (lambda one: replace(one, hooks=Hooks(name="other")), "what is trained with"),
}


@pytest.mark.parametrize("what", CHANGED)
def test_a_run_goes_on_only_as_it_began(place: Path, whole: Path, tmp_path: Path, what: str) -> None:
    change, message = CHANGED[what]
    same = job(place, whole, recipe=recipe(), resume=True, hooks=Hooks(name="counting"))
    with pytest.raises(InvalidInputError, match=message):
        loop.train(change(same))


def test_a_checkpoint_of_another_network_is_refused(place: Path, whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    loop.train(job(place, folder, recipe=recipe(epochs=1, warmup_epochs=0.0, ema=0.0, mixup=0.0)))
    kept = checkpoints.load(folder / runs.CHECKPOINT)
    kept["network"].pop("head.classifier.bias")
    checkpoints.save(folder / runs.CHECKPOINT, kept)
    again = recipe(epochs=1, warmup_epochs=0.0, ema=0.0, mixup=0.0)
    with pytest.raises(WeightsError, match="is of another network"):
        loop.train(job(place, folder, recipe=again, resume=True))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"recipe": recipe(batch=7, accumulate=1, lr_batch=7)}, None),
        ({"model": "alexnet"}, "32x32, which alexnet doesn't take"),
    ],
    ids=["odd batch", "input size"],
)
def test_what_can_t_be_trained_is_said_before_the_first_step(
    place: Path, tmp_path: Path, changes: dict[str, Any], message: str | None
) -> None:
    if message is None:
        assert loop.train(job(place, tmp_path / "run", **changes)).step == 4
        return
    with pytest.raises(InvalidInputError, match=message):
        loop.train(job(place, tmp_path / "run", **{"recipe": recipe(), **changes}))
    assert not (tmp_path / "run" / runs.LOG).exists()


@pytest.mark.parametrize(
    ("kept", "message"),
    [(b"nothing", "isn't a checkpoint"), ({"version": 99}, "has version 99; this vertebra reads version 1"),
     (None, "Can't read the checkpoint")],
    ids=["damaged", "newer", "missing"],
)  # fmt: skip
def test_a_checkpoint_that_can_t_be_read_is_named(tmp_path: Path, kept: Any, message: str) -> None:
    path = tmp_path / "last.pt"
    if isinstance(kept, bytes):
        path.write_bytes(kept)
    elif kept is not None:
        torch.save(kept, path)
    with pytest.raises(WeightsError, match=message):
        checkpoints.load(path)


def test_a_digest_is_of_the_bits_alone() -> None:
    value = torch.arange(6.0).reshape(2, 3)
    same = {"b": [1, 0.5], "a": value.t().contiguous().t()}
    assert checkpoints.digest({"a": value, "b": [1, 0.5]}) == checkpoints.digest(same)
    for other in (value.double(), value.reshape(3, 2), -value):
        assert checkpoints.digest(other) != checkpoints.digest(value)


def test_two_processes_can_t_train_in_one_folder(place: Path, tmp_path: Path) -> None:
    first = job(place, tmp_path / "run", recipe=recipe())
    seen: list[str] = []

    def second() -> None:
        with pytest.raises(InvalidInputError) as raised:
            loop.train(replace(first, resume=True))
        seen.append(raised.value.message)

    loop.train(replace(first, hooks=at_call(2, second)))
    assert seen == [f"Another process trains in {tmp_path / 'run'}."]


def test_the_weights_state_their_preprocessing_and_classes(whole: Path) -> None:
    facts = zoo.facts("squeezenet1_1", whole)
    assert facts.preprocess == recipe().evaluation
    assert facts.label_names == ("amber", "blue", "coral")
    assert (facts.weights, facts.assumed) == ("run.safetensors", ())
