"""ImageNet (ILSVRC 2012) as distributed: the official archives, and the validation photos in one folder.

The ground truth of the official development kit counts classes from 1 in an order of its own, which is not
that of the networks' outputs: the kit's `meta.mat` (or its `map_clsloc.txt`) maps its numbers to synsets.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from vertebra.data import labels
from vertebra.data.datasets import dataset, tars
from vertebra.data.datasets.dataset import BY_SYNSET, Dataset, Sample, empty
from vertebra.errors import InvalidInputError, MissingRuntimeError

NAME = "imagenet-1k"
VALIDATION_COUNT = 50_000
TRUTH = "ILSVRC2012_validation_ground_truth.txt"
FORMAT_FLAT = "ImageNet's validation folder"
FORMAT_TAR = "ImageNet's archive"

#: archive -> (split, bytes, MD5). MD5 as the ImageNet site lists them; sizes of the files it serves.
ARCHIVES = {
    "ILSVRC2012_img_val.tar": ("val", 6_744_924_160, "29b22e2961454d5413ddabcf34fc5622"),
    "ILSVRC2012_img_train.tar": ("train", 147_897_477_120, "1d675b47d978889d74fa0da5fadfb00e"),
}
KIT = "ILSVRC2012_devkit_t12.tar.gz"
_MAPS = ("meta.mat", "map_clsloc.txt")
_NUMBER = re.compile(r"ILSVRC2012_val_(\d{8})(?:_n\d{8})?\.JPEG", re.IGNORECASE)
#: Names as in Hugging Face's archives: the class is in the photo's name.
_NAMED = re.compile(r".+_(n\d{8})\.JPE?G", re.IGNORECASE)
_SYNSET = re.compile(r"n\d{8}")


def is_validation_name(name: str) -> bool:
    """Whether a file is named like ImageNet's validation photos.

    >>> is_validation_name("val/ILSVRC2012_val_00000001.JPEG")
    True
    """
    return _NUMBER.fullmatch(name.rpartition("/")[2]) is not None


def is_validation(data: Dataset) -> bool:
    """Whether a data set is the whole of ImageNet's validation split, by its count and its first name."""
    return len(data) == VALIDATION_COUNT and is_named_validation(data)


def is_named_validation(data: Dataset) -> bool:
    """Whether a set's first photo is named like one of ImageNet's validation photos."""
    return all(is_validation_name(sample.name) for sample in data.first(1))


def is_synset(word: str) -> bool:
    """Whether a word has the form of a WordNet synset of a noun, such as n01440764."""
    return _SYNSET.fullmatch(word) is not None


# ------------------------------------------------------------------ one folder


def are_named_by_synset(folder: Path) -> bool:
    """Whether the pictures in a folder have their synset in their names, as
    ILSVRC2012_val_00000293_n01440764.JPEG has."""
    pictures = [path.name for path in folder.iterdir() if dataset.is_picture(path.name)]
    known = set(_classes())
    matches = [_NAMED.fullmatch(picture) for picture in pictures]
    return bool(pictures) and all(match is not None and match[1] in known for match in matches)


def open_named(folder: Path, *, name: str, split: str | None) -> Dataset:
    """The photos in a folder that have their synset in their names."""
    pictures = sorted(path.name for path in folder.iterdir() if dataset.is_picture(path.name))
    index = {synset: number for number, synset in enumerate(_classes())}
    samples = [(picture, index[match[1]]) for picture in pictures if (match := _NAMED.fullmatch(picture))]
    is_val = split is None and all(map(is_validation_name, pictures))
    return dataset.of(
        samples, lambda picture: folder / picture, name=name, split="val" if is_val else split,
        format=FORMAT_FLAT, classes=_classes(), at=lambda number: pictures[number], order=BY_SYNSET,
        assumed=("the class of each photo is the synset in its name",),
    )  # fmt: skip


# ------------------------------------------------------------------ one folder and the ground truth


def open_flat(folder: Path, truth: Path, *, name: str, split: str | None) -> Dataset:
    """Photos of one folder, each labelled by the line of `truth` with its number.

    Raises InvalidInputError where photos and lines don't match, and where no file next to the ground truth
    maps its numbers to synsets.
    """
    pictures = sorted(path.name for path in folder.iterdir() if dataset.is_picture(path.name))
    if not pictures:
        raise empty(folder, FORMAT_FLAT)
    targets = _targets(_truth_text(truth), str(truth), lambda: _synsets_beside(truth))
    samples = [(picture, _target(picture, targets, truth)) for picture in pictures]
    return dataset.of(
        samples, lambda picture: folder / picture, name=name, split=split or "val", format=FORMAT_FLAT,
        classes=_classes(), at=lambda number: f"{truth}:{number + 1}", order=BY_SYNSET,
    )  # fmt: skip


