"""Names in pictures and pages: harmless, short, and still told apart."""

from __future__ import annotations

import pytest

from vertebra.measurements.display import plain
from vertebra.reading.names import LONGEST, distinct, short

#: What names may hold that pictures and files can't.
HOSTILE = (
    "", " ", "\x00", "a\x1b[2Jb", "\x1b]0;title\x07", "a\u2028b", "a\u2029b", "\ud800", "a\udfffb", "\ufffe",
    "\uffff", "a\x7fb", "\x85", "\u202egnp.exe", "\ufeffbom", "a\tb\nc\rd", "</script><script>", "'\"`\\",
    "😀" * 9, "ا" * 70, "@" * 128, "onnx:/" + "deep/" * 40 + "net.onnx", "x" * 5000,
)  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_plain_name_can_be_printed_and_written(name):
    shown = plain(name)
    assert shown.isprintable()
    assert len(shown) == len(name)
    assert shown.encode().decode() == shown


@pytest.mark.parametrize("length", [0, 1, 59, 60, 61, 126, 128, 150, 5000])
def test_a_label_is_short_and_keeps_both_ends(length):
    name = ("a" * length)[:-1] + "z" * (length > 0)
    label = short(name)
    assert 0 < len(label) <= LONGEST
    if length > LONGEST:
        assert "…" in label
        assert (label[0], label[-1]) == ("a", "z")
    elif length:
        assert label == name


def test_labels_that_would_be_equal_are_numbered():
    far = ["x" * 5000 + "1", "x" * 4999 + "1", "a\x1b", "a\x01", "a\ufffd"]
    labels = distinct(far)
    assert len(set(labels.values())) == len(far)
    assert labels["a\x01"] == "a\N{REPLACEMENT CHARACTER} (2)"
    assert len(set(distinct(HOSTILE).values())) == len(HOSTILE)
