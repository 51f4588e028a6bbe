"""Names that earlier versions documented for modules still import the modules, and nothing twice."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAMS = {
    "a package": """
import vertebra.charts, vertebra.reading.charts as new
assert vertebra.charts is new""",
    "a module of it": """
import vertebra.preprocess.record as old, vertebra.data.preprocess.record as new
assert old is new and old.__name__ == old.__spec__.name == 'vertebra.data.preprocess.record'""",
    "a name": """
from vertebra.preprocess import Preprocess
from vertebra.data.preprocess.record import Preprocess as New
assert Preprocess is New""",
    "a module called as its function": """
from importlib import import_module
decode = import_module("vertebra.preprocess.decode")
preprocess = import_module("vertebra.preprocess")
assert decode.decode is preprocess.decode""",
    "the earlier name first": """
from vertebra.rows import counts, published
from vertebra.measurements import shipped
assert counts is shipped.counts and published is shipped.published""",
    "a file that was a package": """
from vertebra.labels import find
from vertebra.data import labels
assert find is labels.find and len(labels.find("imagenet-1k").names) == 1000""",
    "reports": """
from vertebra.reports import published
from vertebra.reading.reports import published as new
assert published is new""",
    "an attribute": """
import vertebra
assert vertebra.rows.counts()['alexnet'].params""",
    "data.open": """
import vertebra
from vertebra.data import datasets
assert vertebra.data.open is datasets.open""",
    "names of data": """
from vertebra.data import Dataset, Sample, open
from vertebra.data.datasets import Dataset as New
assert Dataset is New""",
    "the version": """
import vertebra, sys
assert 'vertebra._version' not in sys.modules
from vertebra import __version__
assert __version__ == vertebra.__version__""",
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_earlier_names_import_what_moved(program):
    subprocess.run([sys.executable, "-W", "error", "-c", PROGRAMS[program]], check=True)


@pytest.mark.parametrize("name", ["vertebra.charts.nothing", "vertebra.nothing", "vertebra.loading"])
def test_a_name_that_never_was_is_not_found(name):
    with pytest.raises(ModuleNotFoundError, match=name.rpartition(".")[2]):
        __import__(name)


def test_unknown_attributes_are_named():
    import vertebra
    import vertebra.data

    with pytest.raises(AttributeError, match="nothing"):
        getattr(vertebra, "nothing")  # noqa: B009
    with pytest.raises(AttributeError, match="nothing"):
        getattr(vertebra.data, "nothing")  # noqa: B009
