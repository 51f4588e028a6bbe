"""The record, its numbers held against the original libraries, and the pipeline over many pictures."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vertebra.data.preprocess import Preprocess, foreign, preprocess, preprocess_many, protocols, scans
from vertebra.data.preprocess.decode import EncodedImage
from vertebra.data.preprocess.resize import _chunks, _settle, resize
from vertebra.errors import ImageError, InvalidInputError, UnknownNameError

PHOTOGRAPHS = [
    path
    for folder in ("/usr/share/backgrounds/mate/nature", "/usr/share/libjxl-testdata/jxl/flower")
    for path in sorted(Path(folder).glob("*.jpg"))
]
some_photographs = pytest.mark.parametrize("path", PHOTOGRAPHS[::5], ids=lambda path: path.name)
all_photographs = pytest.mark.parametrize("path", PHOTOGRAPHS, ids=lambda path: path.name)
with_photographs = pytest.mark.skipif(
    not PHOTOGRAPHS, reason="no photographs: apt-get install mate-backgrounds libjxl-testdata"
)


def picture(height: int, width: int) -> np.ndarray:
    """The same on every machine: whole numbers only."""
    y, x, c = np.ogrid[:height, :width, :3]
    return ((x * x * 3 + y * y * 5 + x * y * 7 + c * 41) // (17 + c) % 256).astype(np.uint8)


def jpeg(pixels: np.ndarray, **options) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", **{"quality": 90, **options})
    return stream.getvalue()


def levels(tensor: np.ndarray, record: Preprocess) -> np.ndarray:
    """Grey levels (H, W, 3) that a tensor stands for."""
    values = tensor * np.reshape(record.std, (3, 1, 1)) + np.reshape(record.mean, (3, 1, 1))
    return (values * 255).transpose(1, 2, 0)


def digest(tensor: np.ndarray, record: Preprocess) -> str:
    return hashlib.sha256(np.rint(levels(tensor, record)).astype(np.uint8).tobytes()).hexdigest()[:16]


# ------------------------------------------------------------------ the record

RECORDS = st.builds(
    Preprocess,
    input_size=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    resize=st.one_of(st.integers(300, 600), st.tuples(st.integers(300, 600), st.integers(300, 600))),
    interpolation=st.sampled_from(["bilinear", "bicubic", "lanczos", "opencv-bilinear"]),
    resize_rounding=st.sampled_from(["floor", "nearest"]),
    crop_rounding=st.sampled_from(["floor", "nearest"]),
    mean=st.tuples(*[st.floats(-1, 1)] * 3),
    std=st.tuples(*[st.floats(0.01, 2)] * 3),
    apply_orientation=st.booleans(),
    decode=st.sampled_from(["exact", "scaled"]),
)


@given(RECORDS)
def test_a_record_survives_json(record):
    assert Preprocess.from_json(record.to_json()) == record


@given(RECORDS, st.integers(1, 5000), st.integers(1, 5000))
def test_the_crop_lies_inside_the_resized_picture(record, height, width):
    resized = record.resized(height, width)
    top, left = record.corner(*resized)
    assert 0 <= top <= resized[0] - record.input_size[0]
    assert 0 <= left <= resized[1] - record.input_size[1]


def test_a_misspelt_key_is_refused_with_the_right_one():
    value = json.loads(protocols.find("timm").to_json())
    value["interpolatoin"] = value.pop("interpolation")
    with pytest.raises(InvalidInputError, match="interpolatoin") as caught:
        Preprocess.from_dict(value)
    assert caught.value.hint == 'did you mean "interpolation"?'


def test_a_missing_key_is_refused():
    value = json.loads(protocols.find("timm").to_json())
    del value["mean"]
    with pytest.raises(InvalidInputError, match="lacks mean"):
        Preprocess.from_dict(value)


def test_a_newer_version_is_refused_even_with_keys_unknown_today():
    value = {**json.loads(protocols.find("timm").to_json()), "version": 99, "tone_curve": "s"}
    with pytest.raises(InvalidInputError, match="version 99"):
        Preprocess.from_dict(value)


@pytest.mark.parametrize(
    "change",
    [
        {"input_size": (0, 224)},
        {"input_size": 224},
        {"input_size": (224.0, 224)},
        {"resize": 200},
        {"resize": True},
        {"resize": (300, 200)},
        {"interpolation": "cubic"},
        {"resize_rounding": "up"},
        {"crop_rounding": None},
        {"mean": (0.5, 0.5)},
        {"mean": (0.5, 0.5, float("nan"))},
        {"mean": (0.5, 0.5, 0.5, 0.5)},
        {"std": (0.2, 0.2, 0.0)},
        {"apply_orientation": 1},
        {"decode": "fast"},
        {"version": 0},
    ],
    ids=str,
)
def test_an_unusable_value_is_refused_by_its_name(change):
    with pytest.raises(InvalidInputError, match=next(iter(change))):
        dataclasses.replace(protocols.find("timm"), **change)


def test_a_version_that_never_was_is_not_called_newer():
    with pytest.raises(InvalidInputError, match="version is 0; it must be 1"):
        dataclasses.replace(protocols.find("timm"), version=0)


def test_sides_are_whole_numbers_from_1_to_65535():
    record = dataclasses.replace(protocols.find("timm"), input_size=(1, 1), resize=1)
    assert dataclasses.replace(record, resize=65_535).resized(2, 2) == (65_535, 65_535)
    with pytest.raises(InvalidInputError, match="resize"):
        dataclasses.replace(record, resize=65_536)


@pytest.mark.parametrize("text", ["", "[]", "3", "{", "null"])
def test_what_is_no_record_is_refused(text):
    with pytest.raises(InvalidInputError):
        Preprocess.from_json(text)


def test_sizes_follow_each_librarys_rounding():
    # 1203 × 1600 to 256: 340.48; the crop's spare 340 - 224 = 116
    assert protocols.torchvision().resized(1203, 1600) == (256, 340)
    # 375 × 500: 341.33; 3:2 photographs of 667: 1000 · 256 / 667 = 383.8
    assert protocols.torchvision().resized(667, 1000) == (256, 383)
    assert protocols.paddleclas().resized(667, 1000) == (256, 384)
    # an odd spare: 16.5 goes to the even 16 in torchvision, 17.5 to 18; PaddleClas always rounds down
    assert protocols.torchvision().corner(257, 259) == (16, 18)
    assert protocols.paddleclas().corner(257, 259) == (16, 17)
    # a longer side on a half goes to the even number: 513 · 256 / 512 = 256.5, 515 · 256 / 512 = 257.5
    assert protocols.paddleclas().resized(512, 513) == (256, 256)
    assert protocols.paddleclas().resized(515, 512) == (258, 256)
    assert protocols.torchvision().resized(512, 513) == (256, 256)
    assert protocols.torchvision().resized(515, 512) == (257, 256)


def test_every_protocol_subtracts_imagenets_mean_and_divides_by_its_deviation():
    for name, record in protocols.PROTOCOLS.items():
        assert (record.mean, record.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)), name


def test_only_paddleclas_turns_pictures_upright():
    turning = {name for name, record in protocols.PROTOCOLS.items() if record.apply_orientation}
    assert turning == {name for name in protocols.PROTOCOLS if name.startswith("paddleclas")}


def test_darknet53_has_its_three_protocols():
    sizes = {
        name: (record.resize, record.input_size[0])
        for name, record in protocols.PROTOCOLS.items()
        if "darknet53" in name
    }
    assert sorted(sizes.values()) == [(256, 224), (256, 256), (292, 256)]


def test_an_unknown_protocol_suggests_a_known_one():
    with pytest.raises(UnknownNameError) as caught:
        protocols.find("torchvison")
    assert "torchvision" in caught.value.hint


def test_timms_crop_pct_rounds_the_size_down():
    assert protocols.timm(260, 0.89).resize == 292  # 292.13
    assert protocols.timm(224, 0.9, crop_mode="squash").resize == (248, 248)  # 248.9
    with pytest.raises(InvalidInputError, match="border"):
        protocols.timm(224, 0.9, crop_mode="border")
    with pytest.raises(InvalidInputError, match="crop_pct"):
        protocols.timm(224, 87.5)
    with pytest.raises(InvalidInputError, match="crop_pct"):
        protocols.timm(224, -0.5)


# ------------------------------------------------------------------ numbers, in every clone


# height, width, resize, crop, sha256 of what cv2.resize (OpenCV 5.0.0) and the crop give
OPENCV = [
    (375, 500, 256, 224, "4b1a86add8d58ec2"),
    (333, 222, 256, 224, "a699af717f42dcda"),
    (90, 120, 256, 256, "3913e1f88cada202"),
    (512, 700, 292, 256, "79972464034b36ef"),
    (512, 512, 256, 224, "9eccab375c5eb3b9"),
]


@pytest.mark.parametrize(("height", "width", "size", "crop", "expected"), OPENCV)
def test_pixels_are_those_that_opencv_gave(height, width, size, crop, expected):
    record = protocols.paddleclas(size, crop)
    assert digest(preprocess(picture(height, width), record), record) == expected


# likewise from Pillow 13.0.0
PILLOW = [
    (375, 500, 256, 224, "bilinear", "4a62ff11db69a08c"),
    (333, 222, 256, 224, "bicubic", "49c2ebf0c3e759b6"),
    (90, 120, 256, 256, "bicubic", "007b2c572030f3e3"),
    (512, 700, 292, 256, "lanczos", "fcf577854ecf7a6c"),
    (1203, 1600, 232, 224, "bicubic", "e2457912f7e32de5"),
]


@pytest.mark.parametrize(("height", "width", "size", "crop", "interpolation", "expected"), PILLOW)
def test_pixels_are_those_that_pillow_gave(height, width, size, crop, interpolation, expected):
    record = protocols.torchvision(size, crop, interpolation)
    assert digest(preprocess(picture(height, width), record), record) == expected


def test_sums_over_more_pixels_than_fit_into_one_product_equal_pillows():
    pixels = np.random.default_rng(0).integers(0, 256, (3, 20_000, 3), dtype=np.uint8)
    expected = np.asarray(Image.fromarray(pixels).resize((2, 3), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(resize(pixels, (3, 2), (0, 0, 3, 2), "bilinear"), expected)


def test_sums_are_rounded_half_up_and_only_doubtful_ones_done_again():
    asked = []

    def exact(places):
        asked.extend(places)
        return np.full(len(places), 7.5)

    sums = np.float32([[0.25, 0.375, 0.625], [-3.0, 300.0, 1.75]])
    _settle(sums, 0.25, exact)  # a sum is less than that off
    assert asked == [1, 2]
    assert sums.tolist() == [[0, 8, 8], [0, 255, 2]]


@pytest.mark.parametrize(("length", "taps", "step"), [(5, 2**20, 1), (5, 2**13, 2), (5, 2**12, 4)])
def test_products_are_done_in_chunks_of_at_most_2_to_the_17(length, taps, step):
    chunks = [range(length)[chunk] for chunk in _chunks(length, taps)]
    assert [len(chunk) for chunk in chunks[:-1]] == [step] * (len(chunks) - 1)
    assert [place for chunk in chunks for place in chunk] == list(range(length))


@pytest.mark.parametrize("turned", [False, True])
def test_a_picture_halved_one_way_and_doubled_the_other_is_as_worked_out_by_hand(turned):
    pixels = np.uint8([[[0] * 3, [100] * 3, [200] * 3, [102] * 3]])
    expected = np.uint8([[[50] * 3, [151] * 3]] * 2)
    if turned:
        pixels, expected = pixels.transpose(1, 0, 2), expected.transpose(1, 0, 2)
    np.testing.assert_array_equal(resize(pixels, (2, 2), (0, 0, 2, 2), "opencv-bilinear"), expected)


SIDES = st.integers(1, 420)


@given(height=SIDES, width=SIDES, resized=st.tuples(SIDES, SIDES), seed=st.integers(0, 99), data=st.data())
@settings(deadline=None, max_examples=60)
def test_any_crop_of_any_resize_equals_pillows(height, width, resized, seed, data):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    interpolation = data.draw(st.sampled_from(["bilinear", "bicubic", "lanczos"]))
    crop = (data.draw(st.integers(1, resized[0])), data.draw(st.integers(1, resized[1])))
    top, left = (
        data.draw(st.integers(0, resized[0] - crop[0])),
        data.draw(st.integers(0, resized[1] - crop[1])),
    )
    method = Image.Resampling[interpolation.upper()]
    # One pass after the other: where a picture grows wider and less high, Pillow 13 swaps the two.
    whole = Image.fromarray(pixels).resize((resized[1], height), method).resize(resized[::-1], method)
    expected = np.asarray(whole)[top : top + crop[0], left : left + crop[1]].astype(int)
    found = resize(pixels, resized, (top, left, *crop), interpolation)
    # Lanczos needs a sine, which mathematical libraries round differently in the last bit.
    assert np.abs(found - expected).max() <= (1 if interpolation == "lanczos" else 0)
    quick = resize(pixels, resized, (top, left, *crop), interpolation, quick=True)
    # Of noise the overshoot, clipped between the passes or not, makes the difference.
    assert np.abs(quick - expected).mean() <= 8


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize("size", [(320, 400), (640, 800), (96, 120)])
def test_drawings_whose_sums_lie_where_rounding_turns_equal_pillows(size, interpolation):
    y, x = np.mgrid[: size[0], : size[1]]
    grids = [(x + y) % 2, (x // 2 + y // 3) % 2, x % 4 // 2]  # halves, thirds and quarters of their steps
    for low, high in ((0, 1), (254, 255), (0, 255)):
        pixels = (np.stack(grids, axis=2) * (high - low) + low).astype(np.uint8)
        resized = (size[0] * 4 // 5, size[1] // 2)
        whole = Image.fromarray(pixels).resize((resized[1], size[0]), Image.Resampling[interpolation.upper()])
        expected = np.asarray(whole.resize(resized[::-1], Image.Resampling[interpolation.upper()]))
        found = resize(pixels, resized, (3, 5, resized[0] - 7, resized[1] - 9), interpolation)
        expected = expected[3 : 3 + found.shape[0], 5 : 5 + found.shape[1]].astype(int)
        assert np.abs(found - expected).max() <= (1 if interpolation == "lanczos" else 0)


@given(height=SIDES, width=SIDES, resized=st.tuples(SIDES, SIDES), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=60)
def test_any_resize_equals_opencvs(height, width, resized, seed):
    cv2 = pytest.importorskip("cv2")
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    found = resize(pixels, resized, (0, 0, *resized), "opencv-bilinear")
    np.testing.assert_array_equal(found, cv2.resize(pixels, resized[::-1]).reshape(*resized, 3))


def test_a_flat_picture_stays_flat_and_is_normalised_by_hand_computed_numbers():
    record = protocols.torchvision(mean=(0.5, 0.25, 0.0), std=(0.5, 0.25, 1.0))
    tensor = preprocess(np.full((300, 400, 3), 255, np.uint8), record)
    assert tensor.shape == (3, 224, 224)
    assert tensor.dtype == np.float32
    assert tensor.flags.c_contiguous
    np.testing.assert_array_equal(np.unique(tensor[0]), np.float32([1.0]))
    np.testing.assert_array_equal(np.unique(tensor[1]), np.float32([3.0]))
    np.testing.assert_array_equal(np.unique(tensor[2]), np.float32([1.0]))


def test_a_line_of_20000_pixels_takes_no_gigabytes():
    record = protocols.torchvision()  # resized it would have 1,310,720,000 pixels
    tensor = preprocess(np.full((1, 20_000, 3), 7, np.uint8), record)
    np.testing.assert_allclose(levels(tensor, record), 7, atol=1e-4)


@pytest.mark.parametrize("shape", [(4, 4), (4, 4, 1), (4, 4, 4), (0, 4, 3)])
def test_pixels_of_another_shape_are_refused(shape):
    with pytest.raises(InvalidInputError, match="H, W, 3"):
        preprocess(np.zeros(shape, np.uint8), protocols.torchvision())


# ------------------------------------------------------------------ the originals, on photographs


def theirs_torchvision(path, size, crop, interpolation):
    transforms = pytest.importorskip("torchvision.transforms")
    pipeline = transforms.Compose(
        [
            transforms.Resize(size, transforms.InterpolationMode(interpolation)),
            transforms.CenterCrop(crop),
            transforms.ToTensor(),
            transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    return pipeline(Image.open(path).convert("RGB")).numpy()


def theirs_paddleclas(path, size, crop):
    cv2 = pytest.importorskip("cv2")
    image = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]
    height, width = image.shape[:2]
    scale = size / min(height, width)
    image = cv2.resize(image, (round(width * scale), round(height * scale)))
    top, left = (image.shape[0] - crop) // 2, (image.shape[1] - crop) // 2
    image = image[top : top + crop, left : left + crop]
    mean, std = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
    return ((image.astype(np.float32) * np.float32(1 / 255) - mean) / std).transpose(2, 0, 1)


def check_torchvision(path):
    for size, crop, interpolation in ((256, 224, "bilinear"), (232, 224, "bicubic"), (384, 384, "bicubic")):
        expected = theirs_torchvision(path, size, crop, interpolation)
        found = preprocess(path, protocols.torchvision(size, crop, interpolation))
        np.testing.assert_array_equal(found, expected)


def check_paddleclas(path):
    for size, crop in ((256, 224), (292, 256), (256, 256)):
        found = preprocess(path, protocols.paddleclas(size, crop))
        # (x / 255 - mean) / std here, (x · (1/255) - mean) / std there: the last bit of float32
        np.testing.assert_allclose(found, theirs_paddleclas(path, size, crop), atol=1e-6, rtol=0)


@with_photographs
@some_photographs
def test_torchvisions_own_output_is_met_to_the_bit(path):
    check_torchvision(path)


@with_photographs
@some_photographs
def test_paddleclass_own_output_is_met(path):
    check_paddleclas(path)


@pytest.mark.slow
@with_photographs
@all_photographs
def test_every_photograph_is_as_its_libraries_make_it(path):
    check_torchvision(path)
    check_paddleclas(path)


@with_photographs
@pytest.mark.parametrize(
    ("size", "crop_pct", "interpolation", "crop_mode"),
    [
        (224, 0.875, "bicubic", "center"),
        (260, 0.89, "bicubic", "center"),
        (224, 1.0, "bilinear", "center"),
        (224, 0.9, "bicubic", "squash"),
        (240, 0.95, "lanczos", "center"),
    ],
)
def test_timms_own_output_is_met(size, crop_pct, interpolation, crop_mode):
    timm_data = pytest.importorskip("timm.data")
    transform = timm_data.create_transform(
        input_size=(3, size, size), crop_pct=crop_pct, interpolation=interpolation, crop_mode=crop_mode
    )
    record = protocols.timm(size, crop_pct, interpolation, crop_mode=crop_mode)
    for path in PHOTOGRAPHS[::9]:
        expected = transform(Image.open(path).convert("RGB")).numpy()
        difference = np.abs(levels(preprocess(path, record), record) - levels(expected, record))
        assert difference.max() <= (1.01 if interpolation == "lanczos" else 1e-4)


def test_biancos_protocol_is_crop_pct_0875_and_bilinear_whatever_the_size():
    record = protocols.bianco2018(331)
    assert (record.resize, record.input_size, record.interpolation) == (378, (331, 331), "bilinear")  # 378.3


# ------------------------------------------------------------------ scaled decoding


@with_photographs
def test_scaled_decoding_changes_a_photograph_by_a_few_grey_levels_only():
    record = protocols.torchvision()
    scaled = dataclasses.replace(record, decode="scaled")
    for path in PHOTOGRAPHS[::6]:
        exact = levels(preprocess(path, record), record)
        difference = np.abs(levels(preprocess(path, scaled), record) - exact)
        assert 0 < difference.mean() < 4


@pytest.mark.parametrize("orientation", range(1, 9))
def test_scaled_decoding_shows_the_same_picture_whatever_its_orientation(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    y, x = np.mgrid[:1200, :1600]
    smooth = np.stack([x / 1600, y / 1200, (x + y) / 2800], axis=2) * 255
    data = jpeg(smooth.astype(np.uint8), exif=exif)
    record = protocols.paddleclas()
    scaled = dataclasses.replace(record, decode="scaled")
    difference = levels(preprocess(data, scaled), record) - levels(preprocess(data, record), record)
    assert np.abs(difference).max() < 4


@pytest.mark.parametrize(
    ("size", "at_least", "divisor"),
    [
        ((800, 1600), (200, 200), 4),  # an eighth of the height would be too small
        ((1600, 800), (200, 200), 4),
        ((1600, 1600), (200, 200), 8),
        ((1600, 1600), (201, 200), 4),
        ((1600, 1600), (200, 201), 4),
        ((400, 1600), (200, 300), 2),
        ((399, 1600), (200, 200), 2),
        ((397, 1600), (200, 200), 1),
        ((100, 1600), (200, 200), 1),
    ],
)  # fmt: skip
def test_a_scaled_decode_leaves_both_sides_large_enough(size, at_least, divisor):
    image = EncodedImage("a", b"", "JPEG", *size, 1, None)
    assert image._divisor(at_least) == divisor


def test_an_oblong_picture_that_is_squashed_is_not_decoded_too_small():
    record = protocols.timm(224, 0.9, crop_mode="squash")
    scaled = dataclasses.replace(record, decode="scaled")
    x = np.mgrid[:500, :2400][1]
    data = jpeg(np.repeat((x % 2400 / 2400 * 255).astype(np.uint8)[:, :, None], 3, axis=2), quality=95)
    difference = levels(preprocess(data, scaled), record) - levels(preprocess(data, record), record)
    assert np.abs(difference).max() < 4


def progressive(height: int, width: int, **options) -> bytes:
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / 40 + y / 90), np.sin(y / 25), np.cos((x - y) / 60)]
    noise = np.random.default_rng(0).normal(0, 12, (height, width, 3))
    pixels = (127 + 90 * np.stack(waves, axis=2) + noise).clip(0, 255).astype(np.uint8)
    return jpeg(pixels, progressive=True, **options)


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2"])
def test_an_eighth_of_a_progressive_jpeg_needs_only_its_first_scans(subsampling):
    simplejpeg = pytest.importorskip("simplejpeg")
    data = progressive(1200, 1600, subsampling=subsampling)
    light = scans.thinned(data, 8)
    assert len(light) < len(data) / 2
    whole, part = (simplejpeg.decode_jpeg(one, min_height=150, min_width=200) for one in (data, light))
    assert whole.shape == (150, 200, 3)
    np.testing.assert_array_equal(whole, part)


@pytest.mark.parametrize(("divisor", "subsampling"), [(4, "4:4:4"), (4, "4:2:0"), (8, "4:2:0")])
def test_a_smaller_progressive_jpeg_is_a_grey_level_off_without_its_last_bits(divisor, subsampling):
    simplejpeg = pytest.importorskip("simplejpeg")
    data = progressive(1200, 1600, subsampling=subsampling)
    light = scans.thinned(data, divisor)
    assert len(scans.thinned(data, 8)) <= len(light) < len(data)
    least = {"min_height": 1200 // divisor, "min_width": 1600 // divisor}
    whole, part = (simplejpeg.decode_jpeg(one, **least) for one in (data, light))
    assert 0 < np.abs(whole.astype(int) - part).mean() < 2


def test_scans_are_left_out_of_whole_progressive_jpegs_only():
    data = progressive(300, 400)
    baseline = jpeg(picture(300, 400))
    assert scans.thinned(baseline, 8) is baseline
    assert scans.thinned(data, 2) is data
    for length in range(2, len(data), 997):
        cut = data[:length]
        assert scans.thinned(cut, 8) is cut
    assert scans.thinned(data + b"behind it", 8) == scans.thinned(data, 8)


def test_a_progressive_jpeg_that_is_cut_is_refused_in_scaled_mode_too():
    data = progressive(1200, 1600)
    record = dataclasses.replace(protocols.torchvision(), resize=(150, 200), input_size=(150, 150))
    record = dataclasses.replace(record, decode="scaled")
    assert preprocess(data, record).shape == (3, 150, 150)
    for length in (len(data) // 3, len(data) - 2):
        with pytest.raises(ImageError, match="damaged JPEG"):
            preprocess(data[:length], record)


# ------------------------------------------------------------------ many


def small_jpegs(count: int) -> list[bytes]:
    return [jpeg(np.roll(picture(64, 80), index, axis=1)) for index in range(count)]


def test_many_come_in_order_and_equal_to_one_by_one():
    sources, record = small_jpegs(20), protocols.torchvision()
    together = list(preprocess_many(sources, record, workers=3, prefetch=5))
    for source, tensor in zip(sources, together, strict=True):
        np.testing.assert_array_equal(tensor, preprocess(source, record))


def test_an_unreadable_picture_comes_as_its_error_and_the_run_goes_on():
    sources = small_jpegs(5)
    sources[2] = b"no picture"
    results = list(preprocess_many(sources, protocols.torchvision(), workers=2))
    assert [isinstance(result, ImageError) for result in results] == [False, False, True, False, False]
    assert "10 bytes" in str(results[2])


def test_sources_are_read_no_further_ahead_than_asked():
    taken = []

    def sources():
        for index, data in enumerate(small_jpegs(30)):
            taken.append(index)
            yield data

    results = preprocess_many(sources(), protocols.torchvision(), workers=2, prefetch=4)
    for count in range(1, 11):
        next(results)
        assert len(taken) <= count + 4
    results.close()
    assert len(taken) <= 14


def test_leaving_early_ends_the_threads():
    results = preprocess_many(small_jpegs(30), protocols.torchvision(), workers=2)
    next(results)
    results.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("preprocess")]


def test_a_mistake_of_the_caller_ends_the_run():
    with pytest.raises(InvalidInputError):
        list(preprocess_many([3.5], protocols.torchvision()))
    with pytest.raises(InvalidInputError, match="workers"):
        preprocess_many([], protocols.torchvision(), workers=0)
    with pytest.raises(InvalidInputError, match="workers is 0 and prefetch 4"):
        preprocess_many([], protocols.torchvision(), workers=0, prefetch=4)
    with pytest.raises(InvalidInputError, match="prefetch 0"):
        preprocess_many([], protocols.torchvision(), prefetch=0)


def test_no_sources_give_no_results():
    assert list(preprocess_many([], protocols.torchvision())) == []


@pytest.mark.parametrize("text", ["[" * 100_000, '{"resize": ' + "[" * 900 + "]" * 900 + "}"])
def test_a_record_that_nests_too_deeply_is_told_so(text):
    with pytest.raises(InvalidInputError, match="levels deep"):
        Preprocess.from_json(text)


# ------------------------------------------------------------------ as other libraries write it

HALF = (0.5, 0.5, 0.5)
VIT = {"do_resize": True, "size": {"height": 224, "width": 224}, "resample": 2, "do_rescale": True,
       "rescale_factor": 0.00392156862745098, "do_normalize": True, "image_mean": [0.5] * 3,
       "image_std": [0.5] * 3, "image_processor_type": "ViTImageProcessor"}  # fmt: skip
RESNET = {**VIT, "size": {"shortest_edge": 256}, "do_center_crop": True, "resample": 3,
          "crop_size": {"height": 224, "width": 224}}  # fmt: skip
CONVNEXT = {**VIT, "size": {"shortest_edge": 224}, "crop_pct": 0.875, "resample": 3}


def hub(side: int, resize: int | tuple[int, int], interpolation: str, **scale) -> Preprocess:
    scale = scale or {"mean": HALF, "std": HALF}
    return Preprocess((side, side), resize, interpolation, crop_rounding="floor", **scale)


FOREIGN = {
    "ViT": (VIT, hub(224, (224, 224), "bilinear")),
    "ViT of old": ({**VIT, "size": 224}, hub(224, (224, 224), "bilinear")),
    "ResNet": (RESNET, hub(224, 256, "bicubic")),
    "with sizes as numbers": ({**RESNET, "size": 256, "crop_size": 224}, hub(224, 256, "bicubic")),
    "ConvNeXt": (CONVNEXT, hub(224, 256, "bicubic")),
    "ConvNeXt of 384": ({**CONVNEXT, "size": {"shortest_edge": 384}}, hub(384, (384, 384), "bicubic")),
    "not normalised": (
        {**VIT, "do_normalize": False}, hub(224, (224, 224), "bilinear", mean=(0, 0, 0), std=(1, 1, 1)),
    ),
    "timm": (
        {"architecture": "x", "pretrained_cfg": {"input_size": [3, 256, 256], "crop_pct": 0.95,
         "interpolation": "bicubic", "mean": [0.5] * 3, "std": [0.5] * 3, "crop_mode": "squash"}},
        protocols.timm(256, 0.95, "bicubic", mean=HALF, std=HALF, crop_mode="squash"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FOREIGN)
def test_preprocessing_is_read_as_hugging_face_and_timm_write_it(name):
    config, record = FOREIGN[name]
    assert foreign.from_json(json.dumps(config)) == record


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({**VIT, "do_pad": True}, "do_pad is true"),
        ({**VIT, "do_rescale": False}, "do_rescale is false"),
        ({**VIT, "rescale_factor": 1 / 127.5}, "rescale_factor is 0.0078"),
        ({**VIT, "resample": 0}, "resample is 0"),
        ({**VIT, "image_mean": [0.5]}, r"image_mean is \[0.5\]"),
        ({**RESNET, "do_center_crop": False}, "do_center_crop is false"),
        ({**RESNET, "crop_size": None, "size": {"longest_edge": 3}}, "size is"),
        ({"model_type": "vit", "id2label": {}}, "has no preprocessing"),
        (
            {"pretrained_cfg": {"input_size": [1, 28, 28], "crop_pct": 1, "interpolation": "bilinear"}},
            "input_size",
        ),
        ({"do_resiz": True}, 'Unknown key "do_resiz"'),
    ],
)
def test_foreign_preprocessing_that_a_record_cannot_say_is_refused(config, message):
    with pytest.raises(InvalidInputError, match=message):
        foreign.from_json(json.dumps(config))


def test_json_that_is_nested_too_deeply_is_refused():
    with pytest.raises(InvalidInputError):
        foreign.from_json("[" * 100_000)
