"""`vertebra submit`: what was measured, as one file for others."""

from __future__ import annotations

import click

import vertebra
from vertebra.cli.output import columns, emit, format_options, table_option
from vertebra.verbs.submit import Submitted


@click.command("submit")
@click.option("--output", "-o", metavar="PATH", help="The file, or its folder. [default: vertebra-DIGEST.gz]")
@click.option("--system", multiple=True, help="Only rows of this machine. Repeatable. [default: all]")
@table_option
@format_options
def command(output: str | None, system: tuple[str, ...], table: str | None, style: str) -> None:
    """Write what was measured into one file for others, with nothing private in it.

    \b
      vertebra submit
      vertebra submit --system raspberry-pi-5-4-cores-1f2e3d4c -o pi.gz

    The file has rows, raw samples, machines, versions and a digest of them. It has no host name, user or
    path, and no name of a network, weights or pictures of your own: rows that need those are left out and
    counted. Others take it in with `vertebra cite FILE`, which checks the digest.
    """
    done = vertebra.submit(output, system=system, table=table)
    record = {
        "path": str(done.path), "digest": done.digest, "systems": ", ".join(done.systems),
        "runs": done.runs, "rows": done.rows, "left_out": sum(done.left_out.values()),
        "shortened": dict(done.shortened),
    }  # fmt: skip
    emit([record], style, lambda: _text(done))


def _text(done: Submitted) -> str:
    parts = [f"{done.summary()}.", f"Machines: {', '.join(done.systems) or 'none'}. Digest: {done.digest}."]
    left = [columns(list(map(dict, lines))) for lines in done.tables() if lines]
    return "\n\n".join(["\n".join(parts), *left])
