"""What goes on around a block, read from trees of /proc and /sys whose figures can be worked out by hand."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

from vertebra.measuring.benchmarking import surroundings
from vertebra.measuring.benchmarking.surroundings import Reading, between, snapshot

TICKS = os.sysconf("SC_CLK_TCK")
WORKER = 4242


class Machine:
    """A tree of files as the kernel shows them, and a clock."""

    def __init__(self, root: Path) -> None:
        self.root, self.now_s = root, 100.0

    def write(self, path: str, text: str) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="ascii")

    def cores(self, *, user_s: float, idle_s: float, steal_s: float) -> None:
        """Two cores, alike: so many seconds each, and some interrupts and waiting that never change."""
        ticks = [user_s, 0, 0.5, idle_s, 0.25, 0.1, 0.1, steal_s, 7.0, 0]
        line = " ".join(str(round(seconds * TICKS)) for seconds in ticks)
        self.write("proc/stat", f"cpu  9 9 9\ncpu0 {line}\ncpu1 {line}\ncpu9 {line}\nintr 1 2 3\n")

    def process(self, pid: int, *, user_s: float, system_s: float) -> None:
        before = " ".join("0" * 11)
        times = f"{round(user_s * TICKS)} {round(system_s * TICKS)}"
        self.write(f"proc/{pid}/stat", f"{pid} (a ) name) {before} {times} 0 0")

    def pressure(self, microseconds: int) -> None:
        self.write("proc/pressure/cpu", f"some avg10=1.00 avg60=2.00 avg300=3.00 total={microseconds}\n"
                                        "full avg10=0.00 avg60=0.00 avg300=0.00 total=99\n")  # fmt: skip

    def read(self) -> Reading:
        return snapshot((WORKER,), self.root)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine(tmp_path)
    monkeypatch.setattr(surroundings, "_usable", lambda: {0, 1})
    monkeypatch.setattr(surroundings.time, "monotonic", lambda: made.now_s)
    return made


def test_what_others_took_is_what_was_busy_less_the_harness_and_its_workers(machine: Machine) -> None:
    machine.cores(user_s=10, idle_s=20, steal_s=1)
    machine.process(os.getpid(), user_s=1, system_s=1)
    machine.process(WORKER, user_s=5, system_s=0)
    before = machine.read()
    machine.now_s += 2.0
    # of 4 s on two cores: 2.4 busy, 1.2 idle, 0.4 stolen; 1.6 of the 2.4 were ours
    machine.cores(user_s=11.2, idle_s=20.6, steal_s=1.2)
    machine.process(os.getpid(), user_s=1.1, system_s=1)
    machine.process(WORKER, user_s=6, system_s=0.5)
    seen = between(before, machine.read())
    assert seen.wall_s == 2.0
    assert seen.others_cpu == pytest.approx(0.8 / 4)
    assert seen.steal == pytest.approx(0.4 / 4)


def test_a_worker_that_has_ended_leaves_the_others_share_unknown(machine: Machine) -> None:
    machine.cores(user_s=10, idle_s=20, steal_s=0)
    machine.process(os.getpid(), user_s=1, system_s=1)
    machine.process(WORKER, user_s=5, system_s=0)
    before = machine.read()
    machine.cores(user_s=11, idle_s=21, steal_s=0)
    (machine.root / f"proc/{WORKER}/stat").unlink()
    assert between(before, machine.read()).others_cpu is None


def test_pressure_is_the_share_of_the_time_in_which_a_task_waited(machine: Machine) -> None:
    machine.pressure(1_000_000)
    before = machine.read()
    machine.now_s += 0.5
    machine.pressure(1_100_000)
    assert between(before, machine.read()).pressure == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("cgroup", "file", "before", "after"),
    [
        ("0::/box", "sys/fs/cgroup/box/cpu.stat", "usage_usec 5\nthrottled_usec 200000",
         "usage_usec 9\nthrottled_usec 500000"),
        ("3:cpu,cpuacct:/box", "sys/fs/cgroup/cpu/box/cpu.stat", "throttled_time 200000000",
         "throttled_time 500000000"),
        ("0::/not/seen/from/inside", "sys/fs/cgroup/cpu.stat", "throttled_usec 0", "throttled_usec 300000"),
    ],
)  # fmt: skip
def test_a_containers_quota_is_read_in_both_versions(
    machine: Machine, cgroup: str, file: str, before: str, after: str
) -> None:
    machine.write("proc/self/cgroup", f"{cgroup}\n")
    machine.write(file, before)
    first = machine.read()
    machine.write(file, after)
    assert between(first, machine.read()).throttled_s == pytest.approx(0.3)


def test_the_clock_is_that_of_the_fastest_usable_core(machine: Machine) -> None:
    for core, kilohertz in enumerate((1_200_000, 3_400_000, 5_000_000)):
        machine.write(f"sys/devices/system/cpu/cpu{core}/cpufreq/scaling_cur_freq", f"{kilohertz}\n")
    assert machine.read().clock_hz == 3.4e9


def test_throttling_for_heat_is_counted_over_cores_and_packages(machine: Machine) -> None:
    def counts(core: int, package: int) -> None:
        machine.write("sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count", f"{core}\n")
        machine.write("sys/devices/system/cpu/cpu1/thermal_throttle/package_throttle_count", f"{package}\n")

    counts(5, 7)
    before = machine.read()
    counts(6, 9)
    assert between(before, machine.read()).throttle_events == 3.0


def test_load_is_per_usable_core(machine: Machine) -> None:
    machine.write("proc/loadavg", "3.00 1.00 0.50 1/100 4242\n")
    assert machine.read().load == 1.5


def test_where_nothing_can_be_read_nothing_is_known_and_nothing_is_zero(machine: Machine) -> None:
    before = machine.read()
    machine.now_s += 0.25
    seen = between(before, machine.read())
    assert seen == surroundings.Surroundings(wall_s=0.25)


def test_a_virtual_machine_that_hides_its_clock_has_none(machine: Machine) -> None:
    machine.cores(user_s=1, idle_s=1, steal_s=0)
    seen = machine.read()
    assert seen.clock_hz is None
    assert seen.throttle_events is None
    assert seen.busy_s is not None


def test_files_that_say_something_else_are_not_believed(machine: Machine) -> None:
    machine.write("proc/stat", "cpu0 1 2\ncpu1\n")
    machine.write("proc/pressure/cpu", "")
    machine.write("proc/loadavg", "")
    machine.write("sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq", "<unknown>\n")
    machine.write(f"proc/{os.getpid()}/stat", "")
    assert machine.read() == Reading(at_s=100.0)


def test_a_counter_that_was_set_back_tells_nothing(machine: Machine) -> None:
    machine.pressure(1_000_000)
    before = machine.read()
    machine.pressure(10)
    assert between(before, machine.read()).pressure is None


def test_the_machine_at_hand_can_be_read() -> None:
    before = snapshot()
    seen = between(before, snapshot())
    assert seen.wall_s >= 0.0
    for share in (seen.others_cpu, seen.steal, seen.pressure):
        assert share is None or 0.0 <= share <= 1.0


class FakeDriver(ModuleType):
    """NVML's Python module, for one card or several."""

    NVML_CLOCK_SM = 1
    NVMLError = OSError

    def __init__(self, *, cards: int = 1, reasons: int = 0, works: bool = True) -> None:
        super().__init__("pynvml")
        self.cards, self.reasons, self.works = cards, reasons, works

    def nvmlInit(self) -> None:
        if not self.works:
            raise OSError("no driver")

    def nvmlShutdown(self) -> None:
        """Nothing is held."""

    def nvmlDeviceGetCount(self) -> int:
        return self.cards

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetClockInfo(self, card: int, kind: int) -> int:
        assert (card, kind) == (0, self.NVML_CLOCK_SM)
        return 1980

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, card: int) -> int:
        return self.reasons


@pytest.mark.parametrize(
    ("reasons", "slowed"),
    [(0x0, 0.0), (0x1, 0.0), (0x4, 0.0), (0x8, 1.0), (0x20, 1.0), (0x40 | 0x1, 1.0), (0x80, 1.0)],
)
def test_a_card_that_is_held_back_for_heat_or_power_is_told_from_an_idle_or_capped_one(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, reasons: int, slowed: float
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", FakeDriver(reasons=reasons))
    seen = snapshot((), machine.root, device="cuda:0")
    assert (seen.card_clock_hz, seen.card_slowed) == (1.98e9, slowed)


@pytest.mark.parametrize("driver", [FakeDriver(cards=2), FakeDriver(works=False)])
def test_a_card_that_the_driver_does_not_tell_of_is_not_known(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, driver: FakeDriver
) -> None:
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)
    monkeypatch.setitem(sys.modules, "pynvml", driver)
    assert snapshot((), machine.root, device="cuda") == Reading(at_s=100.0)


def test_a_processor_asks_no_card(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", FakeDriver())
    assert machine.read().card_clock_hz is None
