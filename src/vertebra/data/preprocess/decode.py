"""Encoded pictures to RGB pixels, by stated rules, also for untrusted files.

The format is detected from the content, never from the file's name. JPEG goes through libjpeg-turbo
(simplejpeg), and through Pillow where that refuses; the other formats through Pillow. The rules:

grey             the three channels are equal
palette          looked up
alpha            dropped, neither blended nor premultiplied: the colour below it is what counts
CMYK, YCCK       Pillow's plain conversion, no colour profile; Adobe's inverted form is understood
16 bits          the upper 8
1 bit            0 and 255
32 bits, float   refused: no range is agreed on
animation        the first frame; in a file of several pictures, the first one
colour profiles  ignored
orientation      of EXIF (JPEG, PNG, WebP) where asked; broken EXIF counts as none. TIFF is always upright.
truncated        refused, however little is missing
"""

from __future__ import annotations

import importlib
import io
import os
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from vertebra.data.names import printable
from vertebra.data.preprocess import scans
from vertebra.errors import ImageError, InvalidInputError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from PIL.ImageFile import ImageFile

    Pixels: TypeAlias = npt.NDArray[np.uint8]
    #: An encoded picture: its bytes or its file; or pixels (H, W, 3) uint8, RGB.
    Source: TypeAlias = bytes | bytearray | memoryview | str | Path | npt.NDArray[np.uint8]
else:
    Pixels = Source = Any

#: The most pixels that are decoded unless asked otherwise: 134 million, 0.4 GB as RGB.
MAX_PIXELS = 2**27

#: The most bytes that are read of a file.
MAX_BYTES = 2**29

#: Where the streams are that a shell gave to this process.
_STREAMS = ("/dev/fd/", "/proc/self/fd/", "/dev/stdin")

#: The most scans of any JPEG; of a small one as many as make up this many pixels.
_USUAL_SCANS, _MOST_WORK = 32, 2**28

#: first bytes -> format
_SIGNATURES = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
)
_PLUGINS = {
    "JPEG": "JpegImagePlugin",
    "PNG": "PngImagePlugin",
    "WEBP": "WebPImagePlugin",
    "GIF": "GifImagePlugin",
    "BMP": "BmpImagePlugin",
    "TIFF": "TiffImagePlugin",
}
_FORMATS = "JPEG, PNG, WebP, BMP, GIF or TIFF"


def decode(
    source: Source,
    *,
    apply_orientation: bool = False,
    max_pixels: int = MAX_PIXELS,
) -> Pixels:
    """The picture's pixels (H, W, 3), uint8, RGB. Raises ImageError."""
    return open_image(source, max_pixels=max_pixels).pixels(apply_orientation=apply_orientation)


