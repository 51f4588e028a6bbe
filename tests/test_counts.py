"""The counts of the whole catalogue that ship, against published ones and against a fresh count."""

from __future__ import annotations

import dataclasses
import random
import sys
from pathlib import Path

import pytest
from torch import nn

from vertebra import zoo
from vertebra.measurements import shipped
from vertebra.measurements.shipped import published
from vertebra.measuring import profiler
from vertebra.zoo import adapters, papers

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))

import catalogue  # noqa: E402

COUNTS = shipped.counts()
BIANCO = {line["model"]: line for line in published.printed("bianco2018.csv")}
ENTRIES = {entry.network: entry for entry in papers.BIANCO2018.entries}


def test_every_network_is_counted_but_those_that_take_no_square_pictures() -> None:
    missing = set(catalogue.names()) - set(COUNTS)
    assert {name for name in missing if "sapiens2" not in name} == set()
    assert len(missing) == 5


def test_no_count_is_of_a_network_that_does_not_exist() -> None:
    assert set(COUNTS) <= set(catalogue.names())
    assert len([name for name in COUNTS if name.startswith("timm:")]) == len(adapters.known("timm")) - 5


def test_our_own_networks_are_counted_as_their_profiles_say() -> None:
    for model in zoo.models():
        count, totals = COUNTS[model.name], shipped.totals(model.name)
        assert {name: getattr(count, name) for name in totals} == totals


def test_at_least_98_of_100_published_counts_are_ours() -> None:
    compared, differences = catalogue.compare()
    assert compared > 1300
    assert len({one.model for one in differences}) <= 0.02 * compared


def test_every_exception_is_listed_with_its_reason() -> None:
    _, differences = catalogue.compare()
    page = (ROOT / "docs" / "profile.md").read_text(encoding="utf-8")
    assert all(catalogue.reason(one.model) for one in differences)
    assert catalogue.table(differences) in page


def test_a_count_that_is_off_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    off = dataclasses.replace(COUNTS["timm:resnet50"], params=25_567_032, macs_fvcore=4_400_000_000)
    monkeypatch.setattr(catalogue.shipped, "counts", lambda: {"timm:resnet50": off})
    _, differences = catalogue.compare()
    assert {one.what for one in differences if one.model == "timm:resnet50"} == {"parameters, M", "MACs, G"}


SAMPLE = random.Random(6).sample(sorted(name for name in COUNTS if COUNTS[name].params < 30e6), 8)


@pytest.mark.parametrize("name", SAMPLE)
def test_a_fresh_count_is_what_ships(name: str) -> None:
    outcome = catalogue.count_one(name)
    assert outcome.count == COUNTS[name]


@pytest.mark.slow
def test_a_fresh_count_of_every_network_is_what_ships() -> None:
    for outcome in catalogue.count(catalogue.names(), 2):
        assert outcome.count == COUNTS.get(outcome.model)


# ------------------------------------------------------------------ the paper's recounted columns


@pytest.mark.parametrize("network", BIANCO)
def test_parameters_and_macs_are_those_recounted_on_the_papers_own_code(network: str) -> None:
    line, count = BIANCO[network], COUNTS[ENTRIES[network].model]
    assert count.input_size == int(line["input_size"])
    held = round((count.params + count.unused_params) / 1e6, 3)
    assert held == pytest.approx(float(line["params_m_recomputed"]), abs=0.0011)
    assert count.macs / 1e9 == pytest.approx(float(line["gmacs_all_recomputed"]), rel=1e-3)


@pytest.mark.parametrize("network", random.Random(4).sample(list(BIANCO), 4))
def test_the_papers_own_figure_is_regenerated(network: str) -> None:
    """Its script counts 2 per multiply-accumulate and 1 per bias of convolutions, and halves the sum."""
    name = ENTRIES[network].model
    model = zoo.find(name)
    built = zoo.build(name)
    one = profiler.profile(built, model=name, input_size=model.input_size)
    biased = sum(
        layer.activations
        for layer in one.layers
        if isinstance(part := built.get_submodule(layer.name), nn.Conv2d) and part.bias is not None
    )
    assert round((one.macs_conv + biased / 2) / 1e9, 4) == float(BIANCO[network]["gmacs_conv_recomputed"])
