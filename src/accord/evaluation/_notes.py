"""What a reader of an evaluation's figures should know, in sentences."""

from collections.abc import Mapping

import torch
from jaxtyping import Int
from torch import Tensor

from accord.evaluation._gallery import fingerprints
from accord.evaluation._metrics import Wanted
from accord.evaluation._protocol import Problem


def notes(
    problem: Problem, rows: Int[Tensor, " query"], asked: Wanted, counts: Mapping[str, int], known: int = 0
) -> tuple[str, ...]:
    """Sentences on what was left out, what can't miss, and what is odd about the embeddings.

    `known` are the queries with an embedding of the gallery, of their own class, under another id.
    """
    least, most = int(problem.searched[rows].min()), int(problem.searched[rows].max())
    others = f"{most}" if least == most else f"{least} to {most}"
    trivial = [name for name, family, k in asked.cuts if family == "recall" and k >= least]
    short = [name for name, family, k in asked.cuts if family != "recall" and k > least]
    without, nonfinite = counts["queries_without_match"], counts["nonfinite"]
    again = _again(problem)
    alone = problem.within and problem.keys is None
    said = {
        "The embeddings have collapsed: they lie on one line, or are fewer than the classes.": counts["collapsed"],
        f"{counts['duplicates']} items share their embedding with another item.": counts["duplicates"],
        f"{without} items are alone in their class: they are no queries, but can be found.": without and alone,
        f"{without} queries have nothing to find and are not asked.": without and not alone,
        f"{counts['excluded']} pairs are left out because of their groups.": counts["excluded"],
        f"{', '.join(trivial)} can't miss: a query has only {others} other items.": trivial,
        f"{', '.join(short)} look further than the {others} items a query has: absent ones count as wrong.": short,
        f"knn_accuracy asks all {others} other items, fewer than {asked.knn}.": asked.has("knn_accuracy")
        and asked.knn > least,
        f"{nonfinite} rows are zero or not finite: they are never found and counted against every query; "
        "`optimistic` leaves them out.": nonfinite,
        "The queries are the gallery under other ids, so each of them finds itself: give them the same ids.": again,
        f"{known} queries find their own embedding in the gallery, under another id: if they are the same items, give "
        "them the same ids.": known and not again,
    }
    return tuple(sentence for sentence, applies in said.items() if applies)


def _again(problem: Problem) -> bool:
    """Whether queries and gallery are the same embeddings, but no query has an id of the gallery."""
    if problem.within or len(problem.queries) != len(problem.gallery) or bool((problem.own >= 0).any()):
        return False
    sides = [
        (fingerprints(side.embeddings) * 3 + classes).sort().values
        for side, classes in ((problem.queries, problem.query_classes), (problem.gallery, problem.classes))
    ]
    return torch.equal(*sides)
