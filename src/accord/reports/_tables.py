"""The parts of a report that are lists: queries and neighbours, confused classes, all classes, the recall curve."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

from torch import Tensor

from accord.reports._inputs import Number, ReportInputs
from accord.reports._plain import number, text
from accord.types import Evaluation, Json

MOST_QUERIES = 1000
MOST_NEIGHBOURS = 8
MOST_CONFUSED = 12
_EXAMPLES = 3


def queries(inputs: ReportInputs) -> list[Json]:
    """Every query with its neighbours, the worst first; where two are equally bad, the more confident mistake first.

    Of more than 1,000 queries the 500 worst and the 500 best are kept.
    """
    label_of = _labels(inputs)
    row_of = {int(item): row for row, item in enumerate(inputs.test.ids)}
    precision = inputs.trained.per_query["map@r"].tolist()
    found = []
    for item, value in zip(inputs.trained.query_ids.tolist(), precision, strict=True):
        neighbours = _neighbours(inputs, row_of[item], label_of)
        found.append({"id": item, "average_precision": number(value, 4), "neighbours": neighbours})
    found.sort(key=lambda q: (q["average_precision"], -(q["neighbours"][0]["score"] or 0) if q["neighbours"] else 0))
    half = MOST_QUERIES // 2
    return found if len(found) <= MOST_QUERIES else found[:half] + found[-half:]


def _neighbours(inputs: ReportInputs, row: int, label_of: Mapping[int, int]) -> list[Json]:
    own = int(inputs.test.labels[row])
    ids = inputs.neighbours.ids[row, :MOST_NEIGHBOURS].tolist()
    scores = inputs.neighbours.scores[row, :MOST_NEIGHBOURS].tolist()
    return [
        {"id": item, "score": number(score, 4), "right": label_of[item] == own}
        for item, score in zip(ids, scores, strict=True)
        if item >= 0
    ]


def confused(inputs: ReportInputs) -> list[Json]:
    """Which class was taken for which: the nearest neighbour of a query of `class` belonged to `other`.

    `share` is of the queries of `class`; `examples` are (query, neighbour) ids, the most confident mistake first.
    """
    label_of, own_label = _labels(inputs), dict(zip(*_ids_and_labels(inputs.trained), strict=True))
    sizes = Counter(own_label.values())
    mistakes: dict[tuple[int, int], list[tuple[float, int, int]]] = defaultdict(list)
    for item, other, score in _first_neighbours(inputs):
        if item in own_label and label_of[other] != own_label[item]:
            mistakes[own_label[item], label_of[other]].append((-score, item, other))
    worst = sorted(mistakes.items(), key=lambda pair: (-len(pair[1]), -len(pair[1]) / sizes[pair[0][0]], pair[0]))
    return [
        {
            "class": name(inputs, own),
            "other": name(inputs, other),
            "count": len(pairs),
            "share": number(len(pairs) / sizes[own], 4),
            "examples": [[item, neighbour] for _, item, neighbour in sorted(pairs)[:_EXAMPLES]],
        }
        for (own, other), pairs in worst[:MOST_CONFUSED]
    ]


def _first_neighbours(inputs: ReportInputs) -> Iterable[tuple[int, int, float]]:
    if inputs.neighbours.ids.shape[1] == 0:
        return []
    first, scores = inputs.neighbours.ids[:, 0].tolist(), inputs.neighbours.scores[:, 0].tolist()
    rows = zip(inputs.test.ids.tolist(), first, scores, strict=True)
    return [(item, other, score) for item, other, score in rows if other >= 0]


def classes(inputs: ReportInputs) -> list[Json]:
    """Each class with its number of queries and its mean recall@1 and map@r; `baseline_…` where there is a baseline."""
    trained = _by_class(inputs.trained)
    baseline = _by_class(inputs.baseline) if inputs.baseline else {}
    rows = []
    for label in sorted(trained, key=lambda label: name(inputs, label)):
        row = {"label": name(inputs, label), **trained[label]}
        for metric in ("recall@1", "map@r"):
            if label in baseline:
                row[f"baseline_{metric}"] = baseline[label][metric]
        rows.append(row)
    return rows


def _by_class(evaluation: Evaluation) -> dict[int, Json]:
    table: dict[int, Json] = {}
    for label in sorted(set(evaluation.query_labels.tolist())):
        chosen = evaluation.query_labels == label
        row: Json = {"queries": int(chosen.sum())}
        for metric in ("recall@1", "map@r"):
            row[metric] = number(evaluation.per_query[metric][chosen].double().mean(), 4)
        table[label] = row
    return table


def recall_curve(inputs: ReportInputs) -> Json:
    """Recall@k of the trained model, the baseline and a random order, for every k that is known for all of them."""
    given = inputs.recall or {}
    trained = given.get("trained") or _recalls(inputs.trained)
    baseline = given.get("baseline") or (_recalls(inputs.baseline) if inputs.baseline else {})
    ks = sorted(k for k in trained if k in baseline or not baseline)
    curve: Json = {"k": ks, "trained": [number(trained[k]) for k in ks]}
    curve["baseline"] = [number(baseline[k]) for k in ks] if baseline else []
    chance = given.get("chance") or {}
    curve["chance"] = [number(chance[k] if k in chance else _chance(inputs, k)) for k in ks]
    return curve


def _recalls(evaluation: Evaluation) -> dict[int, Number]:
    metrics = evaluation.metrics
    return {int(key.removeprefix("recall@")): value for key, value in metrics.items() if key.startswith("recall@")}


def _chance(inputs: ReportInputs, k: int) -> float:
    """How often a random order has the query's class among its first k: 1 - C(others, k) / C(gallery, k)."""
    sizes = Counter(inputs.test.labels.tolist())
    gallery = len(inputs.test.ids) - 1
    total, weighted = 0, 0.0
    for size in sizes.values():
        if size < 2:
            continue
        miss = 1.0
        for place in range(min(k, gallery)):
            miss *= max(0, gallery - (size - 1) - place) / (gallery - place)
        total, weighted = total + size, weighted + size * (1 - miss)
    return weighted / total if total else 0.0


def name(inputs: ReportInputs, label: int) -> str:
    """The name of a class, as text."""
    return text(inputs.class_names[label])


def _labels(inputs: ReportInputs) -> dict[int, int]:
    return dict(zip(inputs.test.ids.tolist(), inputs.test.labels.tolist(), strict=True))


def _ids_and_labels(evaluation: Evaluation) -> tuple[list[int], list[int]]:
    ids: Tensor = evaluation.query_ids
    return ids.tolist(), evaluation.query_labels.tolist()
