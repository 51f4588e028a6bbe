"""Time the first answer in headless Chromium, and compare its prices with the browser's own times.

    python benchmarks/first_answer.py [--networks N] [--seed S] [--runtime PATH]

Writes the page, opens it from a file with an empty profile, and prints the time until the explorer is drawn.
Then a second page runs N networks that were no anchors, drawn by seed among those with a graph and at most
2 G MACs, in the same browser; printed are their times, the prices, and the median error. Fails if the answer
takes longer than 60 s or the median error is above 25 %.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from vertebra.errors import InvalidInputError
from vertebra.measurements import shipped
from vertebra.reading import first_answer
from vertebra.reading.choice import field
from vertebra.verbs import first_answer as verb
from vertebra.zoo.graphs import store

MOST_S, MOST_ERROR = 60.0, 0.25
#: of a network that is compared: more would take a browser too long
MOST_MACS, MOST_PARAMS = 2e9, 30e6
SWITCHES = ["--no-sandbox", "--no-first-run", "--disable-background-networking", "--disable-component-update"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runtime", help="the npm package onnxruntime-web; by default fetched by npm")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        page = verb.write(Path(scratch) / "page", runtime=given.runtime)
        for path in sorted(page.iterdir()):
            print(f"{path.name}: {path.stat().st_size / 1e6:.2f} MB")
        seconds, told = answered(page)
        print(f"time to the first answer: {seconds:.1f} s (at most {MOST_S:g} s are asked for)")
        others = drawn(given.networks, given.seed)
        real: dict[str, float] = {}
        for begin in range(0, len(others), 10):
            part = others[begin : begin + 10]
            if len(part) < 5:  # fewer give no answer: some are measured twice
                part = others[-5:]
            folder = verb.write(Path(scratch) / f"others{begin}", runtime=given.runtime, networks=part)
            found = answered(folder)[1]
            real |= {name: found[name] for name in part if name in found}
    errors = []
    for name, value in real.items():
        errors.append(abs(told[name] / value - 1))
        print(
            f"{name}: {1e3 * value:.1f} ms, estimated {1e3 * told[name]:.1f} ms, {100 * errors[-1]:.0f} % off"
        )
    error = statistics.median(errors)
    asked = f"at most {100 * MOST_ERROR:g} % are asked for"
    print(f"median error of {len(errors)} networks: {100 * error:.1f} % ({asked})")
    return int(seconds > MOST_S or error > MOST_ERROR)


def drawn(count: int, seed: int) -> list[str]:
    """Networks that were no anchors, drawn by seed."""
    counts, anchors = shipped.counts(), set(first_answer.anchors())
    allowed = []
    for name in sorted((store.names() & field.names()) - anchors):
        one = counts.get(name)
        if one is None or one.macs > MOST_MACS or one.params > MOST_PARAMS:
            continue
        try:
            store.find(name, one.input_size)
        except InvalidInputError:
            continue
        allowed.append(name)
    return random.Random(seed).sample(allowed, min(count, len(allowed)))


def answered(folder: Path) -> tuple[float, dict[str, float]]:
    """Seconds from the navigation until the explorer is drawn, and the latency of each network: measured for
    those that ran."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=SWITCHES)
        page = browser.new_page()
        begin = time.perf_counter()
        page.goto((folder / "index.html").as_uri())
        page.click("#first-start")
        page.wait_for_selector("#first-result:not([hidden]), #first-status.error", timeout=600_000)
        if page.query_selector("#first-status.error"):
            sys.exit(page.text_content("#first-status"))
        page.wait_for_selector("#explorer-choice:not(:empty)")
        seconds = time.perf_counter() - begin
        print(*page.locator("#first-notes li").all_text_contents(), sep="\n")
        data: dict[str, Any] = json.loads(str(page.text_content("#explorer-data")))
        browser.close()
    values = data["columns"]["latency"]["value"]
    models = (data["models"][model] for model in data["model"])
    return seconds, {name: value for name, value in zip(models, values, strict=True) if value is not None}


if __name__ == "__main__":
    sys.exit(main())
