"""Energy by counters: a tree like the kernel's, a driver of our own making, and a clock that is told."""

from __future__ import annotations

import os
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from vertebra.measuring.benchmarking import energy
from vertebra.measuring.benchmarking.energy import Energy, Meter
from vertebra.metrics import METRICS


def zone(root: Path, folder: str, name: str, joules: float, limit_j: float | None = 262_143.328850) -> Path:
    path = root / "sys/class/powercap" / folder
    path.mkdir(parents=True)
    (path / "name").write_text(f"{name}\n")
    (path / "energy_uj").write_text(f"{round(joules * 1e6)}\n")
    if limit_j is not None:
        (path / "max_energy_range_uj").write_text(f"{round(limit_j * 1e6)}\n")
    return path / "energy_uj"


def clock(*moments: float) -> Any:
    told = iter(moments)
    return lambda: next(told)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two packages with cores and memory, the platform's zone, and one package's twin."""
    for number in (0, 1):
        zone(tmp_path, f"intel-rapl:{number}", f"package-{number}", 1000)
        zone(tmp_path, f"intel-rapl:{number}:0", "core", 700)
        zone(tmp_path, f"intel-rapl:{number}:1", "dram", 50)
    zone(tmp_path, "intel-rapl:2", "psys", 5000)
    zone(tmp_path, "intel-rapl-mmio:0", "package-0", 1000)
    (tmp_path / "sys/class/powercap/intel-rapl").mkdir()
    return tmp_path


def test_packages_and_the_memory_beside_them_are_counted_once(root: Path):
    assert [zone.name for zone in energy.rapl_zones(root)] == ["package-0", "dram", "package-1", "dram"]


def test_the_energy_is_the_sum_of_what_all_counters_took(root: Path):
    meter = Meter(root=root, clock=clock(10.0, 14.0))
    before = meter.read()
    powercap = root / "sys/class/powercap"
    for folder, joules in (("intel-rapl:0", 1100), ("intel-rapl:1", 1030), ("intel-rapl:0:1", 58)):
        (powercap / folder / "energy_uj").write_text(f"{joules * 10**6}\n")
    (powercap / "intel-rapl:0:0/energy_uj").write_text(f"{900 * 10**6}\n")  # in its package already
    taken = meter.between(before, meter.read())
    assert taken == Energy(joules=pytest.approx(138.0), seconds=4.0)
    assert taken.watts == pytest.approx(34.5)


def test_a_counter_that_started_again_is_followed(tmp_path: Path):
    file = zone(tmp_path, "intel-rapl:0", "package-0", 990, limit_j=1000)
    meter = Meter(root=tmp_path, clock=clock(0.0, 1.0))
    before = meter.read()
    file.write_text("15000000\n")
    assert meter.between(before, meter.read()) == Energy(pytest.approx(25.0), 1.0)


def test_a_counter_that_started_again_at_an_unknown_limit_tells_nothing(tmp_path: Path):
    file = zone(tmp_path, "intel-rapl:0", "package-0", 990, limit_j=None)
    meter = Meter(root=tmp_path, clock=clock(0.0, 1.0))
    before = meter.read()
    file.write_text("15000000\n")
    assert meter.between(before, meter.read()) is None


def test_a_counter_that_vanishes_makes_the_sum_unknown(root: Path):
    meter = Meter(root=root, clock=clock(0.0, 1.0))
    before = meter.read()
    (root / "sys/class/powercap/intel-rapl:1/energy_uj").unlink()
    assert meter.between(before, meter.read()) is None


def test_a_machine_without_counters_tells_nothing_and_is_not_waited_for(tmp_path: Path):
    meter = Meter(root=tmp_path, clock=clock(0.0, 1.0))
    assert meter.counters == ()
    assert meter.over(5.0, sleep=lambda _: pytest.fail("slept")) is None
    assert meter.between(meter.read(), meter.read()) is None


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
def test_a_counter_for_root_only_is_no_counter(tmp_path: Path):
    zone(tmp_path, "intel-rapl:0", "package-0", 990).chmod(0)
    assert Meter(root=tmp_path).counters == ()


def test_a_file_that_holds_no_number_is_no_counter(tmp_path: Path):
    zone(tmp_path, "intel-rapl:0", "package-0", 990).write_text("unavailable\n")
    assert Meter(root=tmp_path).counters == ()


def test_idle_is_what_is_taken_while_this_process_sleeps(tmp_path: Path):
    file = zone(tmp_path, "intel-rapl:0", "package-0", 100)

    def sleep(seconds: float) -> None:
        file.write_text(f"{round((100 + 12 * seconds) * 1e6)}\n")

    idle = Meter(root=tmp_path, clock=clock(0.0, 2.0)).over(2.0, sleep)
    assert idle == Energy(pytest.approx(24.0), 2.0)


def test_idle_power_is_subtracted_and_the_rest_shared_among_the_images():
    told = energy.figures(Energy(90.0, 3.0), Energy(20.0, 2.0), images=120)
    assert told == {"power": 20.0, "energy_per_image": 0.5}
    assert set(told) <= set(METRICS)


@pytest.mark.parametrize(
    ("busy", "idle", "images"),
    [
        (None, Energy(1.0, 1.0), 10),
        (Energy(9.0, 1.0), None, 10),
        (Energy(9.0, 1.0), Energy(9.0, 1.0), 10),
        (Energy(9.0, 1.0), Energy(10.0, 1.0), 10),
        (Energy(9.0, 1.0), Energy(1.0, 1.0), 0),
    ],
)
def test_what_is_not_known_is_not_guessed(busy, idle, images):
    assert energy.figures(busy, idle, images=images) == {}


class NoDriver(Exception):
    pass


@pytest.fixture
def cards(monkeypatch: pytest.MonkeyPatch) -> list[int | None]:
    """Millijoules of each card; None where a card doesn't count."""
    counts: list[int | None] = []

    def total(card: int) -> int:
        if counts[card] is None:
            raise NoDriver
        return counts[card]

    library = types.SimpleNamespace(
        NVMLError=NoDriver, nvmlInit=lambda: None, nvmlShutdown=lambda: None,
        nvmlDeviceGetCount=lambda: len(counts), nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetTotalEnergyConsumption=total,
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "pynvml", library)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)
    return counts


def test_a_card_is_read_by_its_driver(cards: list[int | None]):
    cards.append(5_000_000)
    meter = Meter("cuda", clock=clock(0.0, 2.0))
    before = meter.read()
    cards[0] = 5_400_000
    assert meter.between(before, meter.read()) == Energy(pytest.approx(400.0), 2.0)


def test_a_card_that_does_not_count_tells_nothing(cards: list[int | None]):
    cards.append(None)
    assert Meter("cuda").counters == ()


def test_of_several_cards_none_is_read_unless_cuda_counts_as_the_driver(cards, monkeypatch):
    cards += [1_000_000, 2_000_000]
    assert Meter("cuda:1").counters == ()
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    assert Meter("cuda:1").read().joules == (2000.0,)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert Meter("cuda:1").counters == ()
