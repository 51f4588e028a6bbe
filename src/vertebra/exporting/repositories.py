"""A Bundle for servers that others wrote, as one folder: Triton's model repository, that of OpenVINO Model
Server, and, where `vertebra serve` itself runs, an image of it and KServe's manifest for that image.

README.md                 what the folder is for, and what a client must do that the server doesn't
vertebra-repository.json  which files are part of it, and the full record of the preprocessing
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from xml.etree import ElementTree

from vertebra import bundles
from vertebra._version import __version__
from vertebra.bundles import Bundle, model_card
from vertebra.bundles.manifest import EXPORT_AGAIN, NATIVE, NETWORK, NOTICES, PICTURE
from vertebra.bundles.manifest import MANIFEST as BUNDLE
from vertebra.data.preprocess import Preprocess
from vertebra.errors import BundleError, InvalidInputError, UnknownNameError
from vertebra.machine import json_text, onnx_files
from vertebra.machine.files import whole_folder
from vertebra.machine.onnx_files import End

MANIFEST = "vertebra-repository.json"
INNER = "bundle"
#: Images in one call, where the network takes any number.
MOST_IMAGES = 8
#: format -> the extra of `pip install` that brings an engine for it
_EXTRAS = {
    "openvino": "openvino",
    "ncnn": "ncnn",
    "mnn": "mnn",
    "litert": "litert",
    "executorch": "executorch",
}
_TYPES = {"float32": "TYPE_FP32", "float16": "TYPE_FP16", "uint8": "TYPE_UINT8"}
_LABELS = "labels.txt"
#: how a server of someone else's is started in this folder
_RUN = 'docker run --rm -p 127.0.0.1:8000:8000 -p 127.0.0.1:8001:8001 -v "$PWD:/models"'
#: where KServe's users find images of their own; a name that no registry has
_REGISTRY = "registry.example"
#: the longest name of a service: a cluster adds its namespace and more, up to 63 characters
_LONGEST_SERVICE = 40


def check(kind: str, kept: Bundle) -> None:
    """Raise UnknownNameError for a kind that isn't known, and InvalidInputError if the server couldn't run
    the Bundle's network on photographs."""
    if kind not in KINDS:
        raise UnknownNameError.of("repository", kind, KINDS, "vertebra export --help")
    if kept.format in NATIVE:
        raise InvalidInputError(
            f"{kept.folder} holds native code ({kept.format}), which no server should load.",
            "export the network for another engine: vertebra export",
        )
    formats = _FORMATS.get(kind)
    if formats is not None and kept.format not in formats:
        raise InvalidInputError(
            f'{_SERVERS[kind]} opens {" and ".join(formats)}; this Bundle has the format "{kept.format}".',
            "export the network for the engine onnxruntime or openvino",
        )
    if kept.in_channels != 3:
        raise InvalidInputError(f"{kept.folder} takes {kept.in_channels} channels; pictures have 3.")
    if kept.preprocess is None:
        raise InvalidInputError(
            f"The Bundle {kept.folder} doesn't record a preprocessing.", f"{EXPORT_AGAIN} with --preprocess"
        )


def publish(folder: Path, kept: Bundle, kind: str, name: str) -> None:
    """Write the repository of this kind, one of KINDS, into `folder`; the model is called like `name`, in
    letters that every server takes. The folder appears complete or not at all. Raises what `check` raises,
    and BundleError where it can't be written, or holds anything else."""
    check(kind, kept)
    called = model_name(name)
    with draft(folder) as draft_:
        text = KINDS[kind](draft_, kept, called)
        (draft_ / "README.md").write_text(f"{text}\n", encoding="utf-8")
        if NOTICES in kept.files and not (draft_ / INNER).exists():
            shutil.copyfile(kept.folder / NOTICES, draft_ / NOTICES)
        _write_manifest(draft_, kept, kind, called)


