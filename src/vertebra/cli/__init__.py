"""The command: one file per verb, imported when that verb is typed.

A verb's file parses, calls the public function of the same name and prints. Results go to standard output,
messages to standard error. The exit status is 1 after a failure, which prints one message, and 2 after
misuse.
"""

from __future__ import annotations

import errno
import gc
import io
import os
import select
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any, NoReturn

import click

from vertebra.cli import terminal
from vertebra.cli.terminal import complain, say
from vertebra.errors import InvalidInputError, VertebraError, masked

#: heading in `vertebra --help` -> verb -> what it does, in a few words
VERBS: dict[str, dict[str, str]] = {
    "Start here": {
        "survey": "Measure the classic networks on this machine and write a report.",
    },
    "Fill the table": {
        "cite": "Import published figures.",
        "profile": "Count parameters, multiply-accumulates and sizes.",
        "bench": "Measure latency and memory on this machine.",
        "eval": "Measure accuracy on labelled pictures, ImageNet's or your own.",
        "merge": "Add the tables of other machines to yours.",
    },
    "Read the table": {
        "table": "Print, filter or save the measurements.",
        "chart": "Draw accuracy against operations, latency or memory.",
        "pick": "Choose the best network within your limits, with reasons.",
        "check": "Check whether a locked choice is still the best.",
        "compare": "Compare two engines, machines, versions or days.",
        "report": "Write one HTML page that opens offline.",
        "submit": "Write what was measured for others, with nothing private.",
    },
    "Use it": {
        "train": "Train a network on your own pictures; go on where it ended.",
        "fit": "Choose the best network for your own pictures, and ship it.",
        "predict": "Classify your pictures.",
        "export": "Write a network as a Bundle, ready to deploy.",
        "serve": "Serve Bundles over the Open Inference Protocol.",
    },
    "Look up": {
        "list": "List models, engines, metrics, sources or charts.",
        "show": "Show everything known about one network.",
        "doctor": "Check this machine: its speed, its noise and what is missing.",
    },
}


class _Verbs(click.Group):
    """The commands; each is imported from its file when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [verb for group in VERBS.values() for verb in group]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in self.list_commands(ctx):
            return None
        command: click.Command = import_module(f"vertebra.cli.{name}").command
        return command

    def make_context(self, *names: Any, **extra: Any) -> click.Context:
        with _until_reader_is_gone():
            return super().make_context(*names, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        with _until_reader_is_gone(ctx.meta), _naming_files():
            return super().invoke(ctx)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, self.list_commands(ctx)))
        for title, verbs in VERBS.items():
            with formatter.section(title):
                formatter.write_dl([(verb.ljust(width), text) for verb, text in verbs.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.list_commands(ctx) and not args[0].startswith("-"):
            import difflib

            close = difflib.get_close_matches(args[0], self.list_commands(ctx))
            guess = f' Did you mean "{close[0]}"?' if close else ""
            ctx.fail(f'No such command "{args[0]}".{guess}')
        return super().resolve_command(ctx, args)


def _show_version(context: click.Context, _: click.Parameter, is_asked: bool) -> None:
    if is_asked and not context.resilient_parsing:
        from vertebra._version import __version__

        say(f"vertebra {__version__}")
        context.exit()


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version", is_flag=True, expose_value=False, is_eager=True, callback=_show_version,
    help="Show the version and exit.",
)  # fmt: skip
def cli() -> None:
    """Measure image-classification networks on this machine, and choose the best one within your limits."""


#: How much of a file's name is shown in an error that says nothing else.
_LONGEST_NAME = 100
#: The disk, the quota or the process's limit for a file is full.
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def main() -> None:
    """The console command. Exit status: 0, 1 (failed), 2 (misused), 130 (interrupted), 143 or 129 (ended)."""
    terminal.prepare()
    try:
        with _until_reader_is_gone():
            _until_answered()
    except click.exceptions.Exit as exit_:
        sys.exit(exit_.exit_code)
    finally:
        if "numpy" not in sys.modules:  # compiled libraries want to see the end of their own objects
            gc.freeze()  # else Python looks through all objects once more, only to end


def _until_answered() -> None:
    try:
        _until_ended()
    except click.ClickException as error:
        shown = io.StringIO()
        error.show(shown)
        say(masked(shown.getvalue()), err=True, end="")
        sys.exit(error.exit_code)
    except VertebraError as error:
        complain(error.message, error.hint)
        sys.exit(1)
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        _drop(sys.stdout)
        place = f" {error.filename}" if error.filename else ""
        complain(f"Can't write{place}: {error.strerror}.", "free some space")
        sys.exit(1)


@contextmanager
def _naming_files() -> Iterator[None]:
    """A file that the system refuses, and no one below has said so: one error with its name."""
    try:
        yield
    except OSError as error:
        if error.filename is None or error.errno in (*_NO_ROOM, errno.EPIPE):
            raise
        name = terminal.cut(str(error.filename), _LONGEST_NAME)
        raise InvalidInputError(f"Can't use {name}: {error.strerror}.", "check the path") from error


@contextmanager
def _until_reader_is_gone(meta: Mapping[str, Any] | None = None) -> Iterator[None]:
    """End well where the reader has closed the pipe, as `head` does: click would end with 1. A status that
    a command knew before it printed, in its context's `meta`, holds."""
    try:
        yield
    except BrokenPipeError:
        gone = [stream for stream in (sys.stdout, sys.stderr) if stream is not None and _is_closed(stream)]
        if not gone:
            raise
        for stream in gone:
            _drop(stream)
        raise click.exceptions.Exit((meta or {}).get(terminal.STATUS, 0)) from None


