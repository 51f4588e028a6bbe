"""What ships: a folder with a network, its manifest and the proof of what it must answer."""

from vertebra.bundles.bundle import (
    Bundle,
    Card,
    add_picture,
    copy,
    is_zipped,
    read,
    reference_images,
    write,
    write_rows,
)
from vertebra.bundles.places import draft

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
