"""LiteRT's runtime on a Bundle that is kept here: its converter wants an environment of its own.

`tools/litert_bundle.py` makes the Bundle. What the tests of every engine ask is asked of the runtime here.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vertebra import bundles, engines, parity
from vertebra.engines import Session, Settings, Subject
from vertebra.errors import InvalidInputError, MeasurementError

KEPT = bundles.read(Path(__file__).parent / "golden" / "litert")
BUILDER = Subject("small", builder="small_networks:small_net", arguments={"num_classes": 10, "seed": 3})
pytestmark = pytest.mark.skipif(engines.missing("litert") is not None, reason=str(engines.missing("litert")))


@pytest.fixture(scope="module", autouse=True)
def _networks_importable() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parent))
        yield


def settings(**changes: Any) -> Settings:
    return Settings(**{"input_size": 40, "num_classes": 10} | changes)


def load(**changes: Any) -> Session:
    return engines.load("litert", Subject("small", bundle=str(KEPT.folder)), settings(**changes))


@pytest.mark.parametrize("threads", [1, 2])
def test_the_runtime_gives_the_answers_that_are_kept(threads: int) -> None:
    images, logits = KEPT.reference_pair(1)
    assert parity.check_outputs(logits, load(threads=threads).run(images)) < 1e-4


def test_it_answers_other_images_as_eager_does_today() -> None:
    images = bundles.reference_images(batch_size=3, in_channels=3, input_size=40, seed=8)
    logits = engines.load("eager", BUILDER, settings(batch_size=3)).run(images)
    session = load()
    got = np.concatenate([session.run(image[None]) for image in images])
    assert parity.check_outputs(logits, got) < 1e-4
    with pytest.raises(MeasurementError, match="Wrong outputs"):
        parity.check_outputs(logits, got[::-1])


def test_two_prepared_batches_keep_their_own_answers() -> None:
    session = load()
    images, _ = KEPT.reference_pair(2)
    first, second = session.prepare(images[:1]), session.prepare(images[1:])
    before = session.outputs(session.infer(first))
    other = session.outputs(session.infer(second))
    np.testing.assert_array_equal(before, session.outputs(session.infer(first)))
    assert not np.array_equal(before, other)


def test_it_tells_what_it_uses_and_its_version() -> None:
    told = load().effective()
    assert (told["precision"], told["device"], told["threads"]) == ("float32", "cpu", None)
    assert told["version"] == engines.version("litert")


def test_batches_of_another_size_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="only batches of 1, not of 2"):
        load(batch_size=2)


def test_it_runs_in_a_process_without_torch() -> None:
    code = (
        "import sys; from vertebra import bundles, engines, parity\n"
        f"kept = bundles.read({str(KEPT.folder)!r}); images, logits = kept.reference_pair(1)\n"
        f"asked = engines.Settings.from_json({settings().to_json()!r})\n"
        "session = engines.load('litert', engines.Subject('small', bundle=str(kept.folder)), asked)\n"
        "print(parity.check_outputs(logits, session.run(images)) < 1e-4, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split()[-2:] == ["True", "False"]
