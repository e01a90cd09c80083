"""Lays embeddings out on a plane, so that people can look at them."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from accord.types import Embeddings

TSNE_POINTS = 2000
FEWEST_FOR_TSNE = 10
_COMPONENTS = 30
_RESOLUTION = 1e-5  # of unit directions


class Projection(NamedTuple):
    """Places on a plane, each axis within [-1, 1], and how they were found: `t-SNE` or `PCA`."""

    x: list[float]
    y: list[float]
    method: str


def project_2d(embeddings: Embeddings, seed: int = 0, *, tsne: bool = True) -> Projection:
    """Lay embeddings out on a plane so that close ones stay close.

    t-SNE on the directions of the embeddings (cosine geometry), from a PCA start; PCA alone beyond 2,000 points, where
    t-SNE takes minutes, below 10, where it means nothing, and without `tsne`. The same embeddings and seed give the
    same picture.
    """
    components = _principal(F.normalize(embeddings.detach().cpu().double(), dim=1))
    # equal items share a place: scikit-learn's tree of points can crash on many in one spot
    distinct, place = (
        (components / _RESOLUTION)
        .round()
        .unique(  # type: ignore[no-untyped-call]
            dim=0, return_inverse=True
        )
    )
    method = "t-SNE" if tsne and FEWEST_FOR_TSNE <= len(distinct) <= TSNE_POINTS else "PCA"
    plane = (_tsne(distinct * _RESOLUTION, seed) if method == "t-SNE" else distinct[:, :2] * _RESOLUTION)[place]
    plane = plane - (plane.amax(0) + plane.amin(0)) / 2
    plane = plane / plane.abs().max().clamp_min(1e-12)
    x, y = [[round(float(value), 4) for value in axis] for axis in plane.T]
    return Projection(x, y, method)


def _principal(x: Float[Tensor, "item dim"]) -> Float[Tensor, "item component"]:
    """The leading principal components, at least two columns, signs fixed so that runs can be compared."""
    centred = x - x.mean(0)
    if x.shape[0] < x.shape[1]:
        left, sizes, _ = torch.linalg.svd(centred, full_matrices=False)
        scores = left * sizes
    else:
        _, axes = torch.linalg.eigh(centred.T @ centred)
        scores = centred @ axes.flip(1)
    scores = F.pad(scores[:, :_COMPONENTS], (0, max(0, 2 - scores.shape[1])))
    largest = scores.gather(0, scores.abs().argmax(0, keepdim=True))
    return scores * torch.where(largest < 0, -1.0, 1.0)


def _tsne(components: Float[Tensor, "item component"], seed: int) -> Float[Tensor, "item two"]:
    from sklearn.manifold import TSNE  # here and not above: a second to import, and only a map needs it

    start = components[:, :2] / components[:, 0].std() * 1e-4
    tsne = TSNE(
        init=start.float().numpy(),
        perplexity=min(20.0, (len(components) - 1) / 3),
        max_iter=1000,
        random_state=seed,
        n_jobs=1,
    )
    return torch.from_numpy(tsne.fit_transform(components.float().numpy())).double()
