"""Many losses in accord: one embedding or one head per loss, and the weights between them."""

from accord.ensembles._adversarial import AdversarialRegressors, adversarial_similarity
from accord.ensembles._affine import Affine, compose, side_by_side
from accord.ensembles._aligned_mtl import AlignedMTL, aligned_mtl
from accord.ensembles._balance import GradientBalance, PlainSum, Rule
from accord.ensembles._cagrad import CAGrad, cagrad
from accord.ensembles._cka import CKADiversity, cka
from accord.ensembles._compress import fold_heads, ledoit_wolf, pca, shrinkage_lda, wccn
from accord.ensembles._distance_decorrelation import DistanceDecorrelation, distance_decorrelation
from accord.ensembles._distance_hinge import DistanceHinge, distance_hinge
from accord.ensembles._dynamic_average import DynamicAverage, dynamic_average
from accord.ensembles._ensemble import DIVERSITY, SHARED, Ensemble, test_weights
from accord.ensembles._fixed import FixedWeights
from accord.ensembles._grad_norm import GradNorm, grad_norm_pull
from accord.ensembles._heads import Diversity
from accord.ensembles._label_space import Relabelled, Subset, class_partitions, class_subsets
from accord.ensembles._nash_mtl import NashMTL, nash_mtl
from accord.ensembles._pcgrad import PCGrad, pcgrad
from accord.ensembles._published import PublishedWeights, published_total
from accord.ensembles._random_weights import RandomWeights
from accord.ensembles._shares import fit_shares, head_distance_scales
from accord.ensembles._students import similarity_distillation, stress_loss
from accord.ensembles._taught import STUDENT, Taught, untaught
from accord.ensembles._uncertainty import UncertaintyWeights, uncertainty_total
from accord.ensembles._weighting import Guided, LeavesOut, Scaled, Weighting

__all__ = [
    "DIVERSITY",
    "SHARED",
    "STUDENT",
    "AdversarialRegressors",
    "Affine",
    "AlignedMTL",
    "CAGrad",
    "CKADiversity",
    "DistanceDecorrelation",
    "DistanceHinge",
    "Diversity",
    "DynamicAverage",
    "Ensemble",
    "FixedWeights",
    "GradNorm",
    "GradientBalance",
    "Guided",
    "LeavesOut",
    "NashMTL",
    "PCGrad",
    "PlainSum",
    "PublishedWeights",
    "RandomWeights",
    "Relabelled",
    "Rule",
    "Scaled",
    "Subset",
    "Taught",
    "UncertaintyWeights",
    "Weighting",
    "adversarial_similarity",
    "aligned_mtl",
    "cagrad",
    "cka",
    "class_partitions",
    "class_subsets",
    "compose",
    "distance_decorrelation",
    "distance_hinge",
    "dynamic_average",
    "fit_shares",
    "fold_heads",
    "grad_norm_pull",
    "head_distance_scales",
    "ledoit_wolf",
    "nash_mtl",
    "pca",
    "pcgrad",
    "published_total",
    "shrinkage_lda",
    "side_by_side",
    "similarity_distillation",
    "stress_loss",
    "test_weights",
    "uncertainty_total",
    "untaught",
    "wccn",
]
