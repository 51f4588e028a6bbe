"""The arguments of verbs, converted to what the rooms take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vertebra import units, zoo
from vertebra.errors import TableError
from vertebra.measurements import Table, subjects

TableLike = Table | str | Path | None


def table(table: TableLike, *, create: bool = True) -> Table:
    """The table at a path, else the user's own. Without `create` it is only read: then a table that was named
    must be there."""
    if isinstance(table, Table):
        return table
    found = Table(table, create=create)
    if table is not None and not create and not found.store.is_there():
        raise TableError(
            f"There is no table {found.shown}.",
            "check the path; bench, survey, profile and cite make a new table",
        )
    return found


def network(name: str, source: Table) -> dict[str, Any]:
    """The columns that choose the rows of the network called `name`: as the table has it, in any spelling, or
    with the beginning of a digest, `onnx:model.onnx#3fa2b1c4`.

    Raises UnknownNameError for an unknown name, and InvalidInputError for a digest that isn't unique.
    """
    if source.subjects(name):
        return {"model": name}
    model, digest = subjects.parted(name)
    known = source.subjects(model)
    if not known:
        model = zoo.canonical(model)
        known = source.subjects(model)
    if digest is None:
        return {"model": model}
    return {"model": model, "network_sha256": subjects.chosen(digest, model, [one for _, one in known])}


def own_names() -> list[str]:
    """What this machine, its user and their folder are called."""
    import getpass
    import socket
    from contextlib import suppress

    names = [socket.gethostname(), socket.gethostname().partition(".")[0], Path.home().name]
    with suppress(OSError, KeyError):  # a user without a name
        names.append(getpass.getuser())
    return [one for one in dict.fromkeys(names) if len(one) > 2]


def seconds(text: str | float) -> float:
    return units.parse(text, "s") if isinstance(text, str) else text


def renamed(value: Any, earlier: Any, default: Any) -> Any:
    """The value of an argument that had another name earlier, under which it is still taken."""
    return earlier if value == default and earlier is not None else value


def several(one: Any) -> tuple[Any, ...]:
    return (one,) if one is None or isinstance(one, int | float | str) else tuple(one)
