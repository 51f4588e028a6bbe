"""The published figures that ship, against totals and single figures taken from the tables themselves."""

from __future__ import annotations

import csv
import hashlib
from collections import Counter
from decimal import Decimal
from functools import cache
from importlib.resources import files
from typing import Any

import pytest

import vertebra
from vertebra.errors import InvalidInputError, UnknownNameError
from vertebra.measurements import Measurement, Table, shipped, wide
from vertebra.measurements.shipped import published
from vertebra.measuring import citations
from vertebra.zoo import adapters

# Taken from the published tables by adding up their columns, before they were packed.
ACCURACIES = {
    # library: lines, sum of top-1, of top-5 (percent), of input sizes
    "timm": (1556, "126023.658", "148206.602", 419273),
    "torchvision": (115, "8939.748", "10702.912", 29065),
}
COMPLEXITIES = {
    # library: lines, parameters (M), GMACs, activations (M), file sizes (MiB)
    "timm": (1764, "200393.19", "100776.81", "155173.05", "0"),
    "torchvision": (115, "9251.197", "3351.589", "0", "34992.969"),
}
BENCHMARKS = {
    # table: lines, sum of images per second, sum of batch sizes
    "amp-nchw-pt113-cu117-rtx3090": (932, "2681816.14", 826800),
    "amp-nchw-pt210-cu121-rtx3090": (1291, "3762409.38", 1164266),
    "amp-nchw-pt240-cu124-rtx3090": (1443, "4520897.50", 1293466),
    "amp-nchw-pt240-cu124-rtx4090-dynamo": (1443, "10892553.83", 362660),
    "amp-nchw-pt240-cu124-rtx4090": (1444, "6351689.10", 1288922),
    "amp-nchw-pt291-cu128-4090-dynamo": (1625, "14200811.03", 1502362),
    "amp-nchw-pt291-cu128-4090": (1627, "8537787.33", 1460222),
    "amp-nchw-pt291-cu130-5090-dynamo": (1627, "22053855.52", 1531240),
    "amp-nchw-pt291-cu130-5090": (1627, "11930439.66", 1511204),
    "amp-nchw-pt291-cu130-pro6000maxq-dynamo": (1628, "21269786.38", 2947424),
    "amp-nchw-pt291-cu130-pro6000maxq": (1629, "11530080.62", 3128912),
    "amp-nhwc-pt113-cu117-rtx3090": (929, "3022700.77", 835360),
    "amp-nhwc-pt210-cu121-rtx3090": (1204, "4179563.35", 1111956),
    "amp-nhwc-pt240-cu124-rtx3090": (1430, "5144840.32", 1295828),
    "amp-nhwc-pt240-cu124-rtx4090": (1441, "7287727.68", 699844),
    "amp_bf16-nchw-pt291-cu130-pro6000maxq-dynamo": (1628, "21250592.22", 2947296),
    "bf16-nchw-pt291-cu130-pro6000maxq-dynamo": (1622, "21105811.24", 2936544),
    "fp32-nchw-pt221-cpu-i9_10940x-dynamo": (1321, "62756.74", 1321),
    "fp32-nchw-pt240-cpu-i7_12700h-dynamo": (1440, "48007.67", 1440),
    "fp32-nchw-pt240-cpu-i9_10940x-dynamo": (1435, "76586.29", 1435),
}
PAPERS = {
    "bianco2018.csv": (44, {
        "top1_readme": "3059.426", "top5_readme": "3766.052", "ref_top1": "1184.013", "ref_top5": "1416.113",
        "params_m_recomputed": "2386.896", "model_size_mb_recomputed": "9561.32",
        "gmacs_conv_recomputed": "352.6301", "gmacs_all_recomputed": "353.6579",
    }),
    "canziani2016.csv": (14, {
        "top1_moons": "838.5", "gops_moons": "121.45", "params_m_moons": "477.75", "top1_auto": "896",
        "gops_auto": "143",
    }),
}  # fmt: skip
#: Every cell of the columns that ship, a line a network, in the published order.
PAPER_CELLS = {
    "bianco2018.csv": "f7224a02a701389c0d364d3ab7138e71be43d7803e9030122a58f4921d9bd7cd",
    "canziani2016.csv": "e5df490bf56e48ecb333ba4b5903352fdb315740047b5017490da3ae16f7fae4",
}
#: All 353 figures of the page's tables in its editions, one a line, sorted.
SEED_TABLES = "5ea46d918050f3e44c17c953e1f48c2040a60eb3b614dffeb6ec50005e8085a8"


@cache
def told(source: str) -> tuple[Measurement, ...]:
    return tuple(citations.find(source).read())


def total(lines: list[dict[str, str]], column: str) -> Decimal:
    return sum((Decimal(line[column]) for line in lines if line[column]), Decimal(0))


