"""What the classes of a network are called: ImageNet's thousand, or those in a file of your own.

`resolve("imagenet-1k")` returns the shipped set and `resolve("classes.txt")` reads a file: one name a line,
or `index name` lines, or a JSON list or dict.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path

from vertebra.errors import InvalidInputError, UnknownNameError
from vertebra.machine import files, json_text

IMAGENET_1K = "imagenet-1k"

_MAX_BYTES = 64 * 2**20  # a list of names is never this large; weights passed by mistake are
_INDEX_LAST = re.compile(r"(\S.*?)\s*[,;\t]\s*(\d{1,9})")
_SYNSET = re.compile(r"(n\d{8})\s*[\s,;]\s*(\S.*)")
_OF_THE_KIT = re.compile(r"n\d{8}\s+\d+\s+\S+")
_IN_CONFIGS = ("id2label", "label2id", "label_names")
#: One name in so many may occur twice.
_NAMESAKES = 50
_INDEXED = re.compile(r"(\d+)(?:\s*[,:;]\s*|\s+)(\S.*)")


@dataclass(frozen=True, slots=True)
class Label:
    """One class: its place in the network's output, its name, and its identifier where the set has them."""

    index: int
    name: str
    id: str | None


@dataclass(frozen=True)
class LabelSet:
    """The classes of a network in the order of its outputs.

    `ids` are the identifiers (WordNet synsets for ImageNet), which are unique where names need not be:
    ImageNet has two classes called "crane".
    """

    name: str
    names: tuple[str, ...]
    ids: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Label:
        """The label of output `index`. Raises InvalidInputError outside 0 to the count less one."""
        if not 0 <= index < len(self.names):
            raise InvalidInputError(
                f"Class {index} doesn't exist: {self.name} has the classes 0 to {len(self.names) - 1}.",
                "use the label set that the network was trained with",
            )
        return Label(index, self.names[index], self.ids[index] if self.ids else None)

    def __iter__(self) -> Iterator[Label]:
        return (self[index] for index in range(len(self.names)))

    def index_of(self, text: str) -> int:
        """The class called `text`: an identifier, a whole name, or one of a name's words if only one has it.

        >>> find("imagenet-1k").index_of("n01440764"), find("imagenet-1k").index_of("Tinca tinca")
        (0, 0)

        Raises UnknownNameError, and InvalidInputError where several classes have it.
        """
        if self.ids and text in self.ids:
            return self.ids.index(text)
        wanted = text.casefold()
        found = [index for index, name in enumerate(self.names) if name.casefold() == wanted]
        found = found or [index for index, words in enumerate(self._words()) if wanted in words]
        if not found:
            known = [*(self.ids or ()), *self.names]
            raise UnknownNameError.of("class", text, known, f"the labels of {self.name}")
        if len(found) > 1:
            raise InvalidInputError(
                f'"{text}" is the name of {len(found)} classes of {self.name}: {", ".join(map(str, found))}.',
                "use the class's index" + (" or identifier" if self.ids else ""),
            )
        return found[0]

    def _words(self) -> Iterator[list[str]]:
        return ([word.strip().casefold() for word in name.split(",")] for name in self.names)

    def check_count(self, num_classes: int) -> None:
        """Raise InvalidInputError unless there are `num_classes` labels."""
        if len(self.names) != num_classes:
            raise InvalidInputError(
                f"{self.name} has {len(self.names)} labels; the network has {num_classes} classes.",
                "pass one label for each class, in the order of the network's outputs",
            )


@cache
def _imagenet_1k() -> LabelSet:
    text = resources.files("vertebra.data").joinpath("imagenet_1k.tsv").read_text(encoding="utf-8")
    pairs = [line.split("\t") for line in text.splitlines()]
    ids, names = zip(*pairs, strict=True)
    return LabelSet(IMAGENET_1K, names, ids)


_SETS: dict[str, Callable[[], LabelSet]] = {IMAGENET_1K: _imagenet_1k}


def known() -> tuple[str, ...]:
    """The names of the label sets that ship with the package."""
    return tuple(_SETS)


