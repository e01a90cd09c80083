"""Softmax over classes whose own logit is changed by a margin: what rules of that kind share, for autograd and by hand.

A row's logits are `scale` times its scores with the other classes, and a `target` that stands for its own class. Rows
need at least one rival, which two classes in a table ensure.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from accord.losses._powers import LOG2_E
from accord.losses._rule import Pull, Tally
from accord.mining import Block

Rows = Float[Tensor, " row"]
Scores = Float[Tensor, "row column"]
Scale = float | Float[Tensor, "row one"]


def own_score(block: Block) -> Rows:
    """Each row's score with its own class: with the nearest of its centres, where a class has several."""
    return torch.where(block.kept, block.positives, -torch.inf).amax(dim=1)


def target_costs(target: Rows, scores: Scores, scale: Scale) -> Tally:
    """The cross-entropy of each row, log(1 + Σ exp(scale · score - target)), for autograd; -inf is no rival."""
    rivals = (scale * scores).logsumexp(dim=1)
    return Tally(_missed(rivals - target), torch.ones_like(target))


def target_pull(block: Block, target: Rows, slope: Rows | float, scores: Scores, scale: Scale) -> Pull:
    """The same by hand; `slope` is the derivative of the target by the own score.

    What it gives by negatives is by `scores`, in a table of its own.
    """
    tally, by_target, by_scores = target_parts(target, scores, scale)
    return Pull(tally, (by_target * slope)[:, None].expand_as(block.positives), by_scores)


def target_parts(target: Rows, scores: Scores, scale: Scale) -> tuple[Tally, Rows, Scores]:
    """The tally, and its derivatives by target and by scores: five passes over the scores, one of them exp."""
    rivals, shares, total = exponentials(scores, scale)
    missed = torch.sigmoid(rivals - target)
    shares.mul_(scale * missed[:, None] / total)
    return Tally(_missed(rivals - target), torch.ones_like(target)), -missed, shares


def exponentials(scores: Scores, scale: Scale) -> tuple[Rows, Scores, Float[Tensor, "row one"]]:
    """log Σ exp(scale · score) of each row; its softmax, in a table of its own, and what that must be divided by."""
    top = scores.amax(dim=1, keepdim=True)
    heat = LOG2_E * scale  # powers of two are several times as fast as exp
    shares = (scores - top).mul_(heat)  # the difference first: the largest is then 0 however large it was
    total = shares.exp2_().sum(dim=1, keepdim=True)
    return (total.log() + scale * top)[:, 0], shares, total


def _missed(lead: Rows) -> Rows:
    """log(1 + exp(lead)), exact to the last digit: torch's own threshold of 20 cuts digits of double precision off."""
    return F.softplus(lead, threshold=40.0)
