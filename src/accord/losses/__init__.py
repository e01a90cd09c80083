"""The losses: each a pure function and a small module, called with (embeddings, labels), returning a scalar."""

from accord.losses._ada_cos import AdaCos, ada_cos, next_ada_cos_scale
from accord.losses._ada_face import AdaFace, ada_face
from accord.losses._angular import Angular, angular
from accord.losses._arc_face import ArcFace, arc_face
from accord.losses._binomial_deviance import BinomialDeviance, binomial_deviance
from accord.losses._centre import Centre, centre
from accord.losses._centre_decorrelation import CentreDecorrelation, centre_decorrelation
from accord.losses._check_loss import Certificate, check_loss
from accord.losses._circle import Circle, circle
from accord.losses._circle_classes import CircleClasses, circle_classes
from accord.losses._contrastive import Contrastive, contrastive
from accord.losses._cos_face import CosFace, cos_face
from accord.losses._cosent import CoSENT, cosent
from accord.losses._cross_batch_memory import CrossBatchMemory
from accord.losses._curricular_face import CurricularFace, curricular_face
from accord.losses._decoupled_contrastive import DecoupledContrastive, decoupled_contrastive
from accord.losses._dynamic_margin_arc_face import DynamicMarginArcFace, dynamic_margin_arc_face
from accord.losses._dynamic_soft_margin import (
    DynamicSoftMargin,
    dynamic_soft_margin,
    next_dynamic_soft_margin_histogram,
)
from accord.losses._elastic_face import ElasticFace, elastic_face
from accord.losses._embedding_norm import EmbeddingNorm, embedding_norm
from accord.losses._engine import sweep, sweep_all
from accord.losses._fast_ap import FastAP, fast_ap
from accord.losses._foreign import Foreign
from accord.losses._generalised_lifted import GeneralisedLifted, generalised_lifted
from accord.losses._histogram import Histogram, histogram
from accord.losses._koleo import Koleo, koleo
from accord.losses._large_margin_softmax import LargeMarginSoftmax, large_margin_softmax
from accord.losses._lifted_structure import LiftedStructure, lifted_structure
from accord.losses._mag_face import MagFace, mag_face
from accord.losses._margin import Margin, margin
from accord.losses._mined import Mined
from accord.losses._multi_similarity import MultiSimilarity, multi_similarity
from accord.losses._n_pair import NPair, n_pair
from accord.losses._n_pair_angular import NPairAngular, n_pair_angular
from accord.losses._n_pair_ovo import NPairOVO, n_pair_ovo
from accord.losses._nca import NCA, nca
from accord.losses._normalised_softmax import NormalisedSoftmax, normalised_softmax
from accord.losses._nt_xent import NTXent, nt_xent
from accord.losses._p2s_grad import P2SGrad, p2s_grad
from accord.losses._plan import Member
from accord.losses._pnp import PNP, pnp
from accord.losses._products import ProductPath, choose_product_path, product_path, times
from accord.losses._proxy_anchor import ProxyAnchor, proxy_anchor
from accord.losses._proxy_bounds import bound_slack, nca_bound, proxy_alpha, proxy_epsilon, triplet_bound
from accord.losses._proxy_loss import ProxyLoss
from accord.losses._proxy_monitor import BoundReading, ProxyBound, ProxyUse, ProxyWatch
from accord.losses._proxy_nca import ProxyNCA, proxy_nca
from accord.losses._proxy_nca_plus_plus import ProxyNCAPlusPlus, proxy_nca_plus_plus
from accord.losses._proxy_nearest import nearest_proxies
from accord.losses._proxy_store import ProxyStore, share_proxies
from accord.losses._proxy_triplet import ProxyTriplet, proxy_triplet
from accord.losses._quadruplet import Quadruplet, quadruplet
from accord.losses._ranked_list import RankedList, ranked_list
from accord.losses._recall_at_k import RecallAtK, recall_at_k
from accord.losses._related import Kind, Related, check_related
from accord.losses._relations import linked_labels
from accord.losses._row_loss import RowLoss
from accord.losses._rule import HandRule, HandSurvey, Pull, Rule, SurveyRule, Tally
from accord.losses._settings import row_engine
from accord.losses._sigmoid import Sigmoid, sigmoid
from accord.losses._signal_to_noise import SignalToNoise, signal_to_noise
from accord.losses._smooth_ap import SmoothAP, smooth_ap
from accord.losses._smoothed_cross_entropy import SmoothedCrossEntropy, smoothed_cross_entropy
from accord.losses._soft_triple import SoftTriple, soft_triple
from accord.losses._sphere_face import SphereFace, sphere_face
from accord.losses._spread_out import SpreadOut, spread_out
from accord.losses._sub_centre_arc_face import SubCentreArcFace, sub_centre_arc_face
from accord.losses._sup_ap import SupAP, sup_ap
from accord.losses._sup_con import SupCon, sup_con
from accord.losses._survey import survey
from accord.losses._tables import sweep_classes, sweep_table
from accord.losses._total import sweep_total
from accord.losses._triplet_margin import TripletMargin, triplet_margin
from accord.losses._tuplet import Tuplet, tuplet
from accord.losses._tuplet_margin import TupletMargin, tuplet_margin
from accord.losses._variance_covariance import VarianceCovariance, variance_covariance

