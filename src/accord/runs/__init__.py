"""Doorway to disk: run folders, checkpoints, logs and fingerprints; knows tensors and JSON, and no models."""

from accord.runs._folder import RunFolder
from accord.runs._state import State
from accord.runs._weights import packaged_weights, read_weights

__all__ = ["RunFolder", "State", "packaged_weights", "read_weights"]
