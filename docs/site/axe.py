"""Asks axe-core whether the site's home, explorer and first answer can be read by everyone, on a phone and a screen.

    python docs/site/axe.py SITE axe.min.js

It serves the built SITE to the system's Chromium, fails for each serious or critical violation, for each address
that a page asks of another host, and for each error in a page. It needs `pip install "vertebra[test]"` and chromium.
"""

# ruff: noqa: E501  (sentences)

from __future__ import annotations

import functools
import http.server
import shutil
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

WIDTHS = {390: 844, 1280: 900}
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SWITCHES = ["--no-sandbox", "--disable-gpu"]


def pages(site: Path) -> list[str]:
    """The pages that are looked at: home, a machine's page and explorer, a network's page, and the first answer if
    the site has it."""
    explorers = sorted(site.glob("results/explorer-*.html"))
    found = [
        "index.html",
        *(f"results/{one.name}" for one in explorers),
        *(f"results/{one.name[9:]}" for one in explorers),
    ]
    found += ["models/vgg16.html", "five-minutes.html"]
    return found + [name for name in ("first-answer/index.html",) if (site / name).is_file()]


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


def served(site: Path) -> http.server.ThreadingHTTPServer:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def looked_at(browser: Any, address: str, host: str, width: int, script: str) -> Iterator[str]:
    """What is wrong with a page at a width."""
    asked: list[str] = []
    for scheme in ("light", "dark"):
        page = browser.new_page(
            viewport={"width": width, "height": WIDTHS[width]}, color_scheme=scheme, reduced_motion="reduce"
        )
        said: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error, said=said: said.append(str(error)))
        page.goto(address, wait_until="load")
        page.wait_for_timeout(1500)
        yield from (f"error in the page: {one}" for one in said)
        # Through the debugger, which the page's policy doesn't bind.
        page.evaluate(script)
        for found in page.evaluate("axe.run()")["violations"]:
            if found["impact"] in ("serious", "critical"):
                nodes = [node["target"][0] for node in found["nodes"]]
                summary = " ".join(found["nodes"][0]["failureSummary"].split())
                yield f"{scheme}: {found['impact']}: {found['id']}, {len(nodes)} times, first {nodes[0]}: {summary}"
        if page.evaluate("document.documentElement.scrollWidth") > width:
            yield f"{scheme}: the page is wider than the window"
        page.close()
    yield from sorted({f"asks {one}" for one in asked if not one.startswith((host, "data:", "blob:"))})


def main() -> int:
    from playwright.sync_api import sync_playwright

    site, script = Path(sys.argv[1]), Path(sys.argv[2]).read_text(encoding="utf-8")
    chromium = next(filter(None, map(shutil.which, BROWSERS)))
    server = served(site)
    host = f"http://127.0.0.1:{server.server_port}/"
    faults = 0
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=SWITCHES)
        for name in pages(site):
            for width in WIDTHS:
                found = list(looked_at(browser, host + name, host, width, script))
                faults += len(found)
                print(
                    "\n  ".join([f"{name} at {width} px: {'fails' if found else 'passes'}", *found]),
                    flush=True,
                )
        browser.close()
    server.shutdown()
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