__all__ = [
    "NCA",
    "PNP",
    "AdaCos",
    "AdaFace",
    "Angular",
    "ArcFace",
    "BinomialDeviance",
    "BoundReading",
    "Centre",
    "CentreDecorrelation",
    "Certificate",
    "Circle",
    "CircleClasses",
    "CoSENT",
    "Contrastive",
    "CosFace",
    "CrossBatchMemory",
    "CurricularFace",
    "DecoupledContrastive",
    "DynamicMarginArcFace",
    "DynamicSoftMargin",
    "ElasticFace",
    "EmbeddingNorm",
    "FastAP",
    "Foreign",
    "GeneralisedLifted",
    "HandRule",
    "HandSurvey",
    "Histogram",
    "Kind",
    "Koleo",
    "LargeMarginSoftmax",
    "LiftedStructure",
    "MagFace",
    "Margin",
    "Member",
    "Mined",
    "MultiSimilarity",
    "NPair",
    "NPairAngular",
    "NPairOVO",
    "NTXent",
    "NormalisedSoftmax",
    "P2SGrad",
    "ProductPath",
    "ProxyAnchor",
    "ProxyBound",
    "ProxyLoss",
    "ProxyNCA",
    "ProxyNCAPlusPlus",
    "ProxyStore",
    "ProxyTriplet",
    "ProxyUse",
    "ProxyWatch",
    "Pull",
    "Quadruplet",
    "RankedList",
    "RecallAtK",
    "Related",
    "RowLoss",
    "Rule",
    "Sigmoid",
    "SignalToNoise",
    "SmoothAP",
    "SmoothedCrossEntropy",
    "SoftTriple",
    "SphereFace",
    "SpreadOut",
    "SubCentreArcFace",
    "SupAP",
    "SupCon",
    "SurveyRule",
    "Tally",
    "TripletMargin",
    "Tuplet",
    "TupletMargin",
    "VarianceCovariance",
    "ada_cos",
    "ada_face",
    "angular",
    "arc_face",
    "binomial_deviance",
    "bound_slack",
    "centre",
    "centre_decorrelation",
    "check_loss",
    "check_related",
    "choose_product_path",
    "circle",
    "circle_classes",
    "contrastive",
    "cos_face",
    "cosent",
    "curricular_face",
    "decoupled_contrastive",
    "dynamic_margin_arc_face",
    "dynamic_soft_margin",
    "elastic_face",
    "embedding_norm",
    "fast_ap",
    "generalised_lifted",
    "histogram",
    "koleo",
    "large_margin_softmax",
    "lifted_structure",
    "linked_labels",
    "mag_face",
    "margin",
    "multi_similarity",
    "n_pair",
    "n_pair_angular",
    "n_pair_ovo",
    "nca",
    "nca_bound",
    "nearest_proxies",
    "next_ada_cos_scale",
    "next_dynamic_soft_margin_histogram",
    "normalised_softmax",
    "nt_xent",
    "p2s_grad",
    "pnp",
    "product_path",
    "proxy_alpha",
    "proxy_anchor",
    "proxy_epsilon",
    "proxy_nca",
    "proxy_nca_plus_plus",
    "proxy_triplet",
    "quadruplet",
    "ranked_list",
    "recall_at_k",
    "row_engine",
    "share_proxies",
    "sigmoid",
    "signal_to_noise",
    "smooth_ap",
    "smoothed_cross_entropy",
    "soft_triple",
    "sphere_face",
    "spread_out",
    "sub_centre_arc_face",
    "sup_ap",
    "sup_con",
    "survey",
    "sweep",
    "sweep_all",
    "sweep_classes",
    "sweep_table",
    "sweep_total",
    "times",
    "triplet_bound",
    "triplet_margin",
    "tuplet",
    "tuplet_margin",
    "variance_covariance",
]
