"""The figures of the N-pair paper's table, one comparison at a time: what the table is held against."""

import math
from collections import Counter
from itertools import combinations, pairwise

import torch

from accord.evaluation import class_fold_pairs, closed_set_split, kmeans, open_set_split

Scores = list[list[float]]
FAR = 0.01


def vectors(classes: int, each: int, *, noise: float = 0.8, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Classes of vectors around a middle, one of each class after another."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(classes).repeat(each)
    return torch.randn(classes, 8, generator=generator)[labels] + noise * torch.randn(
        classes * each, 8, generator=generator
    ), labels


def cosines(embeddings: torch.Tensor) -> Scores:
    unit = torch.nn.functional.normalize(embeddings.double())
    return (unit @ unit.T).tolist()


def against(scores: Scores, labels: list[int], k: int) -> float:
    """Of all sets of k strangers, the share that stays below the partner; over partners, then over queries."""
    found = []
    for query, label in enumerate(labels):
        strangers = [scores[query][other] for other, kind in enumerate(labels) if kind != label]
        partners = [scores[query][other] for other, kind in enumerate(labels) if kind == label and other != query]
        chances = [
            math.comb(sum(s < partner for s in strangers), k) / math.comb(len(strangers), k) for partner in partners
        ]
        if chances:
            found.append(sum(chances) / len(chances))
    return sum(found) / len(found)


def fold_accuracies(scores: Scores, labels: list[int], *, folds: int, each: int, seed: int) -> list[float]:
    """Each fold judged at the best threshold of the others, the middle one of equals, tried one after another."""
    generator = torch.Generator().manual_seed(seed)
    drawn = class_fold_pairs(torch.tensor(labels), folds=folds, each=each, generator=generator)
    rows = zip(*(side.tolist() for side in drawn.pairs), drawn.same.tolist(), drawn.fold.tolist(), strict=True)
    listed = [(scores[one][other], same, fold) for one, other, same, fold in rows]
    found = []
    for fold in range(folds):
        others = [(score, same) for score, same, where in listed if where != fold]
        values = sorted({score for score, _ in others})
        edges = [-math.inf, *((a + b) / 2 for a, b in pairwise(values)), math.inf]
        right = [sum((score >= edge) == same for score, same in others) for edge in edges]
        best = [edge for edge, count in zip(edges, right, strict=True) if count == max(right)]
        threshold = best[(len(best) - 1) // 2]
        inside = [(score >= threshold) == same for score, same, where in listed if where == fold]
        found.append(sum(inside) / len(inside))
    return found


def closed(scores: Scores, labels: list[int], *, draws: int, seed: int) -> list[float]:
    """Rank-1 of each draw: who has a gallery's best score in his own class, and no other class as good."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(draws):
        split = closed_set_split(torch.tensor(labels), generator=generator)
        gallery = split.gallery.tolist()
        hits = [_first(scores[probe], labels, gallery) == labels[probe] for probe in split.probes.tolist()]
        found.append(sum(hits) / len(hits))
    return found


def opened(scores: Scores, labels: list[int], *, draws: int, seed: int) -> list[float]:
    """DIR of each draw: the best share of known probes that any threshold lets identify with false alarms in bounds."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(draws):
        split = open_set_split(torch.tensor(labels), generator=generator)
        gallery, known, unknown = (part.tolist() for part in split)
        alarms = [max(scores[probe][item] for item in gallery) for probe in unknown]
        hits = [
            max(scores[probe][item] for item in gallery)
            for probe in known
            if _first(scores[probe], labels, gallery) == labels[probe]
        ]
        rates = [
            sum(hit >= threshold for hit in hits) / len(known)
            for threshold in {*hits, *alarms, math.inf}
            if sum(alarm >= threshold for alarm in alarms) <= FAR * len(unknown)
        ]
        found.append(max(rates))
    return found


def recognition(scores: Scores, labels: list[int], k: int = 3) -> float:
    """The share of items whose k nearest vote for their class; of equal votes the nearest one's counts."""
    right = 0
    for query, label in enumerate(labels):
        near = sorted((item for item in range(len(labels)) if item != query), key=lambda item: -scores[query][item])[:k]
        votes = Counter(labels[item] for item in near)
        most = max(votes.values())
        right += next(labels[item] for item in near if votes[labels[item]] == most) == label
    return right / len(labels)


def clusters(embeddings: torch.Tensor, labels: list[int], *, seeds: int, seed: int) -> dict[str, list[float]]:
    """F1 by going through all pairs, and NMI by counting, of each k-means run."""
    unit = torch.nn.functional.normalize(embeddings)
    found: dict[str, list[float]] = {"f1": [], "nmi": []}
    for run in range(seeds):
        groups = kmeans(unit, len(set(labels)), generator=torch.Generator().manual_seed(seed + run)).tolist()
        pairs = [(labels[i] == labels[j], groups[i] == groups[j]) for i, j in combinations(range(len(labels)), 2)]
        both = sum(same and together for same, together in pairs)
        found["f1"].append(2 * both / (sum(same for same, _ in pairs) + sum(together for _, together in pairs)))
        joint = _entropy(list(zip(labels, groups, strict=True)))
        each = _entropy(labels) + _entropy(groups)
        found["nmi"].append(2 * (each - joint) / each)
    return found


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def error(values: list[float]) -> float:
    middle = mean(values)
    return math.sqrt(sum((value - middle) ** 2 for value in values) / (len(values) - 1) / len(values))


def _first(row: list[float], labels: list[int], gallery: list[int]) -> int:
    return labels[max(gallery, key=lambda item: row[item])]


def _entropy(values: list[int] | list[tuple[int, int]]) -> float:
    counts = Counter(values)
    return -sum(count / len(values) * math.log(count / len(values)) for count in counts.values())
