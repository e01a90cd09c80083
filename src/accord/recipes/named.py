"""The recipes that come with accord: each is a small mapping laid over the defaults of the configuration."""

from collections.abc import Mapping
from typing import Any, NamedTuple


class Recipe(NamedTuple):
    """A named starting point: what it is for, and what it changes in the configuration."""

    summary: str
    config: Mapping[str, Any]


def _one(loss: str, summary: str, **more: Any) -> Recipe:
    return Recipe(summary, {"losses": [{"type": loss}], **more})


RECIPES: dict[str, Recipe] = {
    "accord": Recipe(
        "pairs, classes and proxies in accord on one feature, normalised within classes at the end; the default",
        {
            # chosen on held-out training classes of four sets (docs/results/ensemble.md): a loss teaches the trunk more
            # without a head between, and what one of these misses another has
            "model": {"metric": "wccn"},
            "losses": [
                {"type": "multi_similarity", "sees": "trunk"},
                {"type": "sup_con", "sees": "trunk"},
                {"type": "proxy_anchor", "sees": "trunk"},
            ],
        },
    ),
    "five_losses": Recipe(
        "pairs, triplets, N-pairs, proxies and classes in accord, one head each; the default before `accord`",
        {
            # N-pair at full weight pulls the trunk towards the training classes
            "model": {"trunk_share": 0.75},
            "losses": [
                {"type": "contrastive"},
                {"type": "triplet_margin", "options": {"mining": "semi_hard"}},
                {"type": "n_pair", "weight": 0.1},
                {"type": "proxy_nca"},
                {"type": "smoothed_cross_entropy"},
            ],
        },
    ),
    "wedl": Recipe(
        "the ensemble paper's own four losses, a head each, with its weights and its term for diversity",
        {
            # Zabihzadeh et al., arXiv 2107.01130, as in the run their code repeats; rates and batches are ours
            "losses": [
                {"type": "smoothed_cross_entropy", "options": {"smoothing": 0.15, "spread": "others"}},
                {
                    "type": "triplet_margin",
                    "options": {"margin": 1.0, "mining": "all_semi_hard", "band": 0.1, "squared": False},
                },
                {"type": "binomial_deviance"},
                {"type": "proxy_nca", "options": {"scale": 3**0.5, "positive": "included", "smoothing": 0.1}},
            ],
            "model": {"dim": 64},
            "ensemble": {
                "weighting": "published",
                "prior": [2.0, 1.0, 2.0, 3.0],
                "diversity": "distance_hinge",
                "diversity_weight": 0.1,
            },
        },
    ),
    "relations": Recipe(
        "three losses that learn from pairs and triplets without classes; the default with data.relations",
        {
            # chosen on held-out training groups of `objects`: against the one negative of a triplet the published form
            # of Proxy-NCA pushes without end, and the included one does not
            "model": {"trunk_share": 0.75},
            "losses": [
                {"type": "contrastive"},
                {"type": "triplet_margin", "options": {"mining": "semi_hard"}},
                {"type": "proxy_nca", "options": {"assignment": "dynamic", "positive": "included"}},
            ],
        },
    ),
    "contrastive": _one("contrastive", "pairs of one class together, others a margin apart"),
    "triplet": _one("triplet_margin", "FaceNet's triplets with semi-hard mining"),
    "n_pair": _one("n_pair", "N-pair-mc: every other pair of the batch is a negative", training={"per_class": 2}),
    "proxy_nca": _one("proxy_nca", "one learned proxy per class instead of sampled triplets"),
    "cross_entropy": _one("smoothed_cross_entropy", "plain classification; the embedding is the layer before it"),
    "multi_similarity": _one("multi_similarity", "weights pairs by three kinds of similarity"),
    "normalised_softmax": _one("normalised_softmax", "classification by cosine with a temperature"),
}
