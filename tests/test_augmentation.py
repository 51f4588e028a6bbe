"""What a training picture goes through: the papers' and the libraries' distributions, by given draws."""

from __future__ import annotations

import dataclasses
import io
import math
import random

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from torchvision import transforms
from torchvision.transforms import autoaugment

from vertebra.data.preprocess import Preprocess, preprocess
from vertebra.errors import ImageError
from vertebra.training import augmentation, operations
from vertebra.training.augmentation import Box, crop_of, cropped, draws_of, picture
from vertebra.training.recipe import Recipe
from vertebra.training.recipes import find

PUBLISHED, MODERN = find("published", "alexnet"), find("modern", "resnet50_acnet")


def recipe(base: Recipe = MODERN, **given: object) -> Recipe:
    return dataclasses.replace(base, **given)


def photo(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Smooth colours with some grain."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (height // 24 + 2, width // 24 + 2, 3), np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC), np.int16)
    return np.clip(smooth + generator.integers(-6, 7, smooth.shape), 0, 255).astype(np.uint8)


def jpeg(pixels: np.ndarray, **options: object) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=92, **options)
    return stream.getvalue()


# ------------------------------------------------------------------ crops


def paddleclas_crop(height: int, width: int) -> tuple[int, int, int, int]:
    """A reference for PaddleClas's RandCropImage, as its configuration describes it: aspect uniform in
    [3/4, 4/3], area uniform in [0.08, 1] as far as it fits."""
    aspect = random.uniform(3 / 4, 4 / 3)
    most = min((width / height) / aspect, (height / width) * aspect)
    area = width * height * random.uniform(min(0.08, most), min(1.0, most))
    wide, tall = int(math.sqrt(area * aspect)), int(math.sqrt(area / aspect))
    return random.randint(0, height - tall), random.randint(0, width - wide), tall, wide


def torchvision_crop(height: int, width: int) -> tuple[int, int, int, int]:
    params = transforms.RandomResizedCrop.get_params(
        torch.empty(3, height, width), (0.08, 1.0), (3 / 4, 4 / 3)
    )
    return tuple(int(one) for one in params)


@pytest.mark.parametrize(("height", "width"), [(375, 500), (500, 300), (224, 224), (100, 900)])
@pytest.mark.parametrize(("base", "reference"), [(PUBLISHED, paddleclas_crop), (MODERN, torchvision_crop)])
def test_crops_have_the_distribution_of_their_library(height: int, width: int, base: Recipe, reference):
    random.seed(1)
    torch.manual_seed(1)
    count = 1500
    ours = np.array([crop_of(base, height, width, draws_of(3, 0, place)) for place in range(count)], float)
    theirs = np.array([reference(height, width) for _ in range(count)], float)
    for facts in (ours, theirs):
        assert (facts[:, 0] + facts[:, 2] <= height).all()
        assert (facts[:, 1] + facts[:, 3] <= width).all()
    for fact in (
        lambda box: box[:, 2] * box[:, 3],
        lambda box: box[:, 3] / box[:, 2],
        lambda box: box[:, 0] / (height - box[:, 2] + 1),
        lambda box: box[:, 1] / (width - box[:, 3] + 1),
    ):
        assert stats.ks_2samp(fact(ours), fact(theirs)).pvalue > 0.001


def test_the_two_crops_differ():
    pairs = []
    for base in (PUBLISHED, MODERN):
        boxes = [crop_of(base, 400, 400, draws_of(0, 0, place)) for place in range(3000)]
        pairs.append([math.log(box.width / box.height) for box in boxes])
    assert stats.ks_2samp(*pairs).pvalue < 1e-3


