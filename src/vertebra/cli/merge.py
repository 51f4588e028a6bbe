"""`vertebra merge`: tables of other machines into one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

import vertebra
from vertebra.cli.output import columns, emit, format_options, table_option
from vertebra.cli.progress import showing
from vertebra.cli.terminal import say
from vertebra.verbs.merge import Merged, line, refusals, share_line

if TYPE_CHECKING:
    from vertebra.measuring.evaluation.parts import Joined


@click.command("merge")
@click.argument("sources", nargs=-1, required=True, metavar="TABLE...")
@table_option
@format_options
def command(sources: tuple[str, ...], table: str | None, style: str) -> None:
    """Add what other tables hold to yours: runs, samples, machines, prices, and what is forgotten.

    \b
      vertebra merge pi.sqlite laptop.sqlite
      vertebra merge shares/*.sqlite --table all.sqlite
      vertebra merge mine.sqlite --table postgresql://me@server/measurements

    A TABLE is a file or a postgresql:// address, of this version or an earlier one; it stays as it is.
    Merging again adds nothing. Shares of one evaluation (eval --shard) are joined once all are there; until
    then the missing ones are named. Runs with impossible or edited rows are refused and named; the others are
    added, and the exit status is 1.
    """
    with showing() as progress:
        done = vertebra.merge(*sources, table=table, progress=progress)
    records = [*map(_record, done.sources), *map(_share_record, done.joined)]
    emit(records, style, lambda: _text(done))
    for one in done.joined:
        if one.missing:
            say(f"{one}.", err=True)
    if done.refused:
        raise SystemExit(1)


def _record(one: Any) -> dict[str, Any]:
    """What a source brought, for programs."""
    from dataclasses import asdict

    return {**asdict(one), "refused": [asdict(each) for each in one.refused]}


def _share_record(one: Joined) -> dict[str, Any]:
    """What the table has of an evaluation in shares, for programs."""
    return {
        "model": one.model, "weights": one.weights, "dataset": one.dataset, "split": one.split,
        "shares": one.of, "missing": list(one.missing), "rows": one.added,
    }  # fmt: skip


def _text(done: Merged) -> str:
    refused = refusals(done.sources)
    parts = [columns([line(one) for one in done.sources])]
    if refused:
        parts.append(columns([{**one, "run": one["run"][:12]} for one in refused]))
    if done.joined:
        parts.append(columns([share_line(one) for one in done.joined]))
    return "\n\n".join([*parts, f"{done.summary()}."])