def model_name(name: str) -> str:
    """A name that every server takes: letters, digits and . _ -, from a letter or digit on."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-._")[:100] or "model"


# ------------------------------------------------------------------ the folder


@contextmanager
def draft(folder: Path) -> Iterator[Path]:
    """A hidden folder that replaces `folder` at the end. Raises BundleError if that is impossible."""
    try:
        if folder.resolve() == Path.cwd():
            raise BundleError(f"{folder} is the current folder, and would be replaced.", "choose another")
        around = [place for place in folder.absolute().parents if (place / BUNDLE).is_file()]
        if around:
            raise BundleError(
                f"{folder} lies inside the Bundle {around[0]}; a Bundle holds only its own files.",
                "choose another folder",
            )
        with whole_folder(folder, _is_repository) as draft_:
            yield draft_
    except FileExistsError as error:
        raise BundleError(
            f"{folder} exists and is not a repository that vertebra wrote, or holds other files.",
            "choose another folder; this one is untouched",
        ) from error
    except OSError as error:
        raise BundleError(
            f"The repository {folder} can't be written: {error.strerror or error}.",
            "check the free space and the permissions; nothing was written",
        ) from error


def _is_repository(folder: Path) -> bool:
    """Whether it holds a repository of ours and nothing else."""
    try:
        value = json_text.parsed((folder / MANIFEST).read_text(encoding="utf-8"))
        known = {MANIFEST, *value["files"]}
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return {path.relative_to(folder).as_posix() for path in _files(folder)} <= known


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if not path.is_dir())


def _write_manifest(folder: Path, kept: Bundle, kind: str, name: str) -> None:
    facts = {
        "repository": kind,
        "model": name,
        "vertebra": __version__,
        "network": kept.model,
        "weights": kept.weights,
        "assumed": list(kept.assumed),
        "preprocess": asdict(record_of(kept)),
        "outputs": outputs_of(kept),
        "files": [path.relative_to(folder).as_posix() for path in _files(folder)],
    }
    (folder / MANIFEST).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def record_of(kept: Bundle) -> Preprocess:
    """The Preprocess of photographs, as `vertebra predict` and `serve` carry it out."""
    assert kept.preprocess is not None
    return replace(kept.preprocess, apply_orientation=True)


def outputs_of(kept: Bundle) -> str:
    """What the network's outputs are: a key of `model_card.OUTPUTS`."""
    return kept.outputs or ("probabilities" if kept.gives_probabilities() else "logits")


# ------------------------------------------------------------------ Triton


def _triton(folder: Path, kept: Bundle, name: str) -> str:
    model = folder / name
    _copy_network(kept, model / "1", in_folder=True)
    labels = _copy_labels(kept, model)
    inputs, outputs = _ends(kept)
    backend = "onnxruntime" if kept.format == "onnx" else "openvino"
    (model / "config.pbtxt").write_text(_config(name, backend, inputs, outputs, labels), encoding="utf-8")
    picture = f"{name}_picture" if kept.picture is not None else None
    if picture is not None:
        _copy_picture(kept, folder / picture, picture)
    commands = (
        f"{_RUN} nvcr.io/nvidia/tritonserver:YY.MM-py3 \\",
        "  tritonserver --model-repository=/models",
    )
    about = (
        f"{_found(kept, name, inputs, outputs)} YY.MM is a release of Triton. On a machine with a graphics "
        "card Triton runs the network on that; its outputs were checked on the processor only: "
        "`instance_group [{ kind: KIND_CPU }]` in config.pbtxt keeps it there."
    )
    pixels = (
        f"`{picture}` does these steps itself, from the resize on: it takes the pixels of one decoded "
        "picture, `image`, uint8, [height, width, 3], RGB, and gives `probabilities`."
    )
    steps = (*_client_preprocesses(kept, "Triton", inputs[0].name, name), *((pixels,) if picture else ()))
    return _readme(kept, name, "Triton", commands, about, *steps)


def _copy_picture(kept: Bundle, model: Path, name: str) -> None:
    """The graph that starts from pixels, which shares the network's parameters, as a model of its own."""
    shutil.copyfile(kept.folder / PICTURE, _copy_network(kept, model / "1", in_folder=True) / NETWORK)
    labels = _copy_labels(kept, model)
    inputs, outputs = onnx_files.ends(kept.folder / PICTURE)
    (model / "config.pbtxt").write_text(
        _config(name, "onnxruntime", inputs, outputs, labels), encoding="utf-8"
    )


def _config(name: str, backend: str, inputs: Sequence[End], outputs: Sequence[End], labels: bool) -> str:
    """config.pbtxt. A network that takes any number of images is batched by the server."""
    is_batched = inputs[0].shape[0] is None and len(inputs[0].shape) == 4
    lines = [
        f"name: {json.dumps(name)}",
        f'backend: "{backend}"',
        f"max_batch_size: {MOST_IMAGES if is_batched else 0}",
    ]
    for group, ends in (("input", inputs), ("output", outputs[:1])):
        for end in ends:
            more = []
            if group == "input" and len(end.shape) == 4:
                more = ["format: FORMAT_NCHW"] if is_batched else []
            if group == "output" and labels:
                more = [f'label_filename: "{_LABELS}"']
            lines += [f"{group} [", "  {", *(f"    {line}" for line in (*_described(end, is_batched), *more)),
                      "  }", "]"]  # fmt: skip
    return "\n".join([*lines, *(["dynamic_batching { }"] if is_batched else []), ""])


def _described(end: End, is_batched: bool) -> list[str]:
    kind = _TYPES.get(end.kind)
    if kind is None:
        raise InvalidInputError(f"{end.name} of the network is of the type {end.kind}.", EXPORT_AGAIN)
    shape = end.shape[1:] if is_batched else end.shape
    dims = ", ".join("-1" if extent is None else str(extent) for extent in shape)
    return [f"name: {json.dumps(end.name, ensure_ascii=False)}", f"data_type: {kind}", f"dims: [ {dims} ]"]


