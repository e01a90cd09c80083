"""What an ensemble of losses costs beside a single one: time and memory of a training step, time of embedding.

    python benchmarks/ensemble_overhead.py            # about 8 minutes of CPU time; --quick is a trial run

Targets: at 224 px a step takes at most 1.15 times as long as that of a single loss and 1.05 times the memory; after
compression embedding takes no longer. Every arm does one step in turn, in one process and on one thread, and each step
is held against the single loss's step of the same round. CPU time, so that other work on the machine matters little.
Memory is measured in a fresh process for each arm.
"""

import argparse
import json
import math
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

import torch

from accord.ensembles import Affine, fold_heads
from accord.models import Embedder
from accord.recipes import RunConfig, resolve
from accord.recipes.build import build_embedder, build_objective, build_optimizer, deployed
from accord.recipes.compress.space import Space, affine_of, head_of, linear_head
from accord.recipes.ensembles import attach_balance
from accord.recipes.named import RECIPES
from accord.recipes.resolve import changed
from accord.recipes.session import Session, open_session
from accord.recipes.source import open_source
from accord.recipes.watch import Silence
from accord.training import train
from accord.types import Step

TIME, MEMORY = 1.15, 1.05  # at most so many times the single loss's
# so that a step is not timed with the arithmetic of numbers that are nearly zero, nothing moves far
CALM = {"trunk": 1e-6, "heads": 1e-6, "proxies": 1e-6}
ARMS: dict[str, tuple[str, ...]] = {
    "one loss": ("losses=[{type: multi_similarity}]", "model.trunk_share=0"),
    "five losses": (),
    "pcgrad": ("ensemble.balance=pcgrad",),
    "cagrad": ("ensemble.balance=cagrad",),
    "nash_mtl": ("ensemble.balance=nash_mtl",),
    "aligned_mtl": ("ensemble.balance=aligned_mtl",),
    "published": ("ensemble.weighting=published", "ensemble.prior=[1,1,1,1,1]"),
    "grad_norm": ("ensemble.weighting=grad_norm",),
    "default recipe": (f"losses={json.dumps(RECIPES['accord'].config['losses'])}", "model.trunk_share=0"),
}
FIRST, DEFAULT = next(iter(ARMS)), "default recipe"


class Sizes(NamedTuple):
    """How much is measured."""

    rounds: int
    pixels: int
    batch: int
    dim: int = 64


FULL, QUICK = Sizes(15, 224, 32), Sizes(2, 32, 8, 8)


class Ratio(NamedTuple):
    """A median of paired ratios and an interval for it, of at least 95 % from 6 pairs on."""

    middle: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.middle:.3f} ({self.low:.3f}–{self.high:.3f})"


def main(words: Sequence[str] | None = None) -> None:
    """Measure and print three tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two rounds of tiny pictures, to see that it runs")
    parser.add_argument("--rounds", type=int, help="steps per arm")
    parser.add_argument("--batch", type=int, help="images per step")
    parser.add_argument("--memory", choices=ARMS, help="measure the memory of one arm, in this process, as JSON")
    given = parser.parse_args(words)
    torch.set_num_threads(1)
    sizes = QUICK if given.quick else FULL
    sizes = sizes._replace(rounds=given.rounds or sizes.rounds, batch=given.batch or sizes.batch)
    if given.memory:
        print(json.dumps(memory(given.memory, sizes)))
        return
    tell_times(step_seconds(sizes), f"a step of {sizes.batch} images of {sizes.pixels} px", f"≤ {TIME}")
    tell_memory({arm: memory_apart(arm, sizes) for arm in ARMS})
    tell_times(embedding_seconds(sizes), f"embedding 64 images of {sizes.pixels} px", "folded: ≤ 1")


def tell_times(seconds: Mapping[str, Sequence[float]], what: str, target: str) -> None:
    """A table of times beside the first arm's."""
    first = next(iter(seconds))
    print(f"\n{what}; {len(seconds[first])} rounds; target: {target}")
    print(f"{'':<16}{'CPU ms':>10}  ÷ {first} (95 %)")
    for arm, own in seconds.items():
        print(f"{arm:<16}{median(own) * 1e3:>10.0f}  {paired(own, seconds[first])}", flush=True)


def tell_memory(found: Mapping[str, Mapping[str, float]]) -> None:
    """A table of peaks beside the first arm's."""
    first = found[next(iter(found))]
    print(f"\nmemory of a step above what the process held before; target: ≤ {MEMORY}")
    print(f"{'':<16}{'peak MiB':>10}{'÷':>8}{'kept for backward MiB':>24}{'÷':>8}")
    for arm, own in found.items():
        ratios = {key: own[key] / first[key] for key in ("peak", "saved")}
        peak, saved = own["peak"] / 2**20, own["saved"] / 2**20
        print(f"{arm:<16}{peak:>10.0f}{ratios['peak']:>8.3f}{saved:>24.1f}{ratios['saved']:>8.4f}", flush=True)


def paired(own: Sequence[float], other: Sequence[float]) -> Ratio:
    """The median of own ÷ other, pair by pair, between two of the sorted ratios that hold it with 95 % probability."""
    ratios = sorted(one / two for one, two in zip(own, other, strict=True))
    count, outside, cut = len(ratios), 0.0, 0
    while cut < (count - 1) // 2:
        outside += math.comb(count, cut) / 2**count
        if 2 * outside > 0.05:
            break
        cut += 1
    at = max(0, cut - 1)
    return Ratio(median(ratios), ratios[at], ratios[count - 1 - at])


