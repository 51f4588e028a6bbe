"""What a killed process leaves on the disk: names that say which process made a thing, and the removal of the
things whose process is gone."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import stat
import time
from functools import cache
from pathlib import Path

#: After a restart of the machine no process can be asked; this old, nobody works on it any more.
_OLD_S = 24 * 3600.0
_DIGITS = 6
_MOST_BYTES = 150
_MARK = re.compile(
    rf"(?:vertebra-|\.(?P<name>.+)\.)(?P<host>[0-9a-f]{{{_DIGITS}}})(?P<boot>[0-9a-f]{{{_DIGITS}}})"
    rf"(?P<space>[0-9a-f]{{{_DIGITS}}})-(?P<pid>\d{{1,10}})-(?P<start>\d{{1,20}})-\w{{8}}(?P<old>\.old)?"
)


def prefix() -> str:
    """The start of a scratch folder's name, to be followed by eight random characters."""
    return f"vertebra-{_mark(os.getpid())}-"


def hidden(name: str) -> str:
    """The start of a hidden draft's name, to be followed by eight random characters."""
    return f".{_cut(name)}.{_mark(os.getpid())}-"


def sweep(folder: Path) -> None:
    """Remove scratch folders and drafts in `folder` whose process is gone. What such a process had moved
    away, to replace it, gets its name back. Other people's things, and those of other machines, stay."""
    with contextlib.suppress(OSError):
        for path in list(folder.iterdir()):
            found = _MARK.fullmatch(path.name)
            if found is not None and _is_mine(path) and _is_gone(path, found):
                _remove(path, found)


def _cut(name: str) -> str:
    """A name that leaves room for the mark in the 255 bytes that a name may have."""
    return name.encode(errors="surrogateescape")[:_MOST_BYTES].decode(errors="ignore")


def _remove(path: Path, found: re.Match[str]) -> None:
    with contextlib.suppress(OSError):
        if found["old"] and len((found["name"] or "").encode()) > _MOST_BYTES - 4:
            return  # its name was cut, so it can't get it back
        if found["old"] and found["name"] and not path.with_name(found["name"]).exists():
            path.rename(path.with_name(found["name"]))
        elif path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()


def is_users(about: os.stat_result) -> bool:
    """Whether a file is the user's own. Windows has no such numbers: there the folder's rights say it."""
    return not hasattr(os, "geteuid") or about.st_uid == os.geteuid()


def _is_mine(path: Path) -> bool:
    about = path.lstat()
    return is_users(about) and (stat.S_ISDIR(about.st_mode) or stat.S_ISREG(about.st_mode))


def _is_gone(path: Path, found: re.Match[str]) -> bool:
    host, boot, space = _here()
    if found["host"] != host:
        return False
    if found["boot"] != boot:
        return time.time() - path.lstat().st_mtime > _OLD_S
    return found["space"] == space and found["start"] != str(_start(int(found["pid"])))


def _mark(pid: int) -> str:
    return f"{''.join(_here())}-{pid}-{_start(pid)}"


@cache
def _here() -> tuple[str, str, str]:
    """Digests of this machine, of its last start, and of the space in which process ids are counted."""
    import socket

    machine = f"{socket.gethostname()} {_text('/etc/machine-id')}"
    try:
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        space = ""
    parts = (machine, _text("/proc/sys/kernel/random/boot_id"), space)
    host, boot, counted = (hashlib.sha256(part.encode()).hexdigest()[:_DIGITS] for part in parts)
    return host, boot, counted


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""


def _start(pid: int) -> int | None:
    """When the process began, in the system's clock ticks; 0 if it runs and the system doesn't say; None if
    there is no such process."""
    line = _text(f"/proc/{pid}/stat")
    if line:
        return int(line.rpartition(")")[2].split()[19])
    if Path("/proc/self/stat").exists():
        return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return 0
