"""PNP: only negatives ranked before positives are penalised."""

from dataclasses import dataclass
from typing import Literal, get_args

from torch import Tensor

from accord.checks import check_range
from accord.errors import UnknownNameError, UsageError
from accord.losses._engine import sweep
from accord.losses._ranks import Above, Itself, above, ranking
from accord.losses._row_loss import RowLoss
from accord.losses._rule import Pull, Tally
from accord.mining import Block, Measure
from accord.types import Embeddings, Labels, Scalar

PNPVariant = Literal["O", "Ds", "Dq", "Iu", "Ib"]


@dataclass(frozen=True)
class PNPRule:
    """What one row of cosines costs; see `pnp`."""

    tau: float = 0.01
    variant: PNPVariant = "O"
    alpha: float = 1.0
    b: float = 2.0
    itself: Itself = "excluded"
    name = "pnp"
    measure: Measure = "score"
    unit = True
    tables = 1

    def __post_init__(self) -> None:
        check_range(self.name, "tau", self.tau, low=0, open_low=True)
        check_range(self.name, "alpha", self.alpha, low=1)
        check_range(self.name, "b", self.b, low=0, open_low=True)
        if self.variant not in get_args(PNPVariant):
            raise UnknownNameError("variant of pnp", self.variant, get_args(PNPVariant))
        if self.itself not in get_args(Itself):
            raise UnknownNameError("itself of pnp", self.itself, get_args(Itself))
        for option, of, given in (("alpha", "Dq", self.alpha != 1.0), ("b", "Ib", self.b != 2.0)):
            if given and self.variant != of:
                raise UsageError(f"pnp: {option} goes with variant={of!r}; variant {self.variant!r} does not use it.")

    def costs(self, block: Block) -> Tally:
        """The penalty of each positive, averaged over them."""
        ranks = ranking(block, self.itself)
        penalties = self._penalties(above(ranks.negatives, ranks.marks, self.tau))
        return Tally((ranks.weights * penalties).sum(dim=1), ranks.present)

    def pull(self, block: Block) -> Pull:
        """By hand: the penalty's slope."""
        ranks = ranking(block, self.itself)
        wrong = Above(ranks.negatives, ranks.marks, self.tau)
        costs = (ranks.weights * self._penalties(wrong.counts)).sum(dim=1)
        by_negatives, by_marks = wrong.back(ranks.weights * self._slopes(wrong.counts))
        return Pull(Tally(costs, ranks.present), by_marks[:, : block.positives.shape[1]], by_negatives)

    def _penalties(self, wrong: Tensor) -> Tensor:
        """Of a positive with so many negatives before it."""
        if self.variant == "O":
            return wrong
        if self.variant == "Ds":
            return wrong.log1p()
        if self.variant == "Dq":
            return 1 - (1 + wrong) ** -self.alpha
        if self.variant == "Iu":
            return (1 + wrong) * wrong.log1p()
        return (self.b * wrong - (self.b * wrong).log1p()) / self.b**2

    def _slopes(self, wrong: Tensor) -> Tensor:
        """Derivatives of the penalties."""
        if self.variant == "O":
            return wrong.new_ones(wrong.shape)
        if self.variant == "Ds":
            return 1 / (1 + wrong)
        if self.variant == "Dq":
            return self.alpha * (1 + wrong) ** (-self.alpha - 1)
        if self.variant == "Iu":
            return 1 + wrong.log1p()
        return wrong / (1 + self.b * wrong)


def pnp(
    embeddings: Embeddings,
    labels: Labels,
    *,
    tau: float = 0.01,
    variant: PNPVariant = "O",
    alpha: float = 1.0,
    b: float = 2.0,
    itself: Itself = "excluded",
) -> Scalar:
    """Penalise negatives that are ranked before positives, and nothing else.

    With s the cosine to a query, positive p has R = Σ_n 1 / (1 + exp(-(s_n - s_p) / tau)) negatives before it, softly
    counted. It costs f(R), a query the mean over its positives, and returned is the mean over queries with a positive,
    ≥ 0. Every item is a query once, never in its own list. What f is says how hard bad positives are pulled:

    - "O": R, all alike, up to the number of negatives;
    - "Ds": log(1 + R), and "Dq": 1 - (1 + R)^-alpha, less the worse they are, which spares classes of several clusters;
    - "Iu": (1 + R) log(1 + R), and "Ib": (b R - log(1 + b R)) / b², more the worse they are.

    `alpha` (≥ 1) belongs to "Dq" and `b` to "Ib"; with others they are refused. Batches without positives or without
    negatives cost zero and carry a gradient.

    Li et al., "Rethinking the optimization of average precision", AAAI 2022, eq. 5, 7, 9, 12 and 13, which finds the D
    forms best; the default is the plain one. Their implementation lets a query retrieve itself, as one more positive of
    cosine 1 that no negative comes before, which scales the loss by about positives / (positives + 1):
    `itself="included"`. Costs O(batch · positive pairs) time; memory stays bounded.
    """
    return sweep(PNPRule(tau, variant, alpha, b, itself), embeddings, labels)


class PNP(RowLoss):
    """PNP with its options remembered; see `pnp`."""

    def __init__(
        self,
        *,
        tau: float = 0.01,
        variant: PNPVariant = "O",
        alpha: float = 1.0,
        b: float = 2.0,
        itself: Itself = "excluded",
    ) -> None:
        super().__init__()
        self.rule = PNPRule(tau, variant, alpha, b, itself)
