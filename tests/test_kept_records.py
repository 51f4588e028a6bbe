"""Records kept in files: what was written is found, damage gives no record, and all files keep a limit."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vertebra.errors import InvalidInputError
from vertebra.machine import kept_records
from vertebra.machine.kept_records import Records

LARGE = 10**9
HEADER, RECORD = 64, 32 + 8 + 4


def key(number: int) -> bytes:
    return number.to_bytes(32)


def value(number: int) -> bytes:
    return number.to_bytes(8, "little")


def numbered(*numbers: int) -> list[tuple[bytes, bytes]]:
    return [(key(number), value(number)) for number in numbers]


def kept(place: Path, name: str = "one", what: str = "numbers", limit: int = LARGE) -> Records:
    return Records(name, what, place=place, limit=limit)


def found(records: Records) -> dict[int, int]:
    every = {key(number) for number in range(1000)}
    return {int.from_bytes(k): int.from_bytes(v, "little") for k, v in records.read(every)}


def test_what_was_written_is_found_again_and_only_what_is_asked_for(tmp_path):
    with kept(tmp_path) as records:
        assert (found(records), records.value_bytes) == ({}, None)
        assert records.append(numbered(1, 2, 3)) == 3
        assert records.append(numbered(3, 4)) == 1
    with kept(tmp_path) as records:
        assert found(records) == {1: 1, 2: 2, 3: 3, 4: 4}
        assert [bytes(v) for _, v in records.read({key(2)})] == [value(2)]
        assert records.value_bytes == 8
    assert (tmp_path / "one.records").stat().st_size == HEADER + 4 * RECORD


def test_two_who_write_by_turns_keep_each_record_once(tmp_path):
    with kept(tmp_path) as one, kept(tmp_path) as other:
        assert one.append(numbered(1, 2)) == 2
        assert other.append(numbered(2, 3)) == 1
        assert one.append(numbered(3, 4)) == 1
        assert found(one) == found(other) == {1: 1, 2: 2, 3: 3, 4: 4}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    cut=st.integers(0, HEADER + 5 * RECORD),
    flips=st.lists(st.integers(0, 8 * (HEADER + 5 * RECORD) - 1), max_size=4, unique=True),
    more=st.lists(st.integers(0, 9), max_size=6),
)
def test_damage_never_gives_a_wrong_record_and_is_written_over(tmp_path_factory, cut, flips, more):
    place = tmp_path_factory.mktemp("kept")
    with kept(place) as records:
        records.append(numbered(0, 1, 2, 3, 4))
    path = place / "one.records"
    content = bytearray(path.read_bytes())
    for bit in flips:
        content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content[:cut])
    whole = {
        number
        for number in range(5)
        if HEADER + (number + 1) * RECORD <= cut
        and not any(HEADER + number * RECORD <= bit // 8 < HEADER + (number + 1) * RECORD for bit in flips)
    }
    if cut >= HEADER and any(bit // 8 < HEADER for bit in flips):
        whole = set()  # without its header a file says nothing: it is set aside
    with kept(place) as records:
        assert found(records) == {number: number for number in whole}
        assert records.append(numbered(*more)) == len(set(more) - whole)
    with kept(place) as records:
        assert found(records) == {number: number for number in whole | set(more)}


def test_a_half_written_record_is_dropped_and_the_next_one_takes_its_place(tmp_path):
    with kept(tmp_path) as records:
        records.append(numbered(1, 2))
    path = tmp_path / "one.records"
    path.write_bytes(path.read_bytes()[:-1])
    with kept(tmp_path) as records:
        assert (found(records), records.damaged) == ({1: 1}, 0)
        records.append(numbered(3))
        assert found(records) == {1: 1, 3: 3}
    assert path.stat().st_size == HEADER + 2 * RECORD


def test_the_place_of_a_damaged_record_is_used_once(tmp_path):
    with kept(tmp_path) as records:
        records.append(numbered(1, 2))
    path = tmp_path / "one.records"
    content = bytearray(path.read_bytes())
    content[HEADER + 40] ^= 1
    path.write_bytes(content)
    with kept(tmp_path) as one, kept(tmp_path) as other:
        assert found(one) == found(other) == {2: 2}
        assert (one.damaged, other.damaged) == (1, 1)
        one.append(numbered(3))
        other.append(numbered(4))
        assert found(one) == found(other) == {2: 2, 3: 3, 4: 4}
    assert path.stat().st_size == HEADER + 3 * RECORD


@pytest.mark.parametrize("content", [b"x" * 200, b"vertebra records" + bytes(100)])
def test_a_file_of_another_layout_is_set_aside_and_told(tmp_path, caplog, content):
    (tmp_path / "one.records").write_bytes(content)
    with kept(tmp_path) as records:
        records.append(numbered(1))
        assert found(records) == {1: 1}
    assert (tmp_path / "one.records.aside").read_bytes() == content
    assert "was set aside as one.records.aside" in caplog.text


def test_records_of_something_else_are_not_taken(tmp_path, caplog):
    with kept(tmp_path, what="numbers") as records:
        records.append(numbered(1))
    with kept(tmp_path, what="letters") as records:
        assert found(records) == {}
    assert "set aside" in caplog.text


def test_a_record_of_one_file_is_damaged_in_another(tmp_path):
    for name in ("one", "two"):
        with kept(tmp_path, name, what=name) as records:
            records.append(numbered(1))
    one, two = (tmp_path / f"{name}.records" for name in ("one", "two"))
    two.write_bytes(two.read_bytes()[:HEADER] + one.read_bytes()[HEADER:])
    with kept(tmp_path, "two", what="two") as records:
        assert (found(records), records.damaged) == ({}, 1)


def test_values_of_another_size_are_refused(tmp_path):
    with kept(tmp_path) as records:
        records.append(numbered(1))
        with pytest.raises(InvalidInputError, match=r"has values of 8 bytes; \[9\] were to be added"):
            records.append([(key(2), bytes(9))])
        assert found(records) == {1: 1}


# ------------------------------------------------------------------ the limit


def sizes(place: Path) -> set[str]:
    return {path.name for path in place.iterdir()}


def test_the_file_that_was_not_used_for_longest_is_deleted_first(tmp_path):
    limit = 3 * (HEADER + RECORD)
    for number, name in enumerate(("old", "older", "new")):
        with kept(tmp_path, name, limit=limit) as records:
            records.append(numbered(1))
        os.utime(tmp_path / f"{name}.records", ns=(10 - number % 2, 10 - number % 2))
    with kept(tmp_path, "fourth", limit=limit) as records:
        records.append(numbered(1))
    assert sizes(tmp_path) == {"old.records", "new.records", "fourth.records"}


def test_a_file_in_use_is_not_deleted_and_what_has_no_room_is_refused(tmp_path):
    limit = 2 * (HEADER + RECORD)
    with kept(tmp_path, "one", limit=limit) as one, kept(tmp_path, "two", limit=limit) as two:
        one.append(numbered(1))
        two.append(numbered(1))
        with pytest.raises(InvalidInputError, match=r"two\.records would take 1\d\d B") as refused:
            two.append(numbered(2))
        assert "VERTEBRA_FEATURES_LIMIT" in (refused.value.hint or "")
        assert (found(one), found(two)) == ({1: 1}, {1: 1})
    with kept(tmp_path, "two", limit=limit) as two:
        two.append(numbered(2))
    assert sizes(tmp_path) == {"two.records"}


@pytest.mark.parametrize(("told", "limit"), [("20MB", 20_000_000), ("0", 0), ("1.5 GB", 1_500_000_000)])
def test_the_limit_is_what_the_environment_says(tmp_path, monkeypatch, told, limit):
    monkeypatch.setenv("VERTEBRA_FEATURES_LIMIT", told)
    assert kept_records.limit_bytes(tmp_path) == limit


def test_a_limit_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("VERTEBRA_FEATURES_LIMIT", "much")
    with pytest.raises(InvalidInputError, match='VERTEBRA_FEATURES_LIMIT: Can\'t read "much"'):
        kept_records.limit_bytes(tmp_path)


@pytest.mark.parametrize(("free", "limit"), [(10**12, 10**10), (10**9, 10**8)])
def test_without_one_it_is_ten_gigabytes_or_a_tenth_of_the_disk(tmp_path, monkeypatch, free, limit):
    monkeypatch.delenv("VERTEBRA_FEATURES_LIMIT", raising=False)
    usage = type("Usage", (), {"free": free})
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    assert kept_records.limit_bytes(tmp_path / "not" / "there") == limit


# ------------------------------------------------------------------ killed writers, full disks

WRITER = """
import sys
from pathlib import Path
from vertebra.machine.kept_records import Records
with Records("one", "numbers", place=Path(sys.argv[1]), limit=10**9) as records:
    for number in range(1000):
        records.append([(number.to_bytes(32), number.to_bytes(8, "little"))])
        print(number, flush=True)
