"""Writes what is generated in README.md and docs/, from the code itself and from docs/survey.csv.

    python docs/make.py          write the generated parts and the pictures
    python docs/make.py --check  exit with status 1 where a text is out of step

docs/survey.csv holds the rows of one survey (`vertebra table --write docs/survey.csv`), so that every
figure in README.md comes from a command of this project on a machine that the text names.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import click

import vertebra
from vertebra import units
from vertebra.cli import VERBS, cli
from vertebra.measurements import Measurement, WideRow
from vertebra.metrics import METRICS
from vertebra.zoo import names

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
SURVEY = DOCS / "survey.csv"
#: The engine whose latencies README shows.
ENGINE = "onnxruntime"


def metrics_page() -> str:
    """docs/metrics.md: the dictionary, entry by entry."""
    lines = [
        "# Metrics",
        "",
        "What each number in the table means, made from `src/vertebra/metrics.py` by `docs/make.py`. Values",
        "are kept in base units (seconds, bytes, counts, fractions of 1), rescaled only when printed.",
        "",
        "A row whose value a metric can't have is refused wherever rows come in ([table.md](table.md)).",
        "",
        "| metric | unit | can be | better | meaning | must state |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for metric in METRICS.values():
        conditions = ", ".join(f"`{name}`" for name in metric.conditions)
        lines.append(
            f"| `{metric.name}` | {metric.unit} | {metric.range} | {metric.better} | {metric.definition} "
            f"| {conditions} |"
        )
    return "\n".join(lines) + "\n"


#: What docs/commands.md says of all verbs.
TERMINAL = r"""## Terminal

- **Width.** Tables fit the terminal: heads and texts break between words, and columns without room are
  printed below their row. One row is a list of `name  value` lines. Conditions that all rows share are
  printed once, above. In a file or a pipe no line is broken. Set `COLUMNS` for another width.
- **Estimates** have a `~` and their interval: `~25.1 ms (18.4 to 34.2 ms)`.
- **Colours** are printed on a terminal only. `NO_COLOR=1` turns them off and `FORCE_COLOR=1` on;
  `TERM=dumb` has none.
- **Pager.** On a terminal, `table`, `list`, `show` and `profile` use `$PAGER` (default: `less`, with
  `LESS=FRX`) if the text is longer than the screen. `--no-pager` or an empty `PAGER` turns it off.
- **Any text is harmless.** Control characters, changes of the direction of writing and broken characters
  of names and messages are printed as escapes such as `\x1b`. Characters that the encoding of the output
  doesn't have are spelled (`<=` for `≤`) or escaped. `--json` escapes them in JSON's way, so it reads the
  same. `--csv` is exact in a file or a pipe; on a terminal its control characters are escaped too.
- **Exit status.** 0, or 1 after a failure, 2 after misuse, 130 after Ctrl-C. A closed pipe, as in
  `vertebra table | head`, ends with 0; `pick` and `compare` keep the status of their answer."""


def commands_page() -> str:
    """docs/commands.md: the help of every verb."""
    context = click.Context(cli, info_name="vertebra", terminal_width=100, max_content_width=100)
    parts = [
        "# Commands\n\nThis page is made by `docs/make.py` from each verb's `--help`. What all have in "
        "common is under [Terminal](#terminal)."
    ]
    for group, verbs in VERBS.items():
        parts.append(f"## {group}")
        for verb in verbs:
            command = cli.get_command(context, verb)
            assert command is not None
            inner = click.Context(
                command, parent=context, info_name=verb, terminal_width=100, max_content_width=100
            )
            parts.append(f"### vertebra {verb}\n\n```text\n{command.get_help(inner)}\n```")
    return "\n\n".join([*parts, TERMINAL]) + "\n"


def readme() -> str:
    """README.md with its generated parts made anew."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for name, make in GENERATED.items():
        marks = f"<!-- begin: {name} -->\n", f"<!-- end: {name} -->"
        pattern = re.compile(f"({re.escape(marks[0])}).*?({re.escape(marks[1])})", re.DOTALL)
        assert len(pattern.findall(text)) == 1, f"README.md has no part {name}"
        text = pattern.sub(partial(_between, make()), text)
    return text


def _between(made: str, marks: re.Match[str]) -> str:
    return f"{marks[1]}{made}\n{marks[2]}"


def _surveyed() -> vertebra.Table:
    table = vertebra.Table(Path(tempfile.mkdtemp()) / "survey.sqlite")
    table.read_csv(SURVEY)
    return table


