"""`vertebra.report(first_answer=True)`: a page that answers for the device of whoever opens it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from vertebra.errors import InvalidInputError
from vertebra.machine.files import whole_folder
from vertebra.reading.choice import candidates

#: Where the page is written if no folder is named.
FOLDER = "vertebra-first-answer"
#: The explorer's limits if none are given: an answer within a tenth of a second seems immediate.
USUAL = {"latency": "100ms"}


def write(
    folder: str | Path | None = None, *, runtime: str | Path | None = None,
    limits: Mapping[str, str] | None = None, networks: Sequence[str] | None = None,
) -> Path:  # fmt: skip
    """Write the page into `folder` and return that. `runtime` is the npm package onnxruntime-web, as npm's
    archive or unpacked, by default fetched by npm; `limits` are those of the page's explorer, as text, by
    default `USUAL`; and `networks` what runs in the browser, by default `first_answer.anchors()`.

    The folder appears complete or not at all. Raises InvalidInputError if it can't be written or would
    replace something else, and what `exporting.web.package_of` raises.
    """
    from vertebra.exporting import web
    from vertebra.reading import first_answer

    candidates.ask(dict(limits or {}), among="catalogue")  # a misspelled limit is told before the work
    for name in limits or {}:
        if name not in first_answer.LIMITS:
            raise InvalidInputError(
                f"--{name} can't limit a first answer: a browser doesn't measure it.",
                f"limits that can be: {', '.join(first_answer.LIMITS)}",
            )
    folder = Path(folder or FOLDER)
    wanted = {"wasm": web.RUNTIME_FILES, "webgpu": web.WEBGPU_FILES}
    names = tuple(dict.fromkeys(name for files in wanted.values() for name in files))
    with web.package_of(runtime, names) as (package, version):
        runtimes = [
            first_answer.Runtime(
                backend, version, (package / files[0]).read_bytes(), (package / files[1]).read_bytes()
            )
            for backend, files in wanted.items()
        ]
    chosen = first_answer.anchors() if networks is None else networks
    made = first_answer.files(runtimes, [first_answer.timed(name) for name in chosen], limits or USUAL)
    try:
        with whole_folder(folder, lambda there: (there / first_answer.MANIFEST).is_file()) as draft:
            for name, content in made.items():
                (draft / name).write_bytes(content)
    except FileExistsError as error:
        raise InvalidInputError(
            f"{folder} exists and is not a first answer's page.",
            "choose another folder; this one is untouched",
        ) from error
    except OSError as error:
        raise InvalidInputError(
            f"The page {folder} can't be written: {error.strerror or error}.",
            "check the free space and the permissions; nothing was written",
        ) from error
    return folder
