"""What an inspection says of a set of pictures, before a network runs."""

# ruff: noqa: E501  (tables with one case a line)

from __future__ import annotations

import gzip
import hashlib
import io
import json
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

import vertebra.data
from vertebra.data import fingerprints, kept_fingerprints
from vertebra.data.findings import Alike, Conflict, Misnamed, Repeat, Unreadable
from vertebra.data.grouping import groups
from vertebra.data.inspection import inspect
from vertebra.data.preprocess.decode import EncodedImage
from vertebra.errors import ImageError, InvalidInputError
from vertebra.measuring.evaluation import probing
from vertebra.reading.reports.inspected import lines


def grain(seed: int, size: tuple[int, int] = (48, 40)) -> Image.Image:
    cells = np.random.default_rng(seed).integers(0, 255, (9, 9, 3), np.uint8)
    return Image.fromarray(cells).resize(size, Image.Resampling.BICUBIC)


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def folder(root: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def plain(*names: str) -> dict[str, bytes]:
    """PNGs that have nothing in common."""
    return {name: encoded(grain(seed), "PNG") for seed, name in enumerate(names, 1000)}


CATS = plain("cat/1.png", "cat/2.png", "dog/1.png", "dog/2.png")
HTML = b"<!DOCTYPE html><html><body>404</body></html>"
HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"


def test_a_sound_set_has_its_counts_and_no_remarks(tmp_path):
    found = inspect(folder(tmp_path / "pets", CATS))
    assert found.classes == (("cat", 2), ("dog", 2))
    assert [(one.place, one.name, one.label, one.group) for one in found.kept] == [
        (0, "cat/1.png", 0, 0), (1, "cat/2.png", 0, 1), (2, "dog/1.png", 1, 2), (3, "dog/2.png", 1, 3),
    ]  # fmt: skip
    assert (found.remarks(), found.total) == ((), 4)
    assert lines(found) == [
        f"{found.identity}: 4 pictures of 2 classes, of 4 in the set (class folders).",
        "  cat  2   50.0 %",
        "  dog  2   50.0 %",
    ]


def test_the_identity_is_that_of_a_probe(tmp_path):
    data = vertebra.data.open(
        folder(tmp_path / "pets", {**CATS, "cat/3.png": CATS["cat/1.png"], "dog/x.jpg": HTML})
    )
    looked, found = probing.look(data), inspect(data)
    assert (found.identity, found.sha256) == (looked.identity, looked.sha256)
    assert [one.sha256 for one in found.kept] == [
        probing.digest(one) for one in list(data)[:2] + list(data)[3:5]
    ]


# ------------------------------------------------------------------ single pictures


@pytest.mark.parametrize(
    ("content", "reason", "kind"),
    [
        (HTML, "it is an HTML page.", "an HTML page"),
        (HEIC, "it is HEIC.", "HEIC"),
        (b"%PDF-1.7", "it is PDF.", "PDF"),
        (b"version https://git-lfs.github.com/spec/v1\n", "it is a pointer of Git LFS, not the file.", "a pointer of Git LFS, not the file"),
        (b"\0" * 2000, "it is only zeros.", "only zeros"),
        (b'{"error": 1}', "it is JSON.", "JSON"),
        (b"", "the file is empty.", None),
        (encoded(grain(1), "JPEG")[:-90], None, None),
    ],
    ids=["html", "heic", "pdf", "lfs", "zeros", "json", "empty", "cut"],
)  # fmt: skip
def test_what_cannot_be_read_is_named_with_its_reason(tmp_path, content, reason, kind):
    found = inspect(folder(tmp_path, {**CATS, "dog/x.jpg": content}))
    [lost] = found.unreadable
    assert lost == Unreadable("dog/x.jpg", 1, reason or lost.reason, kind)
    assert reason or lost.reason.startswith("damaged JPEG")
    assert f"1 picture can't be read: dog/x.jpg: {lost.reason[:-1]}." in found.remarks()
    assert found.classes == (("cat", 2), ("dog", 2))
    with pytest.raises(ImageError, match=r"dog/x\.jpg"):
        inspect(tmp_path, strict=True)


def test_a_picture_with_the_ending_of_another_format_is_used_and_named(tmp_path):
    image = encoded(grain(1), "PNG")
    found = inspect(
        folder(
            tmp_path,
            {**CATS, "cat/a.jpg": image, "cat/b.jpeg": image, "dog/c.gif": encoded(grain(2), "WEBP")},
        )
    )
    assert found.misnamed == (
        Misnamed("cat/a.jpg", "JPEG", "PNG"), Misnamed("cat/b.jpeg", "JPEG", "PNG"), Misnamed("dog/c.gif", "GIF", "WebP"),
    )  # fmt: skip
    assert found.classes == (("cat", 3), ("dog", 3))
    told = "3 pictures with the ending of another format, used: 2 PNG named as JPEG (cat/a.jpg), 1 WebP named as GIF (dog/c.gif)."
    assert told in found.remarks()


# ------------------------------------------------------------------ copies

SAVED = {
    "png to bmp": lambda image: (encoded(image, "PNG"), encoded(image, "BMP")),
    "png to png": lambda image: (encoded(image, "PNG"), encoded(image, "PNG", compress_level=1)),
    "jpeg to png": lambda image: (jpeg := encoded(image, "JPEG"), encoded(Image.open(io.BytesIO(jpeg)), "PNG")),
    "large jpeg": lambda image: (jpeg := encoded(image.resize((960, 800)), "JPEG"), encoded(Image.open(io.BytesIO(jpeg)), "BMP")),
    "jpeg with a comment": lambda image: (jpeg := encoded(image, "JPEG"), jpeg[:2] + b"\xff\xfe\x00\x04hi" + jpeg[2:]),
    "flat jpeg": lambda _: (jpeg := encoded(Image.new("RGB", (40, 40), (9, 9, 9)), "JPEG"), encoded(Image.open(io.BytesIO(jpeg)), "PNG")),
}  # fmt: skip


@pytest.mark.parametrize("made", SAVED.values(), ids=SAVED)
def test_pictures_of_equal_pixels_count_once(tmp_path, made):
    first, second = made(grain(7))
    found = inspect(
        folder(
            tmp_path,
            {
                **CATS,
                "cat/x": b"",
                "cat/p.png": first,
                "cat/q.png": second,
                "dog/r.png": encoded(grain(8), "PNG"),
            },
        )
    )
    assert found.repeats == (Repeat("cat/q.png", "cat/p.png", exact=False),)
    assert found.classes == (("cat", 3), ("dog", 3))


def test_a_picture_turned_by_exif_is_its_upright_copy(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    image = grain(7)
    turned = image.transpose(Image.Transpose.ROTATE_90)
    found = inspect(
        folder(
            tmp_path,
            {**CATS, "cat/p.png": encoded(image, "PNG"), "cat/q.png": encoded(turned, "PNG", exif=exif)},
        )
    )
    assert found.repeats == (Repeat("cat/q.png", "cat/p.png", exact=False),)


def test_equal_files_are_decoded_once(tmp_path, monkeypatch):
    looked = []
    monkeypatch.setattr(
        fingerprints,
        "_of_image",
        lambda image, made=fingerprints._of_image: (looked.append(1), made(image))[1],
    )
    files = {**CATS, **{f"cat/copy{n:02}.png": CATS["cat/1.png"] for n in range(50)}}
    found = inspect(folder(tmp_path, files))
    assert [(one.first, one.exact) for one in found.repeats] == [("cat/1.png", True)] * 50
    assert 4 <= len(looked) < 20  # those under way at the same time
    assert "50 pictures twice, counted once: cat/copy00.png is cat/1.png;" in found.remarks()[0]


@pytest.mark.parametrize("kind", ["PNG", "BMP"])
def test_one_picture_in_two_classes_is_refused_or_left_out(tmp_path, kind):
    image, name = grain(7), f"dog/b.{kind.lower()}"
    folder(tmp_path / "pets", {**CATS, "cat/a.png": encoded(image, "PNG"), name: encoded(image, kind)})
    with pytest.raises(
        InvalidInputError, match=r"cat/a\.png and dog/b\.\w+ are the same picture in two classes"
    ):
        inspect(tmp_path / "pets")
    found = inspect(tmp_path / "pets", conflicts="leave out")
    assert found.conflicts == (Conflict(("cat/a.png", name), ("cat", "dog")),)
    assert found.classes == (("cat", 2), ("dog", 2))
    assert found.remarks() == (f"1 picture in several classes, left out: cat/a.png (cat) and {name} (dog).",)
    assert found.sha256 == inspect(folder(tmp_path / "other", CATS)).sha256


def test_near_duplicates_are_of_one_group_also_across_classes(tmp_path):
    image = grain(7, (160, 120))
    files = {"cat/a.jpg": encoded(image, "JPEG"), "cat/b.jpg": encoded(image, "JPEG", quality=60),
             "dog/c.png": encoded(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), "PNG")}  # fmt: skip
    found = inspect(folder(tmp_path, {**CATS, **files}))
    assert found.alike == (Alike(("cat/a.jpg", "cat/b.jpg", "dog/c.png"), ("cat", "cat", "dog")),)
    of = {one.name: one.group for one in found.kept}
    assert of["cat/a.jpg"] == of["cat/b.jpg"] == of["dog/c.png"]
    assert len(set(of.values())) == 5
    assert found.remarks()[:2] == (
        "1 group of near-duplicates is in several classes: cat/a.jpg (cat) and dog/c.png (dog).",
        "3 pictures are near-duplicates, in 1 group, each kept in one fold: cat/a.jpg and cat/b.jpg.",
    )


# ------------------------------------------------------------------ kept between runs


def test_a_second_inspection_decodes_nothing(tmp_path, monkeypatch):
    image = grain(7, (640, 480))
    jpeg = encoded(image, "JPEG")
    files = {"cat/a.jpg": jpeg, "cat/b.jpg": jpeg[:2] + b"\xff\xfe\x00\x04hi" + jpeg[2:]}
    kept: dict[bytes, bytes] = {}
    first = inspect(folder(tmp_path, {**CATS, **files}), kept=kept)
    assert {(len(key), len(value)) for key, value in kept.items()} == {(32, fingerprints.Fingerprint.SIZE)}
    monkeypatch.setattr(EncodedImage, "pixels", None)
    assert inspect(tmp_path, kept=kept) == first
    assert first.repeats == (Repeat("cat/b.jpg", "cat/a.jpg", exact=False),)


@pytest.mark.parametrize(
    "record",
    [b"", b"\0" * fingerprints.Fingerprint.SIZE, b"\1\x63" + bytes(fingerprints.Fingerprint.SIZE - 2)],
)
def test_a_foreign_record_is_made_again(tmp_path, record):
    sound = inspect(folder(tmp_path, CATS))
    assert inspect(tmp_path, kept={bytes.fromhex(one.sha256): record for one in sound.kept}) == sound


# ------------------------------------------------------------------ classes


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"cat/1.jpg": HTML, "dog/1.jpg": HTML + b" "}, "No picture of .* can be used: cat/1.jpg: it is an HTML page"),
        ({**plain("cat/1.png"), "dog/1.jpg": HEIC, "dog/2.jpg": HEIC + b"1"}, "no picture of the class dog can be read: dog/1.jpg: it is HEIC"),
    ],
)  # fmt: skip
def test_a_class_without_a_readable_picture_is_refused(tmp_path, files, message):
    with pytest.raises(InvalidInputError, match=message) as caught:
        inspect(folder(tmp_path, files))
    assert caught.value.hint


