"""Hands every head its own copy of the pooled feature, and makes one gradient for the trunk of what comes back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from accord.checks import check_count
from accord.ensembles._combine import Combined, Gradients, gram
from accord.ensembles._random_weights import SEEDS, drawn
from accord.ensembles._weighting import Guided, Members
from accord.errors import BatchError, UsageError


@runtime_checkable
class Rule(Protocol):
    """Makes one gradient of the members', (member, number); `products` are their inner products, on the CPU."""

    def __call__(self, gradients: Gradients, generator: torch.Generator, products: Tensor) -> Combined:
        """One gradient from all; random order comes from the generator."""
        ...


@dataclass(frozen=True)
class PlainSum:
    """The sum of the gradients, as without a balance: only measures them."""

    def __call__(self, gradients: Gradients, generator: torch.Generator, products: Tensor) -> Combined:
        """One gradient from all."""
        return gradients.sum(dim=0)


class GradientBalance(nn.Module):
    """Balance the members of an ensemble where their gradients meet: at the feature that all heads share.

    `split` gives each head a copy of the pooled feature, (item, feature). Head i sees the loss of member i alone, so
    its copy gets the gradient g_i of that weighted loss; the backward pass waits for all of them, and `rule` makes the
    one gradient that goes on to the trunk: one pass through it, whatever the number of members. The heads themselves
    learn from their own losses, unbalanced.

    Give it to the `Ensemble`, which holds its state, and `split` to the model: `embedder.splitter = balance.split`.
    After a backward pass `norms` holds how long each g_i was and `cosines` the cosine of each pair, `first/second`;
    with float16 the lengths are those of the scaled loss. Random order depends on `seed` and the step alone.

    With `every` = n only the first of n steps goes that way; in the others all heads see one feature, whose gradient is
    the plain sum, and `norms` and `cosines` are empty. `GradientBalance(PlainSum(), every=10)` watches the members'
    gradients and changes nothing but the order in which they are summed.

    The rules are defined on the gradients of all shared weights; at the shared feature they cost next to nothing
    (Senushkin et al., CVPR 2023, and others call this the upper bound, or representation gradients).

    >>> import torch
    >>> from accord.ensembles import Ensemble, FixedWeights, PCGrad
    >>> from accord.losses import Contrastive, TripletMargin
    >>> balance = GradientBalance(PCGrad())
    >>> members = {"pairs": Contrastive(), "triplets": TripletMargin()}
    >>> objective = Ensemble(members, weighting=FixedWeights(), balance=balance)
    >>> feature = torch.randn(8, 4, requires_grad=True)
    >>> loss = objective(balance.split(feature, ("pairs", "triplets")), torch.arange(8) % 2)
    >>> loss.backward()
    >>> list(balance.cosines)
    ['pairs/triplets']
    """

    step: torch.Tensor

    def __init__(self, rule: Rule, *, seed: int = 0, every: int = 1) -> None:
        super().__init__()
        check_count("GradientBalance", "seed", seed, low=0, high=SEEDS)
        check_count("GradientBalance", "every", every)
        self.rule, self.seed, self.every = rule, seed, every
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))
        self._begun = 0  # the same number, for whoever asks in each step: reading it off a GPU would wait for the GPU
        self.names: tuple[str, ...] = ()
        self.norms: dict[str, Tensor] = {}
        self.cosines: dict[str, Tensor] = {}
        self._guides: list[Guided] = []  # a list, as the weighting is the ensemble's module and not ours
        self._handed_out = False

    def bind(self, names: Sequence[str], weighting: object) -> None:
        """Learn the members' names, in their order, once, and the weighting, which may want to know the lengths.

        Raises UsageError where the weighting learns from the lengths, and they are not measured in every step.
        """
        if self.names:
            raise UsageError("GradientBalance: already serves an ensemble; make one for each.")
        self.names = tuple(names)
        self._guides = [weighting] if isinstance(weighting, Guided) else []
        if self._guides and self.every > 1:
            raise UsageError(
                f"GradientBalance: every={self.every}, but {type(weighting).__name__} learns from the gradients of "
                "every step. Leave `every` out."
            )

    def split(
        self, features: Float[Tensor, "item feature"], names: Sequence[str]
    ) -> Mapping[str, Float[Tensor, "item feature"]]:
        """A copy of the feature for each head; the feature itself in steps that are let through.

        Raises BatchError where the heads are not the ensemble's members.
        """
        if set(names) != set(self.names):
            raise BatchError(
                "GradientBalance: there must be one head per member.\n"
                f"  members: {', '.join(sorted(self.names)) or 'none; give the balance to an Ensemble first'}\n"
                f"  heads:   {', '.join(sorted(names)) or 'none'}"
            )
        self._handed_out = True
        if self._begun % self.every:
            return dict.fromkeys(self.names, features)
        learned = self._guides[0].loss_weights if self._guides else None
        copies = _Split.apply(self, features, learned)  # type: ignore[no-untyped-call]
        return dict(zip(self.names, copies, strict=True))

    def begin(self) -> None:
        """Called by the ensemble in each training step: count it, and refuse features that were not handed out.

        A plain sum that nobody learns from is what those get as well, so they are let pass, unmeasured.
        """
        if not self._handed_out and (self._guides or not isinstance(self.rule, PlainSum)):
            raise UsageError(
                "GradientBalance: the heads did not get their features from `split`, so nothing would be balanced.\n"
                "  With an Embedder: embedder.splitter = balance.split; and train with `embedder.outputs`."
            )
        self._handed_out = False
        self.norms, self.cosines = {}, {}
        self.step.add_(1)
        self._begun += 1

    def join(self, gradients: Gradients) -> tuple[Combined, Members | None]:
        """The one gradient for the trunk, and that of learned weights which follow the lengths; notes both figures."""
        products = gram(gradients)
        norms = products.diagonal().sqrt()
        self._note(products, norms)
        pull = self._guides[0].pull(norms) if self._guides else None
        return self.rule(gradients, drawn(self.seed, self._begun), products), pull

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        super()._load_from_state_dict(state_dict, prefix, *rest)
        self._begun = int(self.step)

    def _note(self, products: Tensor, norms: Tensor) -> None:
        lengths = norms.clamp_min(torch.finfo(norms.dtype).tiny)
        cosines = products / lengths.unsqueeze(0) / lengths.unsqueeze(1)
        self.norms = dict(zip(self.names, norms.unbind(), strict=True))
        self.cosines = {
            f"{first}/{second}": cosines[i, j]
            for i, first in enumerate(self.names)
            for j, second in enumerate(self.names)
            if i < j
        }


class _Split(torch.autograd.Function):
    """Copies forward; backward is given every copy's gradient at once."""

    @staticmethod
    def forward(ctx: Any, balance: GradientBalance, features: Tensor, learned: Tensor | None) -> tuple[Tensor, ...]:
        ctx.balance = balance
        return tuple(features.clone() for _ in balance.names)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        stacked = torch.stack([gradient.flatten() for gradient in outer])
        joined, pull = ctx.balance.join(stacked)
        return None, joined.view_as(outer[0]), pull
