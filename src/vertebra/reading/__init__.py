"""READ: rows become an answer: the choice, the comparison, charts and reports."""
