"""Which layout a path holds: detected from what is there, never guessed where two would fit."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from vertebra.data import walking
from vertebra.data.datasets import folders, idx, imagenet, lists, shards, splits, tables
from vertebra.data.datasets.dataset import Dataset, is_picture
from vertebra.data.names import from_address, printable
from vertebra.errors import InvalidInputError, UnknownNameError
from vertebra.machine import files

#: value of `format` -> the layout
FORMATS = {
    "folders": "a folder for each class",
    "list": "a list of paths and labels (.csv, .txt), or a folder of pictures with one",
    "tar": "WebDataset's tar shards: one, or a folder of them",
    "parquet": "Parquet with the pictures' bytes: one file, or a folder of them",
    "idx": "the MNIST family's idx files",
    "imagenet": "ImageNet's official archives, or its validation photos with their ground truth",
}

_TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
#: Lists that are looked for next to pictures, in a folder without class folders.
_KNOWN_LISTS = (
    "val_map.txt", "LOC_val_solution.csv", "val_list.txt", "val.txt", "val_annotations.txt", "labels.csv",
    "labels.txt", "metadata.csv", "metadata.jsonl",
)  # fmt: skip
#: A split's own lists, in place of SPLIT.
_SPLIT_LISTS = ("SPLIT.txt", "SPLIT.csv", "SPLIT_list.txt", "SPLIT_labels.csv", "SPLIT_map.txt")
#: Files that are called after what is in them: the set is called after their folder.
_PLAIN_NAMES = {name.partition(".")[0].lower() for name in _KNOWN_LISTS} | {"annotations", "list"}

#: How many characters of a path that isn't there are shown.
_LONGEST = 300

Openers = dict[str, Callable[[], Dataset]]


@dataclass(frozen=True)
class _Asked:
    """What was asked for: the set's `name`; `split`, and `word`, the split as it was written; `format`.
    `own` is the split of the folder that is looked at, where its name or a folder's above says so.
    `unasked` collects what is assumed about the split."""

    name: str
    split: str | None
    word: str | None
    format: str | None
    verify: bool
    own: str | None = None
    unasked: dict[str, None] = field(default_factory=dict)

    def chosen(self, place: Path, there: Sequence[str]) -> str:
        """The split that is read, of those that are there."""
        split = splits.chosen(place, there, self.split)
        self.unasked.update(dict.fromkeys(splits.unasked(there, split, self.split)))
        return split


def open(
    path: str | Path,
    *,
    format: str | None = None,
    split: str | None = None,
    truth: str | Path | None = None,
    name: str | None = None,
    verify: bool = False,
) -> Dataset:
    """The labelled pictures at `path`: a folder, a list, an archive, a Parquet or an idx file.

    `format` is one of FORMATS; where it is None, the layout is detected. Where there are several splits,
    `split` selects one; without it validation's, else test's. `truth` is the list or the ground truth
    of a folder of pictures, `name` the set's name, and `verify` checks an official archive's MD5.
    Raises InvalidInputError, with file and line, where there is no data set, an ambiguous or broken one, or
    not the split that was asked for.
    """
    place = (from_address(path) if isinstance(path, str) else None) or files.named(path)
    if format is not None and format not in FORMATS:
        raise UnknownNameError.of("layout", format, FORMATS, ", ".join(FORMATS))
    if not os.path.exists(place) or walking.is_special(place):
        what = "is neither a file nor a folder" if os.path.exists(place) else "doesn't exist"
        raise InvalidInputError(
            f"There is nothing at {printable(place)[:_LONGEST]}: it {what}.",
            "pass a folder, a list, an archive or a file",
        )
    word = None if split is None else split.lower()
    asked = _Asked(
        name=name or name_of(place), split=None if word is None else splits.asked(word), word=word,
        format=format, verify=verify, own=splits.of_path(place),
    )  # fmt: skip
    try:
        opened = _open_file(place, asked) if place.is_file() else _open_folder(place, asked, truth)
        opened = replace(opened, assumed=(*opened.assumed, *asked.unasked))
        return _bound(opened, place, asked.split)
    except OSError as error:
        raise InvalidInputError(
            f"Can't read {printable(error.filename or place)}: {error.strerror or error}."
        ) from error


def _bound(data: Dataset, place: Path, split: str | None) -> Dataset:
    """The set, if it is of the split that was asked for."""
    if split == "val" and data.split is None and imagenet.is_named_validation(data):
        return replace(data, split=split)
    splits.check(place, data.split, split)
    return data


def name_of(place: Path) -> str:
    """The set's name: the folder's, or that of the folder above where the folder is a split."""
    whole = place.resolve()
    base = whole
    if not whole.is_dir():
        base = whole.with_name(whole.name.partition(".")[0])
        base = base.parent if base.name.lower() in _PLAIN_NAMES else base
    if splits.named(base.name) is not None:
        base = base.parent
    return printable(base.name) or "images"


# ------------------------------------------------------------------ files


def _file_format(file: Path) -> str:
    lower = file.name.lower()
    if file.name in imagenet.ARCHIVES:
        return "imagenet"
    if "idx" in lower and "ubyte" in lower:
        return "idx"
    for format, suffixes in (("tar", _TARS), ("parquet", (".parquet",)), ("list", lists.SUFFIXES)):
        if lower.endswith(suffixes):
            return format
    raise InvalidInputError(
        f"Can't detect the layout of {printable(file)}.", f"supported layouts: {'; '.join(FORMATS.values())}"
    )


def _open_file(file: Path, asked: _Asked) -> Dataset:
    format = asked.format or _file_format(file)
    if format == "imagenet":
        return _open_imagenet(file, asked)
    if format == "tar":
        return shards.open_shards([file], name=asked.name, split=asked.own)
    if format == "parquet":
        return tables.open_parquet([file], name=asked.name, split=asked.own, asked=asked.split)
    if format == "idx":
        return _open_idx_file(file, asked.name)
    if format == "list":
        return lists.open_list(file, name=asked.name, split=asked.own, asked=asked.split)
    raise InvalidInputError(f"{printable(file)} is a file; class folders are in a folder.", "pass the folder")


def _open_imagenet(file: Path, asked: _Asked) -> Dataset:
    if file.name not in imagenet.ARCHIVES:
        raise InvalidInputError(
            f"{printable(file)} is not one of the official archives.",
            f"their names are {', '.join(imagenet.ARCHIVES)}",
        )
    return imagenet.open_archive(file, name=asked.name, verify=asked.verify)


def _open_idx_file(file: Path, name: str) -> Dataset:
    for split, (images, targets) in idx.pairs(file.parent).items():
        if file.name in (images.name, targets.name):
            own = name_of(file.parent) if name == name_of(file) else name
            return idx.open_idx(images, targets, name=own, split=split)
    raise InvalidInputError(
        f"{printable(file)} lacks its file of labels or of pictures.", "put the two files into one folder"
    )


# ------------------------------------------------------------------ folders


def _open_folder(folder: Path, asked: _Asked, truth: str | Path | None) -> Dataset:
    if truth is not None:
        return _labelled(folder, Path(truth).expanduser(), asked)
    found = _candidates(folder, asked)
    if asked.format is not None:
        found = {key: opener for key, opener in found.items() if key == asked.format}
    if not found:
        raise _nothing(folder, asked.format)
    if len(found) > 1:
        raise InvalidInputError(
            f"{printable(folder)} could be read in {len(found)} ways: {', '.join(found)}. "
            f"It contains {_seen(folder)}.",
            f"choose one: --format {' or --format '.join(found)}",
        )
    return next(iter(found.values()))()


def _nothing(folder: Path, format: str | None) -> InvalidInputError:
    wanted = f' in the layout "{format}"' if format else ""
    below: Counter[str] = sum((found.left_out for found in walking.walk(folder)), Counter())
    unread = ", ".join(f"{count} {kind}" for kind, count in below.items() if kind in walking.UNREADABLE)
    return InvalidInputError(
        f"{printable(folder)} is not a data set{wanted}: it contains {_seen(folder)}"
        f"{f'; below it are {unread}' if unread else ''}.",
        "convert the pictures to PNG or JPEG" if unread else
        "to see the supported layouts: vertebra eval --help",
    )  # fmt: skip


def _candidates(folder: Path, asked: _Asked) -> Openers:
    """The layouts that the folder's content could be, each with what opens it."""
    kaggle = folder / "ILSVRC" / "Data" / "CLS-LOC"
    if kaggle.is_dir():
        return _candidates(kaggle, asked)
    files = sorted(path for path in folder.iterdir() if not walking.is_hidden(path.name) and path.is_file())
    found: Openers = {}
    pairs = idx.pairs(folder)
    if pairs:
        found["idx"] = lambda: _open_pair(folder, pairs, asked)
    archives = [file for file in files if file.name in imagenet.ARCHIVES]
    if archives:
        found["imagenet"] = lambda: _open_imagenet(_archive(folder, archives, asked), asked)
    others = [file for file in files if file.name != imagenet.KIT and file not in archives]
    for key, suffixes in (("tar", _TARS), ("parquet", (".parquet",))):
        fitting = [file for file in others if file.name.lower().endswith(suffixes)]
        if fitting:
            found[key] = _sharded(key, folder, fitting, asked)
    inner = folders.class_folders(folder)
    if inner:
        found.update(_foldered(folder, inner, files, asked, bool(found)))
    elif any(is_picture(file.name) for file in files):
        found.update(_flat(folder, asked))
    return found