def _target(picture: str, targets: Sequence[int], truth: Path | str) -> int:
    match = _NUMBER.fullmatch(picture)
    if match is None:
        raise InvalidInputError(
            f"The name {picture} has no number to look up in {truth}.",
            "the photos must be named ILSVRC2012_val_00000001.JPEG and so on",
        )
    number = int(match[1])
    if not 1 <= number <= len(targets):
        raise InvalidInputError(f"{picture} is photo {number}, but {truth} has {len(targets)} lines.")
    return targets[number - 1]


def _classes() -> tuple[str, ...]:
    ids = labels.find(labels.IMAGENET_1K).ids
    assert ids is not None
    return ids


def _truth_text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"Can't read {path}: {error}.", "take it from the development kit") from error


def _targets(text: str, place: str, synsets: Callable[[], list[str]]) -> list[int]:
    """Index of the class of each line: a synset, or a number of the kit's own order."""
    index = {synset: number for number, synset in enumerate(_classes())}
    words = [line.strip() for line in text.splitlines() if line.strip()]
    if words and all(word in index for word in words):
        return [index[word] for word in words]
    order = synsets()
    targets = []
    for line, word in enumerate(words, 1):
        if not word.isdecimal() or not 1 <= int(word) <= len(order):
            raise InvalidInputError(
                f'{place}:{line}: "{word[:40]}" is not one of the kit\'s numbers, 1 to {len(order)}.',
                "use the ground truth of the development kit, which counts from 1",
            )
        targets.append(index[order[int(word) - 1]])
    return targets


def _synsets_beside(truth: Path) -> list[str]:
    """Synsets in the kit's order, of the first map next to the ground truth or in a folder `data` there."""
    for folder in (truth.parent, truth.parent / "data", truth.parent.parent):
        for name in _MAPS:
            if (folder / name).is_file():
                return _synsets(name, (folder / name).read_bytes(), str(folder / name))
    raise InvalidInputError(
        f"No file next to {truth} maps its numbers to classes.",
        "put the development kit's meta.mat next to it: its numbers are not in the order of the outputs",
    )


def _synsets(name: str, data: bytes, place: str) -> list[str]:
    found = _from_mat(data, place) if name == "meta.mat" else _from_map(data.decode("ascii", "replace"))
    known = set(_classes())
    if len(found) != len(known) or set(found) != known:
        raise InvalidInputError(
            f"{place} doesn't number the {len(known)} classes of ILSVRC 2012 from 1.",
            f"take it from {KIT}",
        )
    return found


def _from_map(text: str) -> list[str]:
    """Lines `n02119789 1 kit_fox`."""
    rows = [line.split() for line in text.splitlines() if line.strip()]
    numbered = {int(row[1]): row[0] for row in rows if len(row) >= 2 and row[1].isdecimal()}
    return [numbered[number] for number in sorted(numbered) if 1 <= number <= 1000]


def _from_mat(data: bytes, place: str) -> list[str]:
    """MATLAB's table of synsets: its first two columns are the number and the synset; numbers above 1000 are
    inner nodes of WordNet's tree."""
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise MissingRuntimeError.of("Reading the kit's meta.mat", "scipy", "probe") from error
    try:
        table = loadmat(io.BytesIO(data), squeeze_me=True)["synsets"]
        numbered = {int(row[0]): str(row[1]) for row in table}
    except (ValueError, KeyError, TypeError, NotImplementedError) as error:
        raise InvalidInputError(f"Can't read {place}: {error}.", f"take it from {KIT}") from error
    return [numbered[number] for number in sorted(numbered) if 1 <= number <= 1000]


# ------------------------------------------------------------------ the official archives


def open_archive(path: Path, *, name: str, verify: bool = False) -> Dataset:
    """An official archive, read in place; with `verify`, its MD5 is checked first (minutes for training's).

    The validation archive needs the development kit next to it, which holds the labels.
    Raises InvalidInputError where the size or the digest isn't the official one.
    """
    split, size, digest = ARCHIVES[path.name]
    _check(path, size, digest if verify else None)
    return _validation(path, name) if split == "val" else _training(path, name)


