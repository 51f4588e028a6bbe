"""`vertebra merge`: tables of other machines into one."""

from __future__ import annotations

from typing import Any

import click

import vertebra
from vertebra.cli.output import columns, emit, format_options, table_option
from vertebra.cli.progress import showing
from vertebra.verbs.merge import Merged, line, refusals


@click.command("merge")
@click.argument("sources", nargs=-1, required=True, metavar="TABLE...")
@table_option
@format_options
def command(sources: tuple[str, ...], table: str | None, style: str) -> None:
    """Add what other tables hold to yours: runs with their samples, systems, and what is forgotten.

    \b
      vertebra merge pi.sqlite laptop.sqlite
      vertebra merge shares/*.sqlite --table all.sqlite
      vertebra merge mine.sqlite --table postgresql://me@server/measurements

    A TABLE is a file or a postgresql:// address, of this version or an earlier one; it stays as it is.
    Merging again adds nothing. Runs with impossible or edited rows are refused and named; the others are
    added, and the exit status is 1.
    """
    with showing() as progress:
        done = vertebra.merge(*sources, table=table, progress=progress)
    emit([_record(one) for one in done.sources], style, lambda: _text(done))
    if done.refused:
        raise SystemExit(1)


def _record(one: Any) -> dict[str, Any]:
    """What a source brought, for programs."""
    from dataclasses import asdict

    return {**asdict(one), "refused": [asdict(each) for each in one.refused]}


def _text(done: Merged) -> str:
    refused = refusals(done.sources)
    parts = [columns([line(one) for one in done.sources])]
    if refused:
        parts.append(columns([{**one, "run": one["run"][:12]} for one in refused]))
    return "\n\n".join([*parts, f"{done.summary()}."])
