"""`vertebra check`: whether a locked choice still is the best."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

import vertebra
from vertebra.cli.gated import Gated
from vertebra.cli.output import columns, json_text, say, table_option
from vertebra.cli.progress import showing
from vertebra.cli.terminal import STATUS, line, painted, put

if TYPE_CHECKING:
    from vertebra.reading.choice.standing import Checked

_COLOURS = {"holds": "green", "broken": "red", "outdone": "red"}


@click.command("check", cls=Gated)
@click.argument("path", metavar="[LOCKFILE]", default="backbone.lock")
@click.option("--budget", metavar="TIME", default="1m", show_default=True,
              help="Measure for up to this time.")  # fmt: skip
@click.option("--no-measure", "measure", is_flag=True, flag_value=False, default=True,
              help="Judge by the table and the catalogue only.")  # fmt: skip
@click.option("--markdown", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              help="Also write Markdown to this file, for a build's summary.")  # fmt: skip
@table_option
@click.option("--json", "style", flag_value="json", help="Print JSON.")
@click.option("--text", "style", flag_value="text", default="text", hidden=True)
def command(
    path: str, budget: str, measure: bool, markdown: Path | None, table: str | None, style: str
) -> None:
    """Check whether the choice in LOCKFILE still is the best. [default: backbone.lock]

    Measures again what the choice depends on, and judges it by the same rule. Make a lockfile with
    vertebra pick and --lock.

    \b
    Exit status: 0 it holds, 1 it surely doesn't, 2 wrong use or an error,
    3 it couldn't be judged (noise, or another machine).

    \b
      vertebra pick --fps 30 --memory 200MB --lock backbone.lock
      vertebra check
      vertebra check backbone.lock --markdown "$GITHUB_STEP_SUMMARY"
    """
    from vertebra.machine import files

    with showing() as progress:
        checked = vertebra.check(path, budget=budget, measure=measure, table=table, progress=progress)
    click.get_current_context().meta[STATUS] = checked.status
    if markdown is not None:
        files.write_whole(markdown, checked.markdown().encode())
    if style == "json":
        put(json_text(checked.to_dict(), indent=1) + "\n")
    else:
        say(_text(checked))
    raise SystemExit(checked.status)


def _text(checked: Checked) -> str:
    """The answer, the figures then and now, and what else must be said."""
    says = painted(line(checked.says), _COLOURS.get(checked.outcome, "yellow"))
    table = checked.lines()
    details = [line(one) for one in checked.details()]
    blocks = [says, columns(table) if table else "", "\n".join(details)]
    return "\n\n".join(block for block in blocks if block)
