"""The metric of a trained run: when training is done, what varies within the training classes is made to count less."""

import random
from collections import defaultdict

import torch
from torch import Tensor

from accord.data import ClassMap
from accord.ensembles import wccn
from accord.errors import BatchError
from accord.models import Embedder, JoinedHead
from accord.recipes.compress.methods import SHRINKAGE
from accord.recipes.compress.space import head_of, heads_of, space_of
from accord.recipes.features import Features
from accord.recipes.watch import Watch, bar
from accord.types import Item, Manifest

METRIC = "metric"  # the head that stands for all others
MOST, EACH = 20_000, 100  # images it is fitted on, in all and of one class; 1,280 numbers vary in no more ways


@torch.no_grad()
def with_metric(embedder: Embedder, train: Manifest, features: Features, watch: Watch) -> Embedder:
    """The Embedder with one head in place of all: the joined embedding after `wccn` of the training images.

    Costs one pass over those that `features` does not hold yet, and shares the trunk. Of more than 20,000 images it
    takes whole classes, or a hundred images of each, until it has so many. Where no class has two images there is
    nothing to normalise by; it says so, and the Embedder stays as it is.
    """
    train = enough(train)
    device = next(embedder.backbone.parameters()).device
    rows = features.of(embedder, train, device=device, progress=bar(watch, "embedding train"))
    total = sum(embedder.weights.values())
    shares = {name: weight / total for name, weight in embedder.weights.items()}
    space = space_of(heads_of(embedder, shares), shares, "unit", rows)
    labels: Tensor = ClassMap(train.classes).numbers(train)
    try:
        found = wccn(space.joined(rows), labels, shrinkage=SHRINKAGE)
    except BatchError as error:
        watch.warn(f"model.metric: {error} The embedding stays as it was trained.")
        return embedder.to(device)
    head = {METRIC: head_of(space, found)}
    one = Embedder(embedder.backbone, embedder.pool, head, preprocessing=embedder.preprocessing)
    return one.to(device).eval()


def without_metric(embedder: Embedder) -> Embedder:
    """The heads that the metric was put on top of, with their shares; an Embedder without one stays as it is."""
    top = dict(embedder.heads.items()).get(METRIC)
    if not isinstance(top, JoinedHead):
        return embedder
    shares = {name: factor**2 for name, factor in top.factors.items()}
    heads = dict(top.heads.items())
    return Embedder(embedder.backbone, embedder.pool, heads, preprocessing=embedder.preprocessing, weights=shares)


def enough(train: Manifest) -> Manifest:
    """Images that the spread within classes can be told from: all, or of many those of classes drawn at random."""
    if len(train) <= MOST:
        return train
    by_class: dict[str, list[Item]] = defaultdict(list)
    for item in train.items:
        by_class[item.label].append(item)
    names, draw = sorted(by_class), random.Random(0)  # noqa: S311
    draw.shuffle(names)
    taken: list[Item] = []
    for name in names:
        taken += draw.sample(by_class[name], min(EACH, len(by_class[name])))
        if len(taken) >= MOST:
            break
    return Manifest(train.name, train.root, tuple(taken))