@dataclass(frozen=True)
class EncodedImage:
    """A picture whose header was read and whose pixels were not: `height` × `width` as stored, EXIF's
    `orientation` (1 to 8; 1 is upright)."""

    name: str
    data: bytes
    format: str
    height: int
    width: int
    orientation: int
    pillow: ImageFile | None

    def shape(self, *, apply_orientation: bool) -> tuple[int, int]:
        """(height, width) of the whole picture, turned upright or not."""
        turned = apply_orientation and self.orientation >= 5
        return (self.width, self.height) if turned else (self.height, self.width)

    def pixels(self, *, apply_orientation: bool = False, at_least: tuple[int, int] | None = None) -> Pixels:
        """Pixels (H, W, 3), uint8, RGB; not always contiguous. Raises ImageError.

        With `at_least` (height, width) a JPEG may come back smaller than it is, by 2, 4 or 8 but no smaller
        than that, through libjpeg-turbo's quick transforms, and a progressive one without its last bits.
        """
        pixels = self._turbo_pixels(apply_orientation, at_least)
        if pixels is None:
            pixels = self._pillow_pixels()
        return _turn(pixels, self.orientation) if apply_orientation else pixels

    def is_transparent(self) -> bool:
        """Whether a pixel is partly or wholly transparent, by an alpha channel or a palette; to be asked
        before `pixels`. Raises ImageError."""
        image = self.pillow
        if image is None or not (
            "A" in image.getbands() or (image.mode == "P" and "transparency" in image.info)
        ):
            return False
        with _refusing(self.name, self.format, self.data):
            image.load()
            alpha = (image.convert("RGBA") if image.mode == "P" else image).getchannel("A")
            return any(alpha.histogram()[:255])

    def _turbo_pixels(self, apply_orientation: bool, at_least: tuple[int, int] | None) -> Pixels | None:
        """None where libjpeg-turbo reports a problem: Pillow then decides."""
        if self.pillow is not None:
            return None
        import simplejpeg

        data, divisor = self.data, 1
        quick = at_least is not None
        if at_least is not None:
            turned = apply_orientation and self.orientation >= 5
            divisor = self._divisor(at_least[::-1] if turned else at_least)
            data = scans.thinned(data, divisor)
        try:
            pixels: Pixels = simplejpeg.decode_jpeg(
                data,
                fastdct=quick,
                fastupsample=quick,
                min_height=-(-self.height // divisor),
                min_width=-(-self.width // divisor),
            )
        except ValueError:
            return None
        return pixels

    def _divisor(self, at_least: tuple[int, int]) -> int:
        """The first of 8, 4, 2, 1 that leaves the picture large enough: the other eighths are slow."""
        for divisor in (8, 4, 2):
            if -(-self.height // divisor) >= at_least[0] and -(-self.width // divisor) >= at_least[1]:
                return divisor
        return 1

    def _pillow_pixels(self) -> Pixels:
        import numpy as np

        with _refusing(self.name, self.format, self.data):
            image = self.pillow or _open_pillow(self.data, self.format)
            if image.mode.startswith("I;16"):
                grey = (np.asarray(image) >> 8).astype(np.uint8)
                return np.repeat(grey[:, :, None], 3, axis=2)
            if image.mode in ("I", "F"):
                reason = f"{self.format} with 32 bits per sample has no agreed range"
                raise ImageError(f"{self.name}: {reason}.", "convert it to 8 bits per channel first")
            image.load()
            image.info.pop("transparency", None)  # alpha is dropped, and Pillow would warn of it
            return np.asarray(image.convert("RGB"))


def open_image(source: Source, *, max_pixels: int = MAX_PIXELS) -> EncodedImage:
    """Read a picture's header. Raises ImageError where it isn't a readable picture, or has more than
    `max_pixels`: both are known before a pixel is decoded."""
    name, data = _read(source)
    kind = _format(name, data)
    pillow = None
    size = _turbo_size(data) if kind == "JPEG" else None
    if size is None:
        with _refusing(name, kind, data):
            pillow = _open_pillow(data, kind)
        size = (pillow.height, pillow.width)
    _check_size(name, kind, size, max_pixels)
    if kind == "JPEG":
        _check_scans(name, data, size)
    orientation = exif_orientation(_exif(kind, data, pillow))
    return EncodedImage(name, data, kind, size[0], size[1], orientation, pillow)


def _check_size(name: str, kind: str, size: tuple[int, int], max_pixels: int) -> None:
    height, width = size
    if height < 1 or width < 1:
        raise ImageError(f"{name}: the {kind} has no pixels, {width} × {height}.")
    if height * width > max_pixels:
        raise ImageError(
            f"{name}: the {kind} has {width} × {height} pixels, more than max_pixels, {max_pixels:,}.",
            "make it smaller; or, if you trust its source, raise max_pixels (predict has --max-pixels)",
        )


def _check_scans(name: str, data: bytes, size: tuple[int, int]) -> None:
    """Refuse a JPEG that stores a large picture again and again, which takes a decoder minutes."""
    most = max(_USUAL_SCANS, _MOST_WORK // (size[0] * size[1]))
    found = scans.count(data, most)
    if found > most:
        raise ImageError(
            f"{name}: the JPEG stores its {size[1]} × {size[0]} pixels in more than {most} scans.",
            "open it in an image viewer and save it again; a camera's pictures have about 10",
        )


def _read(source: Source) -> tuple[str, bytes]:
    """What to call the source in messages, and its bytes."""
    if isinstance(source, bytes | bytearray | memoryview):
        data = bytes(source)
        return f"<{len(data):,} bytes>", data
    if not isinstance(source, str | os.PathLike):
        raise InvalidInputError(
            f"A picture must be bytes, a path or an array (H, W, 3) of uint8, not {type(source).__name__}."
        )
    name = printable(source)
    try:
        if not _is_file(source):
            raise ImageError(f"{name}: not a file, but a pipe or a device.", "pass its content: predict -")
        with open(source, "rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        reason = getattr(error, "strerror", None) or str(error)
        raise ImageError(f"{name}: can't be read: {reason}.", "pass the path of a picture") from error
    if len(data) > MAX_BYTES:
        raise ImageError(f"{name}: the file has more than {MAX_BYTES:,} bytes.")
    return name, data


def _is_file(path: str | os.PathLike[str]) -> bool:
    """Whether reading it can't wait for ever, as for a pipe that somebody put into a folder. What a shell
    makes of `<(command)` may be read, and opening a folder tells what is wrong with it."""
    kind = os.stat(path).st_mode
    return stat.S_ISREG(kind) or stat.S_ISDIR(kind) or str(path).startswith(_STREAMS)


def _format(name: str, data: bytes) -> str:
    for signature, kind in _SIGNATURES:
        if data.startswith(signature):
            return kind
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if not data:
        raise ImageError(f"{name}: the file is empty.")
    raise ImageError(
        f"{name}: not a {_FORMATS} file: it begins with {data[:8]!r}.",
        f"convert it to {_FORMATS}; the ending of its name doesn't matter",
    )


def _turbo_size(data: bytes) -> tuple[int, int] | None:
    """(height, width) of a JPEG that libjpeg-turbo turns into RGB by itself, else None."""
    import simplejpeg

    try:
        height, width, colorspace, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        return None
    return None if colorspace in ("CMYK", "YCCK") else (height, width)


def _open_pillow(data: bytes, kind: str) -> ImageFile:
    """Open it with the format's own plugin: `Image.open` would guess, and has its own limit of pixels."""
    from PIL import Image

    if kind == "PNG":
        data = _without_text(data)
    importlib.import_module(f"PIL.{_PLUGINS[kind]}")
    factory, _ = Image.OPEN[kind]
    return factory(io.BytesIO(data), "")


def _without_text(data: bytes) -> bytes:
    """A PNG without its texts and colour profile, for which Pillow has limits and which no pixel needs."""
    kept, start, position = [], 0, 8
    while position + 12 <= len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        end = position + 12 + length
        if data[position + 4 : position + 8] in (b"tEXt", b"zTXt", b"iTXt", b"iCCP") and end <= len(data):
            kept.append(data[start:position])
            start = end
        position = end
    return b"".join([*kept, data[start:]]) if kept else data


def _unread_jpeg(data: bytes) -> str | None:
    """What kind of JPEG it is, if it is one that isn't read; None otherwise."""
    position = 2
    while position + 9 < len(data) and data[position] == 0xFF:
        marker, length = data[position + 1], int.from_bytes(data[position + 2 : position + 4], "big")
        if marker in _FRAMES:
            bits = data[position + 4]
            if marker in _LOSSLESS:
                return "lossless JPEG"
            return None if bits == 8 else f"JPEG with {bits} bits per sample"
        position += 1 if marker == 0xFF else 2 + length
    return None


#: Markers of a JPEG's frame; DHT, JPG and DAC are between them.
_FRAMES = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
_LOSSLESS = {0xC3, 0xC7, 0xCB, 0xCF, 0xF7}


@contextmanager
def _refusing(name: str, kind: str, data: bytes) -> Iterator[None]:
    """Turn any exception of a decoder into an ImageError: they have no common base class."""
    try:
        yield
    except ImageError:
        raise
    except Exception as error:
        unread = _unread_jpeg(data) if kind == "JPEG" else None
        if unread is not None:
            raise ImageError(
                f"{name}: {unread} is not supported.", "convert it to JPEG or PNG with 8 bits per sample"
            ) from error
        reason = str(error).rstrip(".") or type(error).__name__
        raise ImageError(
            f"{name}: damaged {kind}: {reason}.", "open it in an image viewer; replace it or leave it out"
        ) from error


# ------------------------------------------------------------------ orientation


#: EXIF's kinds of whole numbers. The orientation should be a short one (3); some cameras write a long one.
_WHOLE_NUMBERS = {1: "B", 3: "H", 4: "I", 8: "h", 9: "i"}


def exif_orientation(exif: bytes) -> int:
    """Orientation 1 to 8 of an EXIF block (with or without its "Exif" prefix); 1 where there is none or it is
    broken."""
    exif = exif.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(f"{order}I", exif, 4)
        (count,) = struct.unpack_from(f"{order}H", exif, start)
        for entry in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind = struct.unpack_from(f"{order}HH", exif, entry)
            if tag == 0x0112:
                form = _WHOLE_NUMBERS.get(kind)
                (value,) = (1,) if form is None else struct.unpack_from(f"{order}{form}", exif, entry + 8)
                return value if 1 <= value <= 8 else 1
    except struct.error:  # an offset that points outside
        return 1
    return 1


def _exif(kind: str, data: bytes, pillow: ImageFile | None) -> bytes:
    if kind == "JPEG":
        return _jpeg_exif(data)
    exif = pillow.info.get("exif") if pillow is not None and kind != "TIFF" else None
    return exif if isinstance(exif, bytes) else b""


def _jpeg_exif(data: bytes) -> bytes:
    """The first EXIF segment before the first scan."""
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
            continue
        length = int.from_bytes(data[position + 2 : position + 4], "big")
        if marker == 0xDA or length < 2:
            break
        segment = data[position + 4 : position + 2 + length]
        if marker == 0xE1 and segment.startswith(b"Exif\0\0"):
            return segment
        position += 2 + length
    return b""


def _turn(pixels: Pixels, orientation: int) -> Pixels:
    """A view with the first row on top and the first column on the left."""
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels
