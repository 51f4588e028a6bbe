"""Bundles that are native code: loaded only if this machine made them, or if the caller trusts them."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import vertebra
from vertebra import bundles, engines
from vertebra.bundles import Bundle, Card, native
from vertebra.bundles.manifest import NATIVE, NETWORKS, READERS
from vertebra.cli import cli
from vertebra.data.preprocess import protocols
from vertebra.engines import Settings, Subject
from vertebra.errors import BundleError, VertebraError

SIZE = 224
SOURCE = """
#include <stdio.h>
__attribute__((constructor)) static void run(void) {{
    FILE *file = fopen("{mark}", "w");
    if (file) fclose(file);
}}
"""


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """The file that appears when the Bundle's code has run."""
    return tmp_path / "it-ran"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VERTEBRA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("VERTEBRA_TABLE", str(tmp_path / "table.sqlite"))
    return tmp_path / "cache"


def write_package(path: Path, mark: Path) -> None:
    """A package as torch opens it, whose shared library makes the file `mark` when it is opened."""
    torch = pytest.importorskip("torch")
    compiler = engines.compiler() or shutil.which("cc")
    if compiler is None:
        pytest.skip("no compiler here")
    scratch = path.parent.parent
    source, library = scratch / "code.cpp", scratch / "code.so"
    source.write_text(SOURCE.format(mark=mark))
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source], check=True)
    writer = torch._C.PyTorchFileWriter(str(path))
    inner = "data/aotinductor/model/x.wrapper"
    records = {"archive_format": b"pt2", "archive_version": b"0", f"{inner}.so": library.read_bytes()}
    records[f"{inner}_metadata.json"] = json.dumps({"AOTI_DEVICE_KEY": "cpu"}).encode()
    for name, content in records.items():
        writer.write_record(name, content, len(content))
    writer.write_end_of_file()


@pytest.fixture
def strange(tmp_path: Path, mark: Path) -> Bundle:
    return write_bundle(tmp_path / "strange", lambda folder: write_package(folder / "model.pt2", mark))


def write_bundle(folder: Path, write: Callable[[Path], None]) -> Bundle:
    return bundles.write(
        folder, write, model="strange", logits=np.zeros((2, 1000), np.float32), reference_seed=0,
        input_size=SIZE, in_channels=3, seed=0, versions={}, format="aotinductor",
        card=Card(weights="theirs", preprocess=protocols.find("torchvision")),
    )  # fmt: skip


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "pictures" / "a" / "cat.png"
    path.parent.mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(path)
    return path


def by_engine(model: Path, _: Path, **trust: Any) -> None:
    engines.load(
        "aotinductor", Subject("strange", bundle=str(model), **trust), Settings(input_size=SIZE, threads=1)
    )


def by_predict(model: Path, picture: Path, **trust: Any) -> None:
    vertebra.predict(picture, model=model, **trust)


def by_evaluate(model: Path, picture: Path, **trust: Any) -> None:
    vertebra.evaluate(model, picture.parent.parent, labels="index", **trust)


def by_bench(model: Path, _: Path, **trust: Any) -> None:
    vertebra.bench(model, quick=True, seconds=1, **trust)


def by_worker(model: Path, _: Path, **trust: Any) -> None:
    from vertebra.measuring.benchmarking import Case, Limits
    from vertebra.measuring.benchmarking.worker import Server

    case = Case(
        model="strange", engine="aotinductor", subject=Subject("strange", bundle=str(model), **trust),
        input_size=SIZE,
    )  # fmt: skip
    request = {"engine": None, "case": case.to_json(), "limits": Limits().to_json(), "warm_up_s": 1}
    Server(lambda *_, **__: None).obey({"command": "load", **request})


WAYS = [by_engine, by_predict, by_evaluate, by_bench, by_worker]


@pytest.mark.parametrize("way", WAYS)
def test_native_code_of_another_machine_runs_only_if_it_is_trusted(
    way: Callable[..., None], strange: Bundle, mark: Path, picture: Path
) -> None:
    with pytest.raises(BundleError, match=r"native code .*this machine didn't make it") as caught:
        way(strange.folder, picture)
    assert "--trust-code" in str(caught.value.hint)
    assert not mark.exists()
    with contextlib.suppress(VertebraError):  # it isn't a network
        way(strange.folder, picture, trust_code=True)
    assert mark.exists()


