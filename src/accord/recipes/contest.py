"""Every figure of a comparison as a pure function of the runs' scores and the settings, so that it can be redone."""

import base64
import math
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import torch
from torch import Tensor

from accord.errors import ArtifactError
from accord.evaluation import (
    FEW_CLASSES,
    average_ranks,
    class_t_interval,
    holm,
    paired_bootstrap,
    sign_flip,
    two_level_bootstrap,
    verdict,
)
from accord.recipes.comparable import between
from accord.types import Json

ENOUGH_SEEDS = 5
Tell = Callable[[int, int], None]


class _Side(NamedTuple):
    """One method on one gallery: its runs that ended, and their scores, one row per run."""

    method: str
    runs: list[Json]
    scores: Tensor

    @property
    def seeds(self) -> list[int]:
        return [run["seed"] for run in self.runs]

    @property
    def mean(self) -> float:
        return _mean(self.scores)


def pack(values: Tensor) -> str:
    """Numbers as text: little-endian bytes in base64, so that every bit survives."""
    return base64.b64encode(
        values.contiguous().numpy().astype(values.numpy().dtype.newbyteorder("<")).tobytes()
    ).decode()


def unpack(text: str, dtype: torch.dtype) -> Tensor:
    """The numbers of `pack`; ArtifactError if it is no such text."""
    try:
        data = bytearray(base64.b64decode(text, validate=True))
        return torch.frombuffer(data, dtype=dtype) if data else torch.empty(0, dtype=dtype)
    except (ValueError, TypeError) as error:
        raise ArtifactError(f"compare: the scores of the comparison can't be read: {error}.") from error


def figures(raw: Json, settings: Json, found: Sequence[Json], tell: Tell = lambda done, total: None) -> Json:
    """Scores, intervals, p-values and verdicts, gallery by gallery, and average ranks where there are several.

    p-values are corrected over all pairs of all galleries; pairs are of each method with each, or where `settings` has
    `against`, with those that it names. `found` are the differences of how the runs were made;
    `tell` hears how many intervals are done.
    """
    methods = list(dict.fromkeys(run["method"] for run in [*raw["runs"], *raw["failed"]]))
    sides = {gallery: _sides(raw, gallery, methods) for gallery in raw["galleries"]}
    total = sum(len(here) + len(_pairs(here, settings)) for here in sides.values())
    done = iter(range(1, total + 1))

    def step() -> None:
        tell(next(done), total)

    galleries = [_gallery(raw, gallery, here, methods, settings, found, step) for gallery, here in sides.items()]
    pairs = [pair for gallery in galleries for pair in gallery["differences"]]
    for pair, corrected in zip(pairs, holm([pair["p"] for pair in pairs]), strict=True):
        judge_pair(pair, corrected, settings["bar_points"])
    return {"galleries": galleries, "ranks": _ranks(sides, methods)}


def _sides(raw: Json, gallery: str, methods: Sequence[str]) -> list[_Side]:
    sides = []
    for method in methods:
        runs = [run for run in raw["runs"] if (run["method"], run["gallery"]) == (method, gallery)]
        runs.sort(key=lambda run: run["seed"])
        if runs:
            sides.append(_Side(method, runs, torch.stack([unpack(run["scores"], torch.float64) for run in runs])))
    return sides


def _pairs(sides: Sequence[_Side], settings: Json) -> list[tuple[_Side, _Side]]:
    """Whom to hold against whom; what others are compared with comes second."""
    against = settings.get("against")
    if not against:
        return list(combinations(sides, 2))
    references = [side for side in sides if side.method in against]
    others = [(side, reference) for side in sides if side.method not in against for reference in references]
    return [*others, *combinations(references, 2)]


def _gallery(
    raw: Json,
    gallery: str,
    sides: Sequence[_Side],
    methods: Sequence[str],
    settings: Json,
    found: Sequence[Json],
    step: Callable[[], None],
) -> Json:
    about = raw["galleries"][gallery]
    labels = unpack(about["labels"], torch.int64)
    classes = len(torch.unique(labels))
    by_name = {side.method: side for side in sides}
    rows = []
    for method in methods:
        failed = [run["run"] for run in raw["failed"] if run["method"] == method and run["gallery"] in (None, gallery)]
        if method in by_name:
            rows.append(_method(by_name[method], failed, labels, settings))
            step()
        elif failed:
            rows.append(_nothing(method, failed))
    pairs = []
    for first, second in _pairs(sides, settings):
        pair = _difference(first, second, labels, settings)
        pairs.append({**pair, "not_comparable": between(found, first.method, second.method, gallery)})
        step()
    return {
        "fingerprint": gallery,
        "name": about["name"],
        "images": about["images"],
        "queries": len(labels),
        "classes": classes,
        "few_classes": classes < FEW_CLASSES,
        "baseline": _baseline(sides),
        "methods": rows,
        "differences": pairs,
    }


