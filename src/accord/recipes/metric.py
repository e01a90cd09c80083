"""The metric of a trained run: when training is done, what varies within the training classes is made to count less."""

import torch
from torch import Tensor

from accord.data import ClassMap
from accord.ensembles import wccn
from accord.errors import BatchError
from accord.models import Embedder
from accord.recipes.compress_methods import SHRINKAGE
from accord.recipes.compress_space import head_of, heads_of, space_of
from accord.recipes.features import Features
from accord.recipes.watch import Watch, bar
from accord.types import Manifest

METRIC = "metric"  # the head that stands for all others


@torch.no_grad()
def with_metric(embedder: Embedder, train: Manifest, features: Features, watch: Watch) -> Embedder:
    """The Embedder with one head in place of all: the joined embedding after `wccn` of the training images.

    Costs one pass over those that `features` does not hold yet, and shares the trunk. Where no class has two images
    there is nothing to normalise by; it says so, and the Embedder stays as it is.
    """
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