def _rows(engine: str = ENGINE) -> list[WideRow]:
    from vertebra.verbs.chart import compared

    rows = compared(table=_surveyed(), engine=engine)
    return [row for row in rows if row.conditions and row.model in names.CLASSICS]


def _model_table() -> str:
    lines = [
        "| network | top-1 (published) | parameters | operations | printed in 2020 "
        "| latency | 95 % interval | peak memory | grade |",
        "| --- | --: | --: | --: | --: | --: | --- | --: | :-: |",
    ]
    lines += [
        _model_line(row, _printed(row.model)) for row in sorted(_rows(), key=lambda row: row.value("latency"))
    ]
    return "\n".join([*lines, "", _conditions()])


def _printed(model: str) -> Measurement:
    return _surveyed().rows(model=model, metric="operations", origin="published")[0]


def _model_line(row: WideRow, printed: Measurement) -> str:
    latency = row.figures["latency"]
    cells = [
        f"`{row.model}`",
        *(
            units.show(row.figures[metric].value, METRICS[metric].unit)
            for metric in ("top1", "params", "operations")
        ),
        units.show(printed.value, "count") + (" ⚠" if printed.disputed else ""),
        units.show(latency.value, "s"),
        f"{units.show(latency.low, 's')} to {units.show(latency.high, 's')}"
        if latency.low and latency.high
        else "",
        units.show(row.figures["memory_total"].value, "B"),
        latency.grade or "",
    ]
    return f"| {' | '.join(cells)} |"


def _conditions() -> str:
    latency = _rows()[0].figures["latency"]
    versions = ", ".join(f"{name} {version}" for name, version in latency.versions.items())
    return (
        f"Latency and memory: measured on `{latency.system}` with {versions}; {latency.precision}, batch "
        "size "
        f"{latency.batch_size}, {latency.threads} threads, {(latency.measured_at or '')[:10]}, one process "
        "per network. "
        "Accuracy: published by PaddleClas. ⚠: the printed operations are known to be wrong, see "
        "[docs/profile.md](docs/profile.md)."
    )


#: The commands of README's transcript, run on docs/survey.csv's rows.
FIRST = ("vertebra pick --fps 30 --memory 200MB",)
TRANSCRIPT = (
    "vertebra pick --latency 100ms --memory 700MB --among table",
    "vertebra chart --x latency --engine onnxruntime -o latency.svg",
    "vertebra profile vgg16",
)


def _transcript(commands: Sequence[str]) -> str:
    """What the commands really print; the survey's own machine is the only one in that table."""
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        for command in commands:
            run = subprocess.run(
                [sys.executable, "-m", "vertebra", *shlex.split(command)[1:]],
                capture_output=True, text=True, check=False, cwd=folder,
                env={**os.environ, "VERTEBRA_TABLE": str(_surveyed().path)},
            )  # fmt: skip
            assert run.returncode == 0 or run.stdout, run.stderr  # 1 where nothing meets the limits
            lines += [f"$ {command}", *(run.stdout + run.stderr).rstrip().splitlines(), ""]
    return "\n".join(["```console", *lines[:-1], "```"])


#: part of README.md -> what makes it
GENERATED: dict[str, Callable[[], str]] = {
    "answer": partial(_transcript, FIRST),
    "models": _model_table,
    "transcript": partial(_transcript, TRANSCRIPT),
}

PAGES: dict[Path, Callable[[], str]] = {
    DOCS / "metrics.md": metrics_page,
    DOCS / "commands.md": commands_page,
    ROOT / "README.md": readme,
}


def pictures() -> None:
    """README's charts, from the same rows as its table."""
    table = _surveyed()
    folder = DOCS / "pictures"
    folder.mkdir(exist_ok=True)
    vertebra.chart(x="operations", engine=ENGINE, table=table).save(folder / "operations.svg")
    vertebra.chart(x="latency", engine=ENGINE, table=table).save(folder / "latency.svg")


def main() -> int:
    if sys.argv[1:] == ["--check"]:
        stale = [page.name for page, make in PAGES.items() if page.read_text(encoding="utf-8") != make()]
        if stale:
            print(f"out of step: {', '.join(stale)}; run: python docs/make.py")
        return 1 if stale else 0
    for page, make in PAGES.items():
        page.write_text(make(), encoding="utf-8")
    pictures()
    return 0


if __name__ == "__main__":
    sys.exit(main())