def find(name: str) -> LabelSet:
    """The shipped label set called `name`. Raises UnknownNameError."""
    if name.lower() not in _SETS:
        raise UnknownNameError.of("label set", name, _SETS, ", ".join(_SETS))
    return _SETS[name.lower()]()


def resolve(source: str | Path, *, num_classes: int | None = None) -> LabelSet:
    """A shipped set by its name, or else the file of that path; with `num_classes`, of that many labels.

    Raises UnknownNameError and InvalidInputError.
    """
    if isinstance(source, str) and source.lower() in _SETS:
        labels = find(source)
        if num_classes is not None:
            labels.check_count(num_classes)
        return labels
    if isinstance(source, str) and not Path(source).suffix and not os.path.exists(source):
        return find(source)
    return read(source, num_classes=num_classes)


def read(path: str | Path, *, num_classes: int | None = None) -> LabelSet:
    """The labels of a text or JSON file in UTF-8, checked to be `num_classes` where that is given.

    Lines are either names or, all of them, `index name` as PaddleClas writes them, also as CSV with a header,
    or `synset name`. JSON is a list of names,
    or a dict of names by index (also `{"0": ["n01440764", "tench"], …}`), or of indices by name, or a
    `config.json` that holds one. A name may occur twice where the classes have indices, or if few do.
    Raises InvalidInputError.
    """
    path = files.named(path)
    text = _text(path)
    labels = _from_json(path, text) if text.lstrip()[:1] in ("[", "{") else _from_lines(path, text)
    if num_classes is not None:
        labels.check_count(num_classes)
    return labels


def from_names(names: Sequence[str], *, name: str = "labels") -> LabelSet:
    """A label set of `names`, in order.

    Raises InvalidInputError for no names, an empty one, or one given twice.
    """
    return LabelSet(name, _unique(name, _filled(name, names)))


def _text(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            content = stream.read(_MAX_BYTES + 1)
        if len(content) > _MAX_BYTES:
            raise InvalidInputError(f"{path} is too large for a list of labels.", "pass a text or JSON file")
        return content.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except OSError as error:
        raise InvalidInputError(
            f"Can't read labels from {path}: {error.strerror or error}.",
            f"pass a file, or one of the label sets: {', '.join(_SETS)}",
        ) from error
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"{path} is not UTF-8 text.", "save it as UTF-8") from error


def _from_lines(path: Path, text: str) -> LabelSet:
    lines = [line.strip() for line in text.splitlines()]
    while lines and not lines[-1]:
        lines.pop()
    if lines and all(map(_OF_THE_KIT.fullmatch, lines)):
        raise InvalidInputError(
            f"{path} numbers ImageNet's classes in the development kit's order, not the outputs'.",
            f"pass --labels {IMAGENET_1K}",
        )
    # a header is the one line that is not like the others
    has_header = len(lines) > 1 and re.search(r"[,;\t]", lines[0]) and not _pairs(lines)
    pairs = _pairs(lines[1:] if has_header else lines)
    if pairs:
        indexed = _indexed(str(path), pairs)
        return _with_synsets(str(path), indexed.names) or indexed
    return _with_synsets(str(path), lines) or _plain(str(path), lines)


def _pairs(lines: Sequence[str]) -> list[tuple[int, str]] | None:
    """Indices and names, if every line is `index name` or `name,index`."""
    found = [_INDEXED.fullmatch(line) for line in lines]
    if found and all(found):
        return [(int(match[1]), _unquoted(match[2])) for match in found if match]
    found = [_INDEX_LAST.fullmatch(line) for line in lines]
    if found and all(found):
        return [(int(match[2]), _unquoted(match[1])) for match in found if match]
    return None


def _unquoted(text: str) -> str:
    return text[1:-1].strip() if len(text) > 2 and text[0] == text[-1] == '"' else text


