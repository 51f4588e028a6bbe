"""A command whose exit status is a judgement that a build depends on."""

from __future__ import annotations

import traceback
from typing import Any

import click

from vertebra.cli.terminal import complain
from vertebra.errors import VertebraError


class Gated(click.Command):
    """Every error ends with 2, a bug of ours too: 1 is left to the judgement."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise
        except VertebraError as error:
            complain(error.message, error.hint)
            raise SystemExit(2) from error
        except OSError as error:
            place = f" {error.filename}" if error.filename else ""
            complain(f"Can't write{place}: {error.strerror}.", "write to another place, or free some space")
            raise SystemExit(2) from error
        except Exception:
            traceback.print_exc()
            raise SystemExit(2) from None
