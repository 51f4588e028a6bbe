"""From an encoded picture to a network's input: one record, one implementation of it, no torch.

>>> from vertebra.preprocess import protocols
>>> protocols.find("paddleclas").resized(480, 640)
(256, 341)
"""

from vertebra.preprocess.decode import MAX_PIXELS, Source, decode, open_image
from vertebra.preprocess.pipeline import preprocess, preprocess_many
from vertebra.preprocess.record import Preprocess

__all__ = ["MAX_PIXELS", "Preprocess", "Source", "decode", "open_image", "preprocess", "preprocess_many"]
