"""Several losses as one: each sees the shared embedding or a head of its own, and a weighting adds them up."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from accord.checks import check_finite, describe
from accord.ensembles._balance import GradientBalance, PlainSum
from accord.ensembles._heads import Diversity
from accord.ensembles._names_in_state import as_state, differ
from accord.ensembles._weighting import Foresight, Guided, LeavesOut, Scaled, Weighting
from accord.errors import BatchError, NumericError, UnknownNameError, UsageError
from accord.geometry import full
from accord.losses import Member, RowLoss, sweep_all, sweep_total
from accord.types import Scalar

Heads = Tensor | Mapping[str, Tensor]
Loss = nn.Module | Callable[..., Tensor]

DIVERSITY = "diversity"  # the name of what is added for it
SHARED = "shared"  # the head of all members that have none of their own name
_EXCLUDED = "excluded"  # in the state, where a member was left out
_NAMES = "names"  # in the state


class Ensemble(nn.Module):
    """Train against several losses at once; itself an objective, called with (embeddings, labels).

    `members` are losses by name: our modules, those of other libraries, or any callable `(embeddings, labels)` that
    returns a scalar; they may be given as pairs of a name and a loss, too. One tensor of embeddings goes to every
    member; a mapping gives each member the head of its own name, and where it holds one called `shared`, that goes to
    all members without one. After each call `terms` holds each member's raw loss, detached, also when one is refused as
    not finite.

    `diversity` compares the heads, such as `CKADiversity()`. It is called with (heads, labels); its value is added to
    the weighted total as it is and kept in `terms` as "diversity".

    `balance` makes one gradient for the trunk of the members' gradients; see `GradientBalance`, whose `split` must hand
    the shared feature to the heads. Where one tensor goes to every member, the ensemble itself hands it out, and the
    gradients are made one at that tensor: what comes before it learns from the one gradient. A weighting that
    learns from the gradients' lengths, such as `GradNorm`, gets one that only measures them where none is given.

    A member that teaches nothing, or can't be computed any more, is left out by `exclude`. `broken` names the members
    whose loss was not finite in the last call.

    >>> import torch
    >>> from accord.ensembles import FixedWeights
    >>> from accord.losses import Contrastive, TripletMargin
    >>> objective = Ensemble({"pairs": Contrastive(), "triplets": TripletMargin()}, weighting=FixedWeights())
    >>> loss = objective(torch.randn(8, 4), torch.arange(8) % 2)
    >>> sorted(objective.terms)
    ['pairs', 'triplets']
    """

    def __init__(
        self,
        members: Mapping[str, Loss] | Iterable[tuple[str, Loss]],
        *,
        weighting: Weighting,
        diversity: Diversity | None = None,
        balance: GradientBalance | None = None,
    ) -> None:
        super().__init__()
        named = list(members.items() if isinstance(members, Mapping) else members)
        if len(named) < 2:
            raise UsageError(f"Ensemble: needs at least 2 members, not {len(named)}; use a single loss as it is.")
        self.members = nn.ModuleDict()
        for name, member in named:
            self._add(name, member)
        weighting.bind(self.names)
        self.weighting = weighting
        self.diversity = diversity
        self.balance = GradientBalance(PlainSum()) if balance is None and isinstance(weighting, Guided) else balance
        if self.balance is not None:
            self.balance.bind(self.names, weighting)
        if diversity is not None and DIVERSITY in self.members:
            raise UsageError(f"Ensemble: a member can't be called '{DIVERSITY}' beside a term of that name; rename it.")
        self.terms: dict[str, Tensor] = {}
        self.broken: tuple[str, ...] = ()
        self.excluded: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The members' names, in their order."""
        return tuple(self.members)

    def exclude(self, *names: str) -> None:
        """Leave members out from now on: they are not called, teach nothing and have no share at test time.

        Their heads are still wanted, and go on as they are; so does what a member has learned. The others keep their
        weights: a loss of 0 is what the weighting sees in place of an excluded one, and a `LeavesOut` one is told its
        name. `state_dict` says who is left out, and loading one decides it anew.
        Raises UnknownNameError for a name that is none; UsageError where nobody with a share would be left.
        """
        for name in names:
            if name not in self.members:
                raise UnknownNameError("member of the ensemble", name, self.names)
        excluded = tuple(name for name in self.names if name in {*self.excluded, *names})
        shares = zip(self.names, self.weighting.shares().tolist(), strict=True)
        if not any(share for name, share in shares if name not in excluded):
            raise UsageError(
                f"Ensemble: without {', '.join(excluded)} no member is left that counts at test time. Keep one of them."
            )
        self._leave_out(excluded)

    def forward(self, embeddings: Heads, labels: Any) -> Scalar:
        """The weighted total of one batch."""
        self.broken = ()
        heads = self._heads(embeddings)
        if self.balance is not None and self.training:
            self.balance.begin()
        total = self._weighted(heads, labels)
        if self.diversity is None or len(self._taking_part) < 2:  # of one there is nothing to compare
            return total
        return total + self._apart(self.diversity, heads, labels)

    def _weighted(self, heads: Mapping[str, Tensor], labels: Any) -> Scalar:
        sharing = self._sharing(heads)
        weighting = self.weighting
        ahead = weighting.ahead() if sharing and isinstance(weighting, Foresight) else None
        if ahead is None:
            losses = self._losses(heads, labels, sharing)
            self._tell(losses)
            return weighting(self._in_order(losses))
        total, losses = self._summed(heads, labels, sharing, dict(zip(self.names, ahead.unbind(), strict=True)))
        self._tell(losses)
        assert isinstance(weighting, Foresight)
        weighting.observe(self._in_order(losses))
        return total

    def weights(self) -> dict[str, Tensor]:
        """What each member's raw loss was multiplied by in the last call; without those left out."""
        found = zip(self.names, self.weighting.multipliers().detach(), strict=True)
        return {name: weight for name, weight in found if name not in self.excluded}

    def scales(self) -> dict[str, Tensor]:
        """The running size that each member's loss is divided by, without those left out; empty where the weighting
        knows none."""
        if not isinstance(self.weighting, Scaled):
            return {}
        found = zip(self.names, self.weighting.scales().detach(), strict=True)
        return {name: scale for name, scale in found if name not in self.excluded}

    @property
    def _taking_part(self) -> list[str]:
        return [name for name in self.names if name not in self.excluded]

    def _leave_out(self, names: tuple[str, ...]) -> None:
        self.excluded = names
        for part in (self.weighting, self.diversity):
            if isinstance(part, LeavesOut):
                part.leave_out(names)

    def _in_order(self, losses: Mapping[str, Tensor]) -> Tensor:
        """The losses as the weighting wants them, one for each member: 0 for those left out."""
        nothing = next(iter(losses.values())).new_zeros(())
        return torch.stack([losses.get(name, nothing) for name in self.names])

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[prefix + _NAMES] = as_state(self.names)
        if self.excluded:
            destination[prefix + _EXCLUDED] = torch.tensor([name in self.excluded for name in self.names])

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        if fault := differ(state_dict.pop(prefix + _NAMES, None), self.names):  # of a copy, which torch made
            rest[-1].append(fault)
            return
        given: Tensor | None = state_dict.pop(prefix + _EXCLUDED, None)
        if given is None or len(given) == len(self.names):
            mask = [False] * len(self.names) if given is None else given.tolist()
            self._leave_out(tuple(name for name, out in zip(self.names, mask, strict=True) if out))
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def _add(self, name: str, member: Loss) -> None:
        if name in self.members:
            raise UsageError(f"Ensemble: there are two members called '{name}'; give each a name of its own.")
        if not callable(member):
            raise UsageError(f"Ensemble: member '{name}' can't be called; it is a {type(member).__name__}.")
        try:
            self.members[name] = member if isinstance(member, nn.Module) else _Foreign(member)
        except (KeyError, TypeError) as error:
            raise UsageError(f"Ensemble: {name!r} can't be a member's name; use another, without dots.") from error

    def _heads(self, embeddings: Heads) -> Mapping[str, Tensor]:
        if isinstance(embeddings, Tensor):
            if self.balance is not None and self.training:
                return self.balance.split(embeddings, self.names)
            return dict.fromkeys(self.names, embeddings)
        heads = embeddings
        if SHARED in embeddings and SHARED not in self.members:
            if self.balance is not None:
                raise UsageError(
                    "Ensemble: some members share a head and others have their own; there is no one place where their "
                    "gradients could be weighed against each other. Leave out the balance, or give all the same head."
                )
            own = {name: head for name, head in embeddings.items() if name != SHARED}
            heads = dict.fromkeys(self.names, embeddings[SHARED]) | own
        if set(heads) != set(self.names):
            raise BatchError(
                "ensemble: there must be one head per member.\n"
                f"  members: {', '.join(sorted(self.names))}\n  heads:   {', '.join(sorted(embeddings)) or 'none'}"
            )
        return heads

    def _losses(self, heads: Mapping[str, Tensor], labels: Any, sharing: list[list[str]]) -> dict[str, Tensor]:
        """Every member's loss, in the members' order; those that sweep the same vectors do so together."""
        found: dict[str, Tensor] = {}
        for names in sharing:
            found |= zip(names, sweep_all(self._rules(names), heads[names[0]], labels).unbind(), strict=True)
        taking_part = self._taking_part
        return {name: found[name] if name in found else self._loss(name, heads[name], labels) for name in taking_part}

    def _summed(
        self, heads: Mapping[str, Tensor], labels: Any, sharing: list[list[str]], ahead: Mapping[str, Tensor]
    ) -> tuple[Scalar, dict[str, Tensor]]:
        """The weighted total, and every member's loss, detached; each sweep adds its losses up as it goes."""
        parts: list[Tensor] = []
        found: dict[str, Tensor] = {}
        for names in sharing:
            weights = torch.stack([ahead[name] for name in names])
            part, values = sweep_total(self._rules(names), weights, heads[names[0]], labels)
            parts.append(part)
            found |= zip(names, values.unbind(), strict=True)
        for name in self._taking_part:
            if name not in found:
                loss = self._loss(name, heads[name], labels)
                parts.append(ahead[name].to(loss.dtype) * loss)
                found[name] = loss.detach()
        return torch.stack(parts).sum(), {name: found[name] for name in self._taking_part}

    def _rules(self, names: list[str]) -> list[Member]:
        return [Member(member.rule) for name in names if isinstance(member := self.members[name], RowLoss)]

    def _tell(self, losses: Mapping[str, Tensor]) -> None:
        """Keep the raw losses, and name the one that is not finite."""
        self.terms = {name: loss.detach() for name, loss in losses.items()}
        try:
            for name, loss in losses.items():
                check_finite(f"ensemble member '{name}'", "its loss", loss)
        except NumericError:
            self.broken = tuple(name for name, loss in self.terms.items() if not bool(loss.isfinite()))
            raise

    def _apart(self, diversity: Diversity, heads: Mapping[str, Tensor], labels: Any) -> Scalar:
        """What is added for the diversity of the heads that take part."""
        heads = {name: heads[name] for name in self._taking_part}
        value = _checked_scalar("the term for diversity", diversity(heads, labels))
        self.terms[DIVERSITY] = value.detach()
        check_finite("ensemble", "its term for diversity", value)
        return value

    def _sharing(self, heads: Mapping[str, Tensor]) -> list[list[str]]:
        """Groups of at least two members that are held to the same rows and normalise alike."""
        groups: dict[tuple[int, bool], list[str]] = {}
        for name, member in self.members.items():
            if name in self.excluded:
                continue
            if isinstance(member, RowLoss) and member.shareable:
                groups.setdefault((id(heads[name]), member.rule.unit), []).append(name)
        return [names for names in groups.values() if len(names) > 1]

    def _loss(self, name: str, head: Tensor, labels: Any) -> Tensor:
        return _checked_scalar(f"member '{name}'", self.members[name](head, labels))


def _checked_scalar(who: str, value: object) -> Tensor:
    if not isinstance(value, Tensor) or value.ndim or not value.is_floating_point():
        raise UsageError(f"Ensemble: {who} must return a floating-point scalar, not {describe(value)}.")
    return full(value)


class _Foreign(nn.Module):
    """A plain callable as a member."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, embeddings: Tensor, labels: Any) -> Tensor:
        return self.function(embeddings, labels)


def test_weights(ensemble: Ensemble) -> dict[str, Tensor]:
    """Each member's share of the embedding at test time, ≥ 0, with sum 1; 0 for one that is left out.

    Head i of unit length is scaled by √share before the heads are joined, so that squared distances (and cosines) of
    the joined vectors are the weighted means of the heads' (Zabihzadeh et al., arXiv 2107.01130).
    """
    shares = ensemble.weighting.shares().detach()
    if ensemble.excluded:
        shares = shares * shares.new_tensor([name not in ensemble.excluded for name in ensemble.names])
        shares = shares / shares.sum()
    return dict(zip(ensemble.names, shares, strict=True))


# the name is for users; pytest would take it for a test wherever it is imported
test_weights.__test__ = False  # type: ignore[attr-defined]
