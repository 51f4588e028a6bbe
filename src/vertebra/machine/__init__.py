"""This computer: what it is, its disk, its cache and its child processes."""
