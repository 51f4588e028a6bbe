"""Measure the size of the report with the explorer, and how soon a browser shows it.

    python benchmarks/explorer_paint.py [--networks N] [--runs N]

Writes a report of N made-up networks, opens it in headless Chromium with an empty profile, and prints the
file's size, and the medians of the time to the first paint, to the first paint with content, until the
explorer is drawn, and of moving a slider.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from field_rows import field
from vertebra.reading import reports

#: Moves the latency's limit through its range; a move ends when its frame is drawn.
MOVES = """async () => {
    const slider = document.getElementById("slide-latency");
    const frame = () => new Promise((done) => requestAnimationFrame(done));
    const spent = [];
    for (let step = 950; step > 50; step -= 50) {
        await frame();
        const start = performance.now();
        slider.value = step;
        slider.dispatchEvent(new Event("input"));
        await frame();
        spent.push(performance.now() - start);
    }
    return spent;
}"""
OPENED = """() => [...performance.getEntriesByType("paint").map((entry) => [entry.name, entry.startTime]),
    ["explorer drawn", performance.getEntriesByName("explorer drawn")[0].startTime]]"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", type=int, default=1400)
    parser.add_argument("--runs", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "report.html"
        rows = field(given.networks)
        start = time.process_time()
        reports.write(path, rows)
        print(f"written in {time.process_time() - start:.1f} s of processor time")
        print(f"{given.networks} networks: {path.stat().st_size / 1e6:.2f} MB")
        runs = [seen(path.as_uri()) for _ in range(given.runs)]
    for name in runs[0]:
        print(f"{name}: {statistics.median(run[name] for run in runs):.0f} ms")


def seen(address: str) -> dict[str, float]:
    """Milliseconds of opening the report once, and the median of moving a slider."""
    from playwright.sync_api import sync_playwright

    browsers: Any = filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome")))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=next(browsers), args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page()
        page.goto(address)
        page.wait_for_selector("#explorer-choice")
        page.wait_for_timeout(500)
        times = {str(name): float(at) for name, at in page.evaluate(OPENED)}
        times["moving a slider"] = statistics.median(page.evaluate(MOVES))
        browser.close()
    return times


if __name__ == "__main__":
    main()
