"""What ships: a folder with a network, its manifest and the proof of what it must answer."""

from vertebra.bundles.bundle import Bundle, Card, is_zipped, read, reference_images
from vertebra.bundles.places import draft
from vertebra.bundles.writing import add_picture, copy, write, write_rows

__all__ = [
    "Bundle",
    "Card",
    "add_picture",
    "copy",
    "draft",
    "is_zipped",
    "read",
    "reference_images",
    "write",
    "write_rows",
]
