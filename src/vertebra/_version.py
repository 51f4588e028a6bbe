"""The version, in a module that imports nothing: whoever needs it doesn't import the whole package."""

__version__ = "0.1.0"
