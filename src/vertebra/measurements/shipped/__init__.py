"""Figures that ship with the package, as data: published figures, and the profiles of the zoo's networks."""

from vertebra.measurements.shipped.catalogue import Count, counts
from vertebra.measurements.shipped.edition import digest
from vertebra.measurements.shipped.profiles import Layer, Stage, layers, models, stages, totals

__all__ = ["Count", "Layer", "Stage", "counts", "digest", "layers", "models", "stages", "totals"]
