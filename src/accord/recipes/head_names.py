"""What the losses of a run are called, and its heads: in training, and in use."""

from collections import Counter
from collections.abc import Sequence

from accord.ensembles import STUDENT
from accord.recipes.config import LossConfig, RunConfig

TRUNK = "trunk"  # the pooled feature, as a head
SHARED = "shared"  # the one head that all losses see


def loss_names(losses: Sequence[LossConfig]) -> list[str]:
    """One name per loss; a loss used twice gets a number. Code of another package goes by what follows its colon."""
    types = [loss.type.rpartition(":")[2].replace(".", "_") for loss in losses]
    counts, seen = Counter(types), Counter[str]()
    names = []
    for name in types:
        seen[name] += 1
        names.append(name if counts[name] == 1 else f"{name}_{seen[name]}")
    return names


def member_names(config: RunConfig) -> list[str]:
    """The losses of a run by name, in their order."""
    return loss_names(config.losses)


def head_names(config: RunConfig) -> list[str]:
    """The heads that a run trains: one per loss, by its name, or the one that all losses share."""
    return [SHARED] if config.model.heads == "shared" else member_names(config)


def used_names(config: RunConfig) -> list[str]:
    """The heads of a finished run: those trained and the trunk's where it has a share, or a student's alone."""
    if config.ensemble.student != "none":
        return [STUDENT]
    return [*head_names(config), *([TRUNK] if config.model.trunk_share > 0 else [])]
