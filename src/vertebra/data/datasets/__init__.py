"""Labelled pictures in the usual layouts, read as they are used.

`open("path")` detects the layout from what is there: class folders, ImageNet's validation layouts and
official archives, lists, WebDataset's shards, Parquet, the MNIST family's files. docs/datasets.md describes
each.
"""

from vertebra.data.datasets.dataset import Dataset, Sample
from vertebra.data.datasets.formats import FORMATS, open
from vertebra.data.datasets.imagenet import is_validation

__all__ = ["FORMATS", "Dataset", "Sample", "is_validation", "open"]