def of(file: str, library: str) -> list[dict[str, str]]:
    return [line for line in published.printed(file) if line["model"].startswith(f"{library}:")]


# ------------------------------------------------------------------ the tables, whole


@pytest.mark.parametrize("library", ACCURACIES)
def test_no_accuracy_was_lost_or_changed(library: str) -> None:
    lines = of("imagenet.csv.gz", library)
    sums = (str(total(lines, "top1")), str(total(lines, "top5")), int(total(lines, "input_size")))
    assert (len(lines), *sums) == ACCURACIES[library]


@pytest.mark.parametrize("library", COMPLEXITIES)
def test_no_count_was_lost_or_changed(library: str) -> None:
    lines = of("complexity.csv.gz", library)
    sums = [str(total(lines, name)) for name in ("params_m", "gmacs", "macts_m", "file_size_mib")]
    assert (len(lines), *sums) == COMPLEXITIES[library]


def test_no_throughput_was_lost_or_changed() -> None:
    tables = {table.name: list(table.figures.values()) for table in published.benchmarks()}
    assert set(tables) == set(BENCHMARKS)
    for name, figures in tables.items():
        number, rates, batches = BENCHMARKS[name]
        assert (len(figures), sum(batch for batch, _ in figures)) == (number, batches)
        assert sum(rate for _, rate in figures) == pytest.approx(float(rates), abs=0.005)
    assert sum(map(len, tables.values())) == 28_766


@pytest.mark.parametrize("file", PAPERS)
def test_the_papers_columns_are_whole(file: str) -> None:
    lines = list(published.printed(file))
    number, sums = PAPERS[file]
    assert len(lines) == number
    assert {name: str(total(lines, name)) for name in sums} == sums
    cells = "\n".join("|".join(line.values()) for line in lines)
    assert hashlib.sha256(cells.encode()).hexdigest() == PAPER_CELLS[file]


def test_the_pages_own_tables_are_whole() -> None:
    columns = (
        "model", "metric", "device", "engine", "precision", "batch_size", "input_size", "printed", "unit",
    )  # fmt: skip
    lines = sorted("|".join(line[name] for name in columns) for line in published.printed("paddleclas.csv"))
    assert len(lines) == 353
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == SEED_TABLES


def test_all_of_it_is_small() -> None:
    folder = files("vertebra.measurements.shipped")
    held = sum(len(file.read_bytes()) for file in folder.iterdir() if file.name.endswith((".csv", ".gz")))
    assert held < 700_000


# ------------------------------------------------------------------ the rows made of them


def test_every_printed_figure_is_a_row_of_its_source() -> None:
    accuracies = Counter(row.metric for row in told("imagenet"))
    assert accuracies == {"top1": 1670, "top5": 1670}  # one set of torchvision's publishes none
    assert Counter(row.metric for row in told("timm")) == {"throughput": 28_766}
    complexities = Counter(row.metric for row in told("complexity") if row.model.startswith("timm:"))
    assert complexities == {"params": 1764, "macs": 1764, "activations": 1764}
    papers = Counter(row.metric for row in told("bianco2018"))
    assert (papers["top1"], papers["params"], papers["macs"], papers["reference_top1"]) == (41, 44, 88, 15)


def test_no_two_rows_are_of_one_figure() -> None:
    """What differs in nothing but the value would hide one of the two."""
    for source in ("imagenet", "complexity", "timm", "canziani2016"):
        read = told(source)
        keys = {
            (row.model, row.weights, row.metric, row.source, row.convention, *row.conditions().items())
            for row in read
        }
        assert len(keys) == len(read)


@pytest.mark.parametrize("source", [name for name in citations.SOURCES if name != "catalogue"])
def test_every_row_says_where_it_is_from_and_every_count_how_it_was_counted(source: str) -> None:
    for row in told(source):
        assert row.source
        assert row.origin == "published"
        if row.metric in ("macs", "operations", "activations"):
            assert row.convention


