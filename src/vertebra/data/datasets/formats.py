"""Which layout a path holds: detected from what is there, never guessed where two would fit."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from vertebra.data.datasets import folders, idx, imagenet, lists, shards, tables
from vertebra.data.datasets.dataset import DEFAULT_SPLITS, SPELLINGS, Dataset, is_picture
from vertebra.errors import InvalidInputError, UnknownNameError

#: value of `format` -> the layout
FORMATS = {
    "folders": "a folder for each class",
    "list": "a list of paths and labels (.csv, .txt), or a folder of pictures with one",
    "tar": "WebDataset's tar shards: one, or a folder of them",
    "parquet": "Parquet with the pictures' bytes: one file, or a folder of them",
    "idx": "the MNIST family's idx files",
    "imagenet": "ImageNet's official archives, or its validation photos with their ground truth",
}

_TARS = (".tar", ".tar.gz", ".tgz")
_SPLITS = {*DEFAULT_SPLITS, *SPELLINGS, "train", "test"}
#: Lists that are looked for next to pictures, in a folder without class folders.
_KNOWN_LISTS = ("val_map.txt", "LOC_val_solution.csv", "val_list.txt", "val.txt", "labels.csv", "labels.txt")


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
    Raises InvalidInputError, with file and line, where there is no data set, or an ambiguous or broken one.
    """
    place = Path(path).expanduser()
    if format is not None and format not in FORMATS:
        raise UnknownNameError.of("layout", format, FORMATS, ", ".join(FORMATS))
    if not place.exists():
        raise InvalidInputError(
            f"There is nothing at {place}.", "pass a folder, a list, an archive or a file"
        )
    if split is not None:
        split = SPELLINGS.get(split.lower(), split.lower())
    name = name or _name(place)
    if place.is_file():
        return _open_file(place, format or _file_format(place), name, split, verify, truth)
    return _open_folder(place, format, name, split, verify, truth)


def _name(place: Path) -> str:
    """The set's name: the folder's, or that of the folder above where the folder is a split."""
    whole = place.resolve()
    base = whole if whole.is_dir() else whole.with_name(whole.name.partition(".")[0])
    if base.name.lower() in _SPLITS:
        base = base.parent
    return base.name or "images"


def _split_of(place: Path) -> str | None:
    """The split that a folder's name is, or that a file's name begins with (`val-00000.tar`, `test_list.txt`)
    or its folder's name is."""
    words = [place.name.lower()]
    if not place.is_dir():
        stem = place.name.partition(".")[0].lower()
        words = [stem, stem.partition("-")[0], stem.partition("_")[0], place.parent.name.lower()]
    return next((SPELLINGS.get(word, word) for word in words if word in _SPLITS), None)


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
        f"Can't detect the layout of {file}.", f"supported layouts: {'; '.join(FORMATS.values())}"
    )


def _open_file(
    file: Path, format: str, name: str, split: str | None, verify: bool, truth: str | Path | None
) -> Dataset:
    split = split or _split_of(file)
    if format == "imagenet":
        return _open_imagenet(file, name, verify)
    if format == "tar":
        return shards.open_shards([file], name=name, split=split)
    if format == "parquet":
        return tables.open_parquet([file], name=name, split=split)
    if format == "idx":
        return _open_idx_file(file, name)
    if format == "list":
        return lists.open_list(file, name=name, split=split)
    raise InvalidInputError(f"{file} is a file; class folders are in a folder.", "pass the folder")


def _open_imagenet(file: Path, name: str, verify: bool) -> Dataset:
    if file.name not in imagenet.ARCHIVES:
        raise InvalidInputError(
            f"{file} is not one of the official archives.", f"their names are {', '.join(imagenet.ARCHIVES)}"
        )
    return imagenet.open_archive(file, name=name, verify=verify)


def _open_idx_file(file: Path, name: str) -> Dataset:
    for split, (images, targets) in idx.pairs(file.parent).items():
        if file.name in (images.name, targets.name):
            own = _name(file.parent) if name == _name(file) else name
            return idx.open_idx(images, targets, name=own, split=split)
    raise InvalidInputError(
        f"{file} lacks its file of labels or of pictures.", "put the two files into one folder"
    )


# ------------------------------------------------------------------ folders


def _open_folder(
    folder: Path, format: str | None, name: str, split: str | None, verify: bool, truth: str | Path | None
) -> Dataset:
    if truth is not None:
        return _labelled(folder, Path(truth), name, split)
    found = _candidates(folder, name, split, verify)
    if format is not None:
        found = {key: opener for key, opener in found.items() if key == format}
    if not found:
        wanted = f' in the layout "{format}"' if format else ""
        raise InvalidInputError(
            f"{folder} is not a data set{wanted}: it contains {_seen(folder)}.",
            "to see the supported layouts: vertebra eval --help",
        )
    if len(found) > 1:
        raise InvalidInputError(
            f"{folder} could be read in {len(found)} ways: {', '.join(found)}. It contains {_seen(folder)}.",
            f"choose one: --format {' or --format '.join(found)}",
        )
    return next(iter(found.values()))()


