"""Tar archives read in place, member by member; nothing is ever unpacked to disk.

A member that an extraction would put outside its folder (an absolute path, one with "..", a link, a device)
is refused: such an archive is malicious or broken.
"""

from __future__ import annotations

import lzma
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any

from vertebra.data.names import printable
from vertebra.errors import InvalidInputError

#: The most bytes that are read of one member.
MAX_BYTES = 2**29
#: The most bytes of a member's name and attributes: tarfile would read as many as a header claims.
_MOST_HEADER = 2**20
_HEADERS = (
    tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)  # fmt: skip


class _Member(tarfile.TarInfo):
    """A member whose extended header is no larger than one can be."""

    def _proc_member(self, archive: tarfile.TarFile) -> Any:
        if self.type in _HEADERS and self.size > _MOST_HEADER:
            raise tarfile.ReadError(f"a header claims {self.size:,} bytes")
        return super()._proc_member(archive)  # type: ignore[misc]  # tarfile's own, not in its stubs


@contextmanager
def opened(
    path: Path, stream: IO[bytes] | None = None, *, place: str | None = None
) -> Iterator[tarfile.TarFile]:
    """The archive at `path`, or in `stream`. Raises InvalidInputError where it isn't one, or is cut short."""
    name = place or printable(path)
    try:
        with tarfile.open(
            path if stream is None else None, "r:*", fileobj=stream, tarinfo=_Member
        ) as archive:
            yield archive
    except (tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError, MemoryError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise InvalidInputError(
            f"Can't read {name} as a tar archive: {reason}.", "download or write it again"
        ) from error


def is_plain(path: Path) -> bool:
    """Whether the archive isn't compressed, so that its members are parts of the file as they are."""
    try:
        with path.open("rb") as stream:
            return stream.read(512)[257:262] == b"ustar"
    except OSError:
        return False


def members(archive: tarfile.TarFile, place: str) -> Iterator[tarfile.TarInfo]:
    """The archive's files in their order. Raises InvalidInputError at a member that points outside."""
    while (member := archive.next()) is not None:
        archive.members.clear()  # type: ignore[attr-defined]  # tarfile keeps every member it has seen
        check(member, place)
        if member.isfile():
            yield member


def check(member: tarfile.TarInfo, place: str) -> None:
    """Raise InvalidInputError unless the member is a file or a folder inside the archive."""
    path = PurePosixPath(member.name.replace("\\", "/"))
    reason = None
    if path.is_absolute() or member.name[1:2] == ":":
        reason = "is an absolute path"
    elif ".." in path.parts:
        reason = 'leads outside with ".."'
    elif member.issym() or member.islnk():
        reason = "is a link"
    elif not (member.isfile() or member.isdir()):
        reason = "is not a regular file"
    if reason is not None:
        raise InvalidInputError(
            f"{printable(place)}: the member {member.name!r} {reason}.", "use only archives that you trust"
        )


def content(archive: tarfile.TarFile, member: tarfile.TarInfo, place: str, most: int = MAX_BYTES) -> bytes:
    """The member's bytes. Raises InvalidInputError above `most` bytes, and where the archive ends early."""
    if member.size > most:
        raise InvalidInputError(
            f"{printable(place)}: {printable(member.name)} has {member.size:,} bytes, more than {most:,}."
        )
    stream = archive.extractfile(member)
    assert stream is not None, "only files are read"
    data = stream.read()
    if len(data) < member.size:
        raise InvalidInputError(
            f"{printable(place)} is cut short in {printable(member.name)}.", "download it again"
        )
    return data
