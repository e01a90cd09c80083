"""Diversity by labels: each head learns other classes than the others, or other groups of them."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from accord.checks import check_batch, check_classes, check_count, check_range
from accord.errors import UsageError
from accord.geometry import full
from accord.losses import share_proxies
from accord.types import Embeddings, Labels, Relations, Scalar

Loss = nn.Module | Callable[..., Tensor]


def class_partitions(classes: int, groups: int, *, heads: int, generator: torch.Generator) -> Int[Tensor, "head class"]:
    """For each head the classes dealt at random to `groups` meta-classes: the number of each class's meta-class.

    Every meta-class has ⌊classes / groups⌋ or one more classes, and every head a partition of its own. What a head
    takes for alike another tells apart; together they tell all classes apart if any does.

    Xuan, Souvenir & Pless, ECCV 2018 (DREML), where each of many networks learns a partition; here each head of one.
    """
    check_count("class_partitions", "classes", classes, low=2)
    check_count("class_partitions", "groups", groups, low=2, high=classes)
    check_count("class_partitions", "heads", heads)
    return torch.stack([share_proxies(classes, groups, generator=generator) for _ in range(heads)])


def class_subsets(classes: int, share: float, *, heads: int, generator: torch.Generator) -> Bool[Tensor, "head class"]:
    """For each head the classes it learns: round(share · classes) of them, at least 2, drawn at random.

    A head takes the classes that the fewest heads before it took, so all classes are learnt by equally many heads, give
    or take one; with heads · share ≥ 1 none is left out.
    """
    check_count("class_subsets", "classes", classes, low=2)
    check_count("class_subsets", "heads", heads)
    check_range("class_subsets", "share", share, low=0, high=1, open_low=True)
    taken = torch.zeros(classes, device=generator.device)
    kept = torch.zeros(heads, classes, dtype=torch.bool, device=generator.device)
    for row in kept:
        # the fraction decides among classes that were taken equally often
        order = (taken + torch.rand(classes, generator=generator, device=generator.device)).argsort()
        row[order[: max(2, round(share * classes))]] = True
        taken += row
    return kept


class Relabelled(nn.Module):
    """A member that learns other labels: those of `table`, (class,), in place of its own.

    `loss` is called with the embeddings and `table[labels]`, so a loss that learns vectors for classes is made for
    `table.max() + 1` of them. The table is saved with the loss's state.

    >>> import torch
    >>> from accord.losses import Contrastive
    >>> loss = Relabelled(Contrastive(), torch.tensor([0, 1, 0, 1]))(torch.eye(4), torch.arange(4))
    """

    table: Tensor

    def __init__(self, loss: Loss, table: Int[Tensor, " class"]) -> None:
        super().__init__()
        if not len(table) or int(table.min()) < 0:
            raise UsageError("Relabelled: the table must give each class a number of at least 0.")
        self.loss = loss
        self.register_buffer("table", table.to(torch.int64))

    def seen(self, embeddings: Embeddings, labels: Labels | Relations) -> tuple[Embeddings, Labels]:
        """What the loss is given: all items, and their labels for it."""
        known = _checked("Relabelled", embeddings, labels, len(self.table))
        return embeddings, self.table[known]

    def forward(self, embeddings: Embeddings, labels: Any) -> Scalar:
        """The loss of one batch under the other labels."""
        value: Scalar = self.loss(*self.seen(embeddings, labels))
        return value


class Subset(nn.Module):
    """A member that learns some of the classes: items of those that `keep`, (class,), leaves out are not shown to it.

    `loss` gets the labels of the classes kept numbered from 0 in their order, so a loss that learns vectors for classes
    is made for `keep.sum()` of them. A batch of which nothing is kept costs zero and still carries a gradient; `unseen`
    counts such batches of the training. Waits for the device, as only the numbers tell how many items are left.

    >>> import torch
    >>> from accord.losses import Contrastive
    >>> loss = Subset(Contrastive(), torch.tensor([True, True, False]))(torch.eye(6), torch.arange(6) // 2)
    """

    keep: Tensor
    unseen: Tensor

    def __init__(self, loss: Loss, keep: Bool[Tensor, " class"]) -> None:
        super().__init__()
        if int(keep.sum()) < 2:
            raise UsageError(f"Subset: at least 2 of the {len(keep)} classes must be kept, not {int(keep.sum())}.")
        self.loss = loss
        self.register_buffer("keep", keep.clone())
        self.register_buffer("unseen", torch.zeros((), dtype=torch.int64))

    def seen(
        self, embeddings: Embeddings, labels: Labels | Relations
    ) -> tuple[Float[Tensor, "kept dim"], Int[Tensor, " kept"]]:
        """What the loss is given: the items of the classes kept, and the numbers of these among those kept."""
        known = _checked("Subset", embeddings, labels, len(self.keep))
        rows = self.keep[known]
        numbers = self.keep.cumsum(dim=0) - 1
        return embeddings[rows], numbers[known[rows]]

    def forward(self, embeddings: Embeddings, labels: Any) -> Scalar:
        """The loss of one batch's items of the classes kept."""
        kept, numbers = self.seen(embeddings, labels)
        if not len(kept):
            if self.training:
                self.unseen += 1
            return 0 * full(embeddings).sum()
        value: Scalar = self.loss(kept, numbers)
        return value


def _checked(who: str, embeddings: Tensor, labels: object, classes: int) -> Int[Tensor, " item"]:
    if not isinstance(labels, Tensor):
        raise UsageError(f"{who}: needs a class number for each item, not {type(labels).__name__}.")
    check_batch(who, embeddings, labels)
    check_classes(who, labels, classes)
    return labels.to(torch.int64)
