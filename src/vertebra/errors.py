"""The exceptions that vertebra raises.

VertebraError                     anything a user can fix; printed without a traceback
├── UnknownNameError              a model, engine, metric, … that doesn't exist
├── InvalidInputError             a value that can't be used: a size, a limit, a flag
├── MissingRuntimeError           an optional library that isn't installed
├── TableError                    the table of measurements can't be read or written
├── BundleError                   a Bundle that is broken, tampered with or foreign
├── ImageError                    a picture that can't be read: damaged, empty, too large, not a picture
├── WeightsError                  trained parameters that can't be read or don't fit
├── DownloadError                 a file that can't be fetched, or isn't the one expected
└── MeasurementError              a case without a result: crash, hang, memory, wrong outputs
    └── UnsuitableNetworkError    untrained parameters that give infinite or extreme activations

The message states what came and what was expected; `hint` states what to do.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

#: What the address of a database has between its user and its host, and what its options call a password.
_PASSWORD = re.compile(
    r"\b((?!https?:)[a-z][a-z0-9+.-]*://[^\s:/@?#]*):\S*@|([?&](?:ssl)?password=)[^\s&]*", re.IGNORECASE
)

#: A beginning of a name has at least this number of characters.
_LEAST_BEGINNING = 3
#: How many characters of an unknown name are shown.
_LONGEST = 100


def masked(text: str) -> str:
    """`text` without the passwords of the addresses in it.

    >>> masked("postgresql://me:secret@host/table?sslmode=require")
    'postgresql://me:***@host/table?sslmode=require'
    """
    if "://" not in text and "password=" not in text:
        return text
    return _PASSWORD.sub(lambda found: f"{found[1]}:***@" if found[2] is None else f"{found[2]}***", text)


def warn(message: str, hint: str | None = None) -> None:
    """Say what a caller should know and that is no error, through the log called "vertebra": it is printed on
    standard error, unless logging was set up otherwise."""
    import logging

    told = masked(f"warning: {message}" + (f"\nhint: {hint}" if hint else ""))
    logging.getLogger("vertebra").warning("%s", told)


class VertebraError(Exception):
    """Root of the tree. `str(error)` is the message; `hint` is what to do next, or None."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        message, hint = masked(message), hint and masked(hint)
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __reduce__(self) -> tuple[type[VertebraError], tuple[str, str | None]]:
        return type(self), (self.message, self.hint)


class UnknownNameError(VertebraError):
    """A name that isn't in a list of known ones."""

    @classmethod
    def of(cls, kind: str, name: str, known: Iterable[str], see: str) -> UnknownNameError:
        """An unknown `name` of `kind`, with close matches among `known` and the command to `see`.

        >>> UnknownNameError.of("model", "vgg99", ["vgg19", "vgg16"], "vertebra list").hint
        'did you mean "vgg19" or "vgg16"? To see all: vertebra list'
        """
        close = _close(name[:_LONGEST].lower(), list(known))
        guess = " or ".join(f'"{match}"' for match in close)
        hint = f"did you mean {guess}? To see all: {see}" if close else f"to see all: {see}"
        shown = name if len(name) <= _LONGEST else f"{name[:_LONGEST]}…"
        return cls(f'Unknown {kind} "{shown}".', hint)


def _close(name: str, known: list[str]) -> list[str]:
    """At most three names like `name`: those that begin with it, if few do, else the most similar ones."""
    import difflib

    longer = [one for one in known if len(name) >= _LEAST_BEGINNING and one.lower().startswith(name)]
    similar = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    return list(dict.fromkeys([*(longer if len(longer) <= 3 else []), *similar]))[:3]


class InvalidInputError(VertebraError):
    """A value that can't be used."""


class MissingRuntimeError(VertebraError):
    """An optional library that isn't installed."""

    @classmethod
    def of(cls, what: str, package: str, extra: str) -> MissingRuntimeError:
        """`what` needs `package`, which the extra named `extra` installs."""
        return cls(
            f"{what} needs {package}, which is not installed.",
            f'install it with: pip install "vertebra[{extra}]"',
        )


class TableError(VertebraError):
    """The table of measurements can't be read or written."""


class BundleError(VertebraError):
    """A Bundle that is broken, tampered with or foreign."""


class ImageError(VertebraError):
    """A picture that can't be read. The message names the source and the reason."""


class WeightsError(VertebraError):
    """Trained parameters that can't be read, or don't fit the network."""


class DownloadError(VertebraError):
    """A file that can't be fetched, or isn't the one expected."""


class MeasurementError(VertebraError):
    """A case without a result."""


class OutOfTimeError(MeasurementError):
    """A case that was stopped, or not begun, because the time for all was up: it has no row."""


class UnsuitableNetworkError(MeasurementError):
    """A network whose untrained parameters give infinite or extreme activations, on any engine."""
