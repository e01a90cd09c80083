"""Builds what a configuration says about how the heads of an ensemble are made to differ."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from accord.ensembles import (
    AdversarialRegressors,
    CKADiversity,
    DistanceDecorrelation,
    DistanceHinge,
    Diversity,
    Relabelled,
    Subset,
    class_partitions,
    class_subsets,
)
from accord.errors import UsageError
from accord.models import MaskedLinearHead
from accord.recipes.config import EnsembleConfig, RunConfig

USUAL_WEIGHT = 0.1  # where `ensemble.diversity_weight` is null
TERMS = {"distance_hinge": DistanceHinge, "cka": CKADiversity, "distance_decorrelation": DistanceDecorrelation}


def build_diversity(config: RunConfig, names: Sequence[str]) -> Diversity | None:
    """The configured term between the heads, None for none."""
    chosen, weight = config.ensemble.diversity, config.ensemble.diversity_weight or USUAL_WEIGHT
    if chosen == "none":
        return None
    if chosen == "adversarial":
        assert config.model.dim is not None, "the embedding size is chosen before anything is built"
        generator = torch.Generator().manual_seed(config.training.seed)
        return AdversarialRegressors(dict.fromkeys(names, config.model.dim), weight=weight, generator=generator)
    term: Diversity = TERMS[chosen](weight=weight)
    return term


def build_label_tables(config: RunConfig, *, classes: int) -> Tensor | None:
    """What each head learns, (head, class): the number of each class's group, or which classes are kept; None: all."""
    heads, share = len(config.losses), config.ensemble.labels_share
    generator = torch.Generator().manual_seed(config.training.seed)
    if config.ensemble.labels == "partition":
        return class_partitions(classes, max(2, round(share * classes)), heads=heads, generator=generator)
    if config.ensemble.labels == "subset":
        return class_subsets(classes, share, heads=heads, generator=generator)
    return None


def learnt_classes(table: Tensor) -> int:
    """How many classes a loss is made for that learns what a table says."""
    return int(table.sum()) if table.dtype == torch.bool else int(table.max()) + 1


def learning(loss: nn.Module, table: Tensor) -> nn.Module:
    """A loss that learns what a table says."""
    return Subset(loss, table) if table.dtype == torch.bool else Relabelled(loss, table)


def seen_by(member: nn.Module, embeddings: Tensor, labels: Tensor) -> tuple[nn.Module, Tensor, Tensor]:
    """The loss inside a member, and the embeddings and labels that it is given."""
    if isinstance(member, Relabelled | Subset):
        inside = member.loss
        assert isinstance(inside, nn.Module), "the catalogue makes modules"
        return inside, *member.seen(embeddings, labels)
    return member, embeddings, labels


def folded_heads(heads: Mapping[str, nn.Module]) -> dict[str, nn.Module]:
    """Heads as they are used: masks are put into the weights, all others stay themselves."""
    return {name: head.folded() if isinstance(head, MaskedLinearHead) else head for name, head in heads.items()}


def refuse_idle_diversity(config: RunConfig) -> None:
    """Refuse options about the heads' differences that would have no effect, or can't have one."""
    ensemble, usual = config.ensemble, EnsembleConfig()
    if len(config.losses) == 1:
        for key in ("diversity", "labels"):
            if getattr(ensemble, key) != getattr(usual, key):
                raise UsageError(
                    f"ensemble.{key}: a single loss has one head, and nothing to differ from. Leave it out."
                )
    if config.model.heads == "shared" and ensemble.diversity != "none":
        raise UsageError(
            f"ensemble.diversity: {ensemble.diversity} compares heads, and with model.heads=shared there is one. "
            "Leave one of them out."
        )
    if ensemble.diversity == "none" and ensemble.diversity_weight is not None:
        raise UsageError(
            "ensemble.diversity_weight: there is no term to weigh. Choose one with ensemble.diversity, such as cka, "
            "or leave it out."
        )
    if ensemble.labels == "all" and ensemble.labels_share != usual.labels_share:
        raise UsageError(
            "ensemble.labels_share: only used where ensemble.labels is partition or subset. Set that, or leave it out."
        )
    if ensemble.labels != "all" and config.data.relations is not None:
        raise UsageError(
            f"ensemble.labels: a {ensemble.labels} is one of classes, and data.relations teaches without any. "
            "Leave one of them out."
        )
