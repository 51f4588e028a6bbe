"""A Bundle: a folder with a network, its preprocessing and labels, and the outputs that it must give."""

from vertebra.bundles.bundle import Bundle, Card, is_zipped, read, reference_images
from vertebra.bundles.places import draft
from vertebra.bundles.writing import add_fitted, add_picture, add_trained, copy, write, write_rows

__all__ = [
    "Bundle",
    "Card",
    "add_fitted",
    "add_picture",
    "add_trained",
    "copy",
    "draft",
    "is_zipped",
    "read",
    "reference_images",
    "write",
    "write_rows",
]