def test_uneven_classes_single_pictures_and_unused_numbers_are_said(tmp_path):
    names = [f"{n}.png" for n in range(14)]
    folder(
        tmp_path,
        {
            **plain(*names),
            "list.csv": "\n".join(f"{name},{3 if n == 13 else 0}" for n, name in enumerate(names)).encode(),
        },
    )
    found = inspect(tmp_path / "list.csv")
    assert found.classes == (("0", 13), ("1", 0), ("2", 0), ("3", 1))
    assert found.remarks() == (
        "2 classes without a picture: 1, 2.",
        "1 class of a single picture: 3.",
        "The classes are uneven: 0 has 13 pictures (92.9 % of all), 3 1.",
    )


def test_a_label_beyond_reason_is_refused(tmp_path):
    folder(tmp_path, {**plain("0.png", "1.png"), "list.csv": b"0.png,0\n1.png,99999999\n"})
    with pytest.raises(InvalidInputError, match=r"list\.csv:2: the label is 99999999; there are 2 pictures"):
        inspect(tmp_path / "list.csv")


# ------------------------------------------------------------------ layouts


def tarred(root: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(root / "set.tar", "w") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return root / "set.tar"


def as_tar(root: Path) -> Path:
    pictures = {f"{n}.png": content for n, content in enumerate(CATS.values())}
    labels = {f"{n}.cls": name[:3].encode() for n, name in enumerate(CATS)}
    return tarred(root, dict(sorted({**pictures, **labels}.items())))


def as_idx(root: Path) -> Path:
    levels = np.random.default_rng(0).integers(0, 255, (4, 28, 28), np.uint8)
    (root / "t10k-images-idx3-ubyte.gz").write_bytes(
        gzip.compress(struct.pack(">4I", 0x803, 4, 28, 28) + levels.tobytes())
    )
    (root / "t10k-labels-idx1-ubyte.gz").write_bytes(
        gzip.compress(struct.pack(">2I", 0x801, 4) + bytes((0, 0, 1, 1)))
    )
    return root


def as_parquet(root: Path) -> Path:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    columns = {"image": list(CATS.values()), "label": [0, 0, 1, 1], "camera": ["a", "b", "a", None]}
    parquet.write_table(pyarrow.table(columns), root / "set.parquet")
    return root / "set.parquet"


def as_list(root: Path) -> Path:
    text = "path,label,camera\n" + "".join(f"{name},{name[:3]},{n % 2}\n" for n, name in enumerate(CATS))
    return folder(root, {**CATS, "labels.csv": text.encode()}) / "labels.csv"


LAYOUTS = {
    "folders": lambda root: folder(root, CATS),
    "list": as_list,
    "tar": as_tar,
    "parquet": as_parquet,
    "idx": as_idx,
}


@pytest.mark.parametrize("made", LAYOUTS.values(), ids=LAYOUTS)
def test_every_layout_is_inspected(tmp_path, made):
    found = inspect(made(tmp_path))
    assert [count for _, count in found.classes] == [2, 2]
    assert len({one.group for one in found.kept}) == 4
    assert json.loads(json.dumps(found.to_json()))["classes"][1]["pictures"] == 2
    assert vertebra.data.split(found.labels, found.groups, 2).count(0) == 2


# ------------------------------------------------------------------ groups


@pytest.mark.parametrize("files", [("cat/garden/1.png", "cat/house/2.png", "dog/garden/3.png", "dog/4.png")])
def test_groups_by_folders_below_the_classes(tmp_path, files):
    data = vertebra.data.open(folder(tmp_path, plain(*files)))
    found = inspect(data, groups=groups(data, "folder"))
    assert [one.group for one in found.kept] == [0, 1, 2, 0]
    assert found.grouped


@pytest.mark.parametrize(("made", "expected"), [(as_list, [0, 1, 0, 1]), (as_parquet, [0, 1, 0, 2])])
def test_groups_by_a_column(tmp_path, made, expected):
    data = vertebra.data.open(made(tmp_path))
    assert [one.group for one in inspect(data, groups=groups(data, "camera")).kept] == expected


@pytest.mark.parametrize(
    ("made", "by", "message"),
    [
        (LAYOUTS["folders"], "camera", 'read as class folders, which has no column "camera"'),
        (LAYOUTS["folders"], "folder", "there is nothing in it"),
        (as_list, "patient", 'has no column "patient"'),
        (as_parquet, "patient", 'has no column "patient"'),
        (as_parquet, "folder", "which has no folders"),
        (as_idx, "folder", "which has no folders"),
        (as_idx, "camera", "which has no column"),
        (as_tar, "folder", "there is nothing in it"),
        (lambda root: folder(root, plain("cat/x/1.png", "dog/x/2.png")), "folder", 'are of one group, "x"'),
        (lambda root: folder(root, {**plain("1.png", "2.png"), "l.csv": b"1.png,0\n2.png,1\n"}) / "l.csv", "camera", "has no header"),
    ],
)  # fmt: skip
def test_groups_that_the_layout_does_not_have(tmp_path, made, by, message):
    with pytest.raises(InvalidInputError, match=message) as caught:
        groups(vertebra.data.open(made(tmp_path)), by)
    assert caught.value.hint


def test_every_picture_needs_a_group(tmp_path):
    with pytest.raises(InvalidInputError, match=r"cat/2\.png is in no group"):
        inspect(folder(tmp_path, CATS), groups={"cat/1.png": "a"})


# ------------------------------------------------------------------ sets as people have them


def sets(*names: str, extra: dict[str, bytes] | None = None) -> dict[str, bytes]:
    return {**plain(*names), **(extra or {})}


def with_text(size: int) -> bytes:
    told = PngImagePlugin.PngInfo()
    told.add_text("workflow", "x" * size, zip=True)
    return encoded(grain(5), "PNG", pnginfo=told)


def of_12_bits() -> bytes:
    content = bytearray(encoded(grain(3), "JPEG"))
    at = content.index(b"\xff\xc0")
    content[at + 1], content[at + 4] = 0xC1, 12
    return bytes(content)


SYNSETS = ("n01440764", "n01443537", "n15075141")
TWO = ("cat/1.png", "cat/2.png", "dog/1.png", "dog/2.png")
SPLITS = ("train/cat/1.png", "train/dog/1.png", "val/cat/2.png", "val/dog/2.png")
#: What is there -> the file or folder that is opened, and what the report or the error must say.
FAULTS = {
    "numbers as floats": (sets(*(f"{n}.png" for n in range(12)), extra={"l.csv": "\n".join(f"{n}.png,{n}.0" for n in range(12)).encode()}), "l.csv", "of 12 classes"),
    "a folder beside the splits": (sets(*SPLITS, "images/3.png"), "", "holds folders of splits (train, val) and others"),
    "splits with other names": (sets("Training/cat/1.png", "Training/dog/1.png", "Testing/cat/2.png", "Testing/dog/2.png"), "", "split test"),
    "splits without a word": (sets("a/cat/1.png", "a/dog/1.png", "b/cat/2.png", "b/dog/2.png"), "", "may be parts of the set or its classes"),
    "a split that wasn't asked for": (sets(*SPLITS), "", "the split val is read, not train"),
    "two lines of one file": (sets("1.png", "2.png", extra={"l.txt": b"a/1.png 0\nb/1.png 1\nb/2.png 1\n"}), "l.txt", "are both the file 1.png"),
    "rows of other splits": (sets("1.png", "2.png", "3.png", extra={"l.csv": b"path,label,split\n1.png,a,train\n2.png,a,test\n3.png,b,test\n"}), "l.csv", "1 lines of other splits"),
    "a class of HEIC": (sets("cat/1.png", extra={"dog/1.jpg": HEIC}), "", "no picture of the class dog can be read: dog/1.jpg: it is HEIC"),
    "endings of browsers": (sets("cat/1.jfif", "cat/2.jpe", "dog/1.png"), "", "2 pictures with the ending of another format"),
    "paths of Windows": (sets(*TWO, extra={"l.txt": b"cat\\1.png 0\r\ndog\\1.png 1\r\n"}), "l.txt", "2 pictures of 2 classes"),
    "paths of another machine": (sets(*TWO, extra={"l.txt": b"/home/me/x/cat/1.png 0\n/home/me/x/dog/1.png 1\n"}), "l.txt", "paths are read without their first folders"),
    "an unknown header": (sets(*TWO, extra={"l.csv": b"fname,what\ncat/1.png,0\ndog/1.png,1\n"}), "l.csv", 'the picture is in the column "fname", the label in "what"'),
    "a Mac's hidden files": (sets(*TWO, extra={"cat/._1.png": b"x", "__MACOSX/cat/1.png": b"x"}), "", "2 hidden"),
    "a server's thumbnails": (sets(*TWO, extra={"cat/@eaDir/1.png/SYNOPHOTO_THUMB_XL.jpg": b"x"}), "", "1 hidden"),
    "formats that aren't read": (sets(*TWO, extra={"cat/3.heic": HEIC, "dog/notes.txt": b"x"}), "", "1 .heic pictures, which can't be read, 1 not pictures"),
    "an empty class": (sets(*TWO, extra={"owl/readme.txt": b"x"}), "", "class folders without a picture, such as owl"),
    "only other formats": ({"cat/1.ppm": b"P6", "dog/1.ppm": b"P6"}, "", "2 .ppm pictures, which can't be read"),
    "pictures beside the classes": (sets(*TWO, "3.png"), "", "1 pictures outside the class folders"),
    "a missing file of a list": (sets("1.png", "2.png", "3.png", extra={"l.csv": b"1.png,0\n2.png,0\n4.png,1\n3.png,1\n"}), "l.csv", "1 picture can't be read: 4.png: can't be read: No such file"),
    "one class": (sets("cat/1.png", "cat/2.png"), "", "All pictures are of one class, cat"),
    "a name in quotes": (sets("my photo.png", "2.png", extra={"l.txt": b'"my photo.png" 0\n2.png 1\n'}), "l.txt", "2 pictures of 2 classes"),
    "val and validation": (sets("val/cat/1.png", "val/dog/1.png", "validation/cat/2.png", "validation/dog/2.png"), "", "2 folders of the split val"),
    "numbers with a sign": (sets(*(f"{n}.png" for n in range(12)), extra={"l.csv": "\n".join(f"{n}.png,+{n}" for n in range(12)).encode()}), "l.csv", "largest: 0 1, 1 1, 2 1\n  smallest: 9 1, 10 1, 11 1"),
    "numbers with an exponent": (sets("0.png", "1.png", extra={"l.csv": b"0.png,0e0\n1.png,1e0\n"}), "l.csv", "  0  1   50.0 %"),
    "numbers below 0": (sets("1.png", "2.png", extra={"l.csv": b"1.png,-1\n2.png,0\n"}), "l.csv", "l.csv:1: the label is -1"),
    "numbers from 1": (sets("1.png", "2.png", extra={"l.csv": b"1.png,1\n2.png,2\n"}), "l.csv", "1 class without a picture: 0."),
    "a Mac's folder beside the splits": (sets(*SPLITS, extra={"__MACOSX/train/cat/._1.png": b"x"}), "", "split val: 2 pictures of 2 classes"),
    "the set once more inside": (sets(*SPLITS, "set/train/cat/1.png", "set/train/dog/1.png"), "", "holds folders of splits (train, val) and others (set)"),
    "splits called seg_train and seg_test": (sets("seg_train/cat/1.png", "seg_train/dog/1.png", "seg_test/cat/2.png", "seg_test/dog/2.png"), "", "the split test is read, not train"),
    "splits called training_set and test_set": (sets("training_set/cat/1.png", "training_set/dog/1.png", "test_set/cat/2.png", "test_set/dog/2.png"), "", "the split test is read, not train"),
    "a header id, breed and names without ending": (sets("1.png", "2.png", extra={"l.csv": b"id,breed\n1,a\n2,b\n"}), "l.csv", 'the picture is in the column "id", the label in "breed"'),
    "a comment above a list": (sets("1.png", "2.png", extra={"l.txt": b"# path label\n1.png 0\n2.png 1\n"}), "l.txt", "2 pictures of 2 classes, of 2 in the set"),
    "a list in UTF-16": (sets("1.png", "2.png", extra={"l.csv": "1.png,a\n2.png,b\n".encode("utf-16")}), "l.csv", "is not UTF-8 text"),
    "a list of Windows": (sets("1.png", "2.png", extra={"l.csv": b"\xef\xbb\xbfpath,label\r\n1.png,a\r\n2.png,b\r\n"}), "l.csv", 'the picture is in the column "path", the label in "label"'),
    "a list of Hugging Face": (sets("1.png", "2.png", extra={"metadata.csv": b"file_name,label\n1.png,a\n2.png,b\n"}), "", 'the picture is in the column "file_name"'),
    "a PNG with much text": ({**plain(*TWO), "dog/t.png": with_text(2_000_000)}, "", "5 pictures of 2 classes, of 5 in the set"),
    "a JPEG of 12 bits": ({**plain(*TWO), "dog/t.jpg": of_12_bits()}, "", "dog/t.jpg: JPEG with 12 bits per sample is not supported."),
    "a huge picture": ({**plain(*TWO), "dog/t.png": encoded(Image.new("1", (13000, 13000)), "PNG")}, "", "dog/t.png: the PNG has 13000 × 13000 pixels, more than"),
    "synsets and their list": (sets(*(f"{one}/{n}.png" for one in SYNSETS for n in (1, 2)), extra={"val.txt": "".join(f"{one}/1.png {n}\n" for n, one in enumerate(SYNSETS)).encode()}), "", "6 pictures of 3 classes, of 6 in the set (class folders)"),
    "a folder without its list": (sets(*(f"ILSVRC2012_val_0000000{n}_{one}.png" for n, one in enumerate(SYNSETS))), "", "contains pictures (3 .png files), but no labels for them"),
    "a folder that Windows threw away": (sets(*TWO, extra={"$RECYCLE.BIN/x/1.png": b"x"}), "", "1 hidden"),
    "classes that differ in case": (sets(*TWO, "Cat/3.png", "Cat/4.png"), "", "nearly the same name, taken for different ones: Cat and cat."),
    "classes that differ in a blank": (sets("great_owl/1.png", "great_owl/2.png", "great owl/3.png", "great owl/4.png"), "", "taken for different ones: great owl and great_owl."),
    "classes that differ in how an accent is written": (sets("caf\u00e9/1.png", "caf\u00e9/2.png", "cafe\u0301/3.png", "cafe\u0301/4.png"), "", "taken for different ones: cafe\u0301 and caf\u00e9."),
    "one folder around the classes": (sets("photos/cat/1.png", "photos/dog/1.png"), "", "All pictures are of one class, photos."),
    "a name that isn't UTF-8": (sets("cat/1.png", "dog/1.png", extra={"dog/x\udce9.jpg": b""}), "", "dog/x\\udce9.jpg: the file is empty"),
}  # fmt: skip


@pytest.mark.parametrize(("files", "opened", "said"), FAULTS.values(), ids=FAULTS)
def test_what_is_odd_about_a_set_is_said(tmp_path, files, opened, said):
    root = folder(tmp_path / "set", files)
    try:
        told = "\n".join(lines(inspect(root / opened)))
    except InvalidInputError as error:
        told = error.message
    assert said in told


def test_the_report_of_a_bad_set_stays_short(tmp_path):
    broken = {f"c{n}/x{m}.jpg": HTML + bytes((n, m)) for n in range(30) for m in range(5)}
    files = {
        **plain(*(f"c{n}/{m}.gif" for n in range(30) for m in range(2))),
        **broken,
        "c0/readme.txt": b"x",
    }
    told = lines(inspect(folder(tmp_path, files)))
    assert len(told) <= 20
    assert told[1] == "  largest: c0 2, c1 2, c10 2"
    assert "150 pictures can't be read: c0/x0.jpg: it is an HTML page; " in "\n".join(told)
    assert "and 147 more." in "\n".join(told)


def test_a_shard_packed_on_a_mac_is_inspected(tmp_path):
    members = {
        "./._1.png": b"x",
        "./1.png": CATS["cat/1.png"],
        "./1.cls": b"cat",
        "./2.png": CATS["dog/1.png"],
        "./2.cls": b"dog",
        "./README": b"x",
    }
    assert "Not part of the set: 1 hidden, 1 not pictures." in inspect(tarred(tmp_path, members)).remarks()


def test_fingerprints_in_the_cache_are_read_one_by_one(tmp_path, monkeypatch, caplog):
    """Only their places are held; what was damaged meanwhile is missing, and what can't be kept is said."""
    monkeypatch.setenv("VERTEBRA_CACHE", str(tmp_path / "cache"))
    values = {bytes([n]) * 32: bytes([n]) * 70 for n in range(100)}
    with kept_fingerprints.of("set") as kept:
        kept.update(values)
        assert len(kept) == 100
    with kept_fingerprints.of("set") as kept:
        assert dict(kept) == values
        assert kept.get(bytes(31) + b"x") is None
        (path,) = (tmp_path / "cache" / "features").iterdir()
        content = bytearray(path.read_bytes())
        content[content.index(bytes([7]) * 70)] ^= 1
        path.write_bytes(content)
        assert {key for key in values if key not in kept or kept.get(key) is None} == {bytes([7]) * 32}
    monkeypatch.setenv("VERTEBRA_FEATURES_LIMIT", "12kB")
    with kept_fingerprints.of("set") as kept:
        kept.update({hashlib.sha256(bytes([n])).digest(): bytes(70) for n in range(200)})
    assert "no longer kept" in caplog.text


def test_two_sets_of_one_name_are_told_apart_by_their_content(tmp_path):
    for place, label in (("a", b"x"), ("b", b"y")):
        folder(
            tmp_path / place / "set",
            sets("1.png", "2.png", extra={"labels.csv": b"1.png,w\n2.png," + label + b"\n"}),
        )
    found = [inspect(tmp_path / place / "set" / "labels.csv").identity for place in "ab"]
    assert len(set(found)) == 2
    assert {one.partition("@")[0] for one in found} == {"set"}


def test_only_classes_with_pictures_are_left_and_numbered_anew(tmp_path):
    root = folder(tmp_path, sets("1.png", "2.png", "3.png", extra={"l.csv": b"1.png,1\n2.png,3\n3.png,3\n"}))
    found = inspect(root / "l.csv")
    assert [name for name, count in found.classes if not count] == ["0", "2"]
    assert found.filled().classes == (("1", 1), ("3", 2))
    assert found.filled().labels == (0, 1, 1)
    assert found.filled().identity == found.identity


def test_classes_of_wide_characters_stand_in_columns(tmp_path):
    from rich.cells import cell_len

    names = ("日本/1.png", "日本/2.png", "cafe\u0301/1.png", "cafe\u0301/2.png", "dog/1.png", "dog/2.png")
    told = lines(inspect(folder(tmp_path / "set", plain(*names))))[1:4]
    assert {cell_len(line.partition("  2 ")[0]) for line in told} == {6}
    assert sorted(line.partition("  2 ")[0].strip() for line in told) == ["cafe\u0301", "dog", "日本"]


def test_pictures_with_transparent_pixels_are_counted_and_kept_so(tmp_path):
    clear, palette = Image.new("RGBA", (20, 20), (9, 8, 7, 255)), Image.new("P", (20, 20), 1)
    half = grain(1).convert("RGBA")
    half.putpixel((3, 3), (1, 2, 3, 128))
    hole = grain(2).quantize(8)
    files = {
        "a/opaque.png": encoded(clear, "PNG"),  # an alpha channel that hides nothing
        "a/half.png": encoded(half, "PNG"),
        "a/half.webp": encoded(half.resize((60, 30)), "WEBP", lossless=True),
        "b/unused.png": encoded(palette, "PNG", transparency=0),  # no pixel has this colour
        "b/hole.gif": encoded(hole, "GIF", transparency=int(np.asarray(hole)[0, 0])),
        "b/grey.png": encoded(half.convert("LA"), "PNG"),
        "b/plain.jpg": encoded(grain(5), "JPEG"),
    }
    kept: dict[bytes, bytes] = {}
    data = folder(tmp_path / "set", files)
    for _ in range(2):  # as seen, and as kept
        found = inspect(data, kept=kept)
        assert (found.transparent, len(found.kept), found.to_json()["transparent"]) == (4, 7, 4)
        told = "4 pictures have transparent pixels: the colour stored below them counts"
        assert [one for one in found.remarks() if one.startswith(told)]
