"""The verbs on a machine without torch, timm, torchvision and onnx: names become rows, answers, Bundles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import torch_free
from torch_free import run
from vertebra.zoo.graphs import drawing, store

MODEL = "squeezenet1_1"
CLASSES = 10


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Weights of ten classes, made by drawing, and pictures of ten colours in a folder for each."""
    from safetensors.numpy import save_file

    made = tmp_path_factory.mktemp("bare")
    arrays = {}
    for key, _, shape in store.find(MODEL).parameters():
        held = (CLASSES, *shape[1:]) if key.startswith("head.classifier") else shape
        arrays[key] = drawing.draw(MODEL, key, held)
    save_file(arrays, made / "own.safetensors")
    generator = np.random.default_rng(0)
    for number in range(CLASSES):
        (made / "pictures" / f"class{number}").mkdir(parents=True)
        for picture in range(2):
            pixels = generator.integers(0, 40, (240, 260, 3)) + generator.integers(0, 216, (1, 1, 3))
            Image.fromarray(pixels.astype(np.uint8)).save(
                made / "pictures" / f"class{number}" / f"{picture}.png"
            )
    (made / "labels.txt").write_text("".join(f"class{number}\n" for number in range(CLASSES)))
    return made


def test_torch_is_gone(folder):
    script = """
for name in ("torch", "timm", "torchvision", "onnx", "onnxscript"):
    try:
        __import__(name)
        answer[name] = "there"
    except ModuleNotFoundError:
        answer[name] = "gone"
"""
    assert set(run(folder, script).values()) == {"gone"}


def test_names_are_measured_and_chosen(folder):
    script = f"""
from vertebra.errors import MissingRuntimeError
rows = vertebra.bench("{MODEL}", engine=["onnxruntime", "openvino"], quick=True, seconds="0.6s")
answer["bench"] = sorted([row.engine, row.metric, row.versions.get("graph")] for row in rows
                         if row.metric in ("latency", "failure"))
found = vertebra.survey(model="{MODEL}", engine="onnxruntime", budget="1m")
answer["survey"] = [found.measured, found.known, found.failed, found.report.is_file()]
picked = vertebra.pick(latency="60s", top1="60%", trust="C", among="table")
answer["pick"] = picked.choice.model if picked.choice else None
answer["show"] = vertebra.show("timm:lcnet_050").counted_not
for name, call in (("profile", lambda: vertebra.profile("{MODEL}")),
                   ("eager", lambda: vertebra.bench("{MODEL}", engine="eager"))):
    try:
        call()
    except MissingRuntimeError as error:
        answer[name] = error.hint
"""
    answer = run(folder, script)
    graph = store.find(MODEL)
    versions = f"{graph.library} {graph.version}"
    assert answer.pop("bench") == [["onnxruntime", "latency", versions], ["openvino", "latency", versions]]
    install = 'install it with: pip install "vertebra[torch]"'
    assert answer.pop("show").endswith(install)
    assert answer == {"survey": [0, 1, 0, True], "pick": MODEL, "profile": install, "eager": install}


def test_own_weights_are_used(folder):
    script = f"""
weights = dict(weights="own.safetensors", labels="labels.txt")
kept = vertebra.export("{MODEL}", "bundle", **weights)
answer["graph"] = [kept.graph["file"], kept.graph["against_eager"] < 3e-4, kept.num_classes, kept.weights]
answer["parity"] = [kept.parity["engine"], kept.parity["output_error"] < 3e-4, kept.parity["pictures"]]
answer["notices"] = (kept.folder / "NOTICES.txt").read_text()[:13]
answer["card"] = "not compared with PyTorch" in " ".join((kept.folder / "README.md").read_text().split())
picture = "pictures/class3/0.png"
answer["top"] = []
ways = dict(model="bundle"), dict(model="bundle", engine="openvino"), dict(model="{MODEL}", **weights)
for given in ways:
    [found] = vertebra.predict(picture, **given)
    answer["top"].append([found.top[0].name, round(found.top[0].probability, 3)])
[found] = vertebra.predict(picture, model="{MODEL}", features=True, **weights)
answer["features"] = [len(found.features), float(found.features.std()) > 0]
[found] = vertebra.predict(picture, model="{MODEL}", features=True, engine="openvino", **weights)
answer["features"].append(len(found.features))
found = vertebra.evaluate("{MODEL}", "pictures", **weights)
answer["eval"] = [row.metric for row in found.rows][:1] + [found.engine]
found = vertebra.probe("pictures", "{MODEL}", folds=2, **weights)
answer["probe"] = [[row.metric for row in found], sorted(map(str, found.failures))]
"""
    answer = run(folder, script)
    assert answer["graph"] == ["vertebra/zoo/squeezenet.py", True, CLASSES, "own.safetensors"]
    assert answer["parity"][:2] == ["onnxruntime", True]
    assert answer["notices"] == "model.onnx wa"
    assert answer["card"] is True
    assert answer["top"][0] == answer["top"][1] == answer["top"][2]
    assert answer["features"] == [512, True, 512]
    assert answer["eval"] == ["top1", "onnxruntime"]
    assert answer["probe"][1] == []
    assert answer["probe"][0]