def _method(side: _Side, failed: Sequence[str], labels: Tensor, settings: Json) -> Json:
    """A row of the table: every seed, their mean, and where the mean lies."""
    scores = [_mean(run[None]) for run in side.scores]
    bounds = two_level_bootstrap(side.scores, labels, draws=settings["draws"], generator=_generator(settings))
    return {
        "method": side.method,
        "failed": list(failed),
        "seeds": [
            {"seed": run["seed"], "run": run["run"], "score": score}
            for run, score in zip(side.runs, scores, strict=True)
        ],
        "mean": side.mean,
        "deviation": _deviation(scores),
        "interval": _bounds(bounds),
        "t_interval": _t_interval(_average(side.scores), labels),
        "preliminary": len(scores) < ENOUGH_SEEDS,
        "covers_seeds": len(scores) > 1,
    }


def _nothing(method: str, failed: Sequence[str]) -> Json:
    """The row of a method of which no run ended."""
    figures = dict.fromkeys(("mean", "deviation", "interval", "t_interval"))
    about = {"method": method, "failed": list(failed), "seeds": []}
    return {**about, **figures, "preliminary": True, "covers_seeds": False}


def _difference(first: _Side, second: _Side, labels: Tensor, settings: Json) -> Json:
    """`first` minus `second`; seeds are drawn together where both methods have the same ones."""
    paired = first.seeds == second.seeds
    bounds = paired_bootstrap(
        first.scores, second.scores, labels, paired=paired, draws=settings["draws"], generator=_generator(settings)
    )
    p = sign_flip(first.scores, second.scores, labels, draws=settings["draws"], generator=_generator(settings))
    fewest = min(len(first.runs), len(second.runs))
    return {
        "first": first.method,
        "second": second.method,
        "difference": first.mean - second.mean,
        "interval": _bounds(bounds),
        "t_interval": _t_interval(_average(first.scores) - _average(second.scores), labels),
        "p": p,
        "paired": paired,
        "preliminary": fewest < ENOUGH_SEEDS,
        "covers_seeds": fewest > 1,
    }


def judge_pair(pair: Json, corrected: float, bar_points: float) -> None:
    """Add the corrected p-value and the fixed words, with what must be said beside them."""
    low, high = pair["interval"] or (math.nan, math.nan)
    said = verdict(pair["difference"], low, high, corrected, bar_points=bar_points)
    beside = {
        "preliminary: fewer than five seeds": pair["preliminary"] and pair["covers_seeds"],
        "preliminary: other seeds are not covered": not pair["covers_seeds"],
    }
    told = "".join(f" ({words})" for words, applies in beside.items() if applies)
    label = f"not comparable: {', '.join(pair['not_comparable'])}; " if pair["not_comparable"] else ""
    pair.update({"p_holm": corrected, "word": said.word, "verdict": f"{label}{said.sentence}{told}"})


def _ranks(sides: Mapping[str, Sequence[_Side]], methods: Sequence[str]) -> Json | None:
    """Average ranks of the methods that were judged on every gallery, where there are two galleries or more."""
    means = [{side.method: side.mean for side in here} for here in sides.values()]
    common = [method for method in methods if all(method in row for row in means)]
    if len(means) < 2 or len(common) < 2:
        return None
    table = torch.tensor([[row[method] for method in common] for row in means], dtype=torch.float64)
    return {"galleries": len(means), "methods": dict(zip(common, average_ranks(table).tolist(), strict=True))}


def _baseline(sides: Sequence[_Side]) -> float | None:
    """The mean score of the frozen backbone, if all runs began with the same one."""
    means = {run["baseline"] for side in sides for run in side.runs}
    return means.pop() if len(means) == 1 else None


def _mean(scores: Tensor) -> float:
    """Added without any rounding, so that neither order nor machine matter."""
    return math.fsum(scores.flatten().tolist()) / scores.numel()


def _average(scores: Tensor) -> Tensor:
    total = scores[0]
    for row in scores[1:]:
        total = total + row
    return total / len(scores)


def _deviation(scores: Sequence[float]) -> float | None:
    if len(scores) < 2:
        return None
    mean = math.fsum(scores) / len(scores)
    return math.sqrt(math.fsum((score - mean) ** 2 for score in scores) / (len(scores) - 1))


def _t_interval(values: Tensor, labels: Tensor) -> list[float] | None:
    """Beside the bootstrap where classes are few."""
    return _bounds(class_t_interval(values, labels)) if len(torch.unique(labels)) < FEW_CLASSES else None


def _bounds(bounds: tuple[float, float]) -> list[float] | None:
    return None if math.isnan(bounds[0]) else list(bounds)


def _generator(settings: Json) -> torch.Generator:
    return torch.Generator().manual_seed(settings["seed"])
