"""`vertebra.table`: the measurements themselves."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from vertebra import choosing, metrics, zoo
from vertebra.errors import InvalidInputError, UnknownNameError
from vertebra.measurements import ORIGINS, Measurement, WideRow, latest, wide
from vertebra.verbs import given
from vertebra.verbs.given import TableLike


def table(*, path: TableLike = None, every: bool = False, **filters: Any) -> list[Measurement]:
    """The rows that match `filters` (column=value or column=(values)): the latest of each, or `every` one."""
    if isinstance(filters.get("model"), str) and filters["model"] != metrics.MACHINE:
        filters["model"] = zoo.canonical(filters["model"])
    if isinstance(filters.get("metric"), str):
        metrics.find(filters["metric"])
    if isinstance(filters.get("origin"), str) and filters["origin"] not in ORIGINS:
        raise UnknownNameError.of("origin", filters["origin"], ORIGINS, "vertebra table --help")
    rows = given.table(path, create=False).rows(**filters)
    return rows if every else latest(rows)


def write(rows: Iterable[Measurement], file: str | Path) -> None:
    """Write `rows` to a .csv, .json or .parquet file that `cite` takes in again, on any machine."""
    from vertebra.measurements import exchange

    writers = {".csv": exchange.write_csv, ".json": exchange.write_json, ".parquet": exchange.write_parquet}
    _by_suffix(Path(file), writers)(rows, Path(file))


def _by_suffix(file: Path, functions: dict[str, Any]) -> Any:
    if file.suffix not in functions:
        raise InvalidInputError(f'Can\'t tell the format of "{file}".', f"formats: {', '.join(functions)}")
    return functions[file.suffix]


def compared(
    *, table: TableLike = None, dataset: str | None = None, probed: str | None = None, **filters: Any
) -> list[WideRow]:
    """Wide rows of one load: of this machine at batch size 1, where `filters` don't say otherwise.

    Accuracies are those of `dataset` (the whole of ImageNet's validation split, where None), a probe's those
    of the images `probed`. Networks that were never run are among them, with what is known without running
    them.
    """
    source = given.table(table, create=False)
    return wide(choosing.comparable(source, dataset=dataset, probed=probed, **filters))
