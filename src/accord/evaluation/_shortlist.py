"""The best items so far of many queries, kept while blocks of fast scores go by; only what can enter is looked at."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

# A block's scores are compared with what is kept in chunks of this many, by their largest.
CHUNK = 32
# With more of its chunks to be opened than this share, a block is sorted as a whole.
MANY = 1 / 8


class Shortlist:
    """For each query the `width` best float32 scores with their item numbers, in no order; -inf where there are fewer.

    An item that scores exactly as the last one kept may be missing.
    """

    def __init__(self, queries: int, width: int, device: torch.device) -> None:
        self.scores = torch.full((queries, width), -torch.inf, device=device)
        self.columns = torch.zeros((queries, width), dtype=torch.int32, device=device)
        self.limits = torch.full((queries,), -torch.inf, device=device)

    def offer(self, rows: slice, scores: Float[Tensor, "query item"], first: int) -> None:
        """Take in the scores of the queries `rows` with consecutive items, numbered from `first`."""
        queries, items = scores.shape
        limits = self.limits[rows]
        whole = items // CHUNK * CHUNK
        if whole:
            # a chunk holds every (whole / CHUNK)-th item: the largest is then found along contiguous memory
            chunks = scores[:, :whole].reshape(queries, CHUNK, -1)
            hot = chunks.amax(dim=1) > limits[:, None]
            if int(hot.sum()) > MANY * hot.numel():
                return self._replace(rows, scores, first)
            row, chunk = hot.nonzero(as_tuple=True)
            values = chunks[row, :, chunk]
            place, inside = (values > limits[row, None]).nonzero(as_tuple=True)
            column = inside * chunks.shape[2] + chunk[place]
            self._merge(rows, row[place], values[place, inside], column + first)
        if whole < items:
            self._replace(rows, scores[:, whole:], first + whole)
        return None

    def offer_across(self, rows: slice, scores: Float[Tensor, "item query"], first: int) -> None:
        """Like `offer`, with a block that has a column for each query."""
        items, queries = scores.shape
        limits = self.limits[rows]
        if items % CHUNK or bool(limits.isneginf().any()):
            return self.offer(rows, scores.T.contiguous(), first)
        chunks = scores.reshape(-1, CHUNK, queries)
        hot = chunks.amax(dim=1) > limits
        if int(hot.sum()) > MANY * hot.numel():
            return self.offer(rows, scores.T.contiguous(), first)
        chunk, query = hot.nonzero(as_tuple=True)
        # in the order of queries, as they are merged
        query, order = query.sort(stable=True)
        chunk = chunk[order]
        values = chunks[chunk, :, query]
        place, inside = (values > limits[query, None]).nonzero(as_tuple=True)
        self._merge(rows, query[place], values[place, inside], chunk[place] * CHUNK + inside + first)
        return None

    def _replace(self, rows: slice, scores: Tensor, first: int) -> None:
        """Take in a block by sorting all of it."""
        top, columns = scores.topk(min(self.scores.shape[1], scores.shape[1]), sorted=False)
        self._keep(rows, slice(None), top, columns + first)

    def _merge(self, rows: slice, row: Tensor, scores: Tensor, columns: Tensor) -> None:
        """Take in single scores, ordered by the query they belong to."""
        if not len(row):
            return
        changed, place, counts = torch.unique_consecutive(row, return_inverse=True, return_counts=True)
        rank = torch.arange(len(row), device=row.device) - (counts.cumsum(0) - counts)[place]
        shape = (len(changed), int(counts.max()))
        table = scores.new_full(shape, -torch.inf)
        numbers = columns.new_zeros(shape)
        table[place, rank], numbers[place, rank] = scores, columns
        self._keep(rows, changed, table, numbers)

    def _keep(self, rows: slice, some: slice | Int[Tensor, " some"], scores: Tensor, columns: Tensor) -> None:
        kept_scores, kept_columns = self.scores[rows], self.columns[rows]
        both = torch.cat([kept_scores[some], scores], dim=1)
        numbers = torch.cat([kept_columns[some], columns.int()], dim=1)
        top, order = both.topk(kept_scores.shape[1], sorted=False)
        kept_scores[some], kept_columns[some] = top, numbers.gather(1, order)
        self.limits[rows][some] = top.amin(dim=1)