"""


def test_what_a_killed_process_said_it_had_written_is_there(tmp_path):
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    told = [int(writer.stdout.readline()) for _ in range(20)]
    writer.kill()
    writer.wait()
    writer.stdout.close()
    with kept(tmp_path) as records:
        there = found(records)
        assert set(told) <= set(there)
        assert all(number == value for number, value in there.items())
        assert records.append(numbered(999)) == 1  # the killed process's turn has ended with it


@pytest.mark.skipif(getattr(os, "geteuid", lambda: 0)() == 0, reason="root may read everything")
def test_a_folder_that_cannot_be_written_is_read(tmp_path):
    place = tmp_path / "cache" / "features"
    with kept(place) as records:
        records.append(numbered(1))
    for path in (place / "one.records", place, tmp_path / "cache"):
        path.chmod(0o555)
    (tmp_path / "cache").chmod(0o555)
    try:
        with kept(place) as records:
            assert found(records) == {1: 1}
            with pytest.raises(InvalidInputError, match="can't be written"):
                records.append(numbered(2))
    finally:
        for path in (tmp_path / "cache", place):
            path.chmod(0o755)


def test_a_disk_that_is_full_is_told_and_leaves_what_was_there(tmp_path, monkeypatch):
    with kept(tmp_path) as records:
        records.append(numbered(1))
        real = records._put

        def half(at: int, content: bytes) -> None:
            real(at, content[: len(content) // 2])
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(records, "_put", half)
        with pytest.raises(InvalidInputError, match="No space left on device"):
            records.append(numbered(2, 3))
        monkeypatch.undo()
        assert found(records) == {1: 1}
        assert records.append(numbered(2)) == 1
    with kept(tmp_path) as records:
        assert found(records) == {1: 1, 2: 2}