def _foldered(
    folder: Path, inner: list[str], files: list[Path], asked: _Asked, known_already: bool
) -> Openers:
    """Class folders; or a folder for each split, of which one is chosen."""
    chosen = _split_folder(folder, inner, asked)
    if chosen is not None:
        own = splits.named(chosen) or chosen.lower()
        return _candidates(folder / chosen, replace(asked, own=own, split=None, word=None))
    has_pictures = _has_pictures(folder, inner)
    below = None if known_already else _only_folder(folder, inner)
    if below is not None:
        return _candidates(below, asked)
    if not has_pictures:
        return {}
    if asked.format is None:
        _check_not_splits(folder, inner)
    known = _lists(folder, files, asked)
    found: Openers = {"folders": lambda: folders.open_class_folders(folder, name=asked.name, split=asked.own)}
    if len(known) == 1 and not all(map(imagenet.is_synset, inner)):
        # `val_list.txt` next to a folder of pictures, as PaddleClas lays them out
        found["list"] = lambda: _listed(known[0], folder, asked)
        if len(inner) == 1:
            del found["folders"]
    return found


def _split_folder(folder: Path, inner: Sequence[str], asked: _Asked) -> str | None:
    """The folder of the split that was asked for, or of the one that is read where none was; None where the
    folders aren't splits. Raises InvalidInputError where that can't be known."""
    by_split: dict[str, list[str]] = {}
    for word in inner:
        by_split.setdefault(splits.named(word) or "", []).append(word)
    others = by_split.pop("", [])
    literal = [word for word in inner if asked.word is not None and word.lower() == asked.word]
    if literal:
        return literal[0]
    if not by_split:
        return None
    if asked.split not in by_split and _has_pictures(folder, others):
        if asked.split is not None:
            raise splits.NoSplitError(
                f"{printable(folder)} has no split {asked.split}.", f"its splits: {', '.join(by_split)}"
            )
        if asked.format == "folders":
            return None
        of_splits = ", ".join(word for words in by_split.values() for word in words)
        raise InvalidInputError(
            f"{printable(folder)} holds folders of splits ({of_splits}) and others "
            f"({', '.join(map(printable, others[:3]))}{', …' if len(others) > 3 else ''}).",
            f"choose a split: --split {' or --split '.join(by_split)}; or, if all of them are classes: "
            "--format folders",
        )
    split = asked.chosen(folder, list(by_split))
    if len(by_split[split]) > 1:
        raise InvalidInputError(
            f"{printable(folder)} has {len(by_split[split])} folders of the split {split}: "
            f"{', '.join(by_split[split])}.",
            f"choose one: --split {' or --split '.join(by_split[split])}",
        )
    return by_split[split][0]


