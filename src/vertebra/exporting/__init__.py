"""Export: a network's builder becomes a Bundle, in this process or in a separate one.

`python -m vertebra.exporting` reads jobs from stdin, one line of JSON each: {"subject", "folder",
"input_size", "in_channels"}, and optionally "card" (weights, preprocessing and labels, as
`bundles.Card.to_dict` makes it), "engine", "precision", "batch_size", "calibration" (the options of
`quantisation.asked`) and "drawn" (true: a graph that ships gets drawn parameters). A job with the folder null
only checks the network's activations. Each job is answered with one line on stdout as soon as it is done:
{"folder", "seconds", "error", "message", "hint"}, where `error` is null or the name of the exception.
Importing torch and its exporter takes longer than exporting a small network, so one process should get all
the jobs. If it dies, the first unanswered job killed it. It ends when its parent has died.
"""

from __future__ import annotations

from vertebra.exporting.conversion import check, export

__all__ = ["check", "export"]