def _check(path: Path, size: int, digest: str | None) -> None:
    found = path.stat().st_size
    if found != size:
        raise InvalidInputError(
            f"{path} has {found:,} bytes; the official archive has {size:,}.", "download it again"
        )
    if digest is None:
        return
    with path.open("rb") as stream:
        found_md5 = hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if found_md5 != digest:
        raise InvalidInputError(
            f"{path} has the MD5 {found_md5}; the official one is {digest}.", "download it again"
        )


def _validation(path: Path, name: str) -> Dataset:
    targets = _kit_targets(path.parent)

    def read() -> Iterator[Sample]:
        with tars.opened(path) as archive:
            for member in tars.members(archive, str(path)):
                label = _target(member.name.rpartition("/")[2], targets, KIT)
                yield Sample(tars.content(archive, member, str(path)), label, member.name)

    def sizes() -> Iterator[tuple[str, int, int]]:
        with tars.opened(path) as archive:
            for member in tars.members(archive, str(path)):
                yield member.name, _target(member.name.rpartition("/")[2], targets, KIT), member.size

    def located() -> Iterator[tuple[str, Path, int, int]]:
        with tars.opened(path) as archive:
            for member in tars.members(archive, str(path)):
                yield member.name, path, member.offset_data, member.size

    with tars.opened(path) as archive:
        count = sum(1 for _ in tars.members(archive, str(path)))
    if not count:
        raise empty(path, FORMAT_TAR)
    return Dataset(
        name, "val", FORMAT_TAR, _classes(), len(_classes()), count, str(path), read, sizes, BY_SYNSET,
        located=located if tars.is_plain(path) else None,
    )  # fmt: skip


def _kit_targets(folder: Path) -> list[int]:
    """Labels of the validation photos, from the kit's archive or its unpacked files in `folder`."""
    kit = folder / KIT
    if not kit.is_file():
        truth = folder / TRUTH
        if truth.is_file():
            return _targets(_truth_text(truth), str(truth), lambda: _synsets_beside(truth))
        raise InvalidInputError(
            f"{folder} has neither {KIT} nor {TRUTH}, which hold the photos' labels.",
            "put one of them next to the archive",
        )
    wanted = {"meta.mat", TRUTH}
    held: dict[str, bytes] = {}
    with tars.opened(kit) as archive:
        for member in tars.members(archive, str(kit)):
            base = member.name.rpartition("/")[2]
            if base in wanted:
                held[base] = tars.content(archive, member, str(kit), 2**26)
    if set(held) != wanted:
        raise InvalidInputError(f"{kit} lacks {', '.join(sorted(wanted - set(held)))}.", "download it again")
    synsets = _synsets("meta.mat", held["meta.mat"], f"{kit}: meta.mat")
    return _targets(held[TRUTH].decode("ascii", "replace"), f"{kit}: {TRUTH}", lambda: synsets)


def _training(path: Path, name: str) -> Dataset:
    """Each class is an archive of its own inside the archive, `n01440764.tar`."""
    index = {synset: number for number, synset in enumerate(_classes())}

    def walk(pictures: bool) -> Iterator[tuple[Sample, int, int]]:
        with tars.opened(path) as archive:
            for outer in tars.members(archive, str(path)):
                synset = outer.name.rpartition("/")[2].removesuffix(".tar")
                place = f"{path}: {outer.name}"
                if synset not in index:
                    raise InvalidInputError(
                        f"{place} is not a class of ILSVRC 2012.", "use the official archive"
                    )
                with tars.opened(path, archive.extractfile(outer), place=place) as inner:
                    for member in tars.members(inner, place):
                        data = tars.content(inner, member, place) if pictures else b""
                        sample = Sample(data, index[synset], f"{synset}/{member.name}")
                        yield sample, member.size, outer.offset_data + member.offset_data

    def located() -> Iterator[tuple[str, Path, int, int]]:
        return ((sample.name, path, begin, size) for sample, size, begin in walk(pictures=False))

    count = sum(1 for _ in walk(pictures=False))
    if not count:
        raise empty(path, FORMAT_TAR)
    return Dataset(
        name, "train", FORMAT_TAR, _classes(), len(_classes()), count, str(path),
        lambda: (sample for sample, *_ in walk(pictures=True)),
        lambda: ((sample.name, sample.label, size) for sample, size, _ in walk(pictures=False)), BY_SYNSET,
        located=located if tars.is_plain(path) else None,
    )  # fmt: skip
