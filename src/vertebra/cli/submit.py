"""`vertebra submit`: what was measured, as one file for others."""

from __future__ import annotations

import click

import vertebra
from vertebra.cli.output import columns, emit, format_options, table_option
from vertebra.verbs.submit import Submitted


@click.command("submit")
@click.option("--output", "-o", metavar="PATH", help="The file, or its folder. [default: vertebra-DIGEST.gz]")
@click.option("--system", multiple=True, help="Only rows of this machine. Repeatable. [default: all]")
@click.option("--repository", metavar="FOLDER", help="Write a results repository's pages instead.")
@table_option
@format_options
def command(
    output: str | None, system: tuple[str, ...], repository: str | None, table: str | None, style: str
) -> None:
    """Write what was measured into one file for others, with nothing private in it.

    \b
      vertebra submit
      vertebra submit --system raspberry-pi-5-4-cores-1f2e3d4c -o pi.gz
      vertebra submit -o results/archives
      vertebra submit --repository results

    The file has rows, raw samples, machines, versions and a digest of them. It has no host name, user or
    path, and no name of a network, weights or pictures of your own: rows that need those are left out and
    counted. Others take it in with `vertebra cite FILE`, which checks the digest.

    --repository writes a folder that anyone can host: an index and a page for each machine, from the
    submissions in FOLDER/archives, a schema of them, and an action for GitHub that checks them.
    """
    if repository is not None:
        _write(output, system, repository, table, style)
        return
    done = vertebra.submit(output, system=system, table=table)
    record = {
        "path": str(done.path), "digest": done.digest, "systems": ", ".join(done.systems),
        "runs": done.runs, "rows": done.rows, "left_out": sum(done.left_out.values()),
        "shortened": dict(done.shortened),
    }  # fmt: skip
    emit([record], style, lambda: _text(done))


def _write(
    output: str | None, system: tuple[str, ...], repository: str, table: str | None, style: str
) -> None:
    made = vertebra.submit(output, system=system, repository=repository, table=table)
    record = {
        "path": str(made.folder), "archives": made.archives, "rows": made.rows,
        "systems": ", ".join(made.systems),
        "new": list(made.new), "changed": list(made.changed), "removed": list(made.removed),
    }  # fmt: skip
    lines = [dict(line) for lines in made.tables() for line in lines]
    emit([record], style, lambda: "\n\n".join([f"{made.summary()}.", *([columns(lines)] if lines else [])]))


def _text(done: Submitted) -> str:
    parts = [f"{done.summary()}.", f"Machines: {', '.join(done.systems) or 'none'}. Digest: {done.digest}."]
    left = [columns(list(map(dict, lines))) for lines in done.tables() if lines]
    return "\n\n".join(["\n".join(parts), *left])