# ------------------------------------------------------------------ OpenVINO Model Server


def _openvino(folder: Path, kept: Bundle, name: str) -> str:
    _copy_network(kept, folder / name / "1", in_folder=False)
    _copy_labels(kept, folder / name)
    inputs, outputs = _ends(kept)
    entry = {"name": name, "base_path": name, "target_device": "CPU"}
    config = {"model_config_list": [{"config": entry}]}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    commands = (
        f"{_RUN} openvino/model_server:latest \\",
        "  --config_path /models/config.json --rest_port 8000 --port 8001",
    )
    about = (
        f"{_found(kept, name, inputs, outputs)} labels.txt has the classes, one a line, where they are "
        "known. base_path in config.json is relative to that file, which servers from 2025 on take; for an "
        f"older one write /models/{name}."
    )
    server = "OpenVINO Model Server"
    return _readme(
        kept, name, server, commands, about, *_client_preprocesses(kept, server, inputs[0].name, name)
    )


# ------------------------------------------------------------------ where vertebra serve runs


def _docker(folder: Path, kept: Bundle, name: str) -> str:
    _write_image(folder, kept, name)
    image = _image(name)
    commands = (f"docker build -t {image} .", f"docker run --rm -p 127.0.0.1:8000:8000 {image}")
    server = "`vertebra serve` in a container"
    return _readme(kept, name, server, commands, _ANSWERS.format(name=name), _SERVER_PREPROCESSES)


def _kserve(folder: Path, kept: Bundle, name: str) -> str:
    _write_image(folder, kept, name)
    service, image = _service(name), f"{_REGISTRY}/{_image(name)}:1"
    manifest = _INFERENCE_SERVICE.format(service=service, image=image)
    (folder / "inference-service.yaml").write_text(manifest, encoding="utf-8")
    commands = (
        f"docker build -t {image} .", f"docker push {image}", "kubectl apply -f inference-service.yaml"
    )  # fmt: skip
    about = (
        f"Put your registry in place of {_REGISTRY}, here and in inference-service.yaml. The service is "
        f"called `{service}`, the model `{name}`. {_ANSWERS.format(name=name)}"
    )
    return _readme(kept, name, "KServe", commands, about, _SERVER_PREPROCESSES)


_ANSWERS = (
    "It answers over the Open Inference Protocol: POST pictures as a tensor `images` of the datatype BYTES "
    "to /v2/models/{name}/infer. vertebra's docs/serve.md says more. Everyone who reaches the port may ask. "
    "For tokens, mount a file that only the container's user can read, and add `--token-file` and its path "
    "to the command."
)
_SERVER_PREPROCESSES = "The server carries out the Bundle's own preprocessing; clients send encoded pictures."

_INFERENCE_SERVICE = """\
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata:
  name: "{service}"
spec:
  predictor:
    containers:
      - name: kserve-container
        image: "{image}"
        ports:
          - containerPort: 8000
            protocol: TCP
        livenessProbe:
          httpGet:
            path: /v2/health/live
            port: 8000
        readinessProbe:
          httpGet:
            path: /v2/health/ready
            port: 8000
        securityContext:
          runAsNonRoot: true
          runAsUser: 65534
          allowPrivilegeEscalation: false
          capabilities:
            drop: ["ALL"]
"""

_DOCKERFILE = """\
FROM python:{python}-slim
RUN pip install --no-cache-dir "vertebra[{extras}]=={version}"
COPY --chown=65534 bundle /bundle
USER 65534
EXPOSE 8000 8001
CMD ["vertebra", "serve", "{name}=/bundle", "--host", "0.0.0.0", "--allow-host", "*", "--log", "json"]
"""


def _write_image(folder: Path, kept: Bundle, name: str) -> None:
    bundles.copy(kept, folder / INNER)
    extra = _EXTRAS.get(kept.format)
    text = _DOCKERFILE.format(
        python=f"{sys.version_info.major}.{sys.version_info.minor}", version=__version__, name=name,
        extras="serve" if extra is None else f"serve,{extra}",
    )  # fmt: skip
    (folder / "Dockerfile").write_text(text, encoding="utf-8")


def _image(name: str) -> str:
    """As the names of images are: small letters, and single signs between them."""
    return re.sub(r"[._-]+", "-", name.lower())


def _service(name: str) -> str:
    """As Kubernetes names services: small letters, digits and -, from a letter on."""
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower())
    return (plain if plain[0].isalpha() else f"model-{plain}")[:_LONGEST_SERVICE].rstrip("-")


# ------------------------------------------------------------------ what several have


