"""Which of NVIDIA's cards is meant, by a driver of our own making that holds three of them."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest

from vertebra.measuring.benchmarking import energy, nvml
from vertebra.measuring.benchmarking.surroundings import snapshot

PARTITION = "MIG-b6b1fd1b-b3c4-5a5f-9a5e-3a3a1c1f5a11"


class NoDriver(Exception):
    pass


class FakeDriver(ModuleType):
    """Cards are known by their number here, and by these UUIDs; the last is cut into partitions."""

    NVMLError, NVML_CLOCK_SM = NoDriver, 1
    UUIDS = ("GPU-aa00-1", "GPU-aa11-2", "GPU-bb00-3")

    def __init__(self, cards: int = 3) -> None:
        super().__init__("pynvml")
        self.cards, self.opened = cards, 0

    def nvmlInit(self) -> None:
        self.opened += 1

    def nvmlShutdown(self) -> None:
        self.opened -= 1

    def nvmlDeviceGetCount(self) -> int:
        return self.cards

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetUUID(self, card: int) -> str:
        return self.UUIDS[card]

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        if uuid != PARTITION:
            raise NoDriver
        return uuid

    def nvmlDeviceGetTotalEnergyConsumption(self, card: int) -> int:
        return (card + 1) * 1000

    def nvmlDeviceGetClockInfo(self, card: int, kind: int) -> int:
        return card + 1

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, card: int) -> int:
        return 0


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> FakeDriver:
    found = FakeDriver()
    monkeypatch.setitem(sys.modules, "pynvml", found)
    for name in ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"):
        monkeypatch.delenv(name, raising=False)
    return found


def which(device: str) -> Any:
    return nvml.ask_card(device, lambda library, card: card)


@pytest.mark.parametrize(
    ("visible", "device", "card"),
    [
        (None, "cuda", 0),
        (None, "cuda:2", 2),
        (None, "cuda:3", None),
        ("2,0", "cuda", 2),
        ("2, 0", "cuda:1", 0),
        ("2,0", "cuda:2", None),
        ("GPU-bb", "cuda:0", 2),
        ("GPU-aa11-2,GPU-aa00-1", "cuda:1", 0),
        ("GPU-aa", "cuda", None),  # two begin so
        ("GPU-cc", "cuda", None),
        (PARTITION, "cuda", PARTITION),
        ("MIG-of-another-machine", "cuda", None),
        ("", "cuda", None),
        ("-1", "cuda", None),
        ("7", "cuda", None),
        (None, "xpu", None),
    ],
)
def test_a_card_is_found_as_cuda_was_told_to_count(
    driver: FakeDriver, monkeypatch: pytest.MonkeyPatch, visible: str | None, device: str, card: Any
) -> None:
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert which(device) == card
    assert driver.opened == 0


def test_numbers_of_several_cards_tell_nothing_where_cuda_counts_the_fastest_first(
    driver: FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert which("cuda") is None
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert which("cuda") is None
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-aa11")
    assert which("cuda") == 1
    driver.cards = 1
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert which("cuda") == 0


def test_energy_and_clock_are_those_of_the_card_that_is_visible(
    driver: FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,2")
    assert energy.Meter("cuda:1").read().joules == (3.0,)
    assert snapshot(device="cuda:0").card_clock_hz == 2e6


def test_without_the_package_nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert nvml.ask(lambda library: pytest.fail("asked")) is None
