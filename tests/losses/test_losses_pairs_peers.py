"""Pair losses equal pytorch-metric-learning's, value and gradient, where the definitions agree."""

from typing import Any

import pytest
import torch
from torch import nn

from accord.losses import NCA, Contrastive, MultiSimilarity, NPair, NTXent, SupCon, TripletMargin

pytest.importorskip("pytorch_metric_learning")
from pytorch_metric_learning import distances, losses, miners, reducers


def peer_triplets(kind: str | None, power: int, *, swap: bool = False, violating: bool = False) -> Any:
    distance = distances.LpDistance(power=power)
    reducer = reducers.AvgNonZeroReducer() if violating else reducers.MeanReducer()
    loss = losses.TripletMarginLoss(margin=0.2, distance=distance, reducer=reducer, swap=swap)
    if kind is None:
        return loss
    if kind == "batch_hard":
        miner = miners.BatchHardMiner(distance=distance)
    else:
        miner = miners.TripletMarginMiner(margin=0.2, type_of_triplets=kind, distance=distance)
    return lambda x, y: loss(x, y, miner(x, y))


BARE = distances.DotProductSimilarity(normalize_embeddings=False)
PEERS: dict[str, tuple[nn.Module, Any]] = {
    "all": (TripletMargin(mining="all"), peer_triplets(None, 2)),
    "all violating": (
        TripletMargin(mining="all", violating_only=True, squared=False),
        peer_triplets(None, 1, violating=True),
    ),
    "hard": (TripletMargin(mining="hard"), peer_triplets("hard", 2)),
    "all semi-hard": (TripletMargin(mining="all_semi_hard", squared=False), peer_triplets("semihard", 1)),
    "batch-hard": (TripletMargin(mining="batch_hard", squared=False), peer_triplets("batch_hard", 1)),
    "swapped": (TripletMargin(mining="batch_hard", swap=True), peer_triplets("batch_hard", 2, swap=True)),
    "contrastive": (
        Contrastive(margin=1.2, hinge="linear", average="kinds"),
        losses.ContrastiveLoss(pos_margin=0, neg_margin=1.2, reducer=reducers.MeanReducer()),
    ),
    "n-pair": (NPair(penalty=0.0), losses.NPairsLoss(distance=BARE)),
    "nt-xent": (NTXent(), losses.NTXentLoss(temperature=0.07)),
    "sup-con": (SupCon(), losses.SupConLoss(temperature=0.07)),
    "nca": (NCA(scale=3.0, normalised=True), losses.NCALoss(softmax_scale=3.0)),
    "multi-similarity": (
        MultiSimilarity(epsilon=None, beta=40.0),
        losses.MultiSimilarityLoss(alpha=2, beta=40, base=0.5),
    ),
}


@pytest.mark.parametrize("name", PEERS)
def test_agrees_with_pytorch_metric_learning(name: str) -> None:
    ours, theirs = PEERS[name]
    for seed in range(5):
        embeddings = torch.randn(
            40, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
        ).requires_grad_()
        labels = torch.arange(40) // 4
        left, right = ours(embeddings, labels), theirs(embeddings, labels)
        torch.testing.assert_close(left, right, rtol=1e-5, atol=1e-8)
        gradients = (torch.autograd.grad(value, embeddings)[0] for value in (left, right))
        torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-8)