def _is_closed(stream: io.TextIOBase | Any) -> bool:
    """Whether `stream` is a pipe without a reader; not every broken pipe is ours."""
    if not hasattr(select, "poll"):
        return True
    poller = select.poll()
    poller.register(stream.fileno(), 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poller.poll(0))


def _drop(stream: io.TextIOBase | Any) -> None:
    """At exit Python would fail again at the output that is still buffered."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


# ------------------------------------------------------------------ signals

#: Ctrl-C, `kill`, a terminal that is closed; Windows has no SIGHUP.
_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]

#: Those that were received.
_received: list[int] = []


def _until_ended() -> None:
    try:
        with _raising():
            status = cli.main(standalone_mode=False, prog_name="vertebra")
        if status:  # of an Exit, which click returns and doesn't raise
            sys.exit(status)
    except BaseException as error:
        # Some libraries turn what is raised inside them into an error of their own.
        if not _received and not isinstance(error, (click.Abort, KeyboardInterrupt)):
            raise
        number = _received[0] if _received else signal.SIGINT
        if number == signal.SIGINT:
            say("interrupted", err=True)
        sys.exit(128 + number)


@contextmanager
def _raising() -> Iterator[None]:
    """Raise inside the block what a signal asks for, so that children are ended and scratch folders removed;
    ignore signals after that."""
    taken = [number for number in _SIGNALS if signal.getsignal(number) not in (None, signal.SIG_IGN)]  # nohup
    before = {number: signal.signal(number, _end) for number in taken}
    hook, sys.unraisablehook = sys.unraisablehook, _again
    try:
        yield
    finally:
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, signal.SIG_IGN if _received else handler)


def _end(number: int, _: object) -> NoReturn:
    _received.append(number)
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    sys.exit(128 + number)


def _again(lost: sys.UnraisableHookArgs) -> None:
    """Send the signal again where Python can't raise, as in a callback of its imports: it would print what
    `_end` raises and continue."""
    if _received and isinstance(lost.exc_value, (KeyboardInterrupt, SystemExit)):
        once_more = threading.Timer(0.05, os.kill, (os.getpid(), _received[-1]))
        once_more.daemon = True
        once_more.start()
    else:
        sys.__unraisablehook__(lost)
