"""Decoding by the stated rules, and of files that nobody vouches for."""

from __future__ import annotations

import importlib
import io
import os
import random
import re
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vertebra.data.preprocess import decode, open_image
from vertebra.data.preprocess.decode import exif_orientation
from vertebra.errors import ImageError, InvalidInputError

FLOWERS = sorted(Path("/usr/share/libjxl-testdata/jxl/flower").glob("*.jpg"))


def picture(height: int = 40, width: int = 60) -> np.ndarray:
    y, x, c = np.ogrid[:height, :width, :3]
    return ((x * 3 + y * 5 + c * 41) % 256).astype(np.uint8)


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


# ------------------------------------------------------------------ rules


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("PNG", {}),
        ("BMP", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("WEBP", {"lossless": True}),
    ],
)
def test_a_lossless_format_gives_the_pixels_back(kind, options):
    pixels = picture()
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(pixels), kind, **options)), pixels)


JPEGS = [
    {"quality": 90, "subsampling": "4:2:0"},
    {"quality": 90, "subsampling": "4:4:4"},
    {"quality": 30, "progressive": True},
    {"quality": 75, "restart_marker_rows": 1},
    {"quality": 75, "optimize": True},
]


@pytest.mark.parametrize("options", JPEGS, ids=str)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_jpeg_gives_pillows_pixels(mode, options):
    if mode != "RGB":
        options = {key: value for key, value in options.items() if key != "subsampling"}
    data = encoded(Image.fromarray(picture(41, 67)).convert(mode), "JPEG", **options)
    np.testing.assert_array_equal(decode(data), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


@pytest.mark.parametrize(("height", "width"), [(1, 1), (400, 1), (1, 400), (2, 3)])
def test_a_jpeg_that_is_a_line_is_decoded_whole(height, width):
    data = encoded(Image.fromarray(picture(height, width)), "JPEG")
    np.testing.assert_array_equal(decode(data), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


@pytest.mark.skipif(not FLOWERS, reason="no photographs: apt-get install libjxl-testdata")
@pytest.mark.parametrize("path", FLOWERS, ids=lambda path: path.name)
def test_every_coding_of_a_photograph_gives_pillows_pixels(path):
    np.testing.assert_array_equal(decode(path), np.asarray(Image.open(path).convert("RGB")))


def test_alpha_is_dropped_not_blended():
    pixels = np.dstack([picture(), np.zeros((40, 60), np.uint8)])
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(pixels), "PNG")), picture())


def test_grey_with_alpha_gives_three_equal_channels():
    pixels = np.dstack([picture()[:, :, 0], np.full((40, 60), 9, np.uint8)])
    found = decode(encoded(Image.fromarray(pixels), "PNG"))
    np.testing.assert_array_equal(found, np.repeat(picture()[:, :, :1], 3, axis=2))


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_a_palette_is_looked_up_transparent_or_not(kind):
    image = Image.fromarray(picture()).quantize(64)
    expected = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(decode(encoded(image, kind)), expected)
    np.testing.assert_array_equal(decode(encoded(image, kind, transparency=3)), expected)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_of_grey_keep_the_upper_eight(kind):
    grey = (np.arange(2400, dtype=np.uint16) * 27).reshape(40, 60)
    found = decode(encoded(Image.fromarray(grey), kind))
    np.testing.assert_array_equal(found, np.repeat((grey >> 8).astype(np.uint8)[:, :, None], 3, axis=2))


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *more: bytes) -> bytes:
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    body = png_chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(more) + body + png_chunk(b"IEND", b"")


def test_sixteen_bits_of_colour_keep_the_upper_eight():
    data = png(2, 1, 16, 2, b"\0" + struct.pack(">6H", 0x0102, 0x8090, 0xFFFE, 0x00FF, 0x1000, 0x7F01))
    assert decode(data).tolist() == [[[1, 0x80, 0xFF], [0, 0x10, 0x7F]]]


