"""Judges a run's unseen classes as its configuration asks: metrics, exclusions, roles, and raw pixels beside them."""

from dataclasses import replace

import torch

from accord.errors import DataError
from accord.evaluation import METRICS, chance_levels, evaluate
from accord.recipes.asked import QUERY, asked_of
from accord.recipes.baselines import SIZE, raw_pixels
from accord.recipes.config import EvaluationConfig, RunConfig
from accord.recipes.relations import judge_triplets
from accord.recipes.vectors import Judged
from accord.recipes.watch import Watch
from accord.types import Evaluation, Json, Labelled, Manifest

CURVE = (1, 2, 4, 8, 16, 32)
# items² × numbers beyond which judging pixels would take minutes
PIXELS_BUDGET = 2_000_000_000_000


def judge_test(
    labelled: Labelled, manifest: Manifest, config: RunConfig, *, nmi_seeds: int = 0, neighbours: int = 0
) -> Evaluation:
    """Judge the test images among what was embedded; without k-means where `nmi_seeds` is 0.

    Every recall@k of the report's curve is measured in the same sweep, as far as the gallery reaches, and so are the
    `neighbours` nearest items of each query. Where triplets were given, the share of the test's that holds is beside.
    """
    judged = asked_of(labelled, manifest)
    groups = groups_of(judged, config.evaluation)
    found = evaluate(
        judged.gallery.labelled,
        queries=None if judged.queries is None else judged.queries.labelled,
        groups=groups,
        query_groups=judged.queries.groups if judged.queries is not None and groups is not None else None,
        exclude=config.evaluation.exclude,
        metrics=tuple(dict.fromkeys((*metrics_of(config), *_curve_metrics(judged)))),
        knn=config.evaluation.knn,
        clusters=nmi_seeds > 0,
        nmi_seeds=max(1, nmi_seeds),
        neighbours=neighbours,
    )
    return judge_triplets(found, labelled, manifest)


def metrics_of(config: RunConfig) -> tuple[str, ...]:
    """The usual metrics, and those that the configuration adds."""
    return tuple(dict.fromkeys((*METRICS, *config.evaluation.metrics)))


def shown(evaluation: Evaluation, config: RunConfig) -> Evaluation:
    """The evaluation without what was only measured for the curve."""
    names = metrics_of(config)
    return replace(
        evaluation,
        per_query={name: values for name, values in evaluation.per_query.items() if name in names},
        chance={name: value for name, value in evaluation.chance.items() if name in names},
        optimistic={name: value for name, value in evaluation.optimistic.items() if name in names},
    )


def curve(evaluation: Evaluation) -> dict[int, float]:
    """Recall@k by k."""
    found = evaluation.metrics
    return {int(name[7:]): value for name, value in found.items() if name.startswith("recall@")}


def chance_curve(evaluation: Evaluation) -> dict[int, float]:
    """What a random order gives at each k of the curve."""
    return {int(name[7:]): value for name, value in evaluation.chance.items() if name.startswith("recall@")}


def groups_of(judged: Judged, config: EvaluationConfig) -> torch.Tensor | None:
    """The gallery's groups where the exclusion needs them; DataError where the images have none."""
    if config.exclude == "self":
        return None
    if judged.gallery.groups is None:
        raise _no_groups(config.exclude)
    return judged.gallery.groups


def check_asking(manifest: Manifest, config: RunConfig) -> None:
    """Refuse before training what would only fail after it: metrics that nobody knows, groups that are not there."""
    # the engine knows every name, and says which one is near
    chance_levels(torch.tensor([2, 2]), metrics=metrics_of(config), knn=config.evaluation.knn)
    if config.evaluation.exclude != "self" and not any(item.group for item in manifest.only("test").items):
        raise _no_groups(config.evaluation.exclude)


def _no_groups(exclude: str) -> DataError:
    return DataError(
        f"evaluation.exclude={exclude} leaves out images by their group, but these images have none.\n"
        "  Say where it is in their paths: data.group=stem, parent, or an expression with one capture group."
    )


def _curve_metrics(judged: Judged) -> tuple[str, ...]:
    items = len(judged.gallery.labelled.ids) - (judged.queries is None)
    return tuple(f"recall@{k}" for k in CURVE if k < items)


def judge_pixels(manifest: Manifest, config: RunConfig, watch: Watch) -> Evaluation | None:
    """What the pixels themselves score; None where nobody wants it, or nobody said so and it would take minutes."""
    items = len(manifest.only("test"))
    affordable = items * items * 3 * SIZE * SIZE <= PIXELS_BUDGET
    if not (affordable if config.evaluation.raw_pixels is None else config.evaluation.raw_pixels):
        return None
    pixels = raw_pixels(
        manifest.only("test"),
        fit=config.model.fit,
        progress=lambda done, total: watch.progress("raw pixels", done, total),
    )
    return shown(judge_test(pixels, manifest, config), config)


def protocol_of(manifest: Manifest, config: RunConfig, *, nmi_seeds: int) -> Json:
    """How a run's test images are asked, for its report and for whoever compares runs."""
    asks = any(item.role == QUERY for item in manifest.only("test").items)
    return {
        "queries": "query/gallery" if asks else "leave-one-out",
        "score": "cosine",
        "exclude": config.evaluation.exclude,
        "re_ranking": "none",
        "metrics": list(metrics_of(config)),
        "knn": config.evaluation.knn,
        "nmi_seeds": nmi_seeds,
    }
