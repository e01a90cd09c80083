"""Finds the nearest items of a gallery; a larger score is closer."""

from accord.index._exact import ExactIndex

__all__ = ["ExactIndex"]
