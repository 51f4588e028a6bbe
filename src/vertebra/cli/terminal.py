"""Where all text leaves: it can't disturb a terminal, and fits its width, its encoding and its colours.

`say` prints text for people, `put` text for programs. Both take any text: names and messages come from files
and tables that others made.
"""

from __future__ import annotations

import codecs
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterable
from typing import IO

import click

#: Characters that aren't printable and do no harm: spaces, and joiners of letters and emoji.
_HARMLESS = "\n\u00a0\u2007\u202f\u3000\u200c\u200d"
#: What is written where an encoding doesn't have the character.
_SPELLED = {
    "≤": "<=", "≥": ">=", "→": "->", "×": "x", "±": "+-", "≈": "~", "…": "...", "–": "-", "—": "-", "−": "-",
    "µ": "u", "μ": "u", "²": "2", "✓": "ok", "✗": "no", "⚠": "!", "·": "-", "•": "-", "‘": "'", "’": "'",
    "“": '"', "”": '"', "\u00a0": " ", "\u202f": " ", "\u2007": " ",
}  # fmt: skip
#: The key in a click context's `meta` of the exit status that is known before the output is printed.
STATUS = "vertebra.status"
_STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}
#: The sequences that `painted` writes. Others are made harmless.
_PAINT = re.compile(r"(\x1b\[(?:0|1|2|31|32|33|36)m)")
#: The end of a sentence that a reader copies: a command.
_COMMAND = re.compile(r"(?:(?<=: )|(?<=\()|^)(?:vertebra|pip install) \S.*$")
#: Where a line may be broken: not between a number and its unit.
_BREAKS = re.compile(r" (?!(?:%|[kMGTmµn]?[sBJW]|[kMGT]|[kMGT]?(?:op|B)/s)(?:[\s),;.:]|$))")
#: A terminal is treated as at least this wide.
_NARROWEST = 20


# ------------------------------------------------------------------ harmless text


def plain(text: str) -> str:
    """`text` with control characters, changes of direction and surrogates as escapes; newlines stay."""
    return _translated(
        text, lambda sign: sign.isprintable() or sign in _HARMLESS, lambda sign: repr(sign)[1:-1]
    )


def line(text: object) -> str:
    """`text` harmless and in one line, in characters that standard output has."""
    return spelled(plain(str(text)).replace("\n", "\\n"))


def spelled(text: str) -> str:
    """`text` in characters of standard output's encoding."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        return text.encode(encoding, "vertebra.spelled").decode(encoding)
    except LookupError:
        return text


def json_safe(text: str) -> str:
    """JSON with escapes for what is unprintable or not in standard output's encoding: it reads the same."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"

    def stays(sign: str) -> bool:
        return (sign.isprintable() or sign == "\n") and _has(encoding, sign)

    def escape(sign: str) -> str:
        units = sign.encode("utf-16-be", "surrogatepass").hex()
        return "".join(f"\\u{units[place : place + 4]}" for place in range(0, len(units), 4))

    return _translated(text, stays, escape)


def _translated(text: str, stays: Callable[[str], bool], escape: Callable[[str], str]) -> str:
    if text.isascii() and text.isprintable():
        return text
    return text.translate({ord(sign): escape(sign) for sign in set(text) if not stays(sign)})


def _has(encoding: str, sign: str) -> bool:
    try:
        sign.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def _spell(error: UnicodeError) -> tuple[str, int]:
    """The handler of what an encoding doesn't have: a plain spelling, or an escape."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    signs = error.object[error.start : error.end]
    return "".join(_SPELLED.get(sign) or ascii(sign)[1:-1] for sign in signs), error.end


def _keep(error: UnicodeError) -> tuple[str | bytes, int]:
    """The handler for programs: bytes of a file's name that were no text come out as they were."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    sign = error.object[error.start]
    if "\udc80" <= sign <= "\udcff":
        return bytes([ord(sign) - 0xDC00]), error.start + 1
    return ascii(sign)[1:-1], error.start + 1


codecs.register_error("vertebra.spelled", _spell)
codecs.register_error("vertebra.exact", _keep)


# ------------------------------------------------------------------ printing


