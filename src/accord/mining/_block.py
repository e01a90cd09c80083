"""A block of rows as losses and miners see it: each row's positives side by side, and its negatives in full."""

from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from accord.errors import UsageError
from accord.mining._groups import Groups, TableGroups
from accord.mining._named import NamedGroups

Measure = Literal["score", "squared", "euclidean"]
FAR: dict[Measure, float] = {"score": -torch.inf, "squared": torch.inf, "euclidean": torch.inf}


class Block(NamedTuple):
    """What a loss's rule is handed: some rows (anchors, or proxies) against all columns (items, or proxies).

    `positives[r, s]` is row r's value with the s-th of its positives where `kept[r, s]`; elsewhere the number there
    means nothing and must be masked. `negatives[r, c]` is row r's value with column c if that is of another class;
    every other column is infinitely `far`: -inf for scores, +inf for distances, so that exp, relu and max need no mask.
    How many slots there are is no promise: on processors the largest class decides, on accelerators (where asking
    would stall) there is a slot per column. `unit` says that vectors have length one, so that scores are cosines.
    `groups` knows all rows, as labels alone decide; a miner makes it None.
    """

    measure: Measure
    unit: bool
    rows: slice
    positives: Float[Tensor, "row slot"]
    kept: Bool[Tensor, "row slot"]
    negatives: Float[Tensor, "row column"]
    negative_count: Float[Tensor, " row"]
    groups: Groups | TableGroups | NamedGroups | None = None

    @property
    def totals(self) -> tuple[Tensor, Tensor] | None:
        """The numbers of positive and of negative pairs over all rows; None once something has been mined away."""
        return None if self.groups is None else self.groups.totals

    @property
    def far(self) -> float:
        """The value that stands for "no negative here"."""
        return FAR[self.measure]

    @property
    def positive_count(self) -> Float[Tensor, " row"]:
        """How many positives each row has."""
        return self.kept.sum(dim=1).to(self.positives.dtype)

    @property
    def whole(self) -> Bool[Tensor, " row"]:
        """Which rows have both a positive and a negative."""
        return self.kept.any(dim=1) & (self.negative_count > 0)

    def cosines(self) -> tuple[Float[Tensor, "row slot"], Float[Tensor, "row column"]]:
        """Positives and negatives as cosines, whatever the rule measures; needs unit vectors."""
        if not self.unit:
            raise UsageError(
                "this miner compares cosines, so its loss must normalise embeddings; choose another miner."
            )
        if self.measure == "score":
            return self.positives, self.negatives
        power = 1 if self.measure == "squared" else 2
        return 1 - self.positives**power / 2, 1 - self.negatives**power / 2

    def closeness(self) -> tuple[Float[Tensor, "row slot"], Float[Tensor, "row column"]]:
        """Positives and negatives so that larger is closer: scores as they are, distances negated."""
        return (self.positives, self.negatives) if self.measure == "score" else (-self.positives, -self.negatives)

    def only(self, positives: Bool[Tensor, "row slot"], negatives: Bool[Tensor, "row column"]) -> "Block":
        """The block with only these of its positives and negatives; the others are as good as absent."""
        left = negatives & self.negatives.isfinite()
        return self._replace(
            kept=self.kept & positives,
            negatives=self.negatives.masked_fill(~left, self.far),
            negative_count=left.sum(dim=1).to(self.positives.dtype),
            groups=None,
        )

    def picked(
        self,
        positives: Bool[Tensor, "row slot"],
        columns: Int[Tensor, "row few"],
        negatives: Bool[Tensor, "row few"] | None = None,
    ) -> "Block":
        """The block with only these of its positives and, of its negatives, those in a few columns of each row.

        No column may come twice in a row; `negatives` says which of them are wanted at all. Cheaper than `only`.
        """
        values = self.negatives.gather(1, columns)
        if negatives is not None:
            values = values.masked_fill(~negatives, self.far)
        return self._replace(
            kept=self.kept & positives,
            negatives=torch.full_like(self.negatives, self.far).scatter(1, columns, values),
            negative_count=values.isfinite().sum(dim=1).to(self.positives.dtype),
            groups=None,
        )