def _has_pictures(folder: Path, inner: Sequence[str]) -> bool:
    return any(found.pictures for word in inner for found in walking.walk(folder / word))


def _only_folder(folder: Path, inner: Sequence[str]) -> Path | None:
    """The one folder in `folder`, where that holds the set: folders of splits, or shards."""
    if len(inner) != 1:
        return None
    below = folder / inner[0]
    deeper = folders.class_folders(below)
    is_split = len({splits.named(word) for word in deeper} - {None}) > 1
    sharded = any(path.name.lower().endswith((*_TARS, ".parquet")) for path in below.iterdir())
    return below if is_split or sharded else None


def _check_not_splits(folder: Path, inner: Sequence[str]) -> None:
    """Refuse folders that all hold the same folders and no pictures of their own: they are parts of a set."""
    if len(inner) < 2:
        return
    common: set[str] | None = None
    for word in inner:
        own = next(walking.walk(folder / word))
        if own.pictures:
            return
        deeper = set(folders.class_folders(folder / word))
        common = deeper if common is None else common & deeper
        if len(common) < 2:
            return
    shown = ", ".join(map(printable, sorted(common or ())[:3]))
    raise InvalidInputError(
        f"Each of the {len(inner)} folders in {printable(folder)} ({', '.join(map(printable, inner[:3]))}"
        f"{', …' if len(inner) > 3 else ''}) holds the folders {shown}: these may be parts of the set or "
        "its classes.",
        f"if they are parts, choose one: --split {printable(inner[0])}; "
        "if they are classes: --format folders",
    )