def _with_synsets(source: str, names: Sequence[str]) -> LabelSet | None:
    """The labels of `names` that all begin with their synset, as in `n01440764 tench`; else None."""
    found = [_SYNSET.fullmatch(name) for name in names]
    if not found or not all(found):
        return None
    pairs = [(match[1], _unquoted(match[2])) for match in found if match]
    ids = _unique(source, tuple(synset for synset, _ in pairs))
    return LabelSet(source, _filled(source, [name for _, name in pairs]), ids)


def _from_json(path: Path, text: str) -> LabelSet:
    try:
        content = json_text.parsed(text, pairs=_without_repeats)
    except ValueError as error:
        raise InvalidInputError(f"{path} is not valid JSON: {error}.", "correct the file") from error
    if isinstance(content, dict):  # a network's configuration, of Hugging Face's or timm's
        content = next((content[key] for key in _IN_CONFIGS if key in content), content)
    if isinstance(content, list) and all(isinstance(item, str) for item in content):
        return _plain(str(path), content)
    if isinstance(content, dict) and all(_is_index(key) for key in content):
        pairs = {int(key): value for key, value in content.items()}
        if len(pairs) == len(content) and all(_is_pair(value) for value in pairs.values()):
            ids = _indexed(str(path), [(index, value[0]) for index, value in pairs.items()]).names
            names = _indexed(str(path), [(index, value[1]) for index, value in pairs.items()]).names
            return LabelSet(str(path), names, _unique(str(path), ids))
        if all(isinstance(value, str) for value in content.values()):
            return _indexed(str(path), [(int(key), value) for key, value in content.items()])
    if isinstance(content, dict) and all(_is_index(value) for value in content.values()):
        return _indexed(str(path), [(int(value), key) for key, value in content.items()])
    raise InvalidInputError(
        f"{path} is JSON, but not a list or a dict of labels.",
        'expected ["cat", "dog"], {"0": "cat", "1": "dog"}, or {"cat": 0, "dog": 1}',
    )


def _without_repeats(pairs: list[tuple[str, object]]) -> Mapping[str, object]:
    content = dict(pairs)
    if len(content) < len(pairs):
        seen: set[str] = set()
        repeated = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {json_text.shown(repeated)} occurs twice")
    return content


def _is_index(value: object) -> bool:
    if isinstance(value, str):
        return value.isascii() and value.isdecimal() and len(value) < 10
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_pair(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(isinstance(part, str) for part in value)


def _indexed(source: str, pairs: list[tuple[int, str]]) -> LabelSet:
    names: dict[int, str] = {}
    for index, name in pairs:
        if index in names:
            raise InvalidInputError(
                f'{source} names class {index} twice: "{names[index]}" and "{name}".',
                "name each class once",
            )
        names[index] = name
    missing = next((index for index in range(len(names)) if index not in names), None)
    if missing is not None:
        raise InvalidInputError(
            f"{source} has {len(names)} labels, but none for class {missing}.",
            "number the classes from 0, without gaps",
        )
    return LabelSet(source, _filled(source, [names[index] for index in range(len(names))]))


def _plain(source: str, names: list[str]) -> LabelSet:
    filled = _filled(source, names)
    # Published lists have a few namesakes: ImageNet's two cranes. Outputs are told apart by their place.
    few = (len(filled) - len(set(filled))) * _NAMESAKES <= len(filled)
    return LabelSet(source, filled if few else _unique(source, filled))


def _filled(source: str, names: Sequence[str]) -> tuple[str, ...]:
    stripped = tuple(name.strip() for name in names)
    if not stripped:
        raise InvalidInputError(f"{source} contains no labels.", "write one name per line")
    if "" in stripped:
        raise InvalidInputError(
            f"{source} has no name for class {stripped.index('')}.",
            "write one name per line, without empty lines",
        )
    return stripped


def _unique(source: str, names: tuple[str, ...]) -> tuple[str, ...]:
    first: dict[str, int] = {}
    for index, name in enumerate(names):
        if name in first:
            raise InvalidInputError(
                f'{source} gives the classes {first[name]} and {index} the same name, "{name}".',
                'give them different names, or write "index name" lines if this is intended',
            )
        first[name] = index
    return names
