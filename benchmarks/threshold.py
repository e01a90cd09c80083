"""How often a calibrated search takes a stranger for something known, in galleries as large and twice as large.

    python benchmarks/threshold.py [--worlds 120]

Synthetic classes, so that there are strangers enough to count: of 100 classes, 30 are learnt, 20 held out to calibrate
on and 50 are the test's. The threshold is carried over from the gallery without the test to the one with it.
"""

import argparse
from itertools import count

import torch

from accord.evaluation import best_matches, calibrate, rate_in_gallery
from accord.types import Labelled

CLASSES, IMAGES, DIM, LEARNT, HELD_OUT = 100, 10, 32, 30, 50


def world(seed: int) -> Labelled:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(CLASSES).repeat_interleave(IMAGES)
    centres = torch.randn(CLASSES, DIM, generator=generator)
    points = centres[labels] + torch.randn(len(labels), DIM, generator=generator)
    return Labelled(torch.nn.functional.normalize(points), labels, torch.arange(len(labels)))


def only(items: Labelled, mask: torch.Tensor) -> Labelled:
    return Labelled(*(column[mask] for column in items))


def strangers_accepted(seed: int, far: float) -> tuple[float, float]:
    everything = world(seed)
    labels = everything.labels
    gallery = only(everything, labels < HELD_OUT)
    asking = only(everything, (labels >= LEARNT) & (labels < HELD_OUT))
    test = only(everything, labels >= HELD_OUT)
    found = best_matches(asking, gallery)
    genuine, n = found.best[found.known], len(gallery.ids)
    here = calibrate(genuine, found.other, far=far).same_above
    carried = calibrate(genuine, found.other, far=rate_in_gallery(far, calibrated=n, searched=len(labels))).same_above
    small, large = best_matches(test, gallery).other, best_matches(test, everything).other
    return float((small >= here).double().mean()), float((large >= carried).double().mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--worlds", type=int, default=120)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("| wanted | gallery it was set on | gallery twice as large |\n|---|---|---|")
    for far in (0.01, 0.05):
        seeds = zip(count(1000), range(options.worlds))
        shares = torch.tensor([strangers_accepted(seed, far) for seed, _ in seeds], dtype=torch.float64)
        means, errors = shares.mean(dim=0), shares.std(dim=0) / len(shares) ** 0.5
        cells = [f"{100 * m:.2f} ± {100 * e:.2f} %" for m, e in zip(means.tolist(), errors.tolist(), strict=True)]
        print(f"| {far:.0%} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