def test_one_bit_gives_black_and_white():
    data = encoded(Image.fromarray(picture()[:, :, 0] > 128), "PNG")
    assert set(np.unique(decode(data))) == {0, 255}


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_samples_of_32_bits_are_refused(dtype):
    data = encoded(Image.fromarray(np.ones((4, 4), dtype)), "TIFF")
    with pytest.raises(ImageError, match="32 bits"):
        decode(data)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_an_animation_gives_its_first_frame(kind):
    frames = [Image.new("RGB", (20, 10), colour) for colour in ("red", "blue", "lime")]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    np.testing.assert_array_equal(decode(data), np.broadcast_to(np.uint8([255, 0, 0]), (10, 20, 3)))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_the_name_says_nothing_of_the_format(kind, tmp_path):
    path = tmp_path / "picture.txt"
    path.write_bytes(encoded(Image.fromarray(picture()), kind))
    assert open_image(path).format == kind
    assert decode(str(path)).shape == (40, 60, 3)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_one_pixel_is_a_picture(kind):
    assert decode(encoded(Image.new("RGB", (1, 1), "white"), kind)).tolist() == [[[255, 255, 255]]]


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_20000_pixels_wide_is_a_picture(kind):
    assert decode(encoded(Image.new("RGB", (20_000, 2)), kind)).shape == (2, 20_000, 3)


# ------------------------------------------------------------------ orientation


def oriented(kind: str, orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 95, "subsampling": "4:4:4"} if kind == "JPEG" else {}
    if kind == "WEBP":
        options = {"lossless": True}
    return encoded(Image.fromarray(picture()), kind, exif=exif, **options)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_turns_as_pillow_turns(kind, orientation):
    from PIL import ImageOps

    data = oriented(kind, orientation)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    np.testing.assert_array_equal(decode(data, apply_orientation=True), np.asarray(expected))
    assert decode(data).shape == (40, 60, 3)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_turns_as_opencv_turns(orientation):
    cv2 = pytest.importorskip("cv2")
    data = oriented("JPEG", orientation)
    expected = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]
    np.testing.assert_array_equal(decode(data, apply_orientation=True), expected)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_tiff_is_always_upright(orientation):
    data = oriented("TIFF", orientation)
    assert decode(data).shape == ((40, 60, 3) if orientation < 5 else (60, 40, 3))
    np.testing.assert_array_equal(decode(data), decode(data, apply_orientation=True))


def exif(value: int, kind: int = 3, order: str = "<", count: int = 1) -> bytes:
    mark = b"II*\0" if order == "<" else b"MM\0*"
    return mark + struct.pack(f"{order}IHHHIHH", 8, count, 0x0112, kind, 1, value, 0)


def test_exif_is_read_in_both_byte_orders():
    assert exif_orientation(exif(6)) == 6
    assert exif_orientation(b"Exif\0\0" + exif(8, order=">")) == 8
    another = struct.pack("<HHIHH", 0x010F, 3, 1, 3, 0)  # a tag that stands before it
    block = exif(6, count=2)
    assert exif_orientation(block[:10] + another + block[10:]) == 6
    assert exif_orientation(block[:8] + struct.pack("<H", 1) + another) == 1


def test_pixels_are_turned_only_where_that_is_asked():
    image = open_image(oriented("JPEG", 6))
    assert image.pixels().shape == (40, 60, 3)
    assert image.pixels(apply_orientation=True).shape == (60, 40, 3)


@pytest.mark.parametrize(("kind", "form"), [(1, "B3x"), (3, "H2x"), (4, "I"), (8, "h2x"), (9, "i")])
@pytest.mark.parametrize("order", ["<", ">"])
def test_orientation_is_read_from_every_kind_of_whole_number(kind, form, order):
    for value in (1, 3, 6, 8):
        mark = b"II*\0" if order == "<" else b"MM\0*"
        block = mark + struct.pack(f"{order}IHHHI{form}", 8, 1, 0x0112, kind, 1, value)
        assert exif_orientation(block) == value
        turned = encoded(Image.fromarray(picture(40, 60)), "JPEG", exif=b"Exif\0\0" + block)
        assert decode(turned, apply_orientation=True).shape[:2] == ((60, 40) if value >= 5 else (40, 60))


