"""The web page: it answers like Python, in a real browser, and asks nobody but its own server."""

from __future__ import annotations

import base64
import dataclasses
import functools
import hashlib
import http.server
import importlib.util
import io
import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import golden_bundle
import photographs
import vertebra
from vertebra import bundles, cli
from vertebra.data.preprocess import Preprocess, preprocess
from vertebra.data.preprocess.resize import resize
from vertebra.errors import BundleError, DownloadError, InvalidInputError, MissingRuntimeError
from vertebra.exporting import web
from vertebra.progress import Progress

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)
needs_browser = pytest.mark.skipif(
    BROWSER is None or importlib.util.find_spec("playwright") is None,
    reason='needs apt-get install chromium, and pip install "vertebra[test]"',
)
#: A profile of its own, no talk with the browser's maker.
SWITCHES = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
PHOTOGRAPHS = sorted(Path("/usr/share/libjxl-testdata/jxl/flower").glob("*.jpg"))[:2]


def picture(height: int, width: int) -> np.ndarray:
    """The same on every machine: soft slopes with hard edges on them."""
    y, x, c = np.ogrid[:height, :width, :3]
    slopes = (x * 255 // width + y * 255 // height * (c + 1)) % 256
    return np.where((x // 9 + y // 7) % 3 == 0, 255 - slopes, slopes).astype(np.uint8)


def jpeg(pixels: np.ndarray, orientation: int = 1) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=95, exif=exif)
    return stream.getvalue()


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runtime's archive from the cache, fetched by npm if it isn't there; skips without npm."""
    try:
        return web._fetched(None)
    except (MissingRuntimeError, DownloadError) as error:
        pytest.skip(error.message)


@pytest.fixture
def stand_in(tmp_path: Path) -> Path:
    """A folder like the unpacked npm package."""
    package = tmp_path / "package"
    (package / "dist").mkdir(parents=True)
    for name in web.RUNTIME_FILES:
        (package / name).write_text('{"name": "onnxruntime-web", "version": "0.0.1"}')
    return package


@pytest.fixture(scope="module")
def site(runtime: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("web") / "page"
    vertebra.export(golden_bundle.folder(), folder, web=True, runtime=runtime)
    return folder


@contextmanager
def served(site: Path) -> Iterator[str]:
    """The address of a folder's server."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=str(site))
    ) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    with served(site) as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=SWITCHES)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def page(browser: Any, address: str) -> Any:
    """The page in a browser; `asked` are the addresses of all its requests, `said` is its console's talk."""
    return opened(browser, address)


def opened(browser: Any, address: str) -> Any:
    page = browser.new_page()
    page.asked, page.said = [], []
    page.context.on("request", lambda request: page.asked.append(request.url))
    page.on("console", lambda message: page.said.append(message.text))
    page.on("pageerror", lambda error: page.said.append(str(error)))
    page.goto(address)
    page.wait_for_selector("#file:enabled, #status.error", timeout=60_000)
    assert page.text_content("#status") == "Ready.", page.said
    return page


def answer(page: Any, content: bytes, name: str = "picture.jpg") -> list[tuple[int, str, float]]:
    """(class, name, probability) of the page's five lines."""
    page.set_input_files("#file", {"name": name, "mimeType": "image/jpeg", "buffer": content})
    page.wait_for_selector("#result:not([hidden]), #status.error", timeout=60_000)
    assert page.query_selector("#status.error") is None, page.text_content("#status")
    rows = page.query_selector_all("#top tr")
    return [
        (
            int(row.get_attribute("data-index")),
            row.query_selector("td").text_content(),
            float(row.get_attribute("data-probability")),
        )
        for row in rows
    ]


def pixels_of_page(page: Any, pixels: np.ndarray, record: Preprocess) -> np.ndarray:
    """What the page's own resize makes of `pixels`, in the browser."""
    alpha = np.full((*pixels.shape[:2], 1), 255, np.uint8)
    told = page.evaluate(
        """async ({ height, width, data, record }) => {
            const { cropped } = await import("/preprocess.mjs");
            const bytes = Uint8Array.from(atob(data), (sign) => sign.charCodeAt(0));
            return Array.from(cropped({ height, width, data: bytes }, record));
        }""",
        {
            "height": pixels.shape[0],
            "width": pixels.shape[1],
            "data": base64.b64encode(np.concatenate([pixels, alpha], 2).tobytes()).decode(),
            "record": json.loads(record.to_json()),
        },
    )
    return np.array(told, np.uint8).reshape(*record.input_size, 3)


