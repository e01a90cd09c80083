"""Which classes to put into one batch: those that are hardest to tell apart."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from accord.checks import check_count, check_finite
from accord.errors import UnknownNameError, UsageError
from accord.geometry import full, normalise

AGGREGATES = ("max", "sum")


def hard_classes(
    table: Float[Tensor, "class dim"],
    *,
    count: int,
    generator: torch.Generator,
    partners: Float[Tensor, "class dim"] | None = None,
    by: str = "max",
    normalised: bool = True,
) -> Int[Tensor, " chosen"]:
    """Choose `count` classes that are easily taken for each other, given an embedding of each: hard negative classes.

    The first is drawn at random; then, one after another, the class that violates the triplet constraint the most with
    respect to those already chosen. A class c violates that of a chosen s by score(s, c) - score(s, partner of s),
    where `partners` are second embeddings of all classes; without them by score(s, c) alone. `by` says how violations
    add up over the chosen ones: by their `max` or their `sum`. Equals are settled at random. Scores are cosines, or
    inner products with `normalised=False`. Gives class numbers in the order they were chosen.

    Sohn, NIPS 2016, "hard negative class mining", which does not say how violations are to be added up, hence `by`.
    Only worth while with very many classes. Costs O(count · class · dim) time and O(class) memory beside the table.
    """
    _check(table, count, partners, by)
    with torch.no_grad():
        x = normalise(table, dtype=full(table).dtype) if normalised else full(table)
        own = torch.zeros_like(x[:, 0])
        if partners is not None:
            own = (x * (normalise(partners, dtype=x.dtype) if normalised else full(partners))).sum(dim=1)
        # one order for the first class and for all ties: where it begins is where equals are settled
        order = torch.randperm(len(x), generator=generator, device=generator.device).to(x.device)
        return order[_greedily(x[order], own[order], count, by)]


def _greedily(x: Tensor, own: Tensor, count: int, by: str) -> Tensor:
    """Rows of x, from row 0 on; among equals the first row wins."""
    newest = torch.zeros(1, dtype=torch.int64, device=x.device)
    chosen, free = [newest], torch.ones_like(own, dtype=torch.bool)
    violation = torch.full_like(own, -torch.inf if by == "max" else 0.0)
    for _ in range(count - 1):
        free = free.index_fill(0, newest, False)
        found = x @ x[newest][0] - own[newest]
        violation = torch.maximum(violation, found) if by == "max" else violation + found
        newest = violation.masked_fill(~free, -torch.inf).argmax(dim=0, keepdim=True)
        chosen.append(newest)
    return torch.cat(chosen)


def _check(table: Tensor, count: int, partners: Tensor | None, by: str) -> None:
    check_count("hard_classes", "count", count)
    if count > len(table):
        raise UsageError(f"hard_classes: count is {count}, but the table has {len(table)} classes only.")
    if by not in AGGREGATES:
        raise UnknownNameError("way to add up violations", by, AGGREGATES)
    check_finite("hard_classes", "the table", table)
    if partners is not None:
        check_finite("hard_classes", "partners", partners)
        if partners.shape != table.shape:
            raise UsageError("hard_classes: partners must have one row for each row of the table, equally wide.")
