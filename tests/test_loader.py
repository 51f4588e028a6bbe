"""The loader: the same pictures bit for bit however it is run, from every layout, and no thread left over."""

from __future__ import annotations

import dataclasses
import io
import logging
import threading
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from test_data import idx, tar, write
from vertebra.data import datasets
from vertebra.data.datasets import Dataset, Sample
from vertebra.data.preprocess import Preprocess, preprocess
from vertebra.errors import ImageError, InvalidInputError
from vertebra.training import storage
from vertebra.training.loader import Batch, Loader
from vertebra.training.recipe import Recipe
from vertebra.training.recipes import find

RECORD = Preprocess(input_size=(16, 16), resize=20, interpolation="bilinear")
BASE = dataclasses.replace(
    find("modern", "resnet50_acnet"), evaluation=RECORD, batch=4, lr_batch=4, erasing=0.5
)
COUNT = 26


def picture(number: int, size: int = 40) -> bytes:
    """A picture of its own: one that is bright where its number says."""
    pixels = np.random.default_rng(number).integers(0, 256, (size, size + 8, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG")
    return stream.getvalue()


def of(sources: Sequence[object], labels: Sequence[int] | None = None) -> Dataset:
    labels = labels or [number % 3 for number in range(len(sources))]
    samples = [Sample(source, label, f"p{number}") for number, (source, label) in
               enumerate(zip(sources, labels, strict=True))]  # fmt: skip
    return Dataset("made", None, "memory", ("a", "b", "c"), 3, len(samples), "", lambda: iter(samples))


@pytest.fixture(scope="module")
def data() -> Dataset:
    return of([picture(number) for number in range(COUNT)])


def loader(
    data: Dataset, recipe: Recipe = BASE, labels: Sequence[int] | None = None, **how: object
) -> Loader:
    return Loader(data, [sample.label for sample in data] if labels is None else labels, recipe,
                  **({"workers": 0} | how))  # fmt: skip


def changed(**given: object) -> Recipe:
    return dataclasses.replace(BASE, **given)


def together(batches: Sequence[Batch]) -> tuple[torch.Tensor, ...]:
    return tuple(
        torch.cat([getattr(one, field) for one in batches]) for field in ("images", "labels", "places")
    )


def equal(one: Sequence[Batch], other: Sequence[Batch]) -> bool:
    return all(torch.equal(*pair) for pair in zip(together(one), together(other), strict=True))


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("loader")]


# ------------------------------------------------------------------ what a batch is


def test_a_batch_has_normalised_images_labels_places_and_names(data: Dataset):
    batches = list(loader(data).epoch(0))
    assert len(batches) == loader(data).steps == 6
    for batch in batches:
        assert batch.images.shape == (4, 3, 16, 16)
        assert batch.images.dtype == torch.float32
        assert batch.images.is_contiguous()
        assert batch.labels.dtype == batch.places.dtype == torch.int64
        assert batch.labels.tolist() == [place % 3 for place in batch.places.tolist()]
        assert batch.names == [f"p{place}" for place in batch.places.tolist()]
        assert len(batch) == 4
    places = together(batches)[2].tolist()
    assert len(set(places)) == 24


def test_a_picture_that_is_not_augmented_is_what_evaluation_makes(data: Dataset):
    for layout in (False, True):
        plain = changed(crop="evaluation", flip=0.0, augment="none", erasing=0.0, decode="exact",
                        channels_last=layout)  # fmt: skip
        sources = [sample.source for sample in data]
        for batch in loader(data, plain).epoch(3):
            assert batch.images.is_contiguous(
                memory_format=torch.channels_last if layout else torch.contiguous_format
            )
            for image, place in zip(batch.images, batch.places.tolist(), strict=True):
                assert (image.numpy() == preprocess(sources[place], RECORD)).all()


def test_an_erased_rectangle_is_the_mean_colour(data: Dataset):
    kept = together(list(loader(data, changed(erasing=0.0)).epoch(0)))[0]
    erased = together(list(loader(data, changed(erasing=1.0)).epoch(0)))[0]
    for before, after in zip(kept, erased, strict=True):
        different = (before != after).any(0)
        assert 0.01 < different.float().mean() < 0.45
        assert (after[:, different] == 0).all()


# ------------------------------------------------------------------ the same, however it is run


@pytest.mark.parametrize("workers", [1, 3])
def test_workers_change_nothing(data: Dataset, workers: int):
    for epoch in (0, 5):
        assert equal(list(loader(data).epoch(epoch)), list(loader(data, workers=workers).epoch(epoch)))
    assert not threads()


@pytest.mark.parametrize("world", [2, 4])
def test_processes_share_a_step_and_its_pictures_stay(data: Dataset, world: int):
    alone = list(loader(data).epoch(2))
    parts = [list(loader(data, world=world, rank=rank).epoch(2)) for rank in range(world)]
    assert {len(part) for part in parts} == {6}
    assert equal([part[step] for step in range(6) for part in parts], alone)


@pytest.mark.parametrize("workers", [0, 3])
@pytest.mark.parametrize("first", [1, 4, 6])
def test_an_epoch_goes_on_from_any_step(data: Dataset, workers: int, first: int):
    whole = list(loader(data).epoch(1))
    rest = list(loader(data, workers=workers).epoch(1, first))
    assert len(rest) == 6 - first
    assert not rest or equal(rest, whole[first:])


def test_the_order_of_a_set_does_not_leak_into_augmentation(data: Dataset):
    """A picture's draws depend on its place in the set, not on which others are trained on."""
    some = [label if number % 2 else -1 for number, label in enumerate(sample.label for sample in data)]
    all_of_them = {int(place): image for batch in loader(data).epoch(0)
                   for place, image in zip(batch.places, batch.images, strict=True)}  # fmt: skip
    met = 0
    for batch in loader(data, labels=some).epoch(0):
        for place, image in zip(batch.places.tolist(), batch.images, strict=True):
            assert place % 2
            if place in all_of_them:
                assert torch.equal(image, all_of_them[place])
                met += 1
    assert met > 6


def test_another_seed_or_epoch_gives_other_pictures(data: Dataset):
    first = together(list(loader(data).epoch(0)))[0]
    for other in (loader(data).epoch(1), loader(data, seed=1).epoch(0)):
        assert not torch.equal(first, together(list(other))[0])
    assert equal(list(loader(data, changed(seed=1)).epoch(0)), list(loader(data, seed=1).epoch(0)))


def test_batches_in_memory_are_few_and_counted(data: Dataset):
    wide = dataclasses.replace(RECORD, input_size=(224, 224), resize=256)
    assert loader(data).memory == 4 * 12 * 16**2
    assert loader(data, workers=1).memory == 3 * 4 * 12 * 16**2
    assert loader(data, workers=8).memory == 7 * 4 * 12 * 16**2
    assert loader(data, workers=1, world=2).memory == 4 * 2 * 12 * 16**2
    large = of([b""] * 200)
    assert loader(large, changed(batch=200, evaluation=wide), workers=2).memory == 2 * 200 * 12 * 224**2


def test_threads_end_with_the_iterator(data: Dataset):
    with closing(loader(data, workers=3).epoch(0)) as batches:
        next(batches)
        assert threads()
    assert not threads()


# ------------------------------------------------------------------ classes


def test_a_balanced_epoch_draws_rare_classes_as_often():
    data = of([picture(number, 24) for number in range(12)], [0] * 9 + [1] * 2 + [2])
    drawn = np.concatenate([loader(data, changed(balanced=True)).order(epoch) for epoch in range(400)])
    labels = np.array([0] * 9 + [1] * 2 + [2])[drawn]
    assert np.bincount(labels) / len(labels) == pytest.approx([1 / 3] * 3, abs=0.028)  # 4 standard errors


def test_class_weights_are_one_on_average_over_the_pictures():
    data = of([picture(number, 24) for number in range(12)], [0] * 9 + [1] * 2 + [2])
    assert loader(data).class_weights(4) is None
    weights = loader(data, changed(class_weights=True)).class_weights(4)
    assert weights.dtype == torch.float32
    assert weights.tolist() == pytest.approx([12 / 27, 2, 4, 0])
    left = [0] * 9 + [1] * 2 + [-1]
    assert loader(data, changed(class_weights=True), left).class_weights(3).tolist() == pytest.approx(
        [11 / 18, 11 / 4, 0]
    )


# ------------------------------------------------------------------ unreadable pictures


@pytest.mark.parametrize("workers", [0, 2])
def test_an_unreadable_picture_is_named_and_fails(workers: int):
    data = of([picture(number) if number != 5 else b"broken" for number in range(12)])
    with pytest.raises(ImageError, match="p5: <6 bytes>: not a JPEG") as caught:
        list(loader(data, workers=workers).epoch(0))
    assert "unreadable=skip" in str(caught.value.hint)
    assert not threads()


@pytest.mark.parametrize("workers", [0, 2])
def test_an_unreadable_picture_is_skipped_if_asked_and_said_once(
    workers: int, caplog: pytest.LogCaptureFixture
):
    sources = [picture(number) if number not in (5, 6, 11) else b"broken" for number in range(12)]
    given = loader(of(sources), changed(unreadable="skip"), workers=workers)
    with caplog.at_level(logging.WARNING, "vertebra"):
        epochs = [list(given.epoch(epoch)) for epoch in range(3)]
    for batches in epochs:
        places = together(batches)[2].tolist()
        assert len(places) == 12
        assert sorted(places) == sorted([*(set(range(12)) - {5, 6, 11}), 7, 7, 0])
        assert together(batches)[1].tolist() == [place % 3 for place in places]
    assert sorted(given.skipped) == ["p11", "p5", "p6"]
    assert caplog.text.count("skipped: p5: ") == 1
    assert equal(epochs[0], list(loader(of(sources), changed(unreadable="skip")).epoch(0)))


def test_a_set_of_which_nothing_can_be_read_fails():
    with pytest.raises(InvalidInputError, match="None of the pictures can be read"):
        list(loader(of([b"broken"] * 5), changed(unreadable="skip")).epoch(0))


# ------------------------------------------------------------------ layouts


@pytest.fixture
def layouts(tmp_path: Path) -> dict[str, Dataset]:
    """The same 12 pictures in every layout, in the same order."""
    pictures = [picture(number) for number in range(12)]
    for number, content in enumerate(pictures):
        write(tmp_path / "folders" / f"c{number // 4}" / f"{number:02}.jpg", content)
    lines = "".join(f"c{number // 4}/{number:02}.jpg {number // 4}\n" for number in range(12))
    write(tmp_path / "folders" / "list.txt", lines)
    members = [(f"{number:02}.{kind}", content) for number, jpeg in enumerate(pictures)
               for kind, content in (("jpg", jpeg), ("cls", str(number // 4).encode()))]  # fmt: skip
    shards = tmp_path / "shards"
    shards.mkdir()
    tar(shards / "a.tar", members[:10])
    tar(shards / "b.tar", members[10:12])
    tar(shards / "c.tar", members[12:])
    packed = tar(tmp_path / "packed.tar.gz", members)
    found = {
        "folders": datasets.open(tmp_path / "folders", format="folders"),
        "list": datasets.open(tmp_path / "folders" / "list.txt"),
        "shards": datasets.open(shards),
        "compressed": datasets.open(packed),
    }
    try:
        import pyarrow as pa
        import pyarrow.parquet as parquet
    except ImportError:
        return found
    table = pa.table({"image": pictures, "label": [number // 4 for number in range(12)]})
    parquet.write_table(table, tmp_path / "all.parquet")
    return found | {"parquet": datasets.open(tmp_path / "all.parquet")}


def test_every_layout_gives_the_same_training(layouts: dict[str, Dataset]):
    expected = list(loader(layouts.pop("folders")).epoch(0))
    for name, data in layouts.items():
        batches = list(loader(data, workers=2).epoch(0))
        assert equal(batches, expected), name


def test_members_of_shards_are_read_where_they_are(layouts: dict[str, Dataset]):
    data = layouts["shards"]
    pictures = storage.of(data)
    assert pictures.shards == [5, 1, 6]
    assert list(pictures.names) == [sample.name for sample in data]
    assert [pictures.source(place) for place in (11, 0, 5)] == [picture(number) for number in (11, 0, 5)]
    assert storage.of(data.part(6)).shards == [5, 1]
    assert layouts["compressed"].located is None


def test_shards_of_any_size_give_every_process_the_same_number_of_steps(layouts: dict[str, Dataset]):
    streamed = changed(shuffle="shards")
    parts = [list(loader(layouts["shards"], streamed, world=2, rank=rank).epoch(0)) for rank in range(2)]
    assert [len(part) for part in parts] == [3, 3]
    alone = list(loader(layouts["shards"], streamed).epoch(0))
    assert equal([part[step] for step in range(3) for part in parts], alone)
    with pytest.raises(InvalidInputError, match="has no shards to shuffle"):
        loader(layouts["folders"], streamed)


def test_a_shard_that_is_cut_short_meanwhile_is_named(layouts: dict[str, Dataset], tmp_path: Path):
    pictures = storage.of(layouts["shards"])
    with open(tmp_path / "shards" / "c.tar", "r+b") as stream:
        stream.truncate(3000)
    with pytest.raises(InvalidInputError, match=r"c\.tar:11: its file was cut short"):
        pictures.source(11)


def test_grey_idx_pictures_are_kept_once_and_come_in_three_channels(tmp_path: Path):
    images = np.random.default_rng(0).integers(0, 256, (8, 28, 28), np.uint8)
    idx(tmp_path, "train", images, [0, 1] * 4)
    data = datasets.open(tmp_path)
    pictures = storage.of(data)
    assert pictures.source(3).shape == (28, 28, 3)
    assert (pictures.source(3)[:, :, 1] == images[3]).all()
    small = changed(
        crop="pad", padding=2, evaluation=dataclasses.replace(RECORD, input_size=(28, 28), resize=28)
    )
    [first, _] = loader(data, small).epoch(0)
    assert first.images.shape == (4, 3, 28, 28)


# ------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("recipe", "labels", "how", "word"),
    [
        ({}, [0], {}, "has 26 pictures; 1 labels came"),
        ({}, [-1] * COUNT, {}, "No picture of made is left"),
        ({"batch": 32}, None, {}, "26 pictures to train on; a step takes 32"),
        ({}, None, {"world": 3}, "can't be shared equally by 3"),
        ({}, None, {"world": 2, "rank": 2}, "Process 2 of 2"),
        ({}, None, {"workers": -1}, "workers is -1"),
    ],
)
def test_what_cannot_be_loaded_is_refused(data: Dataset, recipe: dict, labels, how: dict, word: str):
    with pytest.raises(InvalidInputError, match=word):
        loader(data, changed(**recipe), labels, **how)