def config_of(arm: str, sizes: Sizes) -> RunConfig:
    """Five losses with what the arm changes."""
    config = resolve(recipe="five_losses", settings=ARMS[arm])
    return changed(
        config,
        model={"size": sizes.pixels, "dim": sizes.dim},
        training={
            "epochs": 10,
            "classes_per_batch": sizes.batch // config.training.per_class,
            "device": "cpu",
            "rates": CALM,
        },
    )


def opened(sizes: Sizes) -> Session:
    """The images and batches that every arm learns from."""
    config = config_of(FIRST, sizes)
    return open_session(config, open_source(config.data, Silence()))


def steps_of(arm: str, session: Session, sizes: Sizes, *, steps: int) -> Iterator[Step]:
    """The training loop of one arm, on the batches of a session."""
    config = config_of(arm, sizes)
    classes = len(session.manifest.only("train").classes)
    embedder = build_embedder(config)
    objective = build_objective(config, classes=classes, steps_per_epoch=len(session.plan), width=embedder.width)
    attach_balance(embedder, objective)
    return train(
        embedder,
        objective,
        session.images,
        build_optimizer(config, embedder, objective),
        steps=steps,
        steps_per_epoch=len(session.plan),
        clip_norm=config.training.clip_norm,
    )


def step_seconds(sizes: Sizes, *, warm: int = 2) -> dict[str, list[float]]:
    """CPU seconds of each arm's steps: batch, forward, backward and optimiser."""
    session = opened(sizes)
    loops = {arm: steps_of(arm, session, sizes, steps=warm + sizes.rounds) for arm in ARMS}
    return in_turn({arm: lambda loop=loop: next(loop) for arm, loop in loops.items()}, warm, sizes.rounds)


def in_turn(jobs: Mapping[str, Callable[[], object]], warm: int, rounds: int) -> dict[str, list[float]]:
    """CPU seconds of each job by round; who comes first goes round, too."""
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    names = list(jobs)
    for number in range(warm + rounds):
        at = number % len(names)
        for name in names[at:] + names[:at]:
            begin = time.process_time()
            jobs[name]()
            if number >= warm:
                seconds[name].append(time.process_time() - begin)
    return seconds


def memory_apart(arm: str, sizes: Sizes) -> dict[str, float]:
    """The memory of one arm, measured in a process of its own."""
    words = ["--memory", arm, "--batch", str(sizes.batch), *(["--quick"] if sizes.pixels == QUICK.pixels else [])]
    done = subprocess.run([sys.executable, __file__, *words], capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def memory(arm: str, sizes: Sizes) -> dict[str, float]:
    """Bytes of three steps above what was held before, and bytes that autograd keeps between the two passes."""
    session = opened(sizes)
    loop = steps_of(arm, session, sizes, steps=4)
    before = memory_line("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    for _ in range(3):
        next(loop)
    peak = memory_line("VmHWM") - before
    saved: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        if not isinstance(tensor, torch.nn.Parameter):
            saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        next(loop)
    return {"peak": float(peak), "saved": float(sum(saved.values()))}


def memory_line(name: str) -> int:
    """Bytes that Linux knows of this process: VmRSS, held now, or VmHWM, the most so far."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def embedding_seconds(sizes: Sizes) -> dict[str, list[float]]:
    """CPU seconds for 64 images: by one head, by five and the trunk's feature, by these folded into one, and by the
    feature alone with the default recipe's metric."""
    shape = (64, 3, sizes.pixels, sizes.pixels)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    models = {"one head": model_of(FIRST, sizes), "five and trunk": model_of("five losses", sizes)}
    models["folded"] = folded(models["five and trunk"], sizes.dim)
    if DEFAULT in ARMS:
        models["with its metric"] = with_map(model_of(DEFAULT, sizes))
    jobs = {name: lambda model=model: embedded(model, images) for name, model in models.items()}
    return in_turn(jobs, 1, sizes.rounds)


@torch.inference_mode()
def embedded(model: Embedder, images: torch.Tensor) -> torch.Tensor:
    """The embeddings of the images."""
    result: torch.Tensor = model(images)
    return result


def model_of(arm: str, sizes: Sizes) -> Embedder:
    """An Embedder as it is used after training."""
    config = config_of(arm, sizes)
    embedder = build_embedder(config)
    return deployed(embedder, config, dict.fromkeys(embedder.heads, 1 / len(embedder.heads))).eval()


def with_map(model: Embedder) -> Embedder:
    """The same with a map of all its numbers on top, which is what a metric costs whatever its numbers are."""
    whole = Affine(torch.eye(model.dim, dtype=torch.float64), torch.zeros(model.dim, dtype=torch.float64))
    head = head_of(Space(dict(model.heads.items()), dict.fromkeys(model.heads, 1.0), unit=True), whole)
    return Embedder(model.backbone, model.pool, {"metric": head}, preprocessing=model.preprocessing).eval()


def folded(model: Embedder, dim: int) -> Embedder:
    """The same trunk with all heads as one linear map of `dim` numbers, as `accord compress --method fold` has it."""
    whole = fold_heads(list(map(affine_of, model.heads.values())), list(model.weights.values()), dim=dim)
    heads = {"folded": linear_head(whole)}
    return Embedder(model.backbone, model.pool, heads, preprocessing=model.preprocessing).eval()


if __name__ == "__main__":
    main()
