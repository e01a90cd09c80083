"""How good embeddings are: retrieval, neighbour votes and clusters on classes, per query, with chance and intervals.

Everything here takes tensors and gives tensors or numbers; nothing is read, written or logged.
"""

from accord.evaluation._approximate import evaluate_index, index_recall
from accord.evaluation._beaten import verify_against
from accord.evaluation._chance import chance_levels, random_map, random_map_at_r, random_mrr, random_recall
from accord.evaluation._class_clusters import class_clusters
from accord.evaluation._class_distances import ClassDistances, alignment, class_distances
from accord.evaluation._class_folds import FoldPairs, class_fold_pairs, most_class_folds
from accord.evaluation._closed_set import ClosedSetSplit, closed_set_draws, closed_set_split
from accord.evaluation._clustering import cluster_runs, cluster_scores, nmi
from accord.evaluation._compare import paired_bootstrap, sign_flip, two_level_bootstrap
from accord.evaluation._evaluate import evaluate, recall_curve
from accord.evaluation._head_contributions import Agreement, HeadContributions, head_contributions
from accord.evaluation._identification import (
    Draws,
    Identification,
    Matches,
    OpenSet,
    OpenSetSplit,
    best_matches,
    identify,
    identify_draws,
    open_set_split,
)
from accord.evaluation._kmeans import kmeans
from accord.evaluation._lists import evaluate_lists
from accord.evaluation._merge import merge, merge_labelled
from accord.evaluation._metrics import METRICS
from accord.evaluation._partitions import (
    adjusted_mutual_information,
    adjusted_rand_index,
    normalised_mutual_information,
    pairwise_f1,
    purity,
)
from accord.evaluation._reciprocal import k_reciprocal
from accord.evaluation._rerank import database_augmentation, query_expansion
from accord.evaluation._space import Hubness, effective_rank, hubness, space_scores, spectral_decay, uniformity
from accord.evaluation._statistics import FEW_CLASSES, PerClass, class_bootstrap, class_t_interval, per_class
from accord.evaluation._steps import OperatingPoint, Steps
from accord.evaluation._threshold import Rate, Threshold, calibrate, clopper_pearson, rate, rate_in_gallery
from accord.evaluation._triplets import triplet_accuracy
from accord.evaluation._verdict import Verdict, average_ranks, expected_optimism, holm, verdict
from accord.evaluation._verification import Verification, pair_scores, verify_all, verify_pairs

__all__ = [
    "FEW_CLASSES",
    "METRICS",
    "Agreement",
    "ClassDistances",
    "ClosedSetSplit",
    "Draws",
    "FoldPairs",
    "HeadContributions",
    "Hubness",
    "Identification",
    "Matches",
    "OpenSet",
    "OpenSetSplit",
    "OperatingPoint",
    "PerClass",
    "Rate",
    "Steps",
    "Threshold",
    "Verdict",
    "Verification",
    "adjusted_mutual_information",
    "adjusted_rand_index",
    "alignment",
    "average_ranks",
    "best_matches",
    "calibrate",
    "chance_levels",
    "class_bootstrap",
    "class_clusters",
    "class_distances",
    "class_fold_pairs",
    "class_t_interval",
    "clopper_pearson",
    "closed_set_draws",
    "closed_set_split",
    "cluster_runs",
    "cluster_scores",
    "database_augmentation",
    "effective_rank",
    "evaluate",
    "evaluate_index",
    "evaluate_lists",
    "expected_optimism",
    "head_contributions",
    "holm",
    "hubness",
    "identify",
    "identify_draws",
    "index_recall",
    "k_reciprocal",
    "kmeans",
    "merge",
    "merge_labelled",
    "most_class_folds",
    "nmi",
    "normalised_mutual_information",
    "open_set_split",
    "pair_scores",
    "paired_bootstrap",
    "pairwise_f1",
    "per_class",
    "purity",
    "query_expansion",
    "random_map",
    "random_map_at_r",
    "random_mrr",
    "random_recall",
    "rate",
    "rate_in_gallery",
    "recall_curve",
    "sign_flip",
    "space_scores",
    "spectral_decay",
    "triplet_accuracy",
    "two_level_bootstrap",
    "uniformity",
    "verdict",
    "verify_against",
    "verify_all",
    "verify_pairs",
]
