"""From an encoded picture to a network's input: one record, one implementation of it, no torch.

>>> from vertebra.data.preprocess import protocols
>>> protocols.find("paddleclas").resized(480, 640)
(256, 341)
"""

from vertebra.data.preprocess.decode import MAX_PIXELS, Source, decode, open_image
from vertebra.data.preprocess.pipeline import preprocess, preprocess_many
from vertebra.data.preprocess.record import Preprocess

__all__ = ["MAX_PIXELS", "Preprocess", "Source", "decode", "open_image", "preprocess", "preprocess_many"]
