"""How good embeddings are: retrieval, neighbour votes and clusters on classes, per query, with chance and intervals.

Everything here takes tensors and gives tensors or numbers; nothing is read, written or logged.
"""

from accord.evaluation._chance import chance_levels, random_map_at_r, random_recall
from accord.evaluation._clustering import nmi, normalised_mutual_information
from accord.evaluation._confusion import Confusion, confused_pairs
from accord.evaluation._evaluate import evaluate, recall_curve
from accord.evaluation._kmeans import kmeans
from accord.evaluation._statistics import PerClass, class_bootstrap, per_class

__all__ = [
    "Confusion",
    "PerClass",
    "chance_levels",
    "class_bootstrap",
    "confused_pairs",
    "evaluate",
    "kmeans",
    "nmi",
    "normalised_mutual_information",
    "per_class",
    "random_map_at_r",
    "random_recall",
    "recall_curve",
]
