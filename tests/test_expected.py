"""What a training will take: from its own steps, or where these are large, from smaller ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from toys import job, photos, recipe
from vertebra.errors import MeasurementError
from vertebra.progress import silent
from vertebra.training import expected
from vertebra.training.expected import Trial, at, of_parts
from vertebra.training.run import Folder


@pytest.fixture(autouse=True)
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expected, "_TRIAL_S", 0.0)


def test_a_step_of_few_pictures_is_tried_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    given = job(photos(tmp_path / "photos"), tmp_path / "run", recipe=recipe(epochs=3, freeze_epochs=1))
    found = expected.record(given, 1, silent)
    assert found["tried"] == [6]
    assert (found["pictures"], found["validation"], found["classes"]) == (18, 6, 3)
    assert (found["steps_per_epoch"], found["steps"]) == (3, 9)
    assert found["seconds"] > 3 * 2 * found["step_seconds"] > 0
    [trial] = expected.trials(given, 6, tmp_path)
    assert trial.once_s > 0  # a checkpoint at least
    monkeypatch.setattr(expected, "trials", lambda *_: [replace(trial, once_s=trial.once_s + 100)])
    assert expected.record(given, 1, silent)["seconds"] > 100
    assert 2e8 < found["memory"] < 8e9
    assert "from a few steps, timed just now" in " ".join(found["told"])
    assert not (tmp_path / "run").exists()


def test_the_end_of_a_training_may_need_the_most_memory(tmp_path: Path):
    given = job(photos(tmp_path / "photos"), tmp_path / "run", recipe=recipe())
    before = expected.record(given, 1, silent)["memory"]
    assert expected.record(given, 1, silent, ending=lambda: b"1" * before)["memory"] > before


def test_as_many_steps_are_timed_as_the_training_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(expected, "_TRIAL_S", 1e9)
    given = job(photos(tmp_path / "photos"), tmp_path / "run", recipe=recipe(epochs=4, freeze_epochs=1))
    done: list[tuple[int, int]] = []
    step = expected.Training.step

    def counted(self: expected.Training, batch: object, epoch: int) -> tuple[float, float]:
        done.append((epoch, self.state.at.step))
        return step(self, batch, epoch)  # type: ignore[arg-type]

    monkeypatch.setattr(expected.Training, "step", counted)
    expected.trials(given, 6, tmp_path)
    assert done == [(place // 3, place) for place in range(12)]


def test_a_step_of_many_pictures_is_estimated_from_smaller_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    given = job(photos(tmp_path / "photos", 24), tmp_path / "run", recipe=recipe(batch=48, lr_batch=48))
    monkeypatch.setattr(expected, "_LARGE_S", 0.0)
    found = expected.record(given, 1, silent)
    assert found["tried"] == [8, 16]
    assert "estimated for 48 pictures at once from steps of 8 and 16" in " ".join(found["told"])
    monkeypatch.setattr(expected, "_LARGE_S", 1e9)
    assert expected.record(given, 1, silent)["tried"] == [8, 48]


def test_the_head_alone_has_no_other_steps(tmp_path: Path):
    given = job(photos(tmp_path / "photos"), tmp_path / "run", recipe=recipe(trained="head"))
    [trial] = expected.trials(given, 6, tmp_path)
    assert trial.whole_s == 0 < trial.head_s


@pytest.mark.parametrize(
    ("points", "size", "value"),
    [
        ([(8, 1.0)], 8, 1.0), ([(8, 1.0)], 32, 4.0), ([(8, 1.0), (16, 1.5)], 16, 1.5),
        ([(8, 1.0), (16, 1.5)], 64, 4.5), ([(8, 1.0), (16, 0.9)], 64, 0.9),
    ],
)  # fmt: skip
def test_values_follow_the_line_through_two_trials(points: list, size: int, value: float):
    assert at(points, size) == pytest.approx(value)


def test_parts_share_what_a_step_takes_by_itself_and_all_their_pictures_are_loaded():
    assert of_parts([(8, 1.0), (16, 1.5)], 16, 4) == pytest.approx(0.5 + 64 / 16)
    tried = [Trial(8, 0.0, 1.0, 1000, 80), Trial(16, 0.0, 1.5, 1400, 160, 0.1, 900)]
    assert expected._memory(tried, 32, 1, None) == 1000 + 400 * 3
    assert expected._memory(tried, 32, 3, None) == 1000 + 400 * 3 + 2 * 32 * 10
    assert expected._memory([Trial(8, 0.0, 1.0, 1000, 80, 0.1, 5000)], 8, 1, None) == 5000
    assert expected._memory(tried, 32, 1, 9000) == 9000
    assert expected._memory([Trial(8, 0.0, 1.0, None, 80)], 8, 1, None) is None


def test_a_scratch_folder_without_room_for_a_checkpoint_ends_no_dry_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def full(self: Folder, state: object) -> None:
        raise MeasurementError("The disk is full.")

    monkeypatch.setattr(Folder, "checkpoint", full)
    given = job(photos(tmp_path / "photos"), tmp_path / "run", recipe=recipe())
    assert expected.record(given, 1, silent)["seconds"] > 0