# ------------------------------------------------------------------ in the browser


@needs_browser
def test_the_page_answers_a_photograph_like_python(page, tmp_path):
    for content in [path.read_bytes() for path in PHOTOGRAPHS] or [jpeg(picture(375, 500))]:
        (tmp_path / "picture.jpg").write_bytes(content)
        [expected] = vertebra.predict(tmp_path / "picture.jpg", model=golden_bundle.folder())
        told = answer(page, content)
        assert [(one[0], one[1]) for one in told] == [(one.index, one.name) for one in expected.top]
        for one, other in zip(told, expected.top, strict=True):
            assert one[2] == pytest.approx(other.probability, abs=1e-3)


@needs_browser
def test_the_page_answers_in_the_classes_of_ones_own_head(browser, runtime, tmp_path):
    folder = golden_bundle.with_head()
    vertebra.export(folder, tmp_path / "page", web=True, runtime=runtime)
    with served(tmp_path / "page") as address:
        page = opened(browser, address)
        assert "+photos@0123456789" in page.text_content("#about")
        for content in [path.read_bytes() for path in PHOTOGRAPHS] or [jpeg(picture(375, 500))]:
            (tmp_path / "picture.jpg").write_bytes(content)
            [expected] = vertebra.predict(tmp_path / "picture.jpg", model=folder)
            told = answer(page, content)
            assert sorted(one[1] for one in told) == sorted(golden_bundle.OWN_CLASSES)
            assert [one[:2] for one in told] == [(one.index, one.name) for one in expected.top]
            for one, other in zip(told, expected.top, strict=True):
                assert one[2] == pytest.approx(other.probability, abs=1e-3)
        page.close()


@needs_browser
def test_the_page_answers_photographs_as_the_head_of_a_fitted_bundle_does(browser, runtime, tmp_path):
    """Real weights, a head of `fit`, photographs as they are, and cut-outs whose ground is transparent."""
    shipped = photographs.shipped()
    files = shipped.sample(24, seed=6)
    files += [cut_out(path, tmp_path) for path in shipped.sample(6, seed=7)]
    expected = shipped.expected(files)
    names = [label.name for label in bundles.read(shipped.bundle).label_set()]
    vertebra.export(shipped.bundle, tmp_path / "page", web=True, runtime=runtime)
    with served(tmp_path / "page") as address:
        page = opened(browser, address)
        for path, logits in zip(files, expected, strict=True):
            shares = np.exp(logits - logits.max())
            shares /= shares.sum()
            told = {name: share for _, name, share in answer(page, path.read_bytes(), path.name)}
            assert max(told, key=told.get) == names[shares.argmax()], path
            assert [told[name] for name in names] == pytest.approx(shares.tolist(), abs=2e-3), path
        page.close()


def cut_out(path: Path, to: Path) -> Path:
    """The picture with a transparent ground, of which the colours stay: they count."""
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGBA")).copy()
    height, width = pixels.shape[:2]
    y, x = np.ogrid[:height, :width]
    far = np.hypot((y - height / 2) / height, (x - width / 2) / width)
    pixels[..., 3] = np.clip(255 * (0.5 - far) / 0.2, 0, 255)
    Image.fromarray(pixels).save(to / f"{path.stem}.png")
    return to / f"{path.stem}.png"


@needs_browser
def test_the_page_tells_how_long_it_took(page):
    answer(page, jpeg(picture(60, 80)))
    parts = json.loads(page.get_attribute("#time", "data-milliseconds"))
    assert set(parts) == {"decode", "preprocess", "network"}
    assert all(part >= 0 for part in parts.values())
    assert parts["network"] > 0
    assert page.text_content("#time").endswith(f"network {parts['network']:.1f}")


