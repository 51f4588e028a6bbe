"""`python -m vertebra.cli`, the same as `vertebra`."""

from vertebra.cli import main

main()
