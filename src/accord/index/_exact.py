"""Exact nearest-neighbour search by cosine score: every item is compared, nothing is approximated."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from accord.checks import check_batch, check_count, check_finite, describe
from accord.errors import ArtifactError, BatchError, NumericError
from accord.geometry import full, inner, places, row_blocks
from accord.types import Labelled, Neighbours

BUDGET_BYTES = 32 * 2**20


class ExactIndex:
    """Finds the items of a gallery that are nearest to a query, by the cosine of the angle between them.

    Keeps unit rows in float32. An answer depends on the query and the gallery alone, not on the other queries asked
    with it: float32 products propose, float64 scores decide, and equal scores are ordered by id. Cost is linear in the
    gallery; at most `budget_bytes` are used for scores at a time.

        index = ExactIndex(Labelled(embeddings, labels, ids))
        index.search(queries, 10).ids
    """

    def __init__(self, labelled: Labelled, *, budget_bytes: int = BUDGET_BYTES) -> None:
        check_count("ExactIndex", "budget_bytes", budget_bytes, high=2**63)
        self.budget_bytes = budget_bytes
        self.labelled = _checked("ExactIndex", labelled)

    def __len__(self) -> int:
        return len(self.labelled.ids)

    def search(
        self, queries: Float[Tensor, "query dim"], k: int, *, exclude: Int[Tensor, "..."] | None = None
    ) -> Neighbours:
        """The k nearest items of each query, best first, with float32 scores in [-1, 1].

        `exclude` names one id per query that is never returned, -1 for none; an id that is not in the index is no
        error. Where fewer than k items are left, the id is -1 and the score -inf. Raises BatchError where dimensions
        do not fit, NumericError for queries that are zero or not finite.
        """
        check_count("search", "k", k)
        if exclude is None:
            exclude = torch.full((len(queries),), -1, device=queries.device)
        queries = self._checked_queries(queries, exclude)
        size, device = (len(queries), k), queries.device
        out = Neighbours(torch.full(size, -torch.inf, device=device), torch.full(size, -1, device=device))
        everyone, barred = torch.arange(len(queries), device=device), places(exclude, self.labelled.ids)
        for block in row_blocks(len(queries), 2 * len(self), budget_bytes=self.budget_bytes):
            for rows, scores, columns in self._nearest(queries[block], barred[block], k):
                asked = everyone[block][rows]
                found = scores[:, :k] > -torch.inf
                out.scores[asked, : found.shape[1]] = torch.where(found, scores[:, :k].clamp(-1, 1), -torch.inf).float()
                out.ids[asked, : found.shape[1]] = torch.where(found, self.labelled.ids[columns[:, :k]], -1)
        return out

    def add(self, labelled: Labelled) -> None:
        """Put more items in. All or none: a zero, a non-finite row or an id that is there already refuses the lot."""
        new = _checked("add", labelled)
        old = self.labelled
        if new.embeddings.shape[1] != old.embeddings.shape[1]:
            raise BatchError(_other_width("add", "embeddings", new.embeddings, old.embeddings))
        known = new.ids[torch.isin(new.ids, old.ids)].tolist()
        if known:
            raise BatchError(f"add: the index already has id {_shown(known)}; remove these items first.")
        self.labelled = Labelled(*(torch.cat(pair) for pair in zip(old, new, strict=True)))

    def remove(self, ids: Int[Tensor, " item"]) -> None:
        """Take items out by id; an id that is not there is an error, and then nothing is removed."""
        strange = ids[~torch.isin(ids, self.labelled.ids)].tolist()
        if strange:
            raise BatchError(f"remove: the index has no id {_shown(strange)}.")
        kept = ~torch.isin(self.labelled.ids, ids)
        self.labelled = Labelled(*(column[kept] for column in self.labelled))

    def to_tensors(self) -> dict[str, Tensor]:
        """Everything the index knows, as three tensors to be saved: `embeddings`, `labels`, `ids`."""
        return self.labelled._asdict()

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor], *, budget_bytes: int = BUDGET_BYTES) -> "ExactIndex":
        """The index that `to_tensors` came from. Raises ArtifactError where tensors are missing, strange or damaged."""
        names = set(Labelled._fields)
        if set(tensors) != names:
            raise ArtifactError(f"ExactIndex: expected the tensors {sorted(names)}, but got {sorted(tensors)}.")
        try:
            return cls(Labelled(**tensors), budget_bytes=budget_bytes)
        except (BatchError, NumericError) as error:
            raise ArtifactError(f"ExactIndex: these tensors are no index. {error}") from error

    def _checked_queries(self, queries: Tensor, exclude: Tensor) -> Tensor:
        width = self.labelled.embeddings.shape[1]
        if queries.ndim != 2 or not queries.is_floating_point() or queries.shape[1] != width:
            raise BatchError(_other_width("search", "queries", queries, self.labelled.embeddings))
        if exclude.shape != queries.shape[:1]:
            shapes = f"  queries: {describe(queries)}\n  exclude: {describe(exclude)}"
            raise BatchError(f"search: exclude must have one id per query.\n{shapes}")
        rows = torch.arange(len(queries), device=queries.device)
        return _unit("search", "query", queries, rows)

    def _nearest(self, queries: Tensor, barred: Tensor, k: int) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Groups of queries (row numbers) with float64 scores and columns, best first, of at least their k nearest."""
        n, dim = self.labelled.embeddings.shape
        fast = inner(queries, self.labelled.embeddings)
        rows = (barred >= 0).nonzero()[:, 0]
        fast[rows, barred[rows]] = -torch.inf
        width = min(n, k + max(8, k // 4))
        top, columns = fast.topk(width)
        # beyond this no order of a float32 sum can move a score: what lies deeper can't belong to the k nearest
        doubt = 2 * (dim + 8) * 2.0**-24
        proved = torch.ones(len(queries), dtype=torch.bool, device=queries.device)
        if width < n:
            proved = top[:, k - 1].double() - top[:, -1].double() > doubt
        some, others = proved.nonzero()[:, 0], (~proved).nonzero()[:, 0]
        everything = torch.arange(n, device=queries.device)
        groups = [(some, columns[some])] + [(row[None], everything[None]) for row in others]
        return [(rows, *self._settle(queries[rows], barred[rows], found)) for rows, found in groups]

    def _settle(self, queries: Tensor, barred: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
        """Score these columns in float64, the barred one not at all, and order them, equal scores by id."""
        columns = columns.gather(1, self.labelled.ids[columns].argsort(dim=1))
        scores = queries.new_empty(columns.shape, dtype=torch.float64)
        dim = queries.shape[1]
        # products and a sum along the row, not a matrix product: its bits would depend on the other queries
        for rows in row_blocks(len(queries), columns.shape[1] * dim, budget_bytes=self.budget_bytes, itemsize=24):
            for part in row_blocks(columns.shape[1], dim, budget_bytes=self.budget_bytes, itemsize=24):
                keys = self.labelled.embeddings[columns[rows, part]].double()
                scores[rows, part] = (queries[rows, None].double() * keys).sum(dim=2)
        scores = scores.masked_fill(columns == barred[:, None], -torch.inf)
        scores, order = scores.sort(dim=1, descending=True, stable=True)
        return scores, columns.gather(1, order)


def _checked(who: str, labelled: Labelled) -> Labelled:
    embeddings, labels, ids = labelled
    if not isinstance(ids, Tensor) or ids.ndim != 1 or ids.is_floating_point() or len(ids) != len(embeddings):
        wish = "ids must be an integer tensor with one entry per embedding."
        raise BatchError(f"{who}: {wish}\n  embeddings: {describe(embeddings)}\n  ids:        {describe(ids)}")
    check_finite(who, "embeddings", embeddings, ids)
    check_batch(who, embeddings, labels)
    values, counts = torch.unique(ids, return_counts=True)
    wrong = values[(counts > 1) | (values < 0)].tolist()
    if wrong:
        raise BatchError(f"{who}: ids must be unique and not negative, unlike {_shown(wrong)}.")
    return Labelled(_unit(who, "item", embeddings.detach(), ids), labels.long(), ids.long())


def _unit(who: str, what: str, rows: Tensor, ids: Tensor) -> Tensor:
    rows = full(rows)
    peaks = rows.new_zeros(len(rows), 1, dtype=torch.float64)
    # by blocks, here and below: float64 copies of a large gallery would not fit into memory
    blocks = list(row_blocks(len(rows), rows.shape[1], itemsize=32)) if rows.numel() else []
    for block in blocks:
        peaks[block] = rows[block].abs().amax(dim=1, keepdim=True).double()
    wrong = ids[~((peaks > 0) & peaks.isfinite())[:, 0]].tolist()
    if wrong:
        message = f"{len(wrong)} of {len(rows)} are zero or not finite: {what} {_shown(wrong)}."
        raise NumericError(f"{who}: an embedding needs a direction to be compared by, but {message}")
    unit = torch.empty_like(rows, dtype=torch.float32, memory_format=torch.contiguous_format)
    for block in blocks:
        # scaled by the largest entry first: squares of tiny or huge entries would leave the range
        scaled = rows[block].double() / peaks[block]
        norms = torch.linalg.vector_norm(scaled, dim=1, keepdim=True)
        # unit rows stay as they are, bit for bit, so that a saved index opens as the one it was
        as_they_are = (norms * peaks[block] - 1).abs() < 2**-22
        unit[block] = torch.where(as_they_are, rows[block].double(), scaled / norms).float()
    return unit


def _other_width(who: str, name: str, given: Tensor, kept: Tensor) -> str:
    shapes = f"  {name}: {describe(given)}\n  gallery: {describe(kept)}"
    return f"{who}: {name} must be a floating-point (item, dim) tensor with the dimension of the gallery.\n{shapes}"


def _shown(ids: list[int]) -> str:
    return ", ".join(map(str, ids[:10])) + (f" and {len(ids) - 10} more" if len(ids) > 10 else "")
