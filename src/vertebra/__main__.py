"""`python -m vertebra`, the same as `vertebra`."""

from vertebra.cli import main

main()
