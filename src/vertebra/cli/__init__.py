"""The command: one file per verb, imported when that verb is typed.

A verb's file parses, calls the public function of the same name and prints. Data goes to standard
output, talk to standard error; a failure is one message and exit status 1, misuse is exit status 2.
"""

from __future__ import annotations

import sys

try:
    import errno
    import os
    import signal
    from importlib import import_module
    from typing import NoReturn

    import click

    import vertebra
    from vertebra.errors import VertebraError
except KeyboardInterrupt:  # before `main` could catch it
    print("interrupted", file=sys.stderr)
    sys.exit(130)

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
@click.version_option(vertebra.__version__, prog_name="vertebra", message="%(prog)s %(version)s")
def cli() -> None:
    """Which image-classification backbone suits this machine, under these limits?"""


#: Disk, quota or the process's limit for a file is full.
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def main() -> None:
    """The console command. Exit status 0, 1 (failed), 2 (misused), 130 (interrupted) or 143 (ended)."""
    signal.signal(signal.SIGTERM, _end)
    try:
        cli.main(standalone_mode=False, prog_name="vertebra")
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
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        sys.exit(130)
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


def _end(number: int, _: object) -> NoReturn:
    """As after Ctrl-C: children are ended and scratch folders removed on the way out."""
    sys.exit(128 + number)


def _drop_output() -> None:
    """Python would complain at exit once more of what is left to print."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