@needs_browser
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos", "opencv-bilinear"])
@pytest.mark.parametrize("size", [(96, 73), (37, 41), (64, 48), (300, 211), (32, 44), (64, 65), (67, 64)])
def test_the_page_resizes_to_the_grey_levels_of_python(page, interpolation, size):
    pixels = picture(*size)
    for resize_rounding, target in (("nearest", 32), ("floor", 32), ("floor", (33, 47))):
        record = Preprocess((28, 30), target, interpolation, resize_rounding=resize_rounding)
        resized = record.resized(*size)
        ours = resize(pixels, resized, (*record.corner(*resized), 28, 30), interpolation)
        np.testing.assert_array_equal(pixels_of_page(page, pixels, record), ours)


@needs_browser
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_the_page_turns_a_picture_only_where_the_record_says_so(page, orientation, turned):
    record = Preprocess((32, 32), 32, "bilinear", apply_orientation=turned)
    content = jpeg(picture(40, 64), orientation)
    told = page.evaluate(
        """async ({ content, record }) => {
            const { decode } = await import("/decode.mjs");
            const { preprocess } = await import("/preprocess.mjs");
            return Array.from(preprocess(await decode(new Blob([Uint8Array.from(content)]), record), record));
        }""",
        {"content": list(content), "record": json.loads(record.to_json())},
    )
    values = np.array(told, np.float32).reshape(3, 32, 32)
    level = 1 / 255 / min(record.std)
    assert np.abs(values - preprocess(content, record)).max() <= 1.01 * level


@needs_browser
def test_a_file_that_is_no_picture_is_told_and_the_next_one_is_answered(page):
    page.set_input_files("#file", {"name": "a.jpg", "mimeType": "image/jpeg", "buffer": b"text"})
    page.wait_for_selector("#status.error", timeout=30_000)
    assert "can't decode" in page.text_content("#status")
    assert len(answer(page, jpeg(picture(60, 80)))) == 5


@needs_browser
def test_no_request_leaves_the_page(page, address):
    answer(page, jpeg(picture(60, 80)))
    assert page.asked
    assert all(url.startswith((address, f"blob:{address}")) for url in page.asked), page.asked
    before = len(page.asked)
    answer(page, jpeg(picture(80, 60)))
    assert [url for url in page.asked[before:] if not url.startswith("blob:")] == []
    assert page.said == []


@needs_browser
@pytest.mark.parametrize("where", ["page", "worker"])
def test_the_page_is_forbidden_to_ask_anybody_else(page, address, where):
    other = address.replace("127.0.0.1", "localhost") + "page.json"
    program = f"fetch({json.dumps(other)}).then(() => 'fetched', () => 'refused')"
    if where == "worker":
        program = f"""new Promise((done) => {{
            const text = "{program.replace('"', "'")}.then(postMessage)";
            const url = URL.createObjectURL(new Blob([text], {{ type: "text/javascript" }}));
            new Worker(url, {{ type: "module" }}).onmessage = (event) => done(event.data);
        }})"""
    said = len(page.said)
    assert page.evaluate(program) == "refused"
    del page.said[said:]  # the browser's complaint is what was wanted


@needs_browser
def test_the_page_is_used_by_keyboard_and_read_aloud(page):
    answer(page, jpeg(picture(60, 80)))
    label = page.get_by_label("Choose a picture, drop one here, or paste one")
    page.keyboard.press("Tab")
    assert label.evaluate("element => element === document.activeElement")
    assert page.get_by_role("status").text_content().endswith("%")
    assert page.get_by_role("table", name="Most likely classes").count() == 1
    assert page.get_by_role("img", name="The picture chosen: picture.jpg").count() == 1


@needs_browser
def test_a_first_visitor_finds_two_pictures_to_try_and_a_readable_name(page):
    assert page.text_content("#network") == "Answers by the network squeezenet1.1"
    assert page.text_content("#about").startswith("Network: squeezenet1_1, weights ")
    for name in ("light", "daisy"):
        page.click(f'[data-picture="example-{name}.jpg"]')
        # The answer before stays in sight until the new one is there: wait for this picture's.
        page.wait_for_function(
            """name => document.querySelector("#status.error")
                || (document.querySelector("#result:not([hidden])")
                    && document.querySelector("#name").textContent === name)""",
            arg=f"example-{name}.jpg",
            timeout=60_000,
        )
        assert page.query_selector("#status.error") is None


