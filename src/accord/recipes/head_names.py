"""What the losses of a run are called, and its heads: in training, and in use."""

from collections import Counter
from collections.abc import Sequence

from accord.ensembles import SHARED, STUDENT
from accord.errors import UsageError
from accord.recipes.config import LossConfig, RunConfig

TRUNK = "trunk"  # the pooled feature, as a head


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
    """What losses learn on: a head for each, by its name, or the one that all share; of a loss on the pooled feature
    itself its name stands for that."""
    return [SHARED, *on_trunk(config)] if config.model.heads == "shared" else member_names(config)


def on_trunk(config: RunConfig) -> list[str]:
    """The losses, by name, that learn on the pooled feature itself."""
    return [name for name, loss in zip(member_names(config), config.losses, strict=True) if loss.sees == "trunk"]


def own_heads(config: RunConfig) -> list[str]:
    """The heads that a run trains; none where all its losses learn on the pooled feature."""
    return [name for name in head_names(config) if name not in on_trunk(config)]


def used_names(config: RunConfig) -> list[str]:
    """The heads of a finished run: those trained and the trunk's where it counts, or a student's alone."""
    if config.ensemble.student != "none":
        return [STUDENT]
    counts = config.model.trunk_share > 0 or stands_for(config)
    return [*own_heads(config), *([TRUNK] if counts else [])]


def stands_for(config: RunConfig) -> list[str]:
    """The losses, by name, that the pooled feature stands for at test time: those that learn on it, unless there is one
    embedding, which is all that counts."""
    return [] if config.model.heads == "shared" else on_trunk(config)


def refuse_taken_names(config: RunConfig) -> None:
    """Refuse losses, of a user's own, that go by a name that is another head's."""
    student = config.ensemble.student
    taken = {}
    if config.model.trunk_share > 0 or on_trunk(config):
        taken[TRUNK] = "the pooled feature, which is part of the embedding or seen by a loss"
    if config.model.heads == "shared":
        taken[SHARED] = "the head that all share"
    if student != "none":
        taken |= {STUDENT: f"the student (ensemble.student={student})", TRUNK: "the pooled feature"}
    for name, what in taken.items():
        if name in member_names(config):
            raise UsageError(
                f"losses: one is called '{name}', and that is the name of {what}.\n"
                "  Give what makes your loss another name."
            )


def refuse_idle_place(config: RunConfig) -> None:
    """Refuse what a loss on the pooled feature can't have, and what is for heads where there is none."""
    names = on_trunk(config)
    if not names:
        return
    name, ensemble = names[0], config.ensemble
    place = f"{name} sees the pooled feature"
    way = f"Give it a head (losses.{member_names(config).index(name)}.sees=head)"
    if any(loss.unit for loss in config.losses if loss.sees == "trunk"):
        raise UsageError(f"losses: {place}, which is no head to bring to unit length. {way}, or leave out unit.")
    if config.model.heads == "shared":
        if len(names) == len(config.losses):
            raise UsageError(
                "model.heads: all losses see the pooled feature, and none the head. Leave out heads=shared."
            )
        if ensemble.balance != "none" or ensemble.weighting == "grad_norm":
            raise UsageError(
                f"model.heads: gradients are weighed at the one embedding, and {place}.\n"
                f"  {way}, or leave out ensemble.balance and grad_norm."
            )
    if ensemble.diversity != "none":
        raise UsageError(f"ensemble.diversity: {ensemble.diversity} compares heads, and {place}.\n  {way}.")
    if ensemble.student == "stress":
        raise UsageError(
            f"ensemble.student: a network on top is taught by heads, and {place}.\n"
            f"  {way}, or compress the run when it is done: accord compress --method student."
        )
    if config.model.trunk_share > 0 and not own_heads(config):
        raise UsageError(
            "model.trunk_share: all losses learn on the pooled feature, which then is the embedding. Leave it out."
        )
    if config.model.total_dim is not None and not own_heads(config):
        raise UsageError(
            "model.total_dim: all losses learn on the pooled feature, and no head divides it. Leave it out."
        )
