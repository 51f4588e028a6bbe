"""A Bundle as a web page: one folder for any static host, where the visitor's own browser runs the network.

index.html, *.mjs, page.css    the page
runtime/                       ONNX Runtime Web, taken from its npm package
bundle/                        the Bundle itself
page.json                      what the page must know in addition to the Bundle
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import tarfile
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

from vertebra import bundles
from vertebra.bundles import Bundle
from vertebra.bundles.manifest import INDEPENDENT
from vertebra.errors import BundleError, DownloadError, InvalidInputError, MissingRuntimeError
from vertebra.machine import downloads, json_text, leftovers
from vertebra.machine.files import make_folder, whole_folder
from vertebra.progress import Listener, Progress, silent

PACKAGE = "onnxruntime-web"
VERSION = "1.30.0"
#: of that version's npm archive
SHA256 = "d2228df7e4616bc3348bf504ee888f3bec43789a273f0a63f3e68d203ce3bf71"

#: the files of the package that the page needs: the library, the compiled runtime, and its description
RUNTIME_FILES = ("dist/ort.wasm.bundle.min.mjs", "dist/ort-wasm-simd-threaded.wasm", "package.json")
#: the same for graphics processors
WEBGPU_FILES = ("dist/ort.jspi.bundle.min.mjs", "dist/ort-wasm-simd-threaded.jspi.wasm", "package.json")

_NPM_TIMEOUT_S = 600.0
_MANIFEST = "page.json"
#: the Bundle's folder inside the page's
INNER = "bundle"


def check(kept: Bundle) -> None:
    """Raise InvalidInputError if a page couldn't run the Bundle's network on a photograph."""
    if kept.format != "onnx":
        raise InvalidInputError(
            f'A web page needs ONNX; this Bundle has the format "{kept.format}".',
            "export the network for the engine onnxruntime",
        )
    if kept.batch_size not in (None, 1):
        raise InvalidInputError(
            f"The Bundle takes batches of {kept.batch_size} only; a page classifies single pictures.",
            "export the network without --batch-size",
        )
    if kept.outputs in INDEPENDENT or kept.num_classes == 1:
        raise InvalidInputError(
            "A web page shows one class of several; this network's outputs stand each on its own.",
            "leave --web out",
        )
    if kept.preprocess is None:
        raise InvalidInputError(
            f"The Bundle {kept.folder} doesn't record a preprocessing.",
            "export the network with --preprocess",
        )


def publish(
    folder: Path | str, kept: Bundle, *, runtime: Path | str | None = None, progress: Listener | None = None
) -> Bundle:
    """Write a page that runs the network of `kept` into `folder`; the Bundle inside it.

    `runtime` is the npm package onnxruntime-web, as npm's archive or unpacked; without it, npm fetches the
    version that the page was tested with, once. The folder appears complete or not at all.
    Raises what `check` raises, BundleError where the folder can't be written, MissingRuntimeError without npm
    and DownloadError where npm fails.
    """
    folder = Path(folder)
    check(kept)
    with draft(folder) as draft_, package_of(runtime, RUNTIME_FILES, progress) as (package, version):
        _copy_runtime(package, draft_ / "runtime")
        _copy_page(draft_)
        shutil.copytree(kept.folder, draft_ / INNER)
        facts = {"gives_probabilities": kept.gives_probabilities(), "runtime": f"{PACKAGE} {version}"}
        (draft_ / _MANIFEST).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    return bundles.read(folder / INNER, verify=False)


@contextmanager
def draft(folder: Path) -> Iterator[Path]:
    """A hidden folder that replaces `folder` at the end. Raises BundleError if that is impossible."""
    try:
        with whole_folder(folder, lambda there: (there / _MANIFEST).is_file()) as draft_:
            yield draft_
    except FileExistsError as error:
        raise BundleError(
            f"{folder} exists and is not a page of a Bundle.", "choose another folder; this one is untouched"
        ) from error
    except OSError as error:
        raise BundleError(
            f"The page {folder} can't be written: {error}.",
            "check the free space and the permissions; nothing was written",
        ) from error


def _copy_page(draft: Path) -> None:
    for source in resources.files("vertebra.exporting").joinpath("page").iterdir():
        (draft / source.name).write_bytes(source.read_bytes())


# ------------------------------------------------------------------ the runtime


@contextmanager
def package_of(
    runtime: Path | str | None, names: Sequence[str], progress: Listener | None = None
) -> Iterator[tuple[Path, str]]:
    """The folder of the npm package with the files `names`, and its version. `runtime` is the package as in
    `publish`. Raises InvalidInputError if it isn't that, MissingRuntimeError without npm and DownloadError
    where npm fails."""
    archive = _fetched(progress) if runtime is None else Path(runtime)
    with _unpacked(archive, names) as package:
        missing = [name for name in names if not (package / name).is_file()]
        if missing:
            raise InvalidInputError(
                f"{package} is not {PACKAGE}: it has no {', '.join(missing)}.",
                f"pass what {_command()} fetches",
            )
        yield package, _version(package / "package.json")


def _copy_runtime(package: Path, to: Path) -> None:
    to.mkdir()
    for name in RUNTIME_FILES:
        shutil.copyfile(package / name, to / Path(name).name)


def _version(path: Path) -> str:
    try:
        content: Any = json_text.parsed(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidInputError(
            f"{path} can't be read: {error}.", f"pass what {_command()} fetches"
        ) from error
    if not isinstance(content, dict) or content.get("name") != PACKAGE:
        raise InvalidInputError(f"{path} is not from {PACKAGE}.", f"pass what {_command()} fetches")
    return str(content.get("version"))


@contextmanager
def _unpacked(package: Path, names: Sequence[str]) -> Iterator[Path]:
    """The package's folder, or one with the needed files from its npm archive."""
    if package.is_dir():
        yield package
        return
    with tempfile.TemporaryDirectory(prefix=leftovers.prefix()) as scratch:
        try:
            with tarfile.open(package, "r:gz") as archive:
                wanted = [archive.getmember(f"package/{name}") for name in names]
                archive.extractall(scratch, wanted, filter="data")
        except (OSError, EOFError, ValueError, tarfile.TarError, KeyError, zlib.error) as error:
            raise InvalidInputError(
                f"{package} is not an archive of {PACKAGE}: {error}.", f"pass what {_command()} fetches"
            ) from error
        yield Path(scratch) / "package"


