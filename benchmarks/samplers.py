"""What batches of hard classes cost in a training on Stanford Online Products' 11,318 classes. Target: at most 10 %.

    python benchmarks/samplers.py [--size 64]

The class table is made of real forward passes of the pretrained trunk over noise images (what is on them does not
matter for time), the training step is a real one: forward, backward, N-pair loss, AdamW. CPU time, one thread.
"""

import argparse
import time
from collections.abc import Callable
from statistics import median

import torch

from accord.data import HardClassBatches, PKBatches
from accord.losses import NPair
from accord.models import Embedder, LinearHead, build_backbone, build_pool, embed, freeze_batch_norm, load_weights
from accord.runs import packaged_weights
from accord.types import Batch, Preprocessing

CLASSES, IMAGES = 11_318, 59_551
CPU = torch.device("cpu")
PAIRS = 60  # N of the paper for this set: 120 images a batch


def main() -> None:
    """Time the parts, and print what share of a training they take."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=64, help="input height and width in pixels")
    size = parser.parse_args().size
    torch.set_num_threads(1)
    torch.manual_seed(0)
    labels = torch.cat([torch.arange(CLASSES).repeat(2), torch.randint(CLASSES, (IMAGES - 2 * CLASSES,))])
    easy = PKBatches(labels, classes_per_batch=PAIRS, per_class=2, seed=0)
    hard = HardClassBatches(labels, classes_per_batch=PAIRS, per_class=2, seed=0)
    embedder = _embedder(size)
    step = _seconds(_training_step(embedder, size), 5)
    look = _seconds(lambda: embed(embedder, [_batch(size, 128)], device=CPU), 5) / 128
    plain = _seconds(_counted(easy.rows), 50)
    hard.learn(0, torch.nn.functional.normalize(torch.randn(2, CLASSES, 64), dim=2))
    chosen = _seconds(_counted(hard.rows), 50)
    table = 2 * CLASSES * look / hard.every
    print(f"{CLASSES:,} classes, {IMAGES:,} images, {PAIRS} pairs a batch, {size} px; ms of CPU time per step")
    print(f"  training step                                 {1e3 * step:9.1f}")
    print(f"  rows of N random classes                      {1e3 * plain:9.2f}   {plain / step:6.2%}")
    print(f"  rows of N hard classes out of {hard.pool}             {1e3 * chosen:9.2f}   {chosen / step:6.2%}")
    print(f"  table of 2 x {CLASSES:,} images every {hard.every:,} steps {1e3 * table:9.2f}   {table / step:6.2%}")
    print(
        f"  share of class mining in the whole                        {(chosen + table) / (step + chosen + table):6.2%}"
    )


def _embedder(size: int) -> Embedder:
    backbone = build_backbone("efficientnet_lite0")
    load_weights(backbone, packaged_weights("efficientnet_lite0"))
    freeze_batch_norm(backbone)
    return Embedder(
        backbone, build_pool("average"), {"n_pair": LinearHead(1280, 64)}, preprocessing=Preprocessing(size)
    )


def _batch(size: int, items: int) -> Batch:
    images = torch.randint(0, 256, (items, 3, size, size), dtype=torch.uint8)
    return Batch(images, torch.arange(items) // 2, torch.arange(items))


def _training_step(embedder: Embedder, size: int) -> Callable[[], object]:
    optimizer = torch.optim.AdamW(embedder.parameters(), lr=1e-4, fused=True)
    loss, batch = NPair(), _batch(size, 2 * PAIRS)

    def step() -> None:
        embedder.train()
        optimizer.zero_grad()
        loss(embedder.outputs(batch.inputs)["n_pair"], batch.labels).backward()
        optimizer.step()

    return step


def _counted(rows: Callable[[int], object]) -> Callable[[], object]:
    steps = iter(range(10**9))
    return lambda: rows(next(steps))


def _seconds(work: Callable[[], object], rounds: int) -> float:
    """Median CPU seconds of some rounds after a first one that does not count."""
    work()
    found = []
    for _ in range(rounds):
        begin = time.process_time()
        work()
        found.append(time.process_time() - begin)
    return median(found)


if __name__ == "__main__":
    main()