def _copy_network(kept: Bundle, folder: Path, *, in_folder: bool) -> Path:
    """Where the network's files are then: Triton takes those of an ONNX network that has several in a folder
    of their own."""
    files = list(kept.loaded_files())
    target = folder / NETWORK if in_folder and kept.format == "onnx" and len(files) > 1 else folder
    target.mkdir(parents=True)
    for file in files:
        shutil.copyfile(kept.folder / file, target / file)
    return target


def _copy_labels(kept: Bundle, folder: Path) -> bool:
    """One name a line. Whether there are any."""
    labels = kept.label_set()
    if labels is None:
        return False
    lines = "".join(f"{' '.join(name.splitlines())}\n" for name in labels.names)
    (folder / _LABELS).write_text(lines, encoding="utf-8")
    return True


def _ends(kept: Bundle) -> tuple[list[End], list[End]]:
    if kept.format == "onnx":
        return onnx_files.ends(kept.network)
    return openvino_ends(kept.network)


def openvino_ends(path: Path) -> tuple[list[End], list[End]]:
    """The inputs and outputs of a network in OpenVINO's own format. Raises InvalidInputError."""
    try:
        root = ElementTree.parse(path).getroot()
        layers = {layer.attrib["id"]: layer for layer in root.iter("layer")}
        ports = {(key, port.attrib["id"]): port for key, one in layers.items() for port in one.iter("port")}
        before = {edge.attrib["to-layer"]: (edge.attrib["from-layer"], edge.attrib["from-port"])
                  for edge in root.iter("edge")}  # fmt: skip
        found: dict[str, list[End]] = {"Parameter": [], "Result": []}
        for key, layer in layers.items():
            kind = layer.attrib["type"]
            if kind in found:
                port = ports[key, "0"] if kind == "Parameter" else ports[before[key]]
                found[kind].append(_openvino_end(port))
    except (OSError, ElementTree.ParseError, KeyError, ValueError) as error:
        raise InvalidInputError(f"{path} can't be read as a network: {error}.", EXPORT_AGAIN) from error
    return found["Parameter"], found["Result"]


def _openvino_end(port: ElementTree.Element) -> End:
    kinds = {"FP32": "float32", "FP16": "float16", "U8": "uint8"}
    extents = [int(extent.text or "") for extent in port.iter("dim")]
    kind = port.attrib["precision"]
    name = port.attrib["names"].split(",")[0]
    return End(name, kinds.get(kind, kind), tuple(None if one < 0 else one for one in extents))


def _client_preprocesses(kept: Bundle, server: str, name: str, model: str) -> list[str]:
    steps = model_card.preprocessing(asdict(record_of(kept)), MANIFEST)
    return [
        f"{server} doesn't preprocess: a client must, exactly so, or the answers are wrong. {steps}",
        "```python\n"
        "import json\nfrom pathlib import Path\n\n"
        "from vertebra.data.preprocess import Preprocess, preprocess\n\n"
        f'record = Preprocess.from_dict(json.loads(Path("{MANIFEST}").read_text())["preprocess"])\n'
        f'images = preprocess("photo.jpg", record)[None]  # the tensor "{name}" of {model}\n'
        "```",
    ]


def _found(kept: Bundle, name: str, inputs: Sequence[End], outputs: Sequence[End]) -> str:
    """What the server finds in the folder."""
    sizes = ", ".join(map(str, inputs[0].shape[1:]))
    return (
        f"The server finds `{name}` here: its input is `{inputs[0].name}`, [N, {sizes}], {inputs[0].kind}; "
        f"its output `{outputs[0].name}` holds {model_card.OUTPUTS[outputs_of(kept)]}."
    )


def _readme(
    kept: Bundle, name: str, server: str, commands: Sequence[str], about: str, *preprocessing: str
) -> str:
    weights = f"with the weights {kept.weights}" if kept.weights else "untrained: its answers mean nothing"
    said = f"{kept.model}, {weights}; {kept.format}, {kept.precision}."
    if kept.assumed:
        said += f" Not stated by its maker, and assumed: {', '.join(kept.assumed)}."
    lines = ["```console", *(line if line.startswith(" ") else f"$ {line}" for line in commands), "```"]
    return "\n\n".join(
        [f"# {name}, for {server}", said, "\n".join(lines), about, "## Preprocessing", *preprocessing]
    )


_SERVERS = {"triton": "Triton", "openvino": "OpenVINO Model Server"}
_FORMATS = {"triton": ("onnx", "openvino"), "openvino": ("onnx", "openvino")}
#: kind -> writes its files into a folder and returns the text of README.md
KINDS: dict[str, Callable[[Path, Bundle, str], str]] = {
    "triton": _triton, "openvino": _openvino, "kserve": _kserve, "docker": _docker,
}  # fmt: skip