def _command() -> str:
    return f'"npm pack {PACKAGE}@{VERSION}"'


def _fetched(progress: Listener | None) -> Path:
    """The archive in the user's cache, fetched by npm, which knows registry, proxy and login."""
    kept = downloads.cache_folder() / "runtimes" / f"{PACKAGE}-{VERSION}.tgz"
    if kept.is_file() and downloads.digest(kept) == SHA256:
        return kept
    by_hand = f"or run {_command()} elsewhere and pass its file: --runtime FILE"
    if downloads.offline():
        raise DownloadError(
            f"{PACKAGE} is not in the cache, and VERTEBRA_OFFLINE forbids fetching it.",
            f"unset VERTEBRA_OFFLINE, {by_hand}",
        )
    npm = shutil.which("npm")
    if npm is None:
        raise MissingRuntimeError(
            f"The page needs {PACKAGE}, which npm fetches, and npm is not installed.",
            f"install Node.js with npm, {by_hand}",
        )
    (progress or silent)(Progress(f"downloading {PACKAGE} {VERSION} with npm"))
    try:
        make_folder(kept.parent)
        with tempfile.TemporaryDirectory(prefix=leftovers.prefix()) as scratch:
            packed = _packed(npm, Path(scratch), by_hand)
            packed.chmod(0o644)
            shutil.move(packed, kept)
    except OSError as error:
        raise DownloadError(
            f"The cache {kept.parent} can't be written: {error.strerror or error}.",
            "name another folder with VERTEBRA_CACHE",
        ) from error
    return kept


def _packed(npm: str, folder: Path, by_hand: str) -> Path:
    """The archive that `npm pack` writes to `folder`. Raises DownloadError if it isn't the expected one."""
    command = [npm, "pack", f"{PACKAGE}@{VERSION}", "--silent", "--pack-destination", str(folder)]
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=_NPM_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise DownloadError(f"npm did not fetch {PACKAGE} in {_NPM_TIMEOUT_S:g} s.", by_hand) from error
    found = list(folder.glob("*.tgz"))
    if done.returncode != 0 or not found:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["it printed nothing"]
        raise DownloadError(f"npm could not fetch {PACKAGE} {VERSION}: {lines[0][:200]}", by_hand)
    digest = hashlib.sha256(found[0].read_bytes()).hexdigest()
    if digest != SHA256:
        raise DownloadError(
            f"npm fetched another file for {PACKAGE} {VERSION} than expected: its sha256 is {digest}, "
            f"{SHA256} was expected.",
            "check which registry npm uses: npm config get registry",
        )
    return found[0]