def _flat(folder: Path, asked: _Asked) -> Openers:
    """Pictures in one folder, and the list of labels next to them or in the folder above."""
    places = [folder, folder.parent]
    if folder.parent.name == "CLS-LOC":  # as Kaggle's archive of ImageNet unpacks: the lists are at the top
        places.append(folder.parents[3])
    for place in places:
        truth = place / imagenet.TRUTH
        found = [truth] if truth.is_file() else []
        found += _lists(place, [path for path in place.iterdir() if path.is_file()], asked)
        if len(found) > 1:
            raise InvalidInputError(
                f"{printable(folder)} contains pictures with several lists of labels: "
                f"{', '.join(map(printable, found))}.",
                "choose one: --truth FILE",
            )
        if found:
            key = "imagenet" if found[0].name == imagenet.TRUTH else "list"
            return {key: partial(_labelled, folder, found[0], asked)}
    if imagenet.are_named_by_synset(folder):
        return {"imagenet": lambda: imagenet.open_named(folder, name=asked.name, split=asked.own)}
    raise InvalidInputError(
        f"{printable(folder)} contains pictures ({_seen(folder)}), but no labels for them.",
        f"put them into a folder for each class, or add one of {', '.join((imagenet.TRUTH, *_KNOWN_LISTS))}",
    )


def _labelled(folder: Path, truth: Path, asked: _Asked) -> Dataset:
    """The pictures of a folder, labelled by a list or by ImageNet's ground truth."""
    if truth.name == imagenet.TRUTH:
        return imagenet.open_flat(folder, truth, name=asked.name, split=asked.own)
    return _listed(truth, folder, asked)


def _listed(file: Path, images: Path, asked: _Asked) -> Dataset:
    own = asked.own or splits.of_path(file)
    return lists.open_list(file, name=asked.name, split=own, asked=asked.split, images=images)


def _lists(folder: Path, files: Sequence[Path], asked: _Asked) -> list[Path]:
    """The lists of labels in `folder`: those of the split that is meant, or else those of any."""
    meant = asked.split or asked.own
    of_split = {name.replace("SPLIT", word) for name in _SPLIT_LISTS for word in (meant, asked.word) if word}
    known = [
        file for file in files
        if file.name in of_split
        or (file.name in _KNOWN_LISTS and (file.stem != "metadata" or lists.has_labels(file)))
    ]  # fmt: skip
    splits_of = {file: splits.named(file.name.partition(".")[0].partition("_")[0]) for file in known}
    exact = [file for file in known if meant is not None and splits_of[file] == meant]
    return exact or [file for file in known if meant is None or splits_of[file] is None]


def _open_pair(folder: Path, pairs: dict[str, tuple[Path, Path]], asked: _Asked) -> Dataset:
    chosen = asked.chosen(folder, list(pairs))
    return idx.open_idx(*pairs[chosen], name=asked.name, split=chosen)


def _archive(folder: Path, archives: list[Path], asked: _Asked) -> Path:
    by_split = {imagenet.ARCHIVES[file.name][0]: file for file in archives}
    return by_split[asked.chosen(folder, list(by_split))]


def _sharded(key: str, folder: Path, files: list[Path], asked: _Asked) -> Callable[[], Dataset]:
    """Files with their split in their names (`train-00000.tar`), of which one split is chosen; else all."""
    by_split: dict[str, list[Path]] = {}
    for file in files:
        by_split.setdefault(splits.of_path(file) or "", []).append(file)

    def opened() -> Dataset:
        unnamed = set(by_split) == {""}
        chosen = "" if unnamed else asked.chosen(folder, list(by_split))
        own = asked.own if unnamed else chosen or None
        if key == "tar":
            return shards.open_shards(by_split[chosen], name=asked.name, split=own)
        return tables.open_parquet(by_split[chosen], name=asked.name, split=own, asked=asked.split)

    return opened


def _seen(folder: Path) -> str:
    """What a folder contains, in a few words."""
    counts: dict[str, int] = {}
    for path in folder.iterdir():
        kind = "folders" if path.is_dir() else f"{path.suffix.lower() or 'unnamed'} files"
        counts[kind] = counts.get(kind, 0) + 1
    words = [f"{count} {kind}" for kind, count in sorted(counts.items())]
    return printable(", ".join(words[:6])) if words else "nothing"
