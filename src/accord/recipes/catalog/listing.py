"""The one catalogue of names: every kind of thing there is to choose, as lists of plain data."""

from collections.abc import Mapping
from typing import Any

from accord.data import BUILTIN, LAYOUTS
from accord.errors import UnknownNameError
from accord.models import BACKBONES
from accord.recipes.catalog.losses import describe_losses
from accord.recipes.catalog.miners import MINERS
from accord.recipes.named import RECIPES
from accord.recipes.protocols import PROTOCOLS

ENSEMBLES: dict[str, str] = {
    "fixed": "fixed weights after dividing each loss by its running scale (`ensemble.normalise`)",
    "published": "weights trained with the network, held to a sum of 1: the ensemble paper's rule",
    "uncertainty": "each loss divided by its learned uncertainty",
    "dynamic_average": "more weight for losses that fell little in the last epoch",
    "grad_norm": "weights learned so that losses that lag behind have the longer gradient",
    "random": "weights drawn anew in each step: what a rule must beat",
    "pcgrad": "`ensemble.balance`: take out of each gradient what goes against another",
    "cagrad": "`ensemble.balance`: near the sum, what serves the worst-served loss best",
    "nash_mtl": "`ensemble.balance`: the gradient on which losses that bargain agree, whatever their scales",
    "aligned_mtl": "`ensemble.balance`: gradients made orthogonal and equally long, then summed",
    "distance_hinge": "`ensemble.diversity`: the heads' vectors of one item far apart, as published",
    "cka": "`ensemble.diversity`: heads that are not rotations of each other, by linear CKA",
    "distance_decorrelation": "`ensemble.diversity`: heads whose distances between items do not go together",
    "adversarial": "`ensemble.diversity`: heads that regressors can't predict from each other",
    "partition": "`ensemble.labels`: each head learns random groups of the classes",
    "subset": "`ensemble.labels`: each head learns a random share of the classes",
    "distil": "`ensemble.student`: a linear head taught the ensemble's neighbourhoods meanwhile, and used in its place",
    "stress": "`ensemble.student`: the ensemble paper's network on top of the heads, taught their distances",
}

METRICS: dict[str, str] = {
    "recall@k": "share of queries with an item of their class among the k nearest (usually k = 1, 2, 4, 8)",
    "precision@k": "share of right items among the k nearest",
    "map@k": "average precision among the k nearest, divided by min(k, R)",
    "ndcg@k": "discounted gain of the k nearest, over its largest value",
    "map@r": "mean average precision over the R nearest, R = number of other items of the class",
    "r_precision": "share of right items among the R nearest",
    "mrr": "1 / rank of the first right item",
    "knn_accuracy": "leave-one-out vote of the 3 nearest neighbours",
    "nmi": "normalised mutual information of k-means clusters and classes, mean over 10 seeds",
    "ami": "the same information corrected for chance",
    "ari": "pairs on which clusters and classes agree, corrected for chance",
    "f1": "harmonic mean of precision and recall of pairs in one cluster",
    "purity": "share of items in the largest class of their cluster",
    "triplet_accuracy": "share of test triplets whose anchor is closer to its positive (where triplets were given)",
}


def listing(kind: str) -> list[dict[str, Any]]:
    """One kind of names as a list of objects, each with `name` and `summary`."""
    tables: Mapping[str, Mapping[str, str]] = {
        "ensembles": ENSEMBLES,
        "data": BUILTIN,
        "layouts": LAYOUTS,
        "metrics": METRICS,
        "miners": {name: miner.summary for name, miner in MINERS.items()},
        "protocols": {name: protocol.summary for name, protocol in PROTOCOLS.items()},
        "recipes": {name: recipe.summary for name, recipe in RECIPES.items()},
    }
    if kind == "losses":
        return describe_losses()
    if kind == "backbones":
        return [
            {
                "name": name,
                "summary": info.description,
                "width": info.width,
                "parameters": info.parameters,
                "licence": info.licence,
                "weights_package": info.weights_package,
            }
            for name, info in BACKBONES.items()
        ]
    if kind not in tables:
        raise UnknownNameError("list", kind, [*tables, "losses", "backbones"])
    return [{"name": name, "summary": summary} for name, summary in tables[kind].items()]