def _candidates(folder: Path, name: str, split: str | None, verify: bool) -> dict[str, Callable[[], Dataset]]:
    """The layouts that the folder's content could be, each with what opens it."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    own = split or _split_of(folder)
    found: dict[str, Callable[[], Dataset]] = {}
    pairs = idx.pairs(folder)
    if pairs:
        found["idx"] = lambda: _open_pair(folder, pairs, name, split)
    archives = [file for file in files if file.name in imagenet.ARCHIVES]
    if archives:
        found["imagenet"] = lambda: _open_imagenet(_archive(folder, archives, split), name, verify)
    others = [file for file in files if file.name != imagenet.KIT and file not in archives]
    for key, suffixes in (("tar", _TARS), ("parquet", (".parquet",))):
        fitting = [file for file in others if file.name.lower().endswith(suffixes)]
        if fitting:
            found[key] = _sharded(key, folder, fitting, name, split)
    if folders.class_folders(folder):
        found.update(_foldered(folder, files, name, own, split, verify))
    elif any(is_picture(file.name) for file in files):
        found.update(_flat(folder, name, own))
    return found


def _foldered(
    folder: Path, files: list[Path], name: str, own: str | None, split: str | None, verify: bool
) -> dict[str, Callable[[], Dataset]]:
    """Class folders; or a folder for each split, of which one is chosen."""
    inner = folders.class_folders(folder)
    if {word.lower() for word in inner} <= _SPLITS:
        by_split = {SPELLINGS.get(word.lower(), word.lower()): word for word in inner}
        chosen = by_split[_chosen(str(folder), list(by_split), split)]
        inner_split = SPELLINGS.get(chosen.lower(), chosen.lower())
        return _candidates(folder / chosen, name, inner_split, verify)
    known = _lists(folder, files)
    has_pictures = any(
        is_picture(path.name) for word in inner for path in (folder / word).rglob("*") if path.is_file()
    )
    if len(known) == 1 and has_pictures and not all(word.startswith("n0") for word in inner):
        # `val_list.txt` next to a folder of pictures, as PaddleClas lays them out
        if len(inner) == 1:
            return {"list": lambda: lists.open_list(known[0], name=name, split=own or _split_of(known[0]))}
        return {
            "folders": lambda: folders.open_class_folders(folder, name=name, split=own),
            "list": lambda: lists.open_list(known[0], name=name, split=own or _split_of(known[0])),
        }
    if not has_pictures:
        return {}
    return {"folders": lambda: folders.open_class_folders(folder, name=name, split=own)}


def _flat(folder: Path, name: str, own: str | None) -> dict[str, Callable[[], Dataset]]:
    """Pictures in one folder, and the list of labels next to them or in the folder above."""
    for place in (folder, folder.parent):
        labelling = [place / file for file in (imagenet.TRUTH, *_KNOWN_LISTS) if (place / file).is_file()]
        if len(labelling) > 1:
            raise InvalidInputError(
                f"{folder} contains pictures with several lists of labels: {', '.join(map(str, labelling))}.",
                "choose one: --truth FILE",
            )
        if labelling:
            key = "imagenet" if labelling[0].name == imagenet.TRUTH else "list"
            return {key: partial(_labelled, folder, labelling[0], name, own)}
    raise InvalidInputError(
        f"{folder} contains pictures ({_seen(folder)}), but no labels for them.",
        f"put them into a folder for each class, or add one of {', '.join((imagenet.TRUTH, *_KNOWN_LISTS))}",
    )


def _labelled(folder: Path, truth: Path, name: str, split: str | None) -> Dataset:
    """The pictures of a folder, labelled by a list or by ImageNet's ground truth."""
    if truth.name == imagenet.TRUTH:
        return imagenet.open_flat(folder, truth, name=name, split=split)
    return lists.open_list(truth, name=name, split=split or _split_of(truth), images=folder)


def _lists(folder: Path, files: list[Path]) -> list[Path]:
    return [file for file in files if file.name in _KNOWN_LISTS]


def _open_pair(folder: Path, pairs: dict[str, tuple[Path, Path]], name: str, split: str | None) -> Dataset:
    chosen = _chosen(str(folder), list(pairs), split)
    return idx.open_idx(*pairs[chosen], name=name, split=chosen)


def _archive(folder: Path, archives: list[Path], split: str | None) -> Path:
    by_split = {imagenet.ARCHIVES[file.name][0]: file for file in archives}
    return by_split[_chosen(str(folder), list(by_split), split)]


def _sharded(
    key: str, folder: Path, files: list[Path], name: str, split: str | None
) -> Callable[[], Dataset]:
    """Files with their split in their names (`train-00000.tar`), of which one split is chosen; else all."""
    by_split: dict[str, list[Path]] = {}
    for file in files:
        by_split.setdefault(_split_of(file) or "", []).append(file)
    open_all = shards.open_shards if key == "tar" else tables.open_parquet
    if set(by_split) == {""}:
        return lambda: open_all(files, name=name, split=split)

    def opened() -> Dataset:
        chosen = _chosen(str(folder), list(by_split), split)
        return open_all(by_split[chosen], name=name, split=chosen or None)

    return opened


def _chosen(place: str, splits: list[str], split: str | None) -> str:
    """The split asked for; without one validation's, else test's, else the only one."""
    if split is not None:
        if split not in splits:
            raise InvalidInputError(
                f"{place} has no split {split}.",
                f"its splits: {', '.join(word or 'unnamed' for word in splits)}",
            )
        return split
    for word in DEFAULT_SPLITS:
        if SPELLINGS.get(word, word) in splits:
            return SPELLINGS.get(word, word)
    if len(splits) == 1:
        return splits[0]
    raise InvalidInputError(f"{place} has the splits {', '.join(splits)}.", "choose one: --split NAME")


def _seen(folder: Path) -> str:
    """What a folder contains, in a few words."""
    counts: dict[str, int] = {}
    for path in folder.iterdir():
        kind = "folders" if path.is_dir() else f"{path.suffix.lower() or 'unnamed'} files"
        counts[kind] = counts.get(kind, 0) + 1
    words = [f"{count} {kind}" for kind, count in sorted(counts.items())]
    return ", ".join(words[:6]) if words else "nothing"
