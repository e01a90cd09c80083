"""Builds what a configuration says of a student that learns beside its ensemble, and the Embedder that it becomes."""

import math

import torch
from torch import nn

from accord.ensembles import STUDENT, Taught
from accord.errors import UsageError
from accord.models import Embedder, JoinedHead, LinearHead, MLPHead, TrunkHead
from accord.recipes.config import RunConfig
from accord.recipes.head_names import TRUNK

EPS = 0.01  # of the optimiser, for a network on top: its authors'


def student_heads(config: RunConfig, width: int) -> dict[str, nn.Module]:
    """The heads beside those of the losses: the pooled feature where it is part of the teacher, and a student's own."""
    heads: dict[str, nn.Module] = {}
    if config.ensemble.student == "none":
        return heads
    if config.model.trunk_share > 0:
        heads[TRUNK] = TrunkHead(width)
    if config.ensemble.student == "distil":
        assert config.model.dim is not None, "the embedding size is chosen before anything is built"
        apart = not config.ensemble.student_weight
        heads[STUDENT] = LinearHead(width, config.model.dim, normalise=False, apart=apart)
    return heads


def with_student(objective: nn.Module, config: RunConfig, embedder: Embedder) -> nn.Module:
    """The objective with the configured student beside it; itself where there is none."""
    ensemble, part = config.ensemble, config.model.trunk_share
    if ensemble.student == "none":
        return objective
    beside = {TRUNK: part} if part > 0 else {}
    if ensemble.student == "distil":
        # of a head that keeps to itself what it learns any weight would do: the optimiser takes no notice of it
        weight = ensemble.student_weight or 1.0
        return Taught(objective, beside=beside, weight=weight, temperature=ensemble.student_temperature)
    return Taught(objective, _network(config, embedder.dim), beside=beside)


def student_dim(config: RunConfig) -> int | None:
    """How many numbers a student has; None where there is none, or where that is not chosen yet."""
    dim, chosen = config.model.dim, config.ensemble.student
    if chosen == "none":
        return None
    if chosen == "distil":
        return dim
    return config.ensemble.student_dim or (None if dim is None else 2 * dim)


def as_student(joined: Embedder, trained: Embedder, objective: nn.Module) -> Embedder:
    """What is used of a run: its joined heads, or the student where one learns: its own head, or its network on them.

    Shares its modules with what is trained, so it costs nothing and always shows the newest weights.
    """
    if not isinstance(objective, Taught):
        return joined
    head: nn.Module = trained.heads[STUDENT] if objective.student is None else _on_top(joined, objective.student)
    parts = joined.backbone, joined.pool, {STUDENT: head}
    return Embedder(*parts, preprocessing=joined.preprocessing)


def _network(config: RunConfig, numbers: int) -> MLPHead:
    """The authors' network, from all numbers of the teacher through a tanh layer of two heads' size."""
    assert config.model.dim is not None, "the embedding size is chosen before anything is built"
    hidden = 2 * config.model.dim
    dim = config.ensemble.student_dim or hidden
    if dim > numbers:
        raise UsageError(
            f"ensemble.student: its embedding would have {dim} numbers, and its teacher's has {numbers}.\n"
            f"  Give ensemble.student_dim={numbers} or less."
        )
    # numbers of its own, so that everything else is drawn as without a student
    generator = torch.Generator().manual_seed(config.training.seed)
    return MLPHead(numbers, dim, hidden=hidden, normalise=False, activation="tanh", generator=generator)


def _on_top(joined: Embedder, network: nn.Module) -> JoinedHead:
    total = sum(joined.weights.values())
    factors = {name: math.sqrt(weight / total) for name, weight in joined.weights.items()}
    return JoinedHead(dict(joined.heads.items()), network, factors=factors, unit=True)


def refuse_idle_student(config: RunConfig) -> None:
    """Refuse options of a student that would have no effect, and a student that has nothing to make smaller."""
    ensemble = config.ensemble
    others = {
        "student_weight": ("distil", "a network on top teaches the rest nothing, so it has no weight"),
        "student_temperature": ("distil", "a network on top is taught distances, which have no temperature"),
        "student_dim": ("stress", "a distilled student has as many numbers as a head, model.dim"),
    }
    for key, (kind, why) in others.items():
        if getattr(ensemble, key) is None or ensemble.student == kind:
            continue
        if ensemble.student == "none":
            raise UsageError(f"ensemble.{key}: there is no student. Add ensemble.student={kind}, or leave it out.")
        raise UsageError(f"ensemble.{key}: {why}. Leave it out.")
    one = len(config.losses) == 1 or config.model.heads == "shared"
    if ensemble.student == "stress" and ensemble.student_dim is None and one and not config.model.trunk_share:
        raise UsageError(
            "ensemble.student: a network on top of a single head has twice its numbers, so nothing is made smaller.\n"
            "  Add the pooled feature (model.trunk_share), give ensemble.student_dim, or take ensemble.student=distil."
        )