@pytest.mark.parametrize("trust", [{}, {"trust_code": True}])
@pytest.mark.parametrize("way", WAYS)
def test_native_code_never_runs_from_an_archive(
    way: Callable[..., None], trust: dict[str, bool], strange: Bundle, mark: Path, picture: Path
) -> None:
    native.note(strange.network)  # even if this machine made it
    archive = Path(shutil.make_archive(str(strange.folder), "zip", strange.folder))
    for place in (archive, bundles.read(archive).folder):
        with pytest.raises(BundleError, match="never loaded from an archive") as caught:
            way(place, picture, **trust)
        assert "unpack it" in str(caught.value.hint)
    assert not mark.exists()


def test_native_code_that_this_machine_made_runs_until_it_is_changed(strange: Bundle, mark: Path) -> None:
    native.note(strange.network)
    with pytest.raises(BundleError, match="torch can't load"):
        by_engine(strange.folder, mark)
    assert mark.exists()
    mark.unlink()
    content = bytearray(strange.network.read_bytes())
    content[-1] ^= 1
    strange.network.write_bytes(content)
    for trust in ({}, {"trust_code": True}):
        with pytest.raises(BundleError, match="was changed"):
            by_engine(strange.folder, mark, **trust)
    assert not mark.exists()


def test_the_list_of_own_files_is_private_and_not_believed_otherwise(cache: Path, strange: Bundle) -> None:
    native.note(strange.network)
    [listed] = (cache / "native-code").iterdir()
    assert (listed.stat().st_mode & 0o777, listed.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    [digest] = native.made_here()
    assert digest == strange.files["model.pt2"]["sha256"]
    for path in (listed, listed.parent):
        mode = path.stat().st_mode
        path.chmod(mode | 0o020)
        assert native.made_here() == frozenset()
        path.chmod(mode)
    listed.parent.chmod(0o777)
    native.note(strange.network)
    assert native.made_here() == {digest}


@pytest.mark.parametrize(
    "arguments",
    [["predict", "{picture}", "-m", "{model}"], ["eval", "{model}", "{pictures}"], ["bench", "{model}"]],
)
def test_the_command_s_verbs_refuse_it_with_one_message(
    arguments: list[str], strange: Bundle, mark: Path, picture: Path
) -> None:
    places = {"model": strange.folder, "picture": picture, "pictures": picture.parent.parent}
    done = CliRunner().invoke(cli, [part.format(**places) for part in arguments])
    assert done.exit_code == 1
    assert "this machine didn't make it" in str(done.exception or done.output)
    assert not mark.exists()


def test_show_says_that_it_is_native_code_and_runs_nothing(strange: Bundle, mark: Path) -> None:
    done = CliRunner().invoke(cli, ["show", str(strange.folder)])
    assert "`model.pt2` is native code: loading it runs it" in done.output
    assert "That doesn't show who made it" in done.output
    assert "is native code" in (strange.folder / "README.md").read_text()
    assert json.loads(CliRunner().invoke(cli, ["show", str(strange.folder), "--json"]).stdout)[0][
        "runs_native_code"
    ]
    assert not mark.exists()


def test_every_format_is_either_native_code_or_has_a_reader() -> None:
    assert set(NATIVE) | set(READERS) == set(NETWORKS)
    assert not set(NATIVE) & set(READERS)


@pytest.mark.skipif(engines.missing("aotinductor") is not None, reason="no compiler")
def test_an_export_of_this_machine_loads_without_trust(tmp_path: Path) -> None:
    from vertebra.exporting import export

    builder = Subject("small", builder="small_networks:small_net", arguments={})
    kept = export(builder, tmp_path / "own", input_size=32, engine="aotinductor")
    settings = Settings(input_size=32, num_classes=kept.num_classes, threads=1)
    engines.load("aotinductor", Subject("small", bundle=str(kept.folder)), settings)


def test_a_graph_with_a_part_compiled_for_a_card_is_refused_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    onnx = pytest.importorskip("onnx")
    from vertebra.engines import onnxruntime

    def write(folder: Path) -> None:
        node = onnx.helper.make_node("EPContext", ["images"], ["logits"], domain="com.microsoft")
        ends = [onnx.helper.make_tensor_value_info(name, 1, ["N"]) for name in ("images", "logits")]
        graph = onnx.helper.make_graph([node], "compiled", ends[:1], ends[1:])
        onnx.save(onnx.helper.make_model(graph), folder / "model.onnx")

    kept = bundles.write(
        tmp_path / "compiled", write, model="compiled", logits=np.zeros((2, 1000), np.float32),
        reference_seed=0, input_size=SIZE, in_channels=3, versions={},
    )  # fmt: skip
    monkeypatch.setattr(onnxruntime, "_provider", lambda _: "TensorrtExecutionProvider")
    with pytest.raises(BundleError, match="compiled for a card, which may contain native code"):
        onnxruntime.load(Subject("compiled", bundle=str(kept.folder)), Settings(device="cuda"))