@pytest.mark.parametrize("layers", [18, pytest.param(50, marks=pytest.mark.slow)])
def test_weights_of_a_trained_acnet_are_fused_for_its_deploy_form(layers, folder):
    """The deploy graph gives the answers of the graph with three branches."""
    from safetensors.numpy import save_file

    trained = f"resnet{layers}_acnet"
    slots = store.find(trained).parameters()
    arrays = {f"module.{key}": drawing.draw(trained, key, shape) for key, _, shape in slots}
    save_file(arrays, folder / "trained.safetensors")
    script = f"""
import numpy as np
from vertebra.inference import loading
notes, logits = [], []
for name in ("{trained}", "{trained}_deploy"):
    given = dict(weights="trained.safetensors", progress=lambda one: notes.append(str(one)))
    with loading.load(name, **given) as loaded:
        images = np.random.default_rng(0).standard_normal((2, 3, 224, 224), np.float32)
        logits.append(np.concatenate([loaded.logits(image[None]) for image in images]))
answer["off"] = float(np.abs(logits[0] - logits[1]).max() / logits[0].std())
answer["differ"] = float(np.abs(logits[0][0] - logits[0][1]).max() / logits[0].std())
answer["notes"] = [note for note in notes if "fused" in note]
kept = vertebra.export("{trained}_deploy", "fused{layers}", weights="trained.safetensors")
answer["export"] = [kept.model, kept.weights]
"""
    answer = run(folder, script)
    assert answer["off"] < 1e-4 < 0.01 < answer["differ"]
    said = f"trained.safetensors: weights of {trained}; each block's three branches were fused"
    assert len(answer["notes"]) == 1
    assert said in answer["notes"][0]
    assert answer["export"] == [f"{trained}_deploy", "trained.safetensors"]


@pytest.mark.parametrize(
    ("call", "told", "hint"),
    [
        ("export('alexnet', 'out', weights='own.safetensors')", "The weights don't fit: ", "exactly this"),
        (
            "export('squeezenet1_1', 'out', weights='own.safetensors', engine='ncnn')",
            "Exporting needs torch", 'pip install "vertebra[ncnn-export]"',
        ),
        (
            "export('squeezenet1_1', 'out', weights='own.safetensors', engine='openvino', "
            "precision='int8-weights')",
            "needs", "pip install",
        ),
        ("export('timm:convit_tiny', 'out', untrained=True)", "Exporting needs torch", '"vertebra[torch]"'),
        ("bench('alexnet', input_size=225)", "takes no pictures of 225x225 pixels", "use 224"),
        ("bench('timm:convit_tiny', input_size=224)", "ships no graph: its definition", "install torch"),
        ("check('none.lock')", "There is no lockfile none.lock", "vertebra pick"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_told_in_one_line(folder, call, told, hint):
    script = f"""
from vertebra.errors import VertebraError
try:
    vertebra.{call}
except VertebraError as error:
    answer["told"] = [error.message, error.hint]
"""
    message, what = run(folder, script)["told"]
    assert told in message
    assert "\n" not in message
    assert hint in what


@pytest.mark.parametrize(
    "arguments", [("bench", MODEL), ("survey",), ("pick", "--fps", "30", "--budget", "9s")]
)
def test_without_an_engine_the_install_line_is_given(arguments, folder, tmp_path):
    """The packages are named, not the engines: this is what a machine without any of them does."""
    named = "'onnxruntime', 'openvino', 'MNN', 'ncnn', 'ai_edge_litert', 'executorch', 'tensorrt'"
    banned = f"import sys\nsys.modules['sitecustomize'].BANNED.update([{named}])\n"
    script = f"{banned}from vertebra import cli\nsys.argv[1:] = {arguments}\ncli.main()"
    status, out, error = torch_free.python(tmp_path, script)
    assert status == 1
    assert out == ""
    assert error.splitlines() == [
        "error: No engine is installed that could measure a network.",
        'hint: install one with: pip install "vertebra[openvino]"',
    ]


def test_own_pictures_become_a_bundle_that_says_the_same_at_each_end(folder):
    """`fit`, `eval`, `bench`, `pick` and `predict`, with weights as a file: the same answers."""
    script = f"""
from pathlib import Path
import numpy as np
from PIL import Image
generator = np.random.default_rng(1)
for place, count in (("shades", 8), ("new", 3)):
    for name, level in (("bright", 190), ("dark", 40)):
        Path(place, name).mkdir(parents=True)
        for number in range(count):
            blocks = (generator.integers(0, 50, (12, 12, 3)) + level).astype(np.uint8)
            Image.fromarray(blocks).resize((240, 240), 3).save(Path(place, name, f"{{number}}.png"))
done = vertebra.fit("shades", weights={{"{MODEL}": "own.safetensors"}}, latency="60s", folds=2,
                    output="shades-fitted")
answer["fit"] = [done.accuracy, [label.name for label in done.bundle.label_set()]]
bundle = "shades-fitted"
new = sorted(map(str, Path("new").rglob("*.png")))
for engine in ("onnxruntime", "openvino"):
    evaluated = vertebra.evaluate(bundle, "new", engine=engine)
    found = vertebra.predict(*new, model=bundle, engine=engine, top=1)
    answer[engine] = [evaluated.evaluation.top1.value, [one.top[0].name for one in found]]
rows = vertebra.bench(bundle, engine=["onnxruntime", "openvino"], quick=True, seconds="0.6s")
answer["bench"] = sorted({{row.engine for row in rows if row.metric == "latency"}})
picked = vertebra.pick(latency="60s", origin="evaluated", dataset=done.inspection.identity, among="table")
accuracy, latency = picked.choice.figures["top1"], picked.choice.figures["latency"]
answer["pick"] = [accuracy.value, accuracy.origin, latency.origin,
                  latency.network_sha256 == done.bundle.network_sha256]
"""
    names = ["bright"] * 3 + ["dark"] * 3
    assert run(folder, script) == {
        "fit": [1.0, ["bright", "dark"]],
        "onnxruntime": [1.0, names],
        "openvino": [1.0, names],
        "bench": ["onnxruntime", "openvino"],
        "pick": [1.0, "evaluated", "benched", True],
    }
