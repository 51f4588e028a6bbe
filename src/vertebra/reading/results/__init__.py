"""A results repository: a folder of submissions that anyone can host, and the pages that follow from them."""

from vertebra.reading.results.repository import Repository, write

__all__ = ["Repository", "write"]
