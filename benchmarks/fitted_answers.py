"""Whether a fitted Bundle answers every photograph as its head does: in Python, in C++ and on the web page.

    python benchmarks/fitted_answers.py PICTURES --weights MODEL=FILE [--weights MODEL=FILE …]
        [--runner cpp/build/linux/vertebra-run] [--browser /usr/bin/chromium] [--limit N]

Fits a head on PICTURES, class folders. The head's logits are computed from the features that the whole
network gives, without the Bundle. The C++ program, which reads JPEG, is asked about copies in JPEG, and so is
the head; the engines and the page are asked about the pictures as they are. Goal: everywhere the same class
comes first, and probabilities are within 0.002. Exits with status 1 if not. A runner or browser that isn't
given is left out.
"""

from __future__ import annotations

import argparse
import functools
import http.server
import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import vertebra
from vertebra.data.preprocess import preprocess_many
from vertebra.inference import loading
from vertebra.measuring.evaluation import heads

#: How far a probability may be from the head's.
ALLOWED = 2e-3
#: What the Bundle runs on in Python.
ENGINES = ("onnxruntime", "openvino")
#: Pictures in one call.
_BATCH = 32
_SWITCHES = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"]


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--weights", action="append", required=True, metavar="MODEL=FILE")
    parser.add_argument("--runner", type=Path)
    parser.add_argument("--browser")
    parser.add_argument("--limit", type=int)
    asked = parser.parse_args()
    weights = dict(one.split("=", 1) for one in asked.weights)
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        done = vertebra.fit(
            asked.pictures, weights=weights, latency="60s", output=place / "bundle", table=place / "t.sqlite"
        )
        print(f"fitted      {done.winner.label}, {done.accuracy:.1%} of {done.inspection.total:,} pictures")
        files = [asked.pictures / one.name for one in done.inspection.kept][: asked.limit]
        expected, wrong = _head(done, files), 0
        for engine in ENGINES:
            told = _of_engine(engine, done.bundle.folder, files)
            wrong += _compared(engine, expected, told, files)
        if asked.runner is not None:
            (place / "jpeg").mkdir()
            copies = [_as_jpeg(path, place / "jpeg" / f"{n}.jpg") for n, path in enumerate(files)]
            told = _of_runner(asked.runner, done.bundle.folder, copies)
            wrong += _compared("C++", _head(done, copies), told, files)
        if asked.browser is not None:
            vertebra.export(done.bundle.folder, place / "page", web=True)
            told = _of_page(asked.browser, place / "page", files, done.inspection.names)
            wrong += _compared("page", expected, told, files)
    return 1 if wrong else 0


def _as_jpeg(path: Path, to: Path) -> Path:
    with Image.open(path) as image:
        image.convert("RGB").save(to, quality=92)
    return to


def _head(done: Any, files: Sequence[Path]) -> np.ndarray:
    """The head's shares for the pictures, from the whole network's features."""
    one = done.winner
    with loading.load(
        one.name, weights=one.source, engine=one.engine, features=True, usual_batch_size=_BATCH, **one.options
    ) as loaded:
        vectors = _rows(files, loaded.preprocess, loaded.features)
    return _shares(heads.logits(done.race.head, vectors))


def _shares(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def _of_engine(engine: str, bundle: Path, files: Sequence[Path]) -> np.ndarray:
    with loading.load(bundle, engine=engine, usual_batch_size=_BATCH) as loaded:
        return _shares(_rows(files, loaded.preprocess, loaded.logits))


def _rows(files: Sequence[Path], record: Any, run: Any) -> np.ndarray:
    """What the network gives of the pictures, a batch at a time."""
    rows = []
    for start in range(0, len(files), _BATCH):
        rows.append(run(np.stack(list(preprocess_many(files[start : start + _BATCH], record)))))
    return np.concatenate(rows)


def _of_runner(runner: Path, bundle: Path, files: Sequence[Path]) -> np.ndarray:
    run = subprocess.run(
        [runner, bundle, *files, "--json"], capture_output=True, text=True, check=True
    ).stdout  # fmt: skip
    return _shares(np.array([json.loads(line)["logits"] for line in run.splitlines()]))


def _of_page(browser: str, site: Path, files: Sequence[Path], names: Sequence[str]) -> np.ndarray:
    """The page's shares, of the five likeliest classes; the others have none."""
    from playwright.sync_api import sync_playwright

    told = np.full((len(files), len(names)), np.nan)
    with _served(site) as address, sync_playwright() as playwright:
        page = playwright.chromium.launch(executable_path=browser, args=_SWITCHES).new_page()
        page.goto(address)
        page.wait_for_selector("#file:enabled", timeout=60_000)
        for place, path in enumerate(files):
            page.set_input_files("#file", path)
            page.wait_for_selector("#result:not([hidden]), #status.error", timeout=60_000)
            for row in page.query_selector_all("#top tr"):
                told[place, int(row.get_attribute("data-index"))] = float(
                    row.get_attribute("data-probability")
                )
    return told


@contextmanager
def _served(site: Path) -> Iterator[str]:
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(site))
    handler.func.log_message = lambda *_: None  # type: ignore[attr-defined]
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def _compared(where: str, expected: np.ndarray, told: np.ndarray, files: Sequence[Path]) -> int:
    """How many pictures are answered otherwise, which are named."""
    apart = np.nanmax(np.abs(told - expected), axis=1)
    first = np.nan_to_num(told, nan=-1).argmax(axis=1)
    bad = np.flatnonzero((first != expected.argmax(axis=1)) | (apart > ALLOWED))
    print(
        f"{where:11} {len(files) - len(bad):,} of {len(files):,} as the head; largest difference of a "
        f"probability {apart.max():.2g} (allowed: {ALLOWED:g})"
    )
    for place in bad[:20]:
        print(f"            {files[place]}: {apart[place]:.2g}", file=sys.stderr)
    return len(bad)


if __name__ == "__main__":
    raise SystemExit(main())