@pytest.mark.parametrize(
    "block",
    [
        b"",
        b"Exif\0\0",
        exif(0),
        exif(9),
        exif(6, kind=2),
        exif(6, kind=5),
        exif(6)[:15],
        b"II*\0\xff\xff\xff\xff",
        b"garbage" * 9,
    ],
    ids=range(9),
)
def test_broken_exif_counts_as_none(block):
    assert exif_orientation(block) == 1
    body = b"Exif\0\0" + block
    data = encoded(Image.fromarray(picture()), "JPEG")
    broken = data[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + data[2:]
    assert decode(broken, apply_orientation=True).shape == (40, 60, 3)


# ------------------------------------------------------------------ refusals

KINDS = ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_truncated_picture_is_refused_with_its_name_and_a_reason(kind, tmp_path):
    data = encoded(Image.fromarray(picture(200, 300)), kind)
    path = tmp_path / "half.jpg"
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(ImageError, match=r"half\.jpg: damaged \w+: \w+"):
        decode(path)


@pytest.mark.parametrize("keep", [3, 10, 50, 0.3, 0.9, 0.99])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_truncated_jpeg_is_refused_wherever_it_ends(keep, progressive):
    data = encoded(Image.fromarray(picture(200, 300)), "JPEG", progressive=progressive)
    with pytest.raises(ImageError, match="damaged JPEG"):
        decode(data[: keep if isinstance(keep, int) else int(len(data) * keep)])


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "nothing.jpg").touch()
    with pytest.raises(ImageError, match=r"nothing\.jpg: the file is empty"):
        decode(tmp_path / "nothing.jpg")


@pytest.mark.parametrize(
    "data", [b"<svg/>", b"%PDF-1.7", b"\0" * 40, b"BM", b"\xff\xd8\xff", b"GIF89a", b"RIFF"]
)
def test_what_is_no_picture_is_refused(data):
    with pytest.raises(ImageError):
        decode(data)


@pytest.mark.parametrize("name", ["", "missing.jpg", "nul\0l.jpg"])
def test_a_path_that_cant_be_read_is_refused(name, tmp_path):
    with pytest.raises(ImageError):
        decode(tmp_path / name)


def test_a_file_of_too_many_bytes_is_refused(tmp_path, monkeypatch):
    path, data = tmp_path / "large.png", encoded(Image.fromarray(picture()), "PNG")
    path.write_bytes(data)
    module = importlib.import_module("vertebra.data.preprocess.decode")
    monkeypatch.setattr(module, "MAX_BYTES", len(data))
    assert decode(path).shape == (40, 60, 3)
    monkeypatch.setattr(module, "MAX_BYTES", len(data) - 1)
    with pytest.raises(ImageError, match="the file has more than"):
        decode(path)


@pytest.mark.parametrize("source", [None, 3, [1, 2]])
def test_what_is_no_source_is_the_callers_mistake(source):
    with pytest.raises(InvalidInputError):
        decode(source)


def bombs() -> dict[str, bytes]:
    small = encoded(Image.new("RGB", (16, 16)), "JPEG")
    frame = small.index(b"\xff\xc0") + 5
    tiff = encoded(Image.new("L", (16, 16)), "TIFF")
    for tag in (256, 257):  # width and height, 16 in 4 or 2 bytes
        place = tiff.index(struct.pack("<H", tag))
        tiff = tiff[: place + 2] + struct.pack("<HII", 4, 1, 60_000) + tiff[place + 12 :]
    return {
        "JPEG": small[:frame] + struct.pack(">HH", 65_000, 65_000) + small[frame + 4 :],
        "PNG": png(60_000, 60_000, 8, 2, b"\0" * 1000),
        "GIF": b"GIF89a" + struct.pack("<HHBBB", 60_000, 60_000, 0, 0, 0) + b"," + bytes(20),
        "BMP": b"BM"
        + struct.pack("<IIIIiiHHIIiiII", 70, 0, 54, 40, 60_000, 60_000, 1, 24, 0, 0, 0, 0, 0, 0)
        + bytes(9),
        "TIFF": tiff,
    }


@pytest.mark.parametrize("kind", bombs())
def test_a_decompression_bomb_is_refused_by_its_header(kind):
    with pytest.raises(ImageError, match="000 pixels, more than"):
        decode(bombs()[kind])


def test_a_webp_bomb_is_refused():
    data = encoded(Image.new("RGB", (16_000, 9_000)), "WEBP", lossless=True, method=0, quality=0)
    with pytest.raises(ImageError, match="more than"):
        decode(data)


