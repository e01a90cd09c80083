"""Query expansion and database augmentation: embeddings moved towards their nearest neighbours before they are judged.

A figure made with either is not comparable with a plain one: it uses the gallery a second time, and names its option.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from accord.checks import check_count, check_range, describe
from accord.errors import BatchError
from accord.evaluation._directions import directions_by_id, nearest
from accord.geometry import places, row_blocks
from accord.types import Labelled

BUDGET_BYTES = 32 * 2**20


def query_expansion(
    queries: Labelled, gallery: Labelled, *, k: int = 10, alpha: float = 0.0, budget_bytes: int = BUDGET_BYTES
) -> Labelled:
    """Replace each query by the sum of itself and its k nearest gallery items, weighted by their scores to the power α.

    α = 0 is average query expansion (Chum et al., ICCV 2007): every weight is 1. α > 0 is αQE (Radenović, Tolias &
    Chum, TPAMI 2019, §3.3, there α = 3 and unit rows); a negative score then weighs 0. The query itself weighs 1. Rows
    come back with length one. An item is no neighbour of itself, known by its id, and labels are not looked at. Scores
    go by blocks of queries within `budget_bytes`.

    Figures of expanded queries are not comparable with those of plain ones: a query has seen its gallery. Raises
    BatchError where the gallery has fewer than k other items or dimensions differ, NumericError for rows that are zero
    or not finite.

        evaluate(gallery, queries=query_expansion(gallery, gallery, k=10, alpha=3.0))
    """
    check_count("query_expansion", "k", k)
    check_range("query_expansion", "alpha", alpha, low=0)
    return _moved("query_expansion", queries, gallery, k, alpha, budget_bytes)


def database_augmentation(
    gallery: Labelled, *, k: int = 10, alpha: float = 0.0, budget_bytes: int = BUDGET_BYTES
) -> Labelled:
    """Replace each gallery item by the weighted sum of itself and its k nearest other items.

    Turcot & Lowe (ICCV Workshops 2009) and Arandjelović & Zisserman (CVPR 2012, §5) add up local features of
    neighbouring images; here whole embeddings are added, with the weights of `query_expansion`, and without their check
    of the geometry. Every item is moved from the gallery as it was.

    Figures of an augmented gallery are not comparable with those of a plain one. Errors as for `query_expansion`.

        augmented = database_augmentation(gallery, k=10)
    """
    check_count("database_augmentation", "k", k)
    check_range("database_augmentation", "alpha", alpha, low=0)
    return _moved("database_augmentation", gallery, gallery, k, alpha, budget_bytes)


def check_sides(who: str, queries: Labelled, gallery: Labelled, k: int) -> None:
    """Refuse sides of different width, and galleries with fewer than k items beside the query itself."""
    if queries.embeddings.shape[1:] != gallery.embeddings.shape[1:]:
        shapes = f"  queries: {describe(queries.embeddings)}\n  gallery: {describe(gallery.embeddings)}"
        raise BatchError(f"{who}: queries and gallery must be equally wide.\n{shapes}")
    others = len(gallery.ids) - int(torch.isin(queries.ids, gallery.ids).any())
    if k > others:
        raise BatchError(f"{who}: {k} neighbours were asked for, but a query has only {others} other items; lower k.")


def _moved(who: str, queries: Labelled, gallery: Labelled, k: int, alpha: float, budget_bytes: int) -> Labelled:
    check_count(who, "budget_bytes", budget_bytes, high=2**63)
    keys = directions_by_id(who, gallery)
    rows = keys if queries is gallery else directions_by_id(who, queries)
    check_sides(who, queries, gallery, k)
    own = places(queries.ids, gallery.ids)
    scores, columns = nearest(rows, keys, own, k, budget_bytes=budget_bytes)
    weights = scores.clamp_min(0) ** alpha if alpha else torch.ones_like(scores)
    return queries._replace(embeddings=_sum_of_neighbours(rows, keys, weights, columns, budget_bytes))


def _sum_of_neighbours(
    rows: Tensor, keys: Tensor, weights: Tensor, columns: Tensor, budget_bytes: int
) -> Float[Tensor, "query dim"]:
    moved = torch.empty_like(rows)
    width = 2 * columns.shape[1] * rows.shape[1]
    for block in row_blocks(len(rows), width, budget_bytes=budget_bytes, itemsize=rows.element_size()):
        moved[block] = rows[block] + (weights[block, :, None] * keys[columns[block]]).sum(dim=1)
    # opposite rows may cancel; what is left of them keeps its direction, or stays the query
    length = torch.linalg.vector_norm(moved, dim=1, keepdim=True)
    return torch.where(length > 1e-6, moved / length.clamp_min(1e-6), rows)
