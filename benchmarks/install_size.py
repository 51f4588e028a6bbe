"""What an install costs: bytes that pip downloads, and disk that it takes, each without pip itself.

    python benchmarks/install_size.py [EXTRAS ...] [--keep FOLDER]

Builds the wheel of this tree, and for each of EXTRAS (by default none, written "base", and "survey"; several
at once with commas) makes a fresh virtual environment, has pip download what `pip install vertebra[EXTRAS]`
needs, adds up the files, installs from them alone, and adds up the environment's disk blocks less what it
held before. Byte code counts: pip compiles what it installs. Prints one line for each, with the largest
distributions; `--keep` leaves wheels and environments in FOLDER.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

ROOT = Path(__file__).parent.parent
BASE = "base"
#: Goals in bytes on the disk.
ASKED = {BASE: 400e6, "survey": 700e6}
_SHOWN = 5


@dataclass(frozen=True)
class Cost:
    """Bytes; `parts` are the downloaded files by distribution, the largest first."""

    extras: str
    download: int
    disk: int
    parts: tuple[tuple[str, int], ...]

    def __str__(self) -> str:
        asked = ASKED.get(self.extras)
        goal = "" if asked is None else f" (goal: at most {asked / 1e6:.0f} MB)"
        largest = ", ".join(f"{name} {size / 1e6:.1f} MB" for name, size in self.parts[:_SHOWN])
        what = "vertebra" if self.extras == BASE else f"vertebra[{self.extras}]"
        return (
            f"{what}: {self.download / 1e6:.1f} MB downloaded in {len(self.parts)} files, "
            f"{self.disk / 1e6:.0f} MB on disk{goal}; largest downloads: {largest}"
        )


def build(folder: Path) -> Path:
    """The wheel of this tree, built into `folder`."""
    _run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, ROOT)
    (wheel,) = folder.glob("vertebra-*.whl")
    return wheel


def cost(wheel: Path, extras: str, folder: Path) -> Cost:
    """What the wheel costs with `extras`, in an environment and from downloads inside `folder`."""
    environment, downloads = folder / f"env-{extras}", folder / f"wheels-{extras}"
    _run(sys.executable, "-m", "venv", environment)
    python = environment / ("Scripts" if os.name == "nt" else "bin") / "python"
    wanted = str(wheel) if extras == BASE else f"{wheel}[{extras}]"
    pip = (python, "-m", "pip", "--quiet", "--disable-pip-version-check")
    _run(*pip, "download", "--no-cache-dir", "--dest", downloads, wanted)
    before, report = used(environment), folder / f"report-{extras}.json"
    _run(*pip, "install", "--no-index", "--find-links", downloads, "--report", report, wanted)
    parts = sizes(json.loads(report.read_text(encoding="utf-8")), downloads)
    ordered = tuple(sorted(parts.items(), key=lambda part: -part[1]))
    return Cost(extras, sum(parts.values()), used(environment) - before, ordered)


def sizes(report: dict[str, object], downloads: Path) -> dict[str, int]:
    """The bytes of the file that each distribution in pip's report was installed from."""
    found = {}
    installed = report["install"]
    assert isinstance(installed, list)
    for one in installed:
        file = downloads / unquote(str(one["download_info"]["url"]).rpartition("/")[2])
        found[str(one["metadata"]["name"])] = file.stat().st_size
    return found


def used(folder: Path) -> int:
    """The bytes of the disk's blocks that the files in a folder take; those with several names once."""
    held = {}
    for path in folder.rglob("*"):
        facts = path.lstat()
        held[facts.st_dev, facts.st_ino] = getattr(facts, "st_blocks", -(-facts.st_size // 512)) * 512
    return sum(held.values())


def _run(*command: object) -> None:
    subprocess.run(list(map(str, command)), check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("extras", nargs="*", default=[BASE, "survey"])
    parser.add_argument("--keep", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = asked.keep or Path(scratch)
        (folder / "built").mkdir(parents=True, exist_ok=True)
        wheel = build(folder / "built")
        print(f"{wheel.name}: {wheel.stat().st_size / 1e6:.1f} MB")
        for extras in asked.extras:
            print(cost(wheel, extras, folder), flush=True)


if __name__ == "__main__":
    main()
