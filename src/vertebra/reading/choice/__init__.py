"""The choice: the rule, the candidates, and what to measure next."""