@pytest.mark.parametrize(
    ("source", "model", "metric", "where", "value"),
    [
        ("imagenet", "timm:eva02_large_patch14_448", "top1",
         {"weights": "eva02_large_patch14_448.mim_m38m_ft_in22k_in1k", "input_size": 448}, 0.90056),
        ("imagenet", "torchvision:alexnet", "top5",
         {"weights": "alexnet.IMAGENET1K_V1", "protocol": "centre crop of 87.5 %"}, 0.79066),
        ("imagenet", "torchvision:convnext_base", "top1", {"protocol": "centre crop of 96.6 %"}, 0.84062),
        ("complexity", "torchvision:alexnet", "params", {}, 61_101_000),
        ("complexity", "torchvision:alexnet", "macs", {"input_size": 224}, 714_000_000),
        ("complexity", "torchvision:alexnet", "weight_bytes", {}, 233.087 * 2**20),
        ("complexity", "timm:tinynet_e", "activations", {"input_size": 106}, 690_000),
        ("timm", "timm:tinynet_e", "throughput",
         {"system": "nvidia-rtx-3090", "layout": "nchw", "versions": {"torch": "1.13", "cuda": "11.7"},
          "batch_size": 1024, "input_size": 106, "engine": "eager", "precision": "amp-float16"}, 49277.65),
        ("timm", "timm:samvit_huge_patch16", "throughput",
         {"system": "intel-i9-10940x", "versions": {"torch": "2.4.0"}, "batch_size": 1, "input_size": 1024,
          "engine": "compile", "precision": "float32", "device": "cpu"}, 0.22),
        ("bianco2018", "torchvision:vgg16", "macs",
         {"convention": citations.papers.CONVOLUTIONS}, 15_353_400_000),
        ("bianco2018", "timm:legacy_senet154", "reference_top1", {}, 0.8132),
        ("canziani2016", "torchvision:resnet152", "operations", {"input_size": None}, 23e9),
    ],
)  # fmt: skip
def test_single_figures_in_base_units(
    source: str, model: str, metric: str, where: dict[str, Any], value: float
) -> None:
    found = {
        row.value
        for row in told(source)
        if (row.model, row.metric) == (model, metric)
        and all(getattr(row, name) == wanted for name, wanted in where.items())
    }
    assert found == {value}


def test_networks_bear_names_of_today() -> None:
    """Only what timm has dropped altogether keeps a name that builds nothing."""
    known = {f"{library}:{name}" for library in adapters.LIBRARIES for name in adapters.known(library)}
    gone = {row.model for source in ("imagenet", "complexity", "timm") for row in told(source)} - known
    assert len(gone) <= 12
    old = {row.weights for row in told("timm") if row.model == "timm:resnet50"}
    assert {None, "resnet50.tv_in1k", "resnet50.gluon_in1k"} <= old


# ------------------------------------------------------------------ never merged


def test_an_accuracy_is_never_joined_with_another_weights_or_sizes(tmp_path) -> None:
    resnet = [row for row in told("imagenet") if row.model == "timm:resnet50"]
    assert len({row.weights for row in resnet}) > 10
    (row,) = wide(resnet)
    one, five = row.figures["top1"], row.figures["top5"]
    assert (one.weights, one.input_size, one.protocol) == (five.weights, five.input_size, five.protocol)
    assert "top1" not in row.conflicts


def test_a_network_that_never_ran_is_shown_at_one_size() -> None:
    name = "timm:efficientnet_b0"
    (row,) = wide([one for source in ("imagenet", "complexity") for one in told(source) if one.model == name])
    assert {row.figures[metric].input_size for metric in ("top1", "top5", "macs", "params")} == {256}


# ------------------------------------------------------------------ by name


def test_sources_are_cited_by_name_once(tmp_path) -> None:
    table = Table(tmp_path / "table.sqlite")
    assert vertebra.cite("bianco2018", "canziani2016", table=table) == 288 + 62
    assert vertebra.cite("bianco2018", table=table) == 0
    assert vertebra.cite(table=table) == 312


def test_an_unknown_source_offers_the_known() -> None:
    with pytest.raises(UnknownNameError, match="biancho2018") as caught:
        vertebra.cite("biancho2018")
    assert "bianco2018" in (caught.value.hint or "")


def test_a_column_without_a_map_is_refused(tmp_path) -> None:
    with pytest.raises(InvalidInputError, match="of your own"):
        vertebra.cite("bianco2018", system="pi-5", table=tmp_path / "table.sqlite")
    assert not (tmp_path / "table.sqlite").exists()


def test_the_counts_of_the_catalogue_are_rows_as_a_profile_gives_them() -> None:
    counted = {(row.metric): row for row in told("catalogue") if row.model == "timm:resnet50"}
    assert counted["params"].value == 25_557_032
    assert counted["macs"].value == 4_089_184_256
    assert counted["macs"].input_size == 224
    assert {row.origin for row in counted.values()} == {"profiled"}
    assert shipped.totals("timm:resnet50.a1_in1k") == shipped.totals("timm:resnet50")


def test_shipped_tables_are_plain_csv() -> None:
    """Nothing but the standard library reads them."""
    for name in ("paddleclas.csv", "bianco2018.csv", "canziani2016.csv", "catalogue.csv"):
        text = files("vertebra.measurements.shipped").joinpath(name).read_text(encoding="utf-8")
        widths = {len(line) for line in csv.reader(text.splitlines())}
        assert len(widths) == 1
