"""The losses: each a pure function and a small module, called with (embeddings, labels), returning a scalar."""

from accord.losses._contrastive import Contrastive, contrastive
from accord.losses._multi_similarity import MultiSimilarity, multi_similarity
from accord.losses._n_pair import NPair, n_pair
from accord.losses._normalised_softmax import NormalisedSoftmax, normalised_softmax
from accord.losses._proxy_nca import ProxyNCA, proxy_nca
from accord.losses._smoothed_cross_entropy import SmoothedCrossEntropy, smoothed_cross_entropy
from accord.losses._triplet_margin import TripletMargin, triplet_margin

__all__ = [
    "Contrastive",
    "MultiSimilarity",
    "NPair",
    "NormalisedSoftmax",
    "ProxyNCA",
    "SmoothedCrossEntropy",
    "TripletMargin",
    "contrastive",
    "multi_similarity",
    "n_pair",
    "normalised_softmax",
    "proxy_nca",
    "smoothed_cross_entropy",
    "triplet_margin",
]