def with_scans(data: bytes, more: int) -> bytes:
    """A progressive JPEG whose last scan comes `more` times again."""
    start = data.rindex(b"\xff\xda")
    return data[:-2] + data[start:-2] * more + data[-2:]


def test_a_large_jpeg_of_endless_scans_is_refused_by_its_markers():
    data = encoded(Image.new("RGB", (4000, 4000)), "JPEG", progressive=True)
    assert data.count(b"\xff\xda") == 10
    for count in (0, 22):
        assert open_image(with_scans(data, count)).height == 4000
    start = time.process_time()
    for count in (23, 5000):
        with pytest.raises(ImageError, match="4000 × 4000 pixels in more than 32 scans"):
            open_image(with_scans(data, count))
    assert time.process_time() - start < 1


def test_a_small_jpeg_may_have_more_scans_and_what_follows_its_end_is_not_counted():
    data = encoded(Image.fromarray(picture(100, 100)), "JPEG", progressive=True)
    assert open_image(with_scans(data, 400)).width == 100
    large = encoded(Image.new("RGB", (4000, 4000)), "JPEG", progressive=True)
    assert open_image(large + large * 10).width == 4000


def test_rubbish_between_segments_hides_no_scans():
    data = with_scans(encoded(Image.new("RGB", (4000, 4000)), "JPEG", progressive=True), 50)
    start = data.index(b"\xff\xda")
    with pytest.raises(ImageError, match="scans"):
        open_image(data[:start] + b"rubbish\xff\x00\xff\xd0" + data[start:])


@pytest.mark.parametrize("name", ["x.jpg", "link.jpg"])
def test_a_pipe_is_refused_instead_of_waited_for(tmp_path, name):
    os.mkfifo(tmp_path / "x.jpg")
    (tmp_path / "link.jpg").symlink_to(tmp_path / "x.jpg")
    with pytest.raises(ImageError, match="not a file, but a pipe"):
        open_image(tmp_path / name)
    (tmp_path / "zero.jpg").symlink_to("/dev/zero")
    with pytest.raises(ImageError, match="or a device"):
        open_image(tmp_path / "zero.jpg")


def test_a_pipe_of_the_shell_is_read(tmp_path):
    read, write = os.pipe()
    os.write(write, encoded(Image.fromarray(picture()), "PNG"))
    os.close(write)
    assert open_image(f"/dev/fd/{read}").width == 60
    os.close(read)


def test_the_limit_on_pixels_is_the_callers():
    data = encoded(Image.fromarray(picture()), "PNG")
    assert decode(data, max_pixels=2400).shape == (40, 60, 3)
    with pytest.raises(ImageError, match=r"60 × 40 pixels, more than max_pixels, 2,399"):
        decode(data, max_pixels=2399)


# ------------------------------------------------------------------ fuzz


def seeds() -> list[bytes]:
    """Small pictures of every format and kind of coding."""
    image = Image.fromarray(picture(48, 64))
    result = [encoded(image, "JPEG", **options) for options in JPEGS]
    result += [encoded(image.convert(mode), "JPEG") for mode in ("L", "CMYK")]
    result += [oriented(kind, 6) for kind in ("JPEG", "PNG", "WEBP", "TIFF")]
    result += [encoded(image.convert(mode), "PNG") for mode in ("RGB", "RGBA", "L", "LA", "P", "1")]
    result += [encoded(image, "WEBP", lossless=lossless) for lossless in (True, False)]
    result += [
        encoded(image, "TIFF", compression=name) for name in ("raw", "tiff_lzw", "tiff_adobe_deflate", "jpeg")
    ]
    result += [
        encoded(image.convert("P"), "GIF", save_all=True, append_images=[image.rotate(9).convert("P")])
    ]
    result += [encoded(image, "BMP"), encoded(image.convert("P"), "BMP")]
    return result


