"""Deep metric learning, from images to an index: one loss, or many in accord."""

__version__ = "0.1.0"
