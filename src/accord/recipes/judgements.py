"""What the frozen backbone scores, kept for the runs that are made of one run: they are all held against the same."""

import json
from collections.abc import Mapping

from torch import Tensor

from accord.recipes.config import RunConfig
from accord.recipes.run_evaluation import judge_test
from accord.types import Evaluation, Json, Labelled, Manifest

Judgements = dict[str, Evaluation]  # by what was asked

_WHERE = "judged"
_WHOLE = ("overall", "counts", "chance", "optimistic")
_PER_QUERY = ("per_query", "aside")


def judge_once(
    labelled: Labelled, manifest: Manifest, config: RunConfig, known: Judgements | None, *, nmi_seeds: int
) -> Evaluation:
    """What `judge_test` says, from `known` where the same was asked before; noted there, if there is one."""
    if known is None:
        return judge_test(labelled, manifest, config, nmi_seeds=nmi_seeds)
    asked = json.dumps([config.evaluation.model_dump(mode="json"), nmi_seeds], sort_keys=True)
    if asked not in known:
        known[asked] = judge_test(labelled, manifest, config, nmi_seeds=nmi_seeds)
    return known[asked]


def as_tensors(judgements: Judgements) -> tuple[dict[str, Tensor], Json]:
    """Tensors by name and what else there is to say, for a file; without neighbours and confusions."""
    tensors: dict[str, Tensor] = {}
    told: Json = {}
    for place, (asked, found) in enumerate(judgements.items()):
        at = f"{_WHERE}/{place}"
        tensors |= {f"{at}/query_ids": found.query_ids, f"{at}/query_labels": found.query_labels}
        for part in _PER_QUERY:
            tensors |= {f"{at}/{part}/{name}": values for name, values in getattr(found, part).items()}
        told[asked] = {**{part: dict(getattr(found, part)) for part in _WHOLE}, "notes": list(found.notes)}
    return tensors, told


def from_tensors(tensors: Mapping[str, Tensor], told: Json) -> Judgements:
    """The judgements that `as_tensors` took apart; other tensors may be beside them."""
    found: Judgements = {}
    for place, (asked, whole) in enumerate(told.items()):
        at = f"{_WHERE}/{place}"
        found[asked] = Evaluation(
            per_query=_under(tensors, f"{at}/per_query/"),
            aside=_under(tensors, f"{at}/aside/"),
            query_ids=tensors[f"{at}/query_ids"],
            query_labels=tensors[f"{at}/query_labels"],
            notes=tuple(whole["notes"]),
            **{part: whole[part] for part in _WHOLE},
        )
    return found


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): values for name, values in tensors.items() if name.startswith(prefix)}