def mutated(data: bytes, draw: random.Random) -> bytes:
    """`data` with some bytes changed, cut out, doubled or swapped, more often near the head."""
    content = bytearray(data)
    for _ in range(draw.choice((1, 1, 2, 5, 20))):
        place = int(len(content) * draw.random() ** draw.choice((1, 4)))
        kind = draw.randrange(5)
        if kind == 0:
            content[place : place + 1] = bytes([draw.randrange(256)])
        elif kind == 1:
            content[place : place + 4] = draw.choice(
                (b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff", b"\x80\0\0\0")
            )
        elif kind == 2:
            del content[place : place + draw.randrange(1, 64)]
        elif kind == 3:
            content[place:place] = content[place : place + draw.randrange(1, 64)]
        else:
            del content[place + 1 :]
        if not content:
            break
    return bytes(content)


def fuzz(count: int) -> None:
    """Runs in a child process: prints what became of the files, and how the memory grew."""
    import psutil

    from vertebra.data.preprocess import preprocess, protocols

    originals, draw = seeds(), random.Random(20260101)
    records = [protocols.find("torchvision"), protocols.find("paddleclas")]
    outcomes, memory = {"read": 0, "refused": 0, "unexplained": 0}, []
    for index in range(count):
        source = mutated(draw.choice(originals), draw)
        try:
            tensor = preprocess(source, records[index % 2], max_pixels=4_000_000)
        except ImageError as error:
            outcomes["refused"] += 1
            outcomes["unexplained"] += not re.match(r"<[\d,]+ bytes>: \w.{8}", error.message)
        else:
            assert tensor.shape == (3, 224, 224)
            assert np.isfinite(tensor).all()
            outcomes["read"] += 1
        if index % (count // 10) == 0:
            memory.append(psutil.Process().memory_info().rss)
    print(*outcomes.values(), memory[len(memory) // 2], memory[-1])


def run_fuzz(count: int) -> tuple[int, int, int]:
    """Files read, files refused, growth of the memory in bytes over the second half."""
    tests = Path(__file__).resolve().parent
    paths = os.pathsep.join([str(tests), str(tests.parent / "src")])
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", f"import test_decode; test_decode.fuzz({count})"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": paths},
        check=False,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    read, refused, unexplained, middle, last = map(int, run.stdout.split())
    assert unexplained == 0
    return read, refused, last - middle


def test_no_mutated_file_crashes_the_decoder():
    read, refused, _ = run_fuzz(500)
    assert read + refused == 500
    assert min(read, refused) > 50


@pytest.mark.slow
def test_ten_thousand_mutated_files_neither_crash_nor_leak():
    read, refused, growth = run_fuzz(10_000)
    assert read + refused == 10_000
    assert growth < 60e6


# ------------------------------------------------------------------ limits that no pixel needs


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


BIG = zlib.compress(b"a" * 3_000_000)
BIG_CHUNKS = {
    "text": chunk(b"tEXt", b"parameters\0" + b"a" * 3_000_000),
    "packed text": chunk(b"zTXt", b"parameters\0\0" + BIG),
    "international text": chunk(b"iTXt", b"parameters\0\1\0\0\0" + BIG),
    "colour profile": chunk(b"iCCP", b"icc\0\0" + BIG),
    "many texts": chunk(b"zTXt", b"parameters\0\0" + zlib.compress(b"a" * 900_000)) * 90,
}


@pytest.mark.parametrize("name", BIG_CHUNKS)
@pytest.mark.parametrize("last", [False, True])
def test_a_png_with_much_text_or_a_large_profile_is_read(name, last):
    pixels = picture()
    whole = encoded(Image.fromarray(pixels), "PNG")
    place = len(whole) - 12 if last else 33  # before IEND, or after IHDR
    np.testing.assert_array_equal(decode(whole[:place] + BIG_CHUNKS[name] + whole[place:]), pixels)


@pytest.mark.parametrize(
    ("marker", "bits", "reason"),
    [
        (0xC1, 12, "JPEG with 12 bits per sample"),
        *[(marker, 8, "lossless JPEG") for marker in (0xC3, 0xC7, 0xCB, 0xCF, 0xF7)],
    ],
)
def test_a_kind_of_jpeg_that_is_not_read_is_not_called_damaged(marker, bits, reason):
    whole = bytearray(encoded(Image.fromarray(picture()), "JPEG"))
    place = whole.index(b"\xff\xc0")
    whole[place + 1], whole[place + 4] = marker, bits
    with pytest.raises(ImageError, match=f"{reason} is not supported") as error:
        decode(bytes(whole))
    assert "8 bits per sample" in (error.value.hint or "")
