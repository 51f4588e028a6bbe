"""`vertebra.table`: the measurements themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, overload

from vertebra import metrics
from vertebra.errors import InvalidInputError, UnknownNameError
from vertebra.measurements import ORIGINS, Rows, Table, WideRow, latest, views
from vertebra.verbs import conditions, given
from vertebra.verbs.given import TableLike


@overload
def table(
    *,
    path: TableLike = None,
    every: bool = False,
    wide: Literal[False] = False,
    forgotten: bool = False,
    forget: str | Sequence[str] = (),
    restore: str | Sequence[str] = (),
    price: Mapping[str, str] | str | Sequence[str] = (),
    **filters: Any,
) -> Rows: ...
@overload
def table(
    *,
    path: TableLike = None,
    every: bool = False,
    wide: Literal[True],
    forgotten: bool = False,
    forget: str | Sequence[str] = (),
    restore: str | Sequence[str] = (),
    price: Mapping[str, str] | str | Sequence[str] = (),
    **filters: Any,
) -> list[WideRow]: ...
def table(
    *,
    path: TableLike = None,
    every: bool = False,
    wide: bool = False,
    forgotten: bool = False,
    forget: str | Sequence[str] = (),
    restore: str | Sequence[str] = (),
    price: Mapping[str, str] | str | Sequence[str] = (),
    **filters: Any,
) -> Rows | list[WideRow]:
    """The rows that match `filters` (column=value or column=(values)): the latest of each, or `every` one.
    A model may have the beginning of its digest, "onnx:model.onnx#3fa2b1c4", where several share its name.

    With `wide` it gives one row for each network and form, with all its figures. Figures that need no
    machine, such as the accuracy, are included for every form.

    `forget` takes runs out of sight, by the beginnings of their ids, and gives their rows; `restore` takes
    that back. Nothing is deleted: with `forgotten`, the rows are those of the forgotten runs.

    `price` keeps what an hour of a machine costs, such as {"box": "0.34USD"}, for `pick` to count money with,
    and gives the latest rows of that machine; "none" takes a price back. `Table.prices` has them all.
    """
    source = given.table(path, create=False)
    if price:
        if filters or every or wide or forgotten or forget or restore:
            raise InvalidInputError(
                "A price is of a machine, whatever was measured there.", "leave out filters and views"
            )
        return Rows(latest(source.rows(system=tuple(source.keep_prices(price)))))
    if forget or restore:
        if filters or every or wide or forgotten:
            raise InvalidInputError(
                "Whole runs are forgotten and restored, whatever is in them.", "leave out filters and views"
            )
        return _marked(given.table(path, create=False), given.several(forget), given.several(restore))
    if isinstance(filters.get("model"), str) and filters["model"] != metrics.MACHINE:
        filters |= given.network(filters["model"], source)
    if isinstance(filters.get("metric"), str):
        metrics.find(filters["metric"])
    if isinstance(filters.get("origin"), str) and filters["origin"] not in ORIGINS:
        raise UnknownNameError.of("origin", filters["origin"], ORIGINS, "vertebra table --help")
    if isinstance(filters.get("system"), str):
        filters["system"] = source.system_id(filters["system"])
    conditions.check(given.table(path, create=False), filters)
    of_form = {name: filters.pop(name) for name in views.FORM if wide and name in filters}
    rows = source.rows(forgotten=forgotten, **filters)
    rows = rows if every or wide or forgotten else latest(rows)
    return [row for row in views.wide(rows) if _is_of(row, of_form)] if wide else Rows(rows)


def _marked(table: Table, forget: Sequence[str], restore: Sequence[str]) -> Rows:
    """Forget and restore runs, and give their rows."""
    gone, back = table.forget(*forget), table.restore(*restore)
    kept = [row for row in table.rows(forgotten=True) if row.run in gone]
    return Rows([*kept, *table.rows(run=tuple(back))])


def _is_of(row: WideRow, form: dict[str, Any]) -> bool:
    return all(row.conditions.get(name) in given.several(value) for name, value in form.items())
