"""FILL: fillers, one room each: each learns a number about a network and returns rows."""
