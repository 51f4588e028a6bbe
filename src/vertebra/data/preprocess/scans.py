"""The scans of a progressive JPEG, of which a small decoding needs only the first.

A progressive JPEG (ITU-T T.81, annex G) stores its coefficients in several scans: some hold a band of
frequencies, others one more bit of coefficients that were stored before. Most of its bytes, and of the time
that decoding takes, go into high frequencies and last bits, which a picture of an eighth or a quarter hardly
shows.
"""

from __future__ import annotations

import re

#: A marker that ends a scan's data: no stuffed zero, no restart, no fill byte.
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")

_START_OF_SCAN, _END, _PROGRESSIVE = 0xDA, 0xD9, 0xC2

#: Highest frequency, in zigzag order, that libjpeg looks at for the smoothing of an eighth.
_SMOOTHED = 5


#: Any marker, as a decoder finds the next one, with what stands between them.
_ANY_MARKER = re.compile(rb"\xff+([^\x00\xff])")

#: Markers without a length: a restart, a start, and one that is for temporary use.
_BARE = (0x01, *range(0xD0, 0xD9))


def count(data: bytes, enough: int) -> int:
    """The number of scans of a JPEG, counted up to one more than `enough`; 0 if there can't be as many."""
    if data.count(bytes((0xFF, _START_OF_SCAN))) <= enough:
        return 0
    found = position = 0
    while (marker := _ANY_MARKER.search(data, position)) is not None and found <= enough:
        code, position = marker[1][0], marker.end()
        if code == _END:
            break
        found += code == _START_OF_SCAN
        if code not in _BARE:
            position += int.from_bytes(data[position : position + 2], "big")
    return found


def thinned(data: bytes, divisor: int) -> bytes:
    """A progressive JPEG without the scans that a decoding at 1/`divisor` hardly shows; anything else, and
    any incomplete file, unchanged.

    An eighth is the same to the bit, unless its colours are stored at half the height and width. For a
    quarter the last bits of all but the blocks' means are left out; for more than that every scan is kept.
    """
    if divisor < 4:
        return data
    kept, position, progressive = [data[:2]], 2, False
    while position + 2 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == _END:
            return b"".join([*kept, data[position : position + 2]]) if progressive else data
        end = position + 2 + int.from_bytes(data[position + 2 : position + 4], "big")
        progressive |= marker == _PROGRESSIVE
        if marker == _START_OF_SCAN:
            following = _MARKER.search(data, end)
            if not progressive or following is None:
                return data
            header, end = data[position + 2 : end], following.start()
            if not _is_wanted(header, divisor):
                position = end
                continue
        kept.append(data[position:end])
        position = end
    return data


def _is_wanted(header: bytes, divisor: int) -> bool:
    """A scan's first and last frequency, and the bits stored before (upper half of the third byte), from the
    last three bytes of its header."""
    if len(header) < 3:
        return True
    first, _, bits = header[-3:]
    return first == 0 or (bits >> 4 == 0 and (divisor < 8 or first <= _SMOOTHED))
