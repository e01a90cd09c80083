"""How often accord's intervals hold the truth and its verdicts are right, in worlds where the truth is known.

    python benchmarks/intervals.py                # every world, about ten minutes; resumes where it was stopped
    python benchmarks/intervals.py --only 20x50   # worlds whose name has this in it
    python benchmarks/intervals.py --table        # only print the tables of docs/evaluation.md

One thread. A world is repeated so often as its table says, each time with other classes, seeds and queries. `width` is
the mean width of the intervals over the narrowest that covers 95 % (which knows the true spread). Intervals of one
model: hits of classes whose accuracy is Beta distributed with mean .6 and standard deviation .21. Differences of two
methods: points per class with a common effect of each seed, an effect of each class, and a rest. Verdicts: hits of two
methods, compared as `accord compare` does. Results go to benchmarks/intervals.jsonl, one line per world.
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from accord.evaluation import class_bootstrap, class_t_interval, paired_bootstrap, sign_flip, verdict

RESULTS = Path(__file__).with_suffix(".jsonl")
REPETITIONS = 500
DRAWS = 2_000
MEAN, SPREAD = 0.6, 0.21
Found = dict[str, tuple[float, float]]


# one model ----------------------------------------------------------------------------------------------------------

SIZES = {"100x59": (100, 59), "98x82": (98, 82), "20x50": (20, 50), "10x100": (10, 100), "11316x5": (11_316, 5)}


def beta(classes: int, generator: torch.Generator) -> Tensor:
    """Accuracies of classes, by quantiles of the Beta distribution on a fine grid."""
    total = MEAN * (1 - MEAN) / SPREAD**2 - 1
    x = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
    density = x ** (MEAN * total - 1) * (1 - x) ** ((1 - MEAN) * total - 1)
    below = density.cumsum(0) / density.sum()
    return x[torch.searchsorted(below, torch.rand(classes, generator=generator, dtype=torch.float64))]


def as_if_independent(hits: Tensor) -> tuple[float, float]:
    mean = float(hits.mean())
    half = 1.96 * math.sqrt(mean * (1 - mean) / len(hits))
    return mean - half, mean + half


def plain_percentile(hits: Tensor, classes: int, generator: torch.Generator) -> tuple[float, float]:
    means = hits.view(classes, -1).mean(dim=1)
    drawn = means[torch.randint(classes, (DRAWS if classes < 1000 else 500, classes), generator=generator)].mean(dim=1)
    low, high = torch.quantile(drawn, torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return low, high


def bca(hits: Tensor, classes: int, generator: torch.Generator) -> tuple[float, float]:
    """Bias-corrected and accelerated (Efron 1987), to know whether it would be the better choice."""
    means = hits.view(classes, -1).mean(dim=1)
    drawn = means[torch.randint(classes, (DRAWS if classes < 1000 else 500, classes), generator=generator)].mean(dim=1)
    bias = float(torch.special.ndtri(((drawn < means.mean()).double().mean()).clamp(1e-6, 1 - 1e-6)))
    left_out = (means.sum() - means) / (classes - 1)
    gaps = left_out.mean() - left_out
    speed = float((gaps**3).sum() / (6 * (gaps**2).sum() ** 1.5).clamp_min(1e-300))
    shares = []
    for z in (-1.959964, 1.959964):
        moved = bias + (bias + z) / (1 - speed * (bias + z))
        shares.append(0.5 * math.erfc(-moved / math.sqrt(2)))
    low, high = torch.quantile(drawn, torch.tensor(shares, dtype=torch.float64)).tolist()
    return low, high


def one_model(classes: int, size: int, generator: torch.Generator) -> Found:
    hits = torch.bernoulli(beta(classes, generator).repeat_interleave(size), generator=generator)
    labels = torch.arange(classes).repeat_interleave(size)
    draws = DRAWS if classes < 1000 else 500
    return {
        "queries as if independent": as_if_independent(hits),
        "percentile": plain_percentile(hits, classes, generator),
        "BCa": bca(hits, classes, generator),
        "accord (expanded)": class_bootstrap(hits, labels, draws=draws, generator=generator),
        "accord (t)": class_t_interval(hits, labels),
    }


def one_model_ideal(classes: int, size: int) -> float:
    within = MEAN * (1 - MEAN) - SPREAD**2
    return 2 * 1.959964 * math.sqrt(SPREAD**2 / classes + within / (classes * size))


# differences --------------------------------------------------------------------------------------------------------

# seeds, classes, and in points: standard deviations of a seed's effect, a class's effect, and the rest
DIFFERENCES = {
    "3 seeds, 100 classes": (3, 100, 0.4, 4.0, 6.0),
    "5 seeds, 100 classes": (5, 100, 0.4, 4.0, 6.0),
    "10 seeds, 100 classes": (10, 100, 0.4, 4.0, 6.0),
    "5 seeds, 20 classes": (5, 20, 0.4, 4.0, 6.0),
    "5 seeds, 10 classes": (5, 10, 0.4, 4.0, 6.0),
    "5 seeds, 11316 classes": (5, 11_316, 0.4, 4.0, 40.0),
    "3 seeds that differ much": (3, 100, 1.5, 4.0, 6.0),
    "5 seeds that differ much": (5, 100, 1.5, 4.0, 6.0),
    "10 seeds that differ much": (10, 100, 1.5, 4.0, 6.0),
}


def difference(
    seeds: int, classes: int, seed_sd: float, class_sd: float, rest: float, generator: torch.Generator
) -> Found:
    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64) / 100

    gains = seed_sd * normal(seeds, 1) + class_sd * normal(1, classes) + rest * normal(seeds, classes)
    labels, none = torch.arange(classes), torch.zeros(seeds, classes, dtype=torch.float64)
    draws = DRAWS if classes < 1000 else 500
    means, sizes = gains.mean(dim=1), gains.mean(dim=0)
    t = {3: 4.302653, 5: 2.776445, 10: 2.262157}[seeds] * float(means.std()) / math.sqrt(seeds)
    return {
        "t over seeds": (float(means.mean()) - t, float(means.mean()) + t),
        "classes, seeds averaged": class_bootstrap(sizes, labels, draws=draws, generator=generator),
        "accord (seeds and classes)": paired_bootstrap(
            gains, none, labels, paired=True, draws=draws, generator=generator
        ),
    }


def difference_ideal(seeds: int, classes: int, seed_sd: float, class_sd: float, rest: float) -> float:
    variance = seed_sd**2 / seeds + class_sd**2 / classes + rest**2 / (seeds * classes)
    return 2 * 1.959964 * math.sqrt(variance) / 100


# verdicts -----------------------------------------------------------------------------------------------------------

# seeds, classes, images of a class, true gain in points
VERDICTS = {
    "same, 3 seeds": (3, 100, 59, 0.0),
    "same, 5 seeds": (5, 100, 59, 0.0),
    "same, 10 seeds": (10, 100, 59, 0.0),
    "same, 1 seed": (1, 100, 59, 0.0),
    "same, 5 seeds, 20 classes": (5, 20, 50, 0.0),
    "same, 5 seeds, 74x12": (5, 74, 12, 0.0),
    "+3 points, 5 seeds, 74x12": (5, 74, 12, 3.0),
    "+3 points, 3 seeds": (3, 100, 59, 3.0),
    "+3 points, 5 seeds": (5, 100, 59, 3.0),
    "+3 points, 5 seeds, 20 classes": (5, 20, 50, 3.0),
    "+1 point, 5 seeds": (5, 100, 59, 1.0),
}


def scores(seeds: int, rates: Tensor, size: int, gain: float, generator: torch.Generator) -> Tensor:
    """Hits of a method: seeds move all classes by .4 points, and each by 6 points of its own."""

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64) / 100

    moved = rates + gain / 100 + 0.4 * normal(seeds, 1) + 6 * normal(seeds, len(rates))
    return torch.bernoulli(moved.clamp(0, 1).repeat_interleave(size, dim=1), generator=generator)


def word(seeds: int, classes: int, size: int, gain: float, generator: torch.Generator) -> str:
    """What `accord compare` says of two methods; a gain has the spread of 4 points over classes."""
    rates = beta(classes, generator)
    other = rates + (4 / 100 * torch.randn(classes, generator=generator, dtype=torch.float64) if gain else 0)
    first, second = scores(seeds, other, size, gain, generator), scores(seeds, rates, size, 0.0, generator)
    labels = torch.arange(classes).repeat_interleave(size)
    low, high = paired_bootstrap(first, second, labels, paired=True, draws=DRAWS, generator=generator)
    p = sign_flip(first, second, labels, draws=DRAWS, generator=generator)
    return verdict(float(first.mean() - second.mean()), low, high, p).word


# running and showing ------------------------------------------------------------------------------------------------


def coverage(name: str, world: Callable[[torch.Generator], Found], truth: float, ideal: float) -> Iterator[dict]:
    held: dict[str, int] = {}
    width: dict[str, float] = {}
    for repetition in range(REPETITIONS):
        for method, (low, high) in world(torch.Generator().manual_seed(repetition)).items():
            held[method] = held.get(method, 0) + (low <= truth <= high)
            width[method] = width.get(method, 0.0) + (high - low)
        show(name, repetition + 1, REPETITIONS)
    for method in held:
        yield {
            "world": name,
            "method": method,
            "covers": held[method] / REPETITIONS,
            "width": width[method] / REPETITIONS / ideal,
        }


def verdicts(name: str, *world: float) -> Iterator[dict]:
    seeds, classes, size = (int(number) for number in world[:3])
    repetitions = 200
    words = []
    for repetition in range(repetitions):
        words.append(word(seeds, classes, size, world[3], torch.Generator().manual_seed(repetition)))
        show(name, repetition + 1, repetitions)
    shares = {said: words.count(said) / repetitions for said in ("better", "worse", "no difference shown")}
    yield {"world": name, "method": "verdict", **shares}


def jobs() -> dict[str, Callable[[], Iterator[dict]]]:
    work: dict[str, Callable[[], Iterator[dict]]] = {}
    for name, size in SIZES.items():
        work[name] = lambda name=name, size=size: coverage(
            name, lambda generator: one_model(*size, generator), MEAN, one_model_ideal(*size)
        )
    for name, world in DIFFERENCES.items():
        work[name] = lambda name=name, world=world: coverage(
            name, lambda generator: difference(*world, generator), 0.0, difference_ideal(*world)
        )
    for name, world in VERDICTS.items():
        work[name] = lambda name=name, world=world: verdicts(name, *world)
    return work


def show(name: str, done: int, total: int) -> None:
    if done % 10 == 0 or done == total:
        end = "\n" if done == total else "\r"
        print(f"  {name}: {done}/{total}  {time.process_time():.0f} s", end=end, file=sys.stderr, flush=True)


def read() -> list[dict]:
    return [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []


def tables(rows: list[dict]) -> str:
    lines: list[str] = []
    for title, worlds in (("Intervals of one model", SIZES), ("Intervals of a difference", DIFFERENCES)):
        found = [row for row in rows if row["world"] in worlds]
        methods = list(dict.fromkeys(row["method"] for row in found))
        lines += [
            f"### {title}: covers (width)",
            "",
            f"| world | {' | '.join(methods)} |",
            "|---" * (len(methods) + 1) + "|",
        ]
        for name in worlds:
            cells = {
                row["method"]: f"{100 * row['covers']:.1f} % ({row['width']:.2f})"
                for row in found
                if row["world"] == name
            }
            lines.append(f"| {name} | {' | '.join(cells.get(method, '') for method in methods)} |")
        lines.append("")
    lines += ["### Verdicts", "", "| world | better | worse | no difference shown |", "|---|---|---|---|"]
    for row in (row for row in rows if row["world"] in VERDICTS):
        cells = [f"{100 * row[said]:.1f} %" for said in ("better", "worse", "no difference shown")]
        lines.append(f"| {row['world']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="worlds whose name has this in it")
    parser.add_argument("--table", action="store_true", help="only print the tables")
    options = parser.parse_args()
    torch.set_num_threads(1)
    known = {row["world"] for row in read()}
    for name, job in {}.items() if options.table else jobs().items():
        if options.only in name and name not in known:
            rows = list(job())
            with RESULTS.open("a") as file:
                file.writelines(json.dumps(row) + "\n" for row in rows)
    print(tables(read()))


if __name__ == "__main__":
    main()