@needs_browser
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_no_wider_than_a_phone(page, width, scheme):
    before = page.viewport_size
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 844})
    answer(page, jpeg(picture(60, 80)), f"{'a' * 200}.jpg")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.set_viewport_size(before)


@needs_browser
def test_a_dropped_picture_is_answered(page):
    page.evaluate(
        """(content) => {
            const data = new DataTransfer();
            data.items.add(new File([Uint8Array.from(content)], "dropped.jpg", { type: "image/jpeg" }));
            document.dispatchEvent(new DragEvent("drop", { dataTransfer: data, cancelable: true }));
        }""",
        list(jpeg(picture(60, 80))),
    )
    page.wait_for_selector("#result:not([hidden])", timeout=30_000)
    assert page.text_content("#name") == "dropped.jpg"


@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(page, scheme):
    page.emulate_media(color_scheme=scheme)
    colours = page.evaluate(
        """() => [...document.querySelectorAll("h1, #network, footer p, label, #status, td")].map(
            (element) => getComputedStyle(element).color)"""
    )
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert all(contrast(colour, ground) >= 4.5 for colour in colours), (colours, ground)


def contrast(colour: str, ground: str) -> float:
    """WCAG's contrast ratio of two colours rgb(r, g, b)."""
    bright, dark = sorted((luminance(colour), luminance(ground)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    parts = [int(part) / 255 for part in colour.removeprefix("rgb(").rstrip(")").split(",")]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


# ------------------------------------------------------------------ the folder


def test_the_folder_holds_the_page_the_runtime_and_the_bundle(stand_in, tmp_path):
    told = vertebra.export(golden_bundle.folder(), tmp_path / "page", web=True, runtime=stand_in)
    names = {str(path.relative_to(tmp_path / "page")) for path in (tmp_path / "page").rglob("*.*")}
    assert {"index.html", "page.mjs", "runtime/ort-wasm-simd-threaded.wasm", "bundle/model.onnx"} <= names
    assert told.folder == tmp_path / "page" / "bundle"
    assert bundles.read(told.folder).model == "squeezenet1_1"
    page = json.loads((tmp_path / "page" / "page.json").read_text())
    assert page == {"gives_probabilities": False, "runtime": "onnxruntime-web 0.0.1"}


def test_the_command_writes_a_page(stand_in, tmp_path):
    arguments = ["export", golden_bundle.folder(), "--web", "--runtime", stand_in, "-o", tmp_path / "page"]
    done = CliRunner().invoke(cli.cli, [str(argument) for argument in arguments])
    assert (done.exit_code, done.stdout) == (0, f"{tmp_path / 'page'}\n"), done.output
    assert (tmp_path / "page" / "index.html").is_file()


def test_a_page_takes_the_place_of_an_older_one_only(stand_in, tmp_path):
    folder = tmp_path / "page"
    vertebra.export(golden_bundle.folder(), folder, web=True, runtime=stand_in)
    (folder / "page.css").write_text("old")
    vertebra.export(golden_bundle.folder(), folder, web=True, runtime=stand_in)
    assert (folder / "page.css").read_text() != "old"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "photo.jpg").write_bytes(b"sea")
    with pytest.raises(BundleError, match="is not a page"):
        vertebra.export(golden_bundle.folder(), tmp_path / "mine", web=True, runtime=stand_in)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["photo.jpg"]


def test_what_is_no_runtime_is_refused_and_nothing_is_left(stand_in, tmp_path):
    (stand_in / "dist" / "ort-wasm-simd-threaded.wasm").unlink()
    (tmp_path / "a.tgz").write_bytes(b"text")
    (tmp_path / "empty").mkdir()
    for runtime in (stand_in, tmp_path / "a.tgz", tmp_path / "empty", tmp_path / "nowhere"):
        with pytest.raises(InvalidInputError, match=r"is not .*onnxruntime-web") as caught:
            vertebra.export(golden_bundle.folder(), tmp_path / "page", web=True, runtime=runtime)
        assert "npm pack onnxruntime-web@" in caught.value.hint
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tgz", "empty", "package"]


def test_another_package_is_no_runtime(stand_in, tmp_path):
    (stand_in / "package.json").write_text('{"name": "left-pad"}')
    with pytest.raises(InvalidInputError, match="is not from onnxruntime-web"):
        vertebra.export(golden_bundle.folder(), tmp_path / "page", web=True, runtime=stand_in)


def test_a_bundle_has_its_weights_and_a_runtime_belongs_to_a_page(stand_in, tmp_path):
    with pytest.raises(InvalidInputError, match="is a Bundle and already has its weights"):
        vertebra.export(golden_bundle.folder(), tmp_path / "page", web=True, weights="x.pth")
    with pytest.raises(InvalidInputError, match="only for a web page"):
        vertebra.export("squeezenet1_1", tmp_path / "page", runtime=stand_in)


@pytest.mark.parametrize("asked", [{"web": True}, {"embed_preprocess": True}])
def test_an_engine_of_another_format_is_refused_before_anything_is_exported(tmp_path, asked):
    with pytest.raises(InvalidInputError, match="Bundles of ncnn have another format"):
        vertebra.export("squeezenet1_1", tmp_path / "page", untrained=True, engine="ncnn", **asked)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("change", [{"format": "openvino"}, {"preprocess": None}, {"batch_size": 4}])
def test_a_bundle_that_no_browser_could_ask_is_refused(change):
    kept = dataclasses.replace(bundles.read(golden_bundle.folder(), verify=False), **change)
    with pytest.raises(
        InvalidInputError, match=r"A web page needs ONNX|doesn't record a preprocessing|batches of 4"
    ):
        web.check(kept)


# ------------------------------------------------------------------ fetching the runtime


def npm(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """An npm that runs `script`, alone on the path, and an empty cache."""
    folder.mkdir()
    (folder / "npm").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    monkeypatch.setenv("VERTEBRA_CACHE", str(folder / "cache"))
    monkeypatch.delenv("VERTEBRA_OFFLINE", raising=False)


def test_another_archive_than_the_pinned_one_is_refused(tmp_path, monkeypatch):
    npm(tmp_path / "bin", monkeypatch, "echo other > onnxruntime-web-1.0.0.tgz")
    with pytest.raises(DownloadError, match=f"{web.SHA256} was expected"):
        web._fetched(None)
    assert list((tmp_path / "bin" / "cache" / "runtimes").iterdir()) == []


def test_what_npm_says_is_passed_on(tmp_path, monkeypatch):
    npm(tmp_path / "bin", monkeypatch, "echo 'npm error code E404' >&2; exit 1")
    with pytest.raises(DownloadError, match="npm error code E404") as caught:
        web._fetched(None)
    assert "--runtime FILE" in caught.value.hint


def test_the_archive_is_fetched_once(tmp_path, monkeypatch):
    npm(tmp_path / "bin", monkeypatch, "echo right > a.tgz")
    monkeypatch.setattr(web, "SHA256", hashlib.sha256(b"right\n").hexdigest())
    talk: list[Progress] = []
    first, second = web._fetched(talk.append), web._fetched(talk.append)
    assert first == second
    assert first.read_bytes() == b"right\n"
    assert [event.text for event in talk] == [f"downloading {web.PACKAGE} {web.VERSION} with npm"]


def test_without_npm_or_network_the_way_out_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("VERTEBRA_CACHE", str(tmp_path))
    monkeypatch.setattr(web.shutil, "which", lambda name: None)
    with pytest.raises(MissingRuntimeError, match="npm is not installed") as missing:
        web._fetched(None)
    assert "--runtime FILE" in missing.value.hint
    monkeypatch.setenv("VERTEBRA_OFFLINE", "1")
    with pytest.raises(DownloadError, match="VERTEBRA_OFFLINE forbids"):
        web._fetched(None)


def test_a_place_that_cannot_be_is_told_before_anything_is_made(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "vertebra.inference.resolving.resolve", lambda *_, **__: pytest.fail("weights were asked for")
    )
    (tmp_path / "photo.jpg").write_bytes(b"sea")
    with pytest.raises(BundleError, match="is not a page"):
        vertebra.export("squeezenet1_1", tmp_path, web=True)
