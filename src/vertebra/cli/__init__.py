"""The command: one file per verb, imported when that verb is typed.

A verb's file parses, calls the public function of the same name and prints. Data goes to standard
output, talk to standard error; a failure is one message and exit status 1, misuse is exit status 2.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import NoReturn

import click

from vertebra._version import __version__
from vertebra.errors import VertebraError

#: What the groups of `vertebra --help` are called, and verb -> what it does, in a few words.
VERBS: dict[str, dict[str, str]] = {
    "Start here": {
        "survey": "Measure the classic networks on this machine, and report.",
    },
    "Fill the table": {
        "cite": "Take in published figures.",
        "profile": "Count parameters, multiply-accumulates and sizes.",
        "bench": "Measure latency and memory on this machine.",
        "eval": "Measure accuracy on labelled pictures, or probe on your own.",
    },
    "Read the table": {
        "table": "Print, filter or write out the measurements.",
        "chart": "Draw accuracy against operations, latency, memory.",
        "pick": "Choose a network under your limits, with reasons.",
        "compare": "Hold two engines, machines, versions or days side by side.",
        "report": "Write one HTML page that opens offline.",
    },
    "Use it": {
        "predict": "Name what is on your pictures.",
        "export": "Write a network as a Bundle, ready to ship.",
    },
    "Look": {
        "list": "List models, engines or metrics.",
        "show": "Tell all about one network.",
        "doctor": "Examine this machine: speed, noise, what is missing.",
    },
}


class _Verbs(click.Group):
    """The commands, each imported from its file when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [verb for group in VERBS.values() for verb in group]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in self.list_commands(ctx):
            return None
        command: click.Command = import_module(f"vertebra.cli.{name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, self.list_commands(ctx)))
        for title, verbs in VERBS.items():
            with formatter.section(title):
                formatter.write_dl([(verb.ljust(width), text) for verb, text in verbs.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        import difflib

        if args and args[0] not in self.list_commands(ctx) and not args[0].startswith("-"):
            close = difflib.get_close_matches(args[0], self.list_commands(ctx))
            guess = f' Did you mean "{close[0]}"?' if close else ""
            ctx.fail(f'No such verb "{args[0]}".{guess}')
        return super().resolve_command(ctx, args)


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="vertebra", message="%(prog)s %(version)s")
def cli() -> None:
    """Which image-classification backbone suits this machine, under these limits?"""


#: Disk, quota or the process's limit for a file is full.
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def main() -> None:
    """The console command. Exit status 0, 1 (failed), 2 (misused), 130 (interrupted), 143 or 129 (ended)."""
    try:
        _until_ended()
    except click.exceptions.Exit as exit_:
        sys.exit(exit_.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except VertebraError as error:
        click.echo(f"error: {error.message}", err=True)
        if error.hint:
            click.echo(f"hint: {error.hint}", err=True)
        sys.exit(1)
    except BrokenPipeError:
        _drop_output()  # its reader has gone, as `head` does
        sys.exit(0)
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        _drop_output()
        place = f" for {error.filename}" if error.filename else ""
        click.echo(f"error: There is no room{place}: {error.strerror}.\nhint: free some space", err=True)
        sys.exit(1)


def _drop_output() -> None:
    """Python would complain at exit once more of what is left to print."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


# ------------------------------------------------------------------ ended from outside

#: Ctrl-C, `kill`, a terminal that is closed; Windows has no SIGHUP.
_ENDING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]

#: Those that came.
_came: list[int] = []


def _until_ended() -> None:
    try:
        with _raising():
            cli.main(standalone_mode=False, prog_name="vertebra")
    except BaseException as error:
        # Some libraries make an error of their own of what is raised inside them.
        if not _came and not isinstance(error, (click.Abort, KeyboardInterrupt)):
            raise
        number = _came[0] if _came else signal.SIGINT
        if number == signal.SIGINT:
            click.echo("interrupted", err=True)
        sys.exit(128 + number)


@contextmanager
def _raising() -> Iterator[None]:
    """What ends the process is raised inside, so that children are ended and scratch folders removed on the
    way out, and ignored after that."""
    taken = [number for number in _ENDING if signal.getsignal(number) not in (None, signal.SIG_IGN)]  # nohup
    before = {number: signal.signal(number, _end) for number in taken}
    hook, sys.unraisablehook = sys.unraisablehook, _again
    try:
        yield
    finally:
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, signal.SIG_IGN if _came else handler)


def _end(number: int, _: object) -> NoReturn:
    _came.append(number)
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    sys.exit(128 + number)


def _again(lost: sys.UnraisableHookArgs) -> None:
    """Where Python can't raise, as in a callback of its imports, it would print what `_end` raises and go on:
    the signal is sent once more."""
    if _came and isinstance(lost.exc_value, (KeyboardInterrupt, SystemExit)):
        once_more = threading.Timer(0.05, os.kill, (os.getpid(), _came[-1]))
        once_more.daemon = True
        once_more.start()
    else:
        sys.__unraisablehook__(lost)
