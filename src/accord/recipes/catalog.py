"""The one catalogue of names: what each name stands for, where it lives, which paper it follows, what it needs."""

import inspect
from collections.abc import Mapping
from importlib import import_module
from typing import Any, NamedTuple

import torch
from torch import nn

from accord.data import BUILTIN
from accord.errors import UnknownNameError, UsageError
from accord.models import BACKBONES
from accord.recipes.named import RECIPES


class LossInfo(NamedTuple):
    """One loss of the catalogue. `needs` lists what its constructor or its batches require."""

    path: str
    family: str
    summary: str
    paper: str
    year: int
    needs: tuple[str, ...] = ()


LOSSES: dict[str, LossInfo] = {
    "contrastive": LossInfo(
        "accord.losses.Contrastive",
        "pair",
        "pulls pairs of one class together, pushes others until a margin separates them",
        "Hadsell, Chopra, LeCun, CVPR 2006",
        2006,
        ("pairs",),
    ),
    "triplet_margin": LossInfo(
        "accord.losses.TripletMargin",
        "pair",
        "an anchor must be nearer to its own class than to another by a margin",
        "Schroff, Kalenichenko, Philbin, CVPR 2015 (FaceNet)",
        2015,
        ("pairs",),
    ),
    "n_pair": LossInfo(
        "accord.losses.NPair",
        "pair",
        "one positive against the positives of all other classes of the batch",
        "Sohn, NIPS 2016",
        2016,
        ("pairs",),
    ),
    "multi_similarity": LossInfo(
        "accord.losses.MultiSimilarity",
        "pair",
        "mines and weights pairs by self- and relative similarity",
        "Wang et al., CVPR 2019",
        2019,
        ("pairs",),
    ),
    "proxy_nca": LossInfo(
        "accord.losses.ProxyNCA",
        "proxy",
        "compares each item with one learned proxy per class",
        "Movshovitz-Attias et al., ICCV 2017",
        2017,
        ("classes",),
    ),
    "smoothed_cross_entropy": LossInfo(
        "accord.losses.SmoothedCrossEntropy",
        "classification",
        "softmax classification with label smoothing",
        "Szegedy et al., CVPR 2016",
        2016,
        ("classes",),
    ),
    "normalised_softmax": LossInfo(
        "accord.losses.NormalisedSoftmax",
        "classification",
        "softmax over cosines with a temperature",
        "Zhai and Wu, BMVC 2019",
        2019,
        ("classes",),
    ),
}

ENSEMBLES: dict[str, str] = {
    "fixed": "fixed weights after dividing each loss by its running scale (`ensemble.normalise`)",
}

METRICS: dict[str, str] = {
    "recall@k": "share of queries with an item of their class among the k nearest (k = 1, 2, 4, 8)",
    "map@r": "mean average precision over the R nearest, R = number of other items of the class",
    "r_precision": "share of right items among the R nearest",
    "nmi": "normalised mutual information of k-means clusters and classes, mean over 10 seeds",
    "knn_accuracy": "leave-one-out vote of the 3 nearest neighbours",
}


def build_loss(
    name: str,
    *,
    dim: int | None = None,
    classes: int | None = None,
    generator: torch.Generator | None = None,
    **options: Any,
) -> nn.Module:
    """Build a loss by its catalogued name; options are checked.

    `dim`, `classes` and `generator`, which draws their first values, go to the losses that learn a vector per class.
    """
    if name not in LOSSES:
        raise UnknownNameError("loss", name, LOSSES)
    info = LOSSES[name]
    factory = _load(info.path)
    if "classes" in info.needs:
        if dim is None or classes is None:
            raise UsageError(f"{name} learns one vector per class: give dim= and classes=.")
        options = {"dim": dim, "classes": classes, **options}
    learned = {"generator": generator} if "classes" in info.needs else {}
    known = [parameter for parameter in inspect.signature(factory).parameters if parameter != "generator"]
    for option in options:
        if option not in known:
            raise UnknownNameError(f"option of {name}", option, known)
    try:
        built: nn.Module = factory(**options, **learned)
    except TypeError as error:
        raise UsageError(f"{name}: {error}.") from None
    return built


def describe_losses() -> list[dict[str, Any]]:
    """Every loss as plain data: name, family, import path, parameters with defaults, paper, year, needs."""
    return [
        {"name": name, **info._asdict(), "needs": list(info.needs), "parameters": _parameters(info)}
        for name, info in LOSSES.items()
    ]


def listing(kind: str) -> list[dict[str, Any]]:
    """One kind of names as a list of objects, each with `name` and `summary`."""
    tables: Mapping[str, Mapping[str, str]] = {
        "ensembles": ENSEMBLES,
        "data": BUILTIN,
        "metrics": METRICS,
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


def _load(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(import_module(module), name)


def _parameters(info: LossInfo) -> list[dict[str, Any]]:
    signature = inspect.signature(_load(info.path))
    return [
        {"name": name, "default": None if parameter.default is inspect.Parameter.empty else parameter.default}
        for name, parameter in signature.parameters.items()
        if name != "generator"
    ]
