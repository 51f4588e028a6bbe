"""Writes what is generated in README.md and docs/, from the code itself and from docs/survey.csv.

    python docs/make.py          write the generated parts and the pictures
    python docs/make.py --check  exit with status 1 where a text is out of step

docs/survey.csv holds the rows of one survey (`vertebra table --write docs/survey.csv`), so that every
figure in README.md comes from a command of this project on a machine that the text names.
"""

from __future__ import annotations

import atexit
import inspect
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

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


def filled(page: Path) -> str:
    """A page with its generated parts made again."""
    text = page.read_text(encoding="utf-8")
    for name, make in GENERATED[page].items():
        marks = f"<!-- begin: {name} -->\n", f"<!-- end: {name} -->"
        pattern = re.compile(f"({re.escape(marks[0])}).*?({re.escape(marks[1])})", re.DOTALL)
        assert len(pattern.findall(text)) == 1, f"{page.name} has no part {name}"
        text = pattern.sub(partial(_between, make()), text)
    return text


def _between(made: str, marks: re.Match[str]) -> str:
    return f"{marks[1]}{made}\n{marks[2]}"


def python_page() -> str:
    """docs/python.md: the public functions and classes, from their signatures and docstrings."""
    parts = [
        "# Python\n\nThis page is made by `docs/make.py` from the docstrings. Every [command](commands.md) "
        "is a function with the same name and the same options, except `vertebra.evaluate` for `eval`. "
        'Quantities are text with a unit (`"20ms"`) or numbers in base units; `table=` takes a path, an '
        "address or a `Table`. Every error is a `vertebra.errors.VertebraError` with `message` and `hint`."
    ]
    for name in sorted(vertebra.__all__, key=lambda name: (name[0].isupper(), name)):
        parts.append(_documented(f"vertebra.{name}", getattr(vertebra, name)))
    return "\n\n".join(parts) + "\n"


def _documented(name: str, thing: Any) -> str:
    parts = [
        f"## {name}",
        f"```python\n{_called(name, thing)}\n```",
        f"```text\n{inspect.getdoc(thing)}\n```",
    ]
    if inspect.isclass(thing):
        for inner, method in vars(thing).items():
            if not inner.startswith("_") and (inspect.isfunction(method) or isinstance(method, property)):
                shown = inner if isinstance(method, property) else _called(inner, method)
                parts.append(f"```python\n{shown}\n```\n\n```text\n{inspect.getdoc(method)}\n```")
    return "\n\n".join(parts)


def _called(name: str, thing: Any) -> str:
    """The call on a line, or a line for each argument where it is long."""
    if (inspect.isclass(thing) and inspect.isabstract(thing)) or getattr(thing, "_is_protocol", False):
        return f"class {name}"
    signature = inspect.signature(thing)
    taken = [one for one in signature.parameters.values() if one.name != "self"]
    star = next((i for i, one in enumerate(taken) if one.kind is one.KEYWORD_ONLY), None)
    words = [_argument(one) for one in taken]
    if star is not None and not any(one.kind is one.VAR_POSITIONAL for one in taken):
        words.insert(star, "*")
    returns = f" -> {signature.return_annotation}" if isinstance(signature.return_annotation, str) else ""
    line = f"{name}({', '.join(words)}){returns}"
    return (
        line
        if len(line) <= 96
        else f"{name}(\n" + "".join(f"    {word},\n" for word in words) + f"){returns}"
    )


def _argument(one: inspect.Parameter) -> str:
    stars = {one.VAR_POSITIONAL: "*", one.VAR_KEYWORD: "**"}.get(one.kind, "")
    kind = "" if one.annotation is one.empty else f": {one.annotation}"
    value = "" if one.default is one.empty else f" = {one.default!r}"
    return f"{stars}{one.name}{kind}{value}"


def _table(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rules = ["---", *("--:" for _ in heads[1:])]
    return "\n".join(f"| {' | '.join(line)} |" for line in [heads, rules, *lines])


#: What the sources of the page's later edition have in their name; its times are others.
LATER = "2022-10-24"


def _printed_values(metric: str, scale: float, form: str, **conditions: Any) -> dict[str, str]:
    """What the page's editions print of each classic; values that differ stand beside each other."""
    found: dict[str, dict[str, None]] = {}
    for row in _surveyed().rows(metric=metric, origin="published"):
        fits = all(getattr(row, name) == value for name, value in conditions.items() if name != "later")
        if fits and conditions.get("later") in (None, LATER in (row.source or "")):
            found.setdefault(row.model, {})[format(row.value * scale, form)] = None
    return {model: " / ".join(values) for model, values in found.items()}


def _accuracies() -> str:
    metrics = ("top1", "top5", "reference_top1", "reference_top5")
    columns = [_printed_values(name, 100, ".1f") for name in metrics]
    lines = [[f"`{model}`", *(column.get(model, "") for column in columns)] for model in names.CLASSICS]
    return "In percent.\n\n" + _table(
        ["network", "top-1", "top-5", "reference top-1", "reference top-5"], lines
    )


def _times() -> str:
    parts = ["In milliseconds."]
    for title, later in (("As first printed", False), (f"In the edition of {LATER}", True)):
        columns = {}
        for system, precision in (("v100", "float32"), ("t4", "float16"), ("t4", "float32")):
            for batch in (1, 4, 8):
                values = _printed_values(
                    "latency",
                    1000,
                    ".7g",
                    later=later,
                    system=f"nvidia-{system}",
                    precision=precision,
                    batch_size=batch,
                )
                if values:
                    columns[f"{system.upper()} {precision}, batch {batch}"] = values
        lines = [
            [f"`{model}`", *(column.get(model, "") for column in columns.values())]
            for model in names.CLASSICS if any(model in column for column in columns.values())
        ]  # fmt: skip
        parts += [f"**{title}:**", _table(["network", *columns], lines)]
    doubts = [row for row in _surveyed().rows(metric="latency", origin="published") if row.disputed]
    told = dict.fromkeys(f"- {row.source}: {row.disputed}." for row in doubts)
    return "\n\n".join([*parts, "What is doubtful about the editions:", "\n".join(told)])


@cache
def _surveyed() -> vertebra.Table:
    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    table = vertebra.Table(Path(folder) / "survey.sqlite")
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
        "[docs/flops.md](docs/flops.md)."
    )


#: The commands of README's transcript, run on docs/survey.csv's rows.
FIRST = ("vertebra pick --fps 30 --memory 200MB",)
TRANSCRIPT = (
    "vertebra pick --latency 100ms --memory 700MB --among table",
    "vertebra chart --x latency --engine onnxruntime -o latency.svg",
    "vertebra profile vgg16",
)


@cache
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


#: page -> part of it -> what makes that
GENERATED: dict[Path, dict[str, Callable[[], str]]] = {
    ROOT / "README.md": {
        "answer": partial(_transcript, FIRST),
        "models": _model_table,
        "transcript": partial(_transcript, TRANSCRIPT),
    },
    DOCS / "index.md": {"answer": partial(_transcript, FIRST)},
    DOCS / "answer.md": {"answer": partial(_transcript, FIRST)},
    DOCS / "flops.md": {"accuracies": _accuracies, "times": _times},
}

PAGES: dict[Path, Callable[[], str]] = {
    DOCS / "metrics.md": metrics_page,
    DOCS / "commands.md": commands_page,
    DOCS / "python.md": python_page,
    **{page: partial(filled, page) for page in GENERATED},
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
