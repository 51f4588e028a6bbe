"""What is kept of a picture so that it can be recognised: its format and size, a digest of its pixels and a
thumbnail."""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Container, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from vertebra.data import alike
from vertebra.data.datasets import Sample
from vertebra.data.names import printable
from vertebra.data.preprocess import open_image
from vertebra.errors import ImageError

#: A JPEG is decoded no smaller than this, height and width.
_AT_LEAST = (2 * alike.SIDE, 2 * alike.SIDE)
#: Changes whenever fingerprints of one picture would differ: earlier ones don't count then.
VERSION = 2
_FORMATS = ("", "JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
_CALLED = {"WEBP": "WebP"}
#: ending of a name -> format
_ENDINGS = {
    **dict.fromkeys(("jpg", "jpeg", "jpe", "jfif", "pjpeg", "pjp"), "JPEG"),
    **dict.fromkeys(("png", "apng"), "PNG"), "webp": "WebP", "gif": "GIF",
    **dict.fromkeys(("bmp", "dib"), "BMP"), **dict.fromkeys(("tif", "tiff"), "TIFF"),
}  # fmt: skip
_RECORD = struct.Struct(f"<BBB3BII32s{alike.SIDE**2}s")

#: What files begin with that are no pictures, or none that are read.
_KINDS = (
    (rb"\s*(<!doctype html|<html|<head|<body)", "an HTML page"),
    (rb"\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)?<svg", "SVG"),
    (rb"\s*<\?xml", "XML"), (rb"%PDF", "PDF"), (rb"PK\x03\x04", "a ZIP archive"), (rb"\x1f\x8b", "gzip"),
    (rb"8BPS", "a Photoshop file"), (rb"\s*[{\[]\s*[\"{\[]", "JSON"),
    (rb"....ftyp(heic|heix|hevc|heim|heis|mif1|msf1)", "HEIC"), (rb"....ftypavi[fs]", "AVIF"),
    (rb"....ftyp", "a video"), (rb"\x00\x00\x00\x0cJXL |\xff\x0a", "JPEG XL"),
    (rb"\x00\x00\x00\x0cjP  |\xff\x4f\xff\x51", "JPEG 2000"), (rb"P[1-6]\s", "a PPM file"),
    (rb"version https://git-lfs", "a pointer of Git LFS, not the file"), (rb"\x00+$", "only zeros"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """A picture as it is seen, turned upright: `pixels` is the SHA-256 of all of them, or None where the
    picture was decoded at a reduced size. `format` is empty where the set has only pixels. `transparent` says
    whether a pixel is."""

    #: Bytes of every fingerprint.
    SIZE: ClassVar[int] = _RECORD.size

    format: str
    height: int
    width: int
    pixels: bytes | None
    thumbnail: alike.Thumbnail
    transparent: bool = False

    def packed(self) -> bytes:
        """The same as bytes of one size."""
        kind = _FORMATS.index({"WebP": "WEBP"}.get(self.format, self.format))
        flags = (self.pixels is not None) + 2 * self.transparent
        return _RECORD.pack(
            VERSION, kind, flags, *self.thumbnail.colour, self.height, self.width,
            self.pixels or b"", self.thumbnail.grey,
        )  # fmt: skip

    @classmethod
    def unpacked(cls, record: bytes | None) -> Fingerprint | None:
        """What `packed` was made of; None for what isn't one of this version."""
        if record is None or len(record) != cls.SIZE or record[0] != VERSION or record[1] >= len(_FORMATS):
            return None
        _, kind, flags, red, green, blue, height, width, pixels, grey = _RECORD.unpack(record)
        name = _FORMATS[kind]
        return cls(
            _CALLED.get(name, name), height, width, pixels if flags & 1 else None,
            alike.Thumbnail(grey, (red, green, blue)), bool(flags & 2),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Seen:
    """A readable picture: the SHA-256 of its file, or of its pixels where it has none; no fingerprint for a
    copy of a file that is known."""

    sha256: str
    print: Fingerprint | None


@dataclass(frozen=True, slots=True)
class Lost:
    """A picture that can't be read: what is known of its file, as `probe` identifies it; why, and what it is
    where that is known."""

    sha256: str
    reason: str
    hint: str | None
    found: str | None


def look(
    sample: Sample, kept: Mapping[bytes, bytes], known: Container[str]
) -> tuple[Seen | Lost, bytes | None]:
    """What is seen of a sample, and its fingerprint as bytes if it is a new one, not in `kept`. Copies of
    files whose SHA-256 is `known` aren't decoded."""
    source = sample.source
    try:
        if not isinstance(source, bytes | bytearray | memoryview | str | Path):
            digest = hashlib.sha256(source.tobytes()).hexdigest()
            return _looked(digest, kept, known, lambda: _of_pixels(source, "", is_whole=True))
        image = open_image(source)
        digest = hashlib.sha256(image.data).hexdigest()
        return _looked(digest, kept, known, lambda: _of_image(image))
    except ImageError as error:
        digest, start = _file(sample)
        found = _kind(start)
        reason = _reason(sample, error) if found is None else f"it is {found}."
        return Lost(digest, reason, error.hint, found), None


def _looked(
    digest: str, kept: Mapping[bytes, bytes], known: Container[str], make: Any
) -> tuple[Seen, bytes | None]:
    if digest in known:
        return Seen(digest, None), None
    earlier = Fingerprint.unpacked(kept.get(bytes.fromhex(digest)))
    if earlier is not None:
        return Seen(digest, earlier), None
    made = make()
    return Seen(digest, made), made.packed()


def _of_image(image: Any) -> Fingerprint:
    transparent = image.is_transparent()
    pixels = image.pixels(apply_orientation=True, at_least=_AT_LEAST)
    height, width = image.shape(apply_orientation=True)
    # A JPEG's quick decoding isn't exact even where it is no smaller.
    made = _of_pixels(pixels, _CALLED.get(image.format, image.format), is_whole=image.pillow is not None)
    if made.pixels is None and alike.is_flat(
        made.thumbnail.grey
    ):  # no comparison of thumbnails finds its copies
        made = _of_pixels(image.pixels(apply_orientation=True), made.format, is_whole=True)
    return Fingerprint(made.format, height, width, made.pixels, made.thumbnail, transparent)


def _of_pixels(pixels: Any, format: str, *, is_whole: bool) -> Fingerprint:
    height, width = pixels.shape[:2]
    return Fingerprint(format, height, width, _digest(pixels) if is_whole else None, alike.thumbnail(pixels))


def _digest(pixels: Any) -> bytes:
    return hashlib.sha256(str(pixels.shape).encode() + pixels.tobytes()).digest()


def whole(sample: Sample) -> bytes | None:
    """The SHA-256 of all pixels of a picture, turned upright; None if it can't be read any more."""
    try:
        return _digest(open_image(sample.source).pixels(apply_orientation=True))
    except ImageError:
        return None


def whole_key(sha256: str) -> bytes:
    """The key of the digest of all pixels of the file with this SHA-256."""
    return hashlib.sha256(b"pixels " + bytes.fromhex(sha256)).digest()


def named(sample: Sample) -> str | None:
    """The format that the ending of a picture's name means, or None."""
    source = sample.source if isinstance(sample.source, str | Path) else sample.name
    return _ENDINGS.get(str(source).rpartition(".")[2].lower())


def _file(sample: Sample) -> tuple[str, bytes]:
    """What the file is called by its content, and how it begins."""
    source = sample.source
    if not isinstance(source, str | Path):
        content = bytes(source)
        return hashlib.sha256(content).hexdigest(), content[:1024]
    try:
        with open(source, "rb") as stream:
            start = stream.read(1024)
            stream.seek(0)
            return hashlib.file_digest(stream, "sha256").hexdigest(), start
    except OSError:
        return f"unreadable {sample.name}", b""


def _kind(start: bytes) -> str | None:
    """What a file is that isn't a picture, by its beginning."""
    return next(
        (kind for pattern, kind in _KINDS if re.match(pattern, start, re.IGNORECASE | re.DOTALL)), None
    )


def _reason(sample: Sample, error: ImageError) -> str:
    """Why a picture can't be read, without the path or the size that the error begins with."""
    source = sample.source
    named = isinstance(source, str | Path)
    start = re.escape(printable(source)) if named else r"<[\d,]+ bytes>"  # type: ignore[arg-type]
    return printable(re.sub(f"^{start}: ", "", error.message))
