"""`vertebra cite`: published figures into the table."""

from __future__ import annotations

from typing import Any

import click

import vertebra
from vertebra.cli.output import table_option
from vertebra.cli.terminal import say
from vertebra.errors import InvalidInputError


@click.command("cite")
@click.argument("sources", nargs=-1, type=click.Path())
@click.option(
    "--map", "mapping", metavar="OURS=THEIRS,…", help="Read a CSV table of your own, with these columns."
)
@click.option(
    "--source", metavar="TEXT", help="With --map: who published the figures. [default: the file's name]"
)
@click.option("--system", metavar="TEXT", help="With --map: the machine that they were measured on.")
@click.option(
    "--set", "columns", metavar="COLUMN=VALUE", multiple=True, help="With --map: a value for every row."
)
@click.option(
    "--decimal", type=click.Choice(["comma", "point"]),
    help="With --map: what begins a fraction. [default: as the cells show]",
)  # fmt: skip
@click.option("--check", is_flag=True, help="Only check submissions; add nothing.")
@table_option
def command(
    sources: tuple[str, ...],
    mapping: str | None,
    source: str | None,
    system: str | None,
    columns: tuple[str, ...],
    decimal: str | None,
    check: bool,
    table: str | None,
) -> None:
    """Import published figures into the table: those that ship with vertebra, or the rows of files.

    \b
      vertebra cite                      PaddleClas's figures of the classics
      vertebra cite all                  everything that ships
      vertebra cite imagenet bianco2018  by name; vertebra list sources lists them
      vertebra cite other.csv            rows written by `vertebra table --write`
      vertebra cite --check *.gz         are submissions what they say?
      vertebra cite mine.csv --map "model=Model,latency=Time:ms" --system pi-5

    SOURCES are names or files: CSV, JSON or Parquet with vertebra's columns, submissions (.gz, from
    `vertebra submit`; a changed one is refused), or other tables (.sqlite). With --map they are CSV tables of
    your own; OURS is a column or metric of vertebra, THEIRS a column of the file, followed by the unit of
    numbers without one. Importing the same rows again adds nothing.
    """

    added = vertebra.cite(
        *sources, mapping=mapping, source=source, decimal=decimal, check=check, table=table,
        **_given(columns, system),
    )  # fmt: skip
    say(f"{added} rows {'checked' if check else 'added'}.", err=True)


def _given(columns: tuple[str, ...], system: str | None) -> dict[str, Any]:
    given: dict[str, Any] = {} if system is None else {"system": system}
    for item in columns:
        name, equals, value = (part.strip() for part in item.partition("="))
        if not equals or not name or not value:
            raise InvalidInputError(f'Can\'t read "{item}".', "write it as --set precision=float32")
        if name in ("table", "mapping", "source", "decimal", "check") or name in given:
            raise InvalidInputError(
                f'"{name}" can\'t be set, or is set twice.', "set each column of the table once"
            )
        given[name] = value
    return given