def prepare() -> None:
    """Let both streams take any character."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="vertebra.spelled")


def say(text: str = "", *, err: bool = False, end: str = "\n") -> None:
    """Print text for people: harmless, and no line wider than the terminal."""
    stream = sys.stderr if err else sys.stdout
    if stream is not None:
        click.echo(fitted(text, stream) + end, file=stream, nl=False, color=has_colours(stream))


def complain(message: str, hint: str | None = None) -> None:
    """Print an error and what to do. Other lines of either are indented: none can pass for a line of ours."""
    said = {"error": (message, "red"), "hint": (hint, "cyan")}
    for label, (text, colour) in said.items():
        if text:
            say(f"{painted(f'{label}:', colour)} " + text.replace("\n", "\n  "), err=True)


def put(text: str) -> None:
    """Print text for programs as it is; on a terminal it is made harmless."""
    stream = sys.stdout
    if stream is None:
        return
    if stream.isatty():
        click.echo(plain(text), nl=False, color=True)
    elif hasattr(stream, "buffer"):
        click.echo(text.encode(stream.encoding, "vertebra.exact"), nl=False)
    else:
        stream.write(text)


def page(text: str) -> None:
    """`say`, with the reader's pager if the text doesn't fit on the terminal's screen."""
    if not _has_pager() or fitted(text, sys.stdout).count("\n") < shutil.get_terminal_size().lines - 1:
        say(text)
        return
    os.environ.setdefault("LESS", "FRX")
    click.echo_via_pager(spelled(fitted(text, sys.stdout)) + "\n", color=has_colours(sys.stdout))


def _has_pager() -> bool:
    streams = (sys.stdin, sys.stdout)
    on_terminal = all(stream is not None and stream.isatty() for stream in streams)
    return on_terminal and os.environ.get("TERM") != "dumb" and os.environ.get("PAGER", "less").strip() != ""


def fitted(text: str, stream: IO[str]) -> str:
    """`text` harmless, with lines that are wider than the terminal broken between words."""
    most = room(stream)
    kept = "".join(part if _PAINT.fullmatch(part) else plain(part) for part in _PAINT.split(text))
    if most is None or len(kept) <= most:
        return kept
    lines = kept.split("\n")
    return "\n".join(one if breadth(one) <= most else "\n".join(_wrapped(one, most)) for one in lines)


# ------------------------------------------------------------------ the terminal


def room(stream: IO[str] | None = None) -> int | None:
    """The columns of the terminal, or of $COLUMNS; None in a file or a pipe, where no line is broken."""
    stream = sys.stdout if stream is None else stream
    if not os.environ.get("COLUMNS", "").isdecimal() and not (stream is not None and stream.isatty()):
        return None
    return max(shutil.get_terminal_size().columns, _NARROWEST)


def has_colours(stream: IO[str] | None = None) -> bool:
    """Whether to print colours: on a terminal, unless NO_COLOR or FORCE_COLOR say otherwise."""
    stream = sys.stdout if stream is None else stream
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR", "0") not in ("", "0"):
        return True
    return stream is not None and stream.isatty() and os.environ.get("TERM") != "dumb"


def painted(text: str, style: str) -> str:
    """`text` in a style: bold, dim, red, green, yellow or cyan. `say` drops it where there are no colours."""
    return f"\x1b[{_STYLES[style]}m{text}\x1b[0m" if text and style else text


def breadth(text: str) -> int:
    """How many columns `text` takes on a terminal."""
    bare = _PAINT.sub("", text) if "\x1b" in text else text
    if bare.isascii():
        return len(bare)
    from rich.cells import cell_len

    return cell_len(bare)


# ------------------------------------------------------------------ lines


def _wrapped(text: str, most: int) -> list[str]:
    """A line broken between words, its other lines indented by two more."""
    indent = text[: len(text) - len(text.lstrip(" "))][: most // 2]
    return folded(text.lstrip(" "), most, indent, f"{indent}  ")


def folded(text: str, most: int, first: str = "", rest: str = "") -> list[str]:
    """`text` in lines of at most `most` columns after `first` and `rest`. A word that is wider has a line of
    its own, and a command at the end isn't broken if it fits on one."""
    lines, line_, used = [], first, 0
    for word in _words(text, most - breadth(rest)):
        if used and breadth(line_) + 1 + breadth(word) > most:
            lines.append(line_)
            line_, used = rest, 0
        line_ += f" {word}" if used else word
        used += 1
    return [*lines, line_]


def _words(text: str, most: int) -> Iterable[str]:
    command = _COMMAND.search(text)
    if command is None or breadth(command.group()) > most:
        return _BREAKS.split(text)
    before = text[: command.start()].rstrip(" ")
    return [*(_BREAKS.split(before) if before else []), command.group()]


def cut(text: str, most: int) -> str:
    """`text` in at most `most` columns: its beginning and its end."""
    if breadth(text) <= most:
        return text
    ellipsis = spelled("…")
    tail = max((most - len(ellipsis)) // 3, 0)
    head = max(most - len(ellipsis) - tail, 1)
    return _end(text, head) + ellipsis + (_end(text[::-1], tail)[::-1] if tail else "")


def _end(text: str, most: int) -> str:
    while breadth(text) > most:
        text = text[: max(min(len(text) - 1, most), 0)] if len(text) > most else text[:-1]
    return text
