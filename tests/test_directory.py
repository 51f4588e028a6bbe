"""Finding networks of the whole catalogue by name and limits."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest
from click.testing import CliRunner

import vertebra
from vertebra.cli import cli
from vertebra.errors import InvalidInputError, UnknownNameError
from vertebra.measurements.shipped import catalogue
from vertebra.measurements.shipped.licences import FREE
from vertebra.reading import directory
from vertebra.zoo import names


def found(*arguments: Any, **filters: Any) -> list[str]:
    return [one.name for one in directory.networks(*arguments, **filters)]


def test_the_directory_has_every_network_of_the_catalogue_and_ours() -> None:
    assert set(found()) == {*catalogue.counts(), *(model.name for model in names.models())}


@pytest.mark.parametrize("pattern", ["vgg16", "VGG16", "*vgg16*", "[v]gg16*", "?gg16"])
def test_a_pattern_is_a_part_of_the_name_or_all_of_it(pattern: str) -> None:
    assert {"vgg16", "timm:vgg16", "torchvision:vgg16"} <= set(found(pattern))


def test_a_pattern_with_a_star_matches_the_whole_name_with_or_without_its_library() -> None:
    assert {name.partition(":")[2] or name for name in found("mobilenetv3_*")} == {
        name.partition(":")[2] for name in found() if name.partition(":")[2].startswith("mobilenetv3_")
    }
    assert found("torchvision:squeezenet*") == ["torchvision:squeezenet1_1", "torchvision:squeezenet1_0"]


def test_limits_hold_at_equality_and_unknown_figures_do_not_meet_them() -> None:
    (vgg16,) = [one for one in directory.networks("vgg16") if one.name == "vgg16"]
    assert vgg16.params == 138_353_320
    assert vgg16.top1 == 0.72
    assert "vgg16" in found("vgg16", {"params": "138353320", "top1": "72%"})
    assert "vgg16" not in found("*vgg1*", {"params": "138353319"})
    every = directory.networks("*", {"params": "5M", "top1": "75%"})
    assert every
    assert all(one.params is not None and one.params <= 5e6 for one in every)
    assert all(one.top1 is not None and one.top1 >= 0.75 for one in every)


def test_the_best_go_first_and_of_several_weights_the_best_are_shown() -> None:
    tops = [one.top1 for one in directory.networks("resnet50")]
    known = [top for top in tops if top is not None]
    assert known == sorted(known, reverse=True)
    assert tops[: len(known)] == known
    (resnet50,) = [one for one in directory.networks("torchvision:resnet50") if one.name[-9:] == ":resnet50"]
    assert (resnet50.weights, resnet50.top1) == ("resnet50.IMAGENET1K_V2", 0.80858)
    fewest = [one.params for one in directory.networks("vgg*", by="params")]
    assert fewest == sorted(fewest, key=lambda params: params or 0)


def test_family_licence_size_and_source_are_filters() -> None:
    for one in directory.networks(None, licence=["mit"], input_size=[224], source="timm"):
        assert (one.licence, one.input_size, one.source) == ("mit", 224, "timm")
    free = {one.licence for one in directory.networks(None, licence=["free"])}
    assert {"mit", "apache-2.0"} < free <= set(FREE)
    assert all("resnet" in name for name in found(None, family=["resnet"]))


@pytest.mark.parametrize(
    ("asked", "error", "text"),
    [
        ({"pattern": "resnest999"}, UnknownNameError, 'Unknown network "resnest999"'),
        ({"pattern": "mobilenet", "top1": "99%"}, InvalidInputError, "None of the 4. networks"),
        ({"pattern": "mobilenet", "latency": "1ms"}, InvalidInputError, 'no limit "latency"'),
        ({"pattern": "mobilenet", "params": "many"}, InvalidInputError, "The limit params"),
        ({"pattern": "mobilenet", "by": "beauty"}, UnknownNameError, 'Unknown order "beauty"'),
        ({"what": "engines", "params": "5M"}, InvalidInputError, "--params is for models, not for engines"),
        ({"what": "engines", "pattern": "onx"}, UnknownNameError, 'Unknown engine "onx"'),
        ({"paper": "bianco2018", "pattern": "vgg"}, InvalidInputError, "--paper lists all networks"),
    ],
)
def test_what_finds_nothing_or_can_not_be_asked_is_refused(
    asked: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        vertebra.list(**asked)


def command(*arguments: str) -> str:
    done = CliRunner().invoke(cli, ["list", *arguments])
    assert done.exit_code == 0, done.output
    return done.output


def test_the_command_finds_networks_in_every_format() -> None:
    text = command("vgg16", "--source", "torchvision", "--params", "138.4M")
    assert [line.split()[0] for line in text.splitlines()[2:]] == [
        "torchvision:vgg16_bn",
        "torchvision:vgg16",
    ]
    records = json.loads(command("models", "vgg16", "--json"))
    assert {"name": "vgg16", "source": "ours"}.items() <= next(
        r for r in records if r["name"] == "vgg16"
    ).items()
    assert next(csv.DictReader(io.StringIO(command("vgg16", "--csv"))))["params"].isdigit()
    assert [one["engine"] for one in json.loads(command("engines", "onnx", "--json"))] == ["onnxruntime"]
    assert "vertebra list PATTERN" in command()


@pytest.mark.parametrize("words", [("a", "b", "c"), ("modles", "vgg")])
def test_too_many_words_are_refused(words: tuple[str, ...]) -> None:
    assert CliRunner().invoke(cli, ["list", *words]).exit_code == 2
