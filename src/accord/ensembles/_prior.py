"""The shares that the members of an ensemble begin with."""

from collections.abc import Mapping, Sequence

from accord.checks import check_range
from accord.errors import UnknownNameError, UsageError


def checked_prior(who: str, prior: Mapping[str, float] | None) -> dict[str, float] | None:
    """A copy of what was given, every number of which must be more than 0."""
    for name, value in (prior or {}).items():
        check_range(who, f"the prior of '{name}'", value, low=0, open_low=True)
    return None if prior is None else dict(prior)


def prior_shares(who: str, prior: Mapping[str, float] | None, names: Sequence[str]) -> list[float]:
    """The prior of every member, in their order, made to sum to 1; equal where none was given."""
    if prior is None:
        return [1 / len(names)] * len(names)
    for name in prior:
        if name not in names:
            raise UnknownNameError("member of the ensemble", name, names)
    missing = [name for name in names if name not in prior]
    if missing:
        raise UsageError(f"{who}: has no prior for {', '.join(missing)}; give each of {', '.join(names)} one.")
    total = sum(prior.values())
    return [prior[name] / total for name in names]


def check_unbound(who: str, bound: bool) -> None:
    """Refuse to serve a second ensemble: a weighting keeps what it knows of its members."""
    if bound:
        raise UsageError(f"{who}: already serves an ensemble; make one for each, as it keeps what it knows of losses.")
