"""How much of a training step is not the backbone's forward and backward pass. Prints a table; target: under 10 %.

    python benchmarks/step_overhead.py

Both sides run interleaved in one process on one thread; medians of 15 steps.
CPU time, so that other work on the machine matters little.
"""

import time
from statistics import median

import torch

from accord.recipes import resolve
from accord.recipes.resolve import changed
from accord.recipes.session import open_session
from accord.recipes.source import open_source
from accord.recipes.watch import Silence
from accord.training import train

ROUNDS = 15


def main() -> None:
    """Time whole steps of a recipe against bare forward + backward of its trunk on the same batches."""
    torch.set_num_threads(1)
    print(f"{'recipe':<20}{'size':>6}{'step ms':>10}{'trunk ms':>10}{'overhead':>10}")
    for recipe in ("five_losses", "triplet", "proxy_nca"):
        for size in (64, 96):
            whole, bare = measure(recipe, size)
            print(f"{recipe:<20}{size:>6}{whole * 1e3:>10.0f}{bare * 1e3:>10.0f}{(whole - bare) / whole:>10.1%}")


def measure(recipe: str, size: int) -> tuple[float, float]:
    """Median seconds of a whole step and of the trunk alone."""
    config = resolve(recipe=recipe)
    config = changed(
        config,
        model={"size": size, "dim": 64},
        training={"epochs": 10, "classes_per_batch": 64 // config.training.per_class, "device": "cpu"},
    )
    session = open_session(config, open_source(config.data, Silence()))
    steps = train(
        session.embedder,
        session.objective,
        session.batches,
        session.optimizer,
        steps=ROUNDS + 2,
        steps_per_epoch=len(session.plan),
        schedule=lambda step: 1.0,
        clip_norm=config.training.clip_norm,
        device=session.device,
    )
    whole, bare = [], []
    for number in range(ROUNDS + 2):
        begin = time.process_time()
        next(steps)
        middle = time.process_time()
        _trunk_only(session, number)
        if number >= 2:
            whole.append(middle - begin)
            bare.append(_trunk_only(session, number))
    return median(whole), median(bare)


def _trunk_only(session, number: int) -> float:
    """Seconds of forward + backward of the backbone on the same pictures."""
    session.embedder.train()
    images = session.batches(number).inputs
    begin = time.process_time()
    features = session.embedder.features(images)
    features.square().mean().backward()
    seconds = time.process_time() - begin
    session.embedder.zero_grad(set_to_none=True)
    return seconds


if __name__ == "__main__":
    main()
