"""The module of every loss that is one sweep of its rule, so that several of them can share it."""

from torch import nn

from accord.losses._engine import sweep
from accord.losses._rule import Rule
from accord.types import Embeddings, Labels, Scalar


def hooked(module: nn.Module) -> bool:
    """Whether somebody looks at a module's calls."""
    forward, backward = module._forward_hooks or module._forward_pre_hooks, module._backward_hooks
    return bool(forward or backward or module._backward_pre_hooks)


class RowLoss(nn.Module):
    """A loss that remembers its options in `rule` and is nothing but a sweep of it; an ensemble shares sweeps."""

    rule: Rule

    @property
    def shareable(self) -> bool:
        """Whether a sweep of nothing but the rule is the loss, and nobody looks at its calls."""
        return type(self).forward is RowLoss.forward and not hooked(self)

    def forward(self, embeddings: Embeddings, labels: Labels) -> Scalar:
        """The loss of one batch."""
        return sweep(self.rule, embeddings, labels)
