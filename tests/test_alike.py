"""Near-duplicates: what counts as one photograph, and what doesn't."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from vertebra.data import alike
from vertebra.data.preprocess import decode


def photograph(seed: int, size: tuple[int, int] = (160, 120)) -> Image.Image:
    """Soft spots of colour and fine grain: details of all sizes, as a photograph has."""
    chance = np.random.default_rng(seed)
    total = np.zeros((size[1], size[0], 3))
    for cells, weight in ((4, 90), (12, 50), (40, 30)):
        noise = chance.integers(0, 255, (cells, cells, 3), np.uint8)
        total += weight / 170 * np.asarray(Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC))
    return Image.fromarray(total.clip(0, 255).astype(np.uint8))


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return Image.fromarray(decode(stream.getvalue()))


def found(*images: Image.Image) -> set[tuple[int, int]]:
    looks = [alike.thumbnail(np.asarray(image)) for image in images]
    thumbs = np.frombuffer(b"".join(look.grey for look in looks), np.uint8).reshape(-1, 32, 32)
    colours = np.array([look.colour for look in looks], np.uint8)
    small = np.array([image.width * image.height < alike.SMALL for image in images])
    pairs = alike.pairs(thumbs, colours, small)
    return {tuple(sorted(pair)) for pair in zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)}


def redder(image: Image.Image) -> Image.Image:
    red, green, blue = image.split()
    return Image.merge("RGB", [red.point(lambda level: min(255, level + 60)), green, blue])


CHANGES = {
    "again": lambda image: image,
    "jpeg": lambda image: jpeg(image, 50),
    "half": lambda image: image.resize((80, 60), Image.Resampling.BICUBIC),
    "double": lambda image: image.resize((320, 240), Image.Resampling.BILINEAR),
    "lighter": lambda image: ImageEnhance.Brightness(image).enhance(1.15),
    "softer": lambda image: ImageEnhance.Contrast(image).enhance(0.8),
    "mirrored": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "mirrored and saved": lambda image: jpeg(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), 60),
}
OTHERS = {
    "another": lambda image: photograph(99),
    "upside down": lambda image: image.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
    "turned": lambda image: image.transpose(Image.Transpose.ROTATE_180),
    "a part": lambda image: image.crop((30, 20, 130, 100)),
    "in other colours": lambda image: redder(image),
    "plain": lambda image: Image.new("RGB", image.size, (120, 120, 120)),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("seed", range(3))
def test_one_photograph_changed_a_little_is_a_near_duplicate(seed, change):
    image = photograph(seed)
    assert found(image, photograph(50), change(image)) == {(0, 2)}


@pytest.mark.parametrize("change", OTHERS.values(), ids=OTHERS)
@pytest.mark.parametrize("seed", range(3))
def test_another_photograph_is_none(seed, change):
    image = photograph(seed)
    assert found(image, change(image)) == set()


def shirt(seed: int, size: int) -> Image.Image:
    """One light shape on white, with folds of its own: a catalogue of one kind of goods."""
    chance = np.random.default_rng(seed)
    image = np.full((size, size, 3), 255.0)
    image[size // 5 : size, size // 4 : 3 * size // 4] = 150
    image[size // 5 : size // 2, size // 10 : 9 * size // 10] = 150
    noise = Image.fromarray(chance.integers(0, 70, (14, 14), np.uint8)).resize((size, size))
    image -= np.where(image < 255, np.asarray(noise)[:, :, None], 0)
    return Image.fromarray(image.astype(np.uint8))


@pytest.mark.parametrize("size", [28, 160])
def test_goods_of_one_shape_on_white_are_no_near_duplicates(size):
    assert found(*(shirt(seed, size) for seed in range(60))) == set()


def test_plain_pictures_are_like_none():
    assert found(*(Image.new("RGB", (64, 64), (shade,) * 3) for shade in (80, 80, 81, 82))) == set()


def test_every_pair_is_found_beyond_one_block_of_comparisons(monkeypatch):
    images = [photograph(seed, (64, 64)) for seed in range(40)]
    images += [image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for image in images[:20]] + images[20:30]
    whole = found(*images)
    assert whole == {(n, 40 + n) for n in range(30)}
    for name, value in {"_LEAF": 3, "_AXES": 2, "_THUMBS": 2}.items():
        monkeypatch.setattr(alike, name, value)
        assert found(*images) == whole


def scene(seed: int) -> list[Image.Image]:
    """Frames of one camera: a still ground with a spot that moves, and grain."""
    chance, ground = np.random.default_rng(seed), np.asarray(photograph(seed, (64, 64)), np.int16)
    frames = []
    for _ in range(12):
        frame, (y, x) = ground + chance.integers(-6, 7, ground.shape), chance.integers(0, 50, 2)
        frame[y : y + 14, x : x + 14] = 255
        frames.append(Image.fromarray(frame.clip(0, 255).astype(np.uint8)))
    return frames


SETS = {
    "photographs and what was made of them": lambda: [
        change(photograph(seed)) for seed in range(12) for change in (*CHANGES.values(), *OTHERS.values())
    ],
    "goods of one shape": lambda: [shirt(seed, size) for seed in range(60) for size in (28, 160)],
    "frames": lambda: [frame for seed in range(8) for frame in scene(seed)],
    "plain and nearly plain": lambda: [
        Image.fromarray(np.random.default_rng(n).integers(90, 90 + n // 8 + 1, (64, 64, 3), np.uint8))
        for n in range(120)
    ],
}


def of_all(images: list[Image.Image]) -> set[tuple[int, int]]:
    """What comparing every two finds."""
    looks = [alike.thumbnail(np.asarray(image)) for image in images]
    thumbs = np.frombuffer(b"".join(look.grey for look in looks), np.uint8).reshape(-1, 32, 32)
    colours = np.array([look.colour for look in looks], np.uint8)
    small = np.array([image.width * image.height < alike.SMALL for image in images])
    facts = alike._facts(thumbs, colours, small)
    first, second = np.triu_indices(len(images), 1)
    seen = (facts.contrast[first] >= alike.FLAT) & (facts.contrast[second] >= alike.FLAT)
    first, second = first[seen], second[seen]
    made = set()
    for side in (0, 1):
        apart = alike._ones(facts.hashes[side, first] ^ facts.hashes[0, second]).sum(1, dtype=np.uint8)
        near = apart <= np.where(small[first] | small[second], alike.STRICT.bits, alike.USUAL.bits)
        one, other, _ = alike._within(facts, first[near], second[near], apart[near], bool(side))
        made |= set(zip(one.tolist(), other.tolist(), strict=True))
    return made


@pytest.mark.parametrize("make", SETS.values(), ids=SETS)
def test_what_comparing_every_two_pictures_finds_is_found(monkeypatch, make):
    images = make()
    every = of_all(images)
    assert found(*images) == every
    for leaf, axes in ((1, 64), (2, 1), (5, 16)):
        monkeypatch.setattr(alike, "_LEAF", leaf)
        monkeypatch.setattr(alike, "_AXES", axes)
        assert found(*images) == every


def test_bits_are_counted_without_numpy_2(monkeypatch):
    numbers = np.array([[0, 1], [2**64 - 1, 2**63 + 5]], np.uint64)
    assert alike._ones(numbers).tolist() == [[0, 1], [64, 3]]
    monkeypatch.delattr(np, "bitwise_count", raising=False)
    assert alike._ones(numbers).tolist() == [[0, 1], [64, 3]]
    assert alike._ones(numbers.T).tolist() == [[0, 64], [1, 3]]


def pairs(*given: tuple[int, int, bool]) -> alike.Pairs:
    first, second, strictly = zip(*given, strict=True)
    return alike.Pairs(np.array(first), np.array(second), np.array(strictly))


def test_groups_are_chains_of_pairs_and_what_belongs_together():
    made = alike.joined(6, pairs((1, 3, False), (3, 5, False)), [(0, 4)])
    assert made == alike.Groups((0, 1, 2, 1, 0, 1), 0)


@pytest.mark.parametrize("size", [alike.LARGE, alike.LARGE + 1])
def test_a_large_group_keeps_only_what_is_almost_equal(size):
    chain = [(n, n + 1, n == 0) for n in range(size - 1)]
    made = alike.joined(size, pairs(*chain))
    large = size > alike.LARGE
    assert made.divided == large
    assert made.numbers == ((0, 0, *range(1, size - 1)) if large else (0,) * size)
