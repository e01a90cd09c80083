"""The loop that yields steps, the groups and rates it trains with, and the state it goes on from."""

from accord.training._collapse import collapse, spread
from accord.training._groups import Rates, parameter_groups
from accord.training._schedule import warmup_cosine
from accord.training._state import environment_changes, restore, training_state
from accord.training._train import train

__all__ = [
    "Rates",
    "collapse",
    "environment_changes",
    "parameter_groups",
    "restore",
    "spread",
    "train",
    "training_state",
    "warmup_cosine",
]
