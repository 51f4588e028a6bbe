"""What the server shows in a browser, and the OpenAPI document."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import vertebra
from serving_client import Client, picture, png, serving
from vertebra.inference.serving import openapi
from vertebra.inference.serving.app import Site, app
from vertebra.inference.serving.models import Plan, Repository

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(
    BROWSER is None or importlib.util.find_spec("playwright") is None,
    reason='needs apt-get install chromium, and pip install "vertebra[test]"',
)
SWITCHES = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


@pytest.fixture(scope="module")
def client(bundle: Path) -> Iterator[Client]:
    with serving(bundle) as one:
        yield one


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from [inner] if key == "$ref" else references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


def test_the_document_names_every_address_of_the_protocol_and_no_other() -> None:
    document = json.loads(openapi.document())
    routes = app(Site(Repository([], Plan())))._inner.routes
    served = {
        (route.path, method.lower())
        for route in routes
        for method in route.methods - {"HEAD"}
        if route.path.startswith("/v2") and "{rest" not in route.path
    }
    assert {
        (path, method) for path, one in document["paths"].items() for method in one if method != "parameters"
    } == served
    schemas = document["components"]["schemas"]
    found = set(references(document))
    assert {reference.removeprefix("#/components/schemas/") for reference in found} == set(schemas)
    named = [
        one[method]["operationId"]
        for one in document["paths"].values()
        for method in ("get", "post")
        if method in one
    ]
    assert len(set(named)) == len(named)
    for path, one in document["paths"].items():
        assert re.findall(r"{(\w+)}", path) == [given["name"] for given in one.get("parameters", [])]


def test_the_pages_load_nothing_from_elsewhere(client: Client) -> None:
    for path, kind in (("/", "text/html"), ("/docs", "text/html"), ("/openapi.json", "application/json"),
                       ("/site/drop.mjs", "text/javascript"), ("/site/style.css", "text/css")):  # fmt: skip
        status, headers, body = client.ask("GET", path)
        assert (status, headers["content-type"].split(";")[0]) == (200, kind)
        assert headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'")
        assert b"https://" not in body
    for path in openapi._PATHS:
        assert path in client.ask("GET", "/docs")[2].decode()


@needs_browser
def test_a_picture_is_dropped_on_the_page(client: Client, bundle: Path) -> None:
    from playwright.sync_api import sync_playwright

    content = png(picture(6))
    (expected,) = vertebra.predict(content, model=bundle, top=4)
    said: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=SWITCHES)
        page = browser.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(client.server.addresses.http + "/")
        page.wait_for_selector("#model option", state="attached")
        assert page.text_content("#status") == "Ready."
        page.evaluate(
            """bytes => {
                const given = new DataTransfer();
                given.items.add(new File([new Uint8Array(bytes)], "rose.png", { type: "image/png" }));
                document.getElementById("drop").dispatchEvent(
                    new DragEvent("drop", { dataTransfer: given, bubbles: true, cancelable: true }));
            }""",
            list(content),
        )
        page.wait_for_selector("#classes:visible")
        rows = page.eval_on_selector_all(
            "#classes tbody tr", "rows => rows.map(row => [...row.cells].map(c => c.textContent))"
        )
        assert rows == [[one.name, f"{100 * one.probability:.2f} %"] for one in expected.top]
        page.set_input_files(
            "#file", files=[{"name": "a.png", "mimeType": "image/png", "buffer": b"no picture"}]
        )
        page.wait_for_selector("#status.error")
        assert "not a JPEG, PNG" in page.text_content("#status")
        assert not page.is_visible("#classes")
        assert [one for one in said if "400 (Bad Request)" not in one] == []
        page.goto(client.server.addresses.http + "/docs")
        assert page.is_visible("h1")
        browser.close()
