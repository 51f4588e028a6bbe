"""The machine as the harness sees it: what it is, what goes on, what is missing, and what it can show.

`examine` tells all of it; what it measures are rows of the model `machine`, which readers of networks leave
out.
"""

from vertebra.diagnosis.examination import Diagnosis, examine

__all__ = ["Diagnosis", "examine"]
