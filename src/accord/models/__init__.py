"""Networks that turn images into embeddings: backbones, pooling, heads, and the Embedder that holds them together.

No file is opened here: weights are handed over as state dicts.
"""

from accord.models._backbones import BACKBONES, BackboneInfo, ImportedBackbone, build_backbone, load_weights
from accord.models._efficientnet import EfficientNetLite
from accord.models._embed import embed, evaluating, freeze_batch_norm
from accord.models._embedder import Embedder
from accord.models._heads import HEADS, LinearHead, MaskedLinearHead, MLPHead, TrunkHead
from accord.models._joined import JoinedHead
from accord.models._pool import POOLS, AverageMaxPool, AveragePool, GemPool, MaxPool, build_pool
from accord.models._preprocess import to_input
from accord.models._resnet import ResNet

__all__ = [
    "BACKBONES",
    "HEADS",
    "POOLS",
    "AverageMaxPool",
    "AveragePool",
    "BackboneInfo",
    "EfficientNetLite",
    "Embedder",
    "GemPool",
    "ImportedBackbone",
    "JoinedHead",
    "LinearHead",
    "MLPHead",
    "MaskedLinearHead",
    "MaxPool",
    "ResNet",
    "TrunkHead",
    "build_backbone",
    "build_pool",
    "embed",
    "evaluating",
    "freeze_batch_norm",
    "load_weights",
    "to_input",
]
