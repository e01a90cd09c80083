"""Dynamic assignment: every point is stood for by the proxy nearest to it, found without keeping items × proxies."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from accord.checks import check_batch, check_finite, describe
from accord.errors import BatchError, UsageError
from accord.geometry import full, normalise, row_blocks
from accord.losses._engine import run
from accord.losses._plan import Member, no_autocast, nothing_from
from accord.losses._products import times
from accord.losses._proxy_each import EachRule
from accord.losses._relations import Contests, Supervision, check_relations, linked_labels
from accord.losses._settings import dense_up_to
from accord.losses._tables import matched
from accord.mining import Block, Groups
from accord.types import Embeddings, Labels, Pairs, Scalar, Triplets

ROWS = 1024  # so many items are held against a part of the table at once
PART_BYTES = 2**20


@torch.no_grad()
def nearest_proxies(embeddings: Embeddings, proxies: Float[Tensor, "proxy dim"]) -> Int[Tensor, " item"]:
    """The number of the proxy nearest to each embedding, both at unit length: argmin_p d(x, p); of ties the first.

    Movshovitz-Attias et al., ICCV 2017, the definition of p(x). No gradient passes. The table is walked through in
    parts, so nothing of size items × proxies is kept; costs one product of both.
    """
    embeddings, proxies, _, _ = matched(embeddings, proxies, ())
    embeddings, proxies = full(embeddings), full(proxies)
    found = [torch.zeros(0, dtype=torch.int64, device=embeddings.device)]
    with no_autocast(embeddings.device.type):
        for start in range(0, len(embeddings), ROWS):
            q = embeddings[start : start + ROWS]
            best = torch.full_like(q[:, 0], -torch.inf)
            number = torch.zeros_like(best, dtype=torch.int64)
            for part in row_blocks(len(proxies), len(q), budget_bytes=PART_BYTES, itemsize=q.element_size()):
                score, place = times(q, normalise(proxies[part])).max(dim=1)
                number = torch.where(score > best, place + part.start, number)
                best = torch.maximum(score, best)
            found.append(number)
    return torch.cat(found)


def check_proxies(who: str, embeddings: Embeddings, proxies: Tensor) -> None:
    """Refuse a table of proxies that does not fit the embeddings; the embeddings themselves were looked at before."""
    if not isinstance(proxies, Tensor) or proxies.ndim != 2 or not proxies.is_floating_point():
        raise BatchError(f"{who}: the proxies must be a (proxy, dim) tensor.\n  proxies: {describe(proxies)}")
    if len(proxies) < 2:
        raise UsageError(f"{who}: needs at least 2 proxies, not {len(proxies)}.")
    if proxies.shape[1] != embeddings.shape[1] or proxies.device != embeddings.device:
        raise BatchError(
            f"{who}: embeddings must have the width of the proxies and be on their device.\n"
            f"  embeddings: {describe(embeddings)}\n  proxies:    {describe(proxies)}"
        )
    check_finite(who, "the learned vectors", proxies)


def sweep_nearest(
    rule: EachRule, embeddings: Embeddings, labels: Supervision, proxies: Float[Tensor, "proxy dim"]
) -> Scalar:
    """The loss of an item x against p(y) and the multiset p(Z), y and Z being other items of the batch.

    By labels y is every other item of x's class and Z all items of other classes; by pairs the same, with what pairs
    link for a class; by triplets y and Z are what triplets say of x. The mean is over all (x, y), for hinges over all
    (x, y, z).
    """
    if isinstance(labels, Pairs | Triplets):
        check_relations(rule.name, embeddings, labels)
    else:
        check_batch(rule.name, embeddings, labels)
    check_proxies(rule.name, embeddings, proxies)
    embeddings, proxies, _, _ = matched(embeddings, proxies, ())
    return contest(rule, embeddings, proxies.index_select(0, nearest_proxies(embeddings, proxies)), labels)


def contest(rule: EachRule, embeddings: Embeddings, stand_ins: Embeddings, labels: Supervision) -> Scalar:
    """The loss of items against what stands for each of them, checked before: a proxy, or the item itself."""
    if isinstance(labels, Triplets):
        return _by_triplets(rule, embeddings, stand_ins, labels)
    known = linked_labels(labels, len(embeddings)) if isinstance(labels, Pairs) else labels
    return run([Member(rule)], embeddings, groups_of(rule, known), stand_ins)


def groups_of(rule: EachRule, labels: Labels) -> Groups:
    """Items against the stand-ins of all items but their own."""
    return Groups(labels, labels, itself=True, dense_up_to=dense_up_to(rule))


def _by_triplets(rule: EachRule, embeddings: Tensor, stand_ins: Tensor, triplets: Triplets) -> Scalar:
    """Only the triplets' own scores are computed, so cost and memory grow with their number."""
    contests = Contests(triplets, len(embeddings))
    if not len(contests.anchors):
        return nothing_from([embeddings, stand_ins])
    with no_autocast(embeddings.device.type):
        x, stand_ins = normalise(full(embeddings)), normalise(full(stand_ins))
        anchors = x[contests.anchors]
        positives = torch.linalg.vecdot(anchors, stand_ins[contests.positives])[:, None]
        negatives = torch.linalg.vecdot(anchors[:, None], stand_ins[contests.negatives])
        block = Block(
            "score",
            True,
            slice(None),
            positives,
            torch.ones_like(positives, dtype=torch.bool),
            negatives.masked_fill(~contests.kept, -torch.inf),
            contests.kept.sum(dim=1).to(positives.dtype),
        )
        costs, counts = rule.costs(block)
        assert counts is not None
        return costs.sum() / counts.sum().clamp_min(1)
