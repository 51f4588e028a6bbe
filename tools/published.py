"""Make the published figures in the package again, from a folder with their original tables.

Run `python tools/published.py FOLDER` in a checkout with timm. The folder holds published_imagenet.csv,
published_complexity.csv, timm_benchmarks.csv, bianco2018.csv and canziani2016.csv. Nothing is rounded or
filled in: columns that no row needs are left out, names that timm no longer uses are replaced by its new
ones, and large files are compressed. `--check` compares instead of writing.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from vertebra.measurements import shipped
from vertebra.zoo import adapters

Table = list[dict[str, str]]
HERE = Path(shipped.__file__).parent

#: The column of timm_benchmarks.csv that names a row's table.
_FILE = "source"
_BIANCO = (
    "model", "repo_name", "input_size", "top1_readme", "top5_readme", "accuracy_version", "ref_top1",
    "ref_top5", "ref_framework", "params_m_recomputed", "model_size_mb_recomputed", "gmacs_conv_recomputed",
    "gmacs_all_recomputed",
)  # fmt: skip
#: Old names for which timm's own table of renamed networks names a smaller one.
_RENAMED = {
    f"ig_resnext101_32x{width}d": f"resnext101_32x{width}d.fb_wsl_ig1b_ft_in1k" for width in (16, 32, 48)
}
_CANZIANI = ("model", "top1_moons", "gops_moons", "params_m_moons", "top1_auto", "gops_auto")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="the folder with the tables")
    parser.add_argument(
        "--check", action="store_true", help="compare the files in the package, write nothing"
    )
    arguments = parser.parse_args()
    made = files(arguments.folder)
    if arguments.check:
        stale = [name for name, content in made.items() if _read(HERE / name) != content]
        print(
            "\n".join(f"{name} differs" for name in stale) or "the files in the package agree with the tables"
        )
        sys.exit(bool(stale))
    for name, content in made.items():
        (HERE / name).write_bytes(_packed(name, content))
        print(f"{name}: {(HERE / name).stat().st_size:,} bytes")


def files(folder: Path) -> dict[str, str]:
    """The text of each shipped file, by its name."""
    imagenet = _table(folder, "published_imagenet.csv")
    complexity = _table(folder, "published_complexity.csv")
    return {
        "imagenet.csv.gz": _accuracies(imagenet),
        "complexity.csv.gz": _complexity(complexity),
        "timm_benchmarks.csv.gz": _benchmarks(_table(folder, "timm_benchmarks.csv")),
        "bianco2018.csv": _chosen(_table(folder, "bianco2018.csv"), _BIANCO),
        "canziani2016.csv": _chosen(_table(folder, "canziani2016.csv"), _CANZIANI),
    }


def _table(folder: Path, name: str) -> Table:
    with (folder / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _accuracies(table: Table) -> str:
    """timm's and torchvision's; PaddleClas's are in the package as its page prints them."""
    kept = [row for row in table if row["library"] != "paddleclas"]
    head = ("model", "weights", "input_size", "crop_pct", "top1", "top5")
    return _text(
        head, ((*_named(row), row["input_size"], row["crop_pct"], row["top1"], row["top5"]) for row in kept)
    )


def _complexity(table: Table) -> str:
    head = ("model", "weights", "input_size", "params_m", "gmacs", "macts_m", "file_size_mib", "file")
    return _text(head, ((*_named(row), *_counted(row)) for row in table))


def _counted(row: dict[str, str]) -> Iterable[str]:
    yield from (row[name] for name in ("input_size", "params_m", "gmacs", "macts_m", "file_size_mib"))
    yield _stem(row["source"].rpartition("/")[2]) if row["library"] == "timm" else ""


def _benchmarks(table: Table) -> str:
    """One line per network and size, one column per table of timm's; a cell is batch size and images/s."""
    tables = sorted({row[_FILE] for row in table})
    lines: dict[tuple[str, str, str], dict[str, str]] = {}
    for row in table:
        model, weights = _renamed(row["model"])
        cells = lines.setdefault((model, weights, row["input_size"]), {})
        assert row[_FILE] not in cells, f"two figures of {model} in {row[_FILE]}"
        cells[row[_FILE]] = f"{row['batch']}:{row['samples_per_s']}"
    head = ("model", "weights", "input_size", *map(_stem, tables))
    return _text(
        head, ((*key, *(cells.get(name, "") for name in tables)) for key, cells in sorted(lines.items()))
    )


def _stem(file: str) -> str:
    return file.removesuffix(".csv").removeprefix("benchmark-infer-")


def _named(row: dict[str, str]) -> tuple[str, str]:
    """The network's name here, and its weights."""
    if row["library"] == "timm" and not row["weights_tag"]:
        return _renamed(row["model"])
    weights = f"{row['model']}.{row['weights_tag']}"
    return f"{row['library']}:{row['model']}", weights


def _renamed(model: str) -> tuple[str, str]:
    """timm's present name for a network of its tables, and the weights that an old name meant."""
    from timm.models import _registry

    today = "" if _is_known(model) else _RENAMED.get(model) or _registry._deprecated_models.get(model) or ""
    if not _is_known(today):
        return f"timm:{model}", ""
    return f"timm:{today.partition('.')[0]}", today if "." in today else model


def _is_known(name: str) -> bool:
    return name.partition(".")[0] in adapters.known("timm")


def _chosen(table: Table, columns: Sequence[str]) -> str:
    return _text(columns, ([row[name] for name in columns] for row in table))


def _text(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(lines)
    return text.getvalue()


def _packed(name: str, content: str) -> bytes:
    # without a timestamp, so that the same figures give the same file
    return gzip.compress(content.encode(), 9, mtime=0) if name.endswith(".gz") else content.encode()


def _read(path: Path) -> str:
    content = path.read_bytes()
    return (gzip.decompress(content) if path.suffix == ".gz" else content).decode()


if __name__ == "__main__":
    main()
