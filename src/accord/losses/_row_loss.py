"""The module of every loss that is one sweep of its rule, so that several of them can share it."""

from torch import nn

from accord.losses._engine import sweep
from accord.losses._rule import Rule
from accord.types import Embeddings, Labels, Scalar


class RowLoss(nn.Module):
    """A loss that remembers its options in `rule` and is nothing but a sweep of it; an ensemble shares sweeps."""

    rule: Rule

    @property
    def shareable(self) -> bool:
        """Whether a sweep of nothing but the rule is the loss, and nobody looks at its calls."""
        hooks = self._forward_hooks or self._forward_pre_hooks or self._backward_hooks or self._backward_pre_hooks
        return type(self).forward is RowLoss.forward and not hooks

    def forward(self, embeddings: Embeddings, labels: Labels) -> Scalar:
        """The loss of one batch."""
        return sweep(self.rule, embeddings, labels)
