"""Sorting the parameters of a model and its objective into groups with their own rate and decay."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

from accord.checks import check_range
from accord.errors import UsageError

LOSS_WEIGHTS = "loss_weights"  # the group of learned weights, and what their names have in them
STUDENT = "student"  # the part of an objective that learns from the embeddings and teaches them nothing; its group
DIVERSITY = "diversity"  # the part of an objective that compares heads, and learns as they do
Found = tuple[str, str, nn.Parameter]  # group, name shown to people, parameter


@dataclass(frozen=True)
class Rates:
    """Learning rates before any schedule: `trunk` is backbone and pooling, `weights` are learned loss weights.

    `student` is a network that learns from the embeddings beside them.
    """

    trunk: float = 1e-4
    heads: float = 1e-3
    proxies: float = 1e-2
    weights: float = 1e-3
    student: float = 1e-3

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            check_range("Rates", name, value, low=0.0)


def parameter_groups(
    model: nn.Module, objective: nn.Module | Callable[..., Any], *, rates: Rates, weight_decay: float = 1e-4
) -> list[dict[str, Any]]:
    """Groups for a torch optimiser: every parameter that learns, of the model and of the objective, exactly once.

    The model's names decide: `backbone.` and `pool.` are the trunk, `heads.` the heads. Of the objective, names with
    `loss_weights` in them are loss weights, what learns in its `diversity` goes with the heads, its `student.` is a
    student, all others are proxies.
    Norms, biases and everything of the objective are not decayed. Each group has a "name" and an "initial_lr"; empty
    groups are left out. Raises UsageError naming a parameter that belongs nowhere or twice, and when nothing learns.
    """
    check_range("parameter_groups", "weight_decay", weight_decay, low=0.0)
    groups = _collect([*_of_model(model), *_of_objective(objective)])
    rate = {key: value for key, value in asdict(rates).items() if key != "weights"} | {LOSS_WEIGHTS: rates.weights}
    return [
        {
            "name": name,
            "params": parameters,
            "lr": rate[name.removesuffix("_no_decay")],
            "initial_lr": rate[name.removesuffix("_no_decay")],
            "weight_decay": weight_decay if name in {"trunk", "heads"} else 0.0,
        }
        for name, parameters in groups.items()
    ]


def _collect(found: list[Found]) -> dict[str, list[nn.Parameter]]:
    seen: dict[nn.Parameter, tuple[str, str]] = {}
    groups: dict[str, list[nn.Parameter]] = {}
    for group, name, parameter in found:
        if parameter not in seen:
            seen[parameter] = group, name
            groups.setdefault(group, []).append(parameter)
        elif seen[parameter][0] != group:
            first_group, first_name = seen[parameter]
            raise UsageError(
                f"parameter_groups: {first_name} and {name} are one parameter, but belong to two groups: "
                f"{first_group} and {group}.\n"
                "Share parameters inside one group only, or freeze this one by requires_grad=False."
            )
    if not groups:
        raise UsageError("parameter_groups: nothing learns; every parameter has requires_grad=False.")
    return groups


def _of_model(model: nn.Module) -> Iterator[Found]:
    forgotten = []
    for owner, name, parameter in _learning(model):
        prefix = name.partition(".")[0]
        if prefix not in {"backbone", "pool", "heads"}:
            forgotten.append(name)
            continue
        group = "heads" if prefix == "heads" else "trunk"
        yield (group if _decays(owner, name, parameter) else f"{group}_no_decay"), f"model.{name}", parameter
    if forgotten:
        raise UsageError(
            f"parameter_groups: the model's parameters {', '.join(forgotten)} belong to no group.\n"
            "Names must start with backbone., pool. or heads.; freeze what should not learn by requires_grad=False."
        )


def _of_objective(objective: nn.Module | Callable[..., Any]) -> Iterator[Found]:
    if isinstance(objective, nn.Module):
        for _, name, parameter in _learning(objective):
            yield _of_part(name), f"objective.{name}", parameter


def _of_part(name: str) -> str:
    """The group of something that learns in an objective."""
    path = name.split(".")
    if path[0] == STUDENT:
        return STUDENT
    if LOSS_WEIGHTS in name:
        return LOSS_WEIGHTS
    return "heads_no_decay" if DIVERSITY in path else "proxies"


def _learning(root: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Parameter]]:
    """Every parameter that learns with its owner and name; a shared one comes once under each of its names."""
    for path, owner in root.named_modules(remove_duplicate=False):
        for name, parameter in owner.named_parameters(recurse=False, remove_duplicate=False):
            if parameter.requires_grad:
                yield owner, f"{path}.{name}".lstrip("."), parameter


def _decays(owner: nn.Module, name: str, parameter: nn.Parameter) -> bool:
    # one axis or none: biases, scales of norms, a pooling's exponent; foreign norms of other shapes go by their class
    return parameter.ndim > 1 and not name.endswith("bias") and "norm" not in type(owner).__name__.lower()