def test_a_picture_that_no_crop_fits_gets_the_largest_central_one():
    shares = np.full(40, 0.999)  # the largest area and the widest aspect don't fit a tall picture
    assert crop_of(MODERN, 1000, 100, shares) == Box((1000 - 133) // 2, 0, 133, 100)


def test_crops_of_pixels_are_resized_as_their_library_does():
    pixels, shares = photo(300, 400), draws_of(0, 0, 1)
    top, left, height, width = crop_of(MODERN, 300, 400, shares)
    part = Image.fromarray(pixels[top : top + height, left : left + width])
    expected = np.asarray(part.resize((224, 224), Image.Resampling.BILINEAR))
    assert (cropped(pixels, MODERN, shares) == expected).all()

    cv2 = pytest.importorskip("cv2")
    top, left, height, width = crop_of(PUBLISHED, 300, 400, shares)
    part = np.ascontiguousarray(pixels[top : top + height, left : left + width])
    expected = cv2.resize(part, (224, 224), interpolation=cv2.INTER_LINEAR)
    assert (cropped(pixels, PUBLISHED, shares) == expected).all()


@pytest.mark.parametrize("size", [(1200, 1600), (2400, 1800), (260, 300)])
def test_scaled_decoding_changes_a_crop_by_little(size: tuple[int, int]):
    pixels = photo(*size)
    encoded = jpeg(pixels)
    worst, means = [], []
    for place in range(12):
        shares = draws_of(0, 0, place)
        exact = cropped(encoded, recipe(decode="exact"), shares).astype(int)
        scaled = cropped(encoded, recipe(decode="scaled"), shares).astype(int)
        difference = np.abs(exact - scaled)
        worst.append(np.percentile(difference, 99))
        means.append(difference.mean())
    assert max(means) <= 1.5  # docs/train-recipes.md states both
    assert max(worst) <= 6


def test_a_turned_picture_is_cropped_upright_where_evaluation_turns_it():
    pixels = photo(200, 300)
    exif = Image.Exif()
    exif[0x0112] = 6
    encoded, shares = jpeg(pixels, exif=exif.tobytes()), draws_of(0, 0, 2)
    upright = recipe(PUBLISHED, interpolation="bilinear")
    assert upright.evaluation.apply_orientation
    turned = cropped(encoded, upright, shares).astype(int)
    expected = cropped(np.rot90(pixels, -1).copy(), upright, shares).astype(int)
    assert np.abs(turned - expected).mean() < 6
    as_stored = cropped(encoded, recipe(MODERN, decode="exact"), shares).astype(int)
    assert np.abs(as_stored - cropped(pixels, MODERN, shares).astype(int)).mean() < 6


def test_the_evaluation_crop_is_that_of_evaluation():
    record = Preprocess(
        input_size=(64, 64), resize=80, interpolation="bicubic", mean=(0, 0, 0), std=(1, 1, 1)
    )
    given = recipe(evaluation=record, crop="evaluation", flip=0.0, augment="none", erasing=0.0)
    for decode in ("exact", "scaled"):
        encoded = jpeg(photo(300, 200))
        made, erased = picture(encoded, dataclasses.replace(given, decode=decode), draws_of(0, 0, 0))
        expected = preprocess(encoded, dataclasses.replace(record, decode=decode)) * 255
        assert erased is None
        assert np.abs(made.transpose(2, 0, 1) - expected).max() <= 0.51


def test_padding_moves_the_evaluation_crop_and_black_comes_in():
    record = Preprocess(input_size=(8, 8), resize=(8, 8), interpolation="bilinear")
    given = recipe(evaluation=record, crop="pad", padding=2, flip=0.0, augment="none", erasing=0.0)
    pixels = photo(8, 8) | 1
    moves = set()
    for place in range(200):
        shares = draws_of(0, 0, place)
        made, _ = picture(pixels, given, shares)
        down, right = int(shares[0] * 5) - 2, int(shares[1] * 5) - 2
        expected = np.zeros_like(pixels)
        rows, columns = np.mgrid[0:8, 0:8]
        inside = (rows + down >= 0) & (rows + down < 8) & (columns + right >= 0) & (columns + right < 8)
        expected[inside] = pixels[(rows + down)[inside], (columns + right)[inside]]
        assert (made == expected).all()
        moves.add((down, right))
    assert len(moves) == 25


def test_half_of_the_pictures_are_mirrored():
    record = Preprocess(input_size=(4, 4), resize=(4, 4), interpolation="bilinear")
    given = recipe(evaluation=record, crop="evaluation", augment="none", erasing=0.0)
    pixels = photo(4, 4)
    made = [picture(pixels, given, draws_of(0, 0, place))[0] for place in range(1000)]
    mirrored = [(one == pixels[:, ::-1]).all() for one in made]
    assert all(there or (one == pixels).all() for there, one in zip(mirrored, made, strict=True))
    assert np.mean(mirrored) == pytest.approx(0.5, abs=0.063)  # 4 standard errors


def test_a_step_switched_off_changes_no_other():
    pixels = photo(260, 300)
    shares = draws_of(1, 2, 3)
    all_of_it = picture(pixels, recipe(erasing=1.0), shares)
    assert all_of_it[1] == picture(pixels, recipe(erasing=1.0, augment="none", flip=0.0), shares)[1]
    assert (all_of_it[0] == picture(pixels, recipe(erasing=0.0), shares)[0]).all()


def test_what_is_no_picture_is_named():
    with pytest.raises(ImageError, match="not a JPEG"):
        picture(b"nothing", MODERN, draws_of(0, 0, 0))


# ------------------------------------------------------------------ rectangles


def test_rectangles_are_erased_as_often_and_as_large_as_the_paper_has_it():
    torch.manual_seed(0)
    image, count = torch.zeros(3, 96, 128), 1500
    ours = [
        augmentation.erased(recipe(erasing=1.0), 96, 128, draws_of(0, 0, place)[83:])
        for place in range(count)
    ]
    assert all(box is not None and box.top + box.height <= 96 and box.left + box.width <= 128 for box in ours)
    theirs = [
        transforms.RandomErasing.get_params(image, (0.02, 1 / 3), (0.3, 1 / 0.3), [0.0])[:4]
        for _ in range(count)
    ]
    mine, others = np.array(ours, float), np.array(theirs, float)
    for column in range(4):
        assert stats.ks_2samp(mine[:, column], others[:, column]).pvalue > 0.001
    quarter = [
        augmentation.erased(recipe(erasing=0.25), 96, 128, draws_of(0, 0, place)[83:])
        for place in range(count)
    ]
    assert np.mean([box is not None for box in quarter]) == pytest.approx(0.25, abs=0.045)


# ------------------------------------------------------------------ operations

#: ours -> torchvision's
_THEIRS = {
    "identity": "Identity", "shear x": "ShearX", "shear y": "ShearY", "translate x": "TranslateX",
    "translate y": "TranslateY", "rotate": "Rotate", "brightness": "Brightness", "colour": "Color",
    "contrast": "Contrast", "sharpness": "Sharpness", "posterise": "Posterize", "solarise": "Solarize",
    "auto-contrast": "AutoContrast", "equalise": "Equalize",
}  # fmt: skip


@pytest.mark.parametrize("name", operations.NAMES)
@pytest.mark.parametrize("wide", [False, True])
def test_operations_and_their_strengths_are_torchvisions(name: str, wide: bool):
    image = Image.fromarray(photo(60, 80))
    policy = autoaugment.TrivialAugmentWide() if wide else autoaugment.RandAugment()
    space = policy._augmentation_space(31, *([] if wide else [(60, 80)]))
    assert set(space) == set(_THEIRS.values())
    levels, signed = space[_THEIRS[name]]
    for magnitude in (0, 1, 9, 15, 30):
        for sign in (0.2, 0.7):
            value = operations.strength(name, magnitude, wide=wide, size=image.size, sign=sign)
            theirs = float(levels[magnitude]) if levels.ndim else 0.0
            theirs = -theirs if signed and sign >= 0.5 else theirs
            assert value == pytest.approx(theirs, abs=1e-4)
            made = np.asarray(operations.apply(image, name, value), int)
            expected = np.asarray(
                autoaugment._apply_op(
                    image, _THEIRS[name], value, transforms.InterpolationMode.NEAREST, None
                ), int,
            )  # fmt: skip
            # A sheared pixel on a boundary may fall on either side: torchvision goes by degrees.
            assert (made != expected).mean() < (0.01 if name.startswith("shear") else 1e-9)


def test_all_operations_are_drawn_equally_often_and_magnitudes_too():
    drawn: list[str] = []
    magnitudes: list[float] = []

    def seen(image: Image.Image, name: str, value: float) -> Image.Image:
        drawn.append(name)
        magnitudes.append(abs(value) if name == "rotate" else 0.0)
        return image

    image, count = Image.new("RGB", (4, 4)), 4200
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(operations, "apply", seen)
        for place in range(count):
            operations.trivialaugment(image, draws_of(0, 0, place)[41:83].tolist())
        counts = [drawn.count(name) for name in operations.NAMES]
        assert stats.chisquare(counts).pvalue > 0.001
        steps = [
            round(value / 4.5) for name, value in zip(drawn, magnitudes, strict=True) if name == "rotate"
        ]
        assert set(steps) == set(range(31))
        drawn.clear()
        operations.randaugment(image, 5, 9, draws_of(0, 0, 0)[41:83].tolist())
        assert len(drawn) == 5


@pytest.mark.parametrize("augment", ["randaugment", "trivialaugment"])
def test_pictures_change_from_epoch_to_epoch_and_not_within_one(augment: str):
    pixels = photo(260, 300)
    given = recipe(augment=augment)
    first, again, other = (picture(pixels, given, draws_of(0, epoch, 5))[0] for epoch in (0, 0, 1))
    assert first.shape == (224, 224, 3)
    assert first.dtype == np.uint8
    assert (first == again).all()
    assert (first != other).any()
