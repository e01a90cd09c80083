"""k-means and adjusted mutual information beside scikit-learn's and faiss's: CPU time at what sum of squares.

    python benchmarks/evaluation_clusters.py                        # 12,100 × 512 in 2,263 classes: minutes
    python benchmarks/evaluation_clusters.py --items 60502 --classes 11316   # Stanford Online Products' test size
    python benchmarks/evaluation_clusters.py --table

Each measure runs in a process of its own on one thread; CPU time, so that other work on the machine matters little.
Results go to evaluation_clusters.jsonl, and what is there already is not measured again (`--again` does).
"""

import argparse
import json
import math
import multiprocessing
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

RESULTS = Path(__file__).with_suffix(".jsonl")
KINDS = 12
SPREAD = 1.3


def main() -> None:
    options = _options()
    if options.table:
        print(table(_known()))
        return
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"
    size = {"items": options.items, "classes": options.classes, "dim": options.dim, "seed": options.seed}
    done = [] if options.again else _known()
    for number, name in enumerate(options.only or MEASURES, start=1):
        key = {**size, "measure": name}
        if any(all(row[k] == v for k, v in key.items()) for row in done):
            continue
        print(f"{number}/{len(MEASURES)} {name} …", file=sys.stderr, flush=True)
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            row = {**key, **pool.apply(measure, (name, size))}
        with RESULTS.open("a") as file:
            file.write(json.dumps(row) + "\n")
    print(table(_known()))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("items", 12_100), ("classes", 2_263), ("dim", 512), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--only", nargs="*", choices=MEASURES)
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--table", action="store_true")
    return parser.parse_args()


def products(items: int, classes: int, dim: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Unit rows in many small classes of some kinds, like a shop's: classes of one kind lie closer together."""
    generator = torch.Generator().manual_seed(0)
    kinds = torch.randn(KINDS, dim, generator=generator)[torch.randint(KINDS, (classes,), generator=generator)]
    centres = torch.nn.functional.normalize(0.7 * kinds + torch.randn(classes, dim, generator=generator))
    sizes = torch.randint(2, 10, (classes,), generator=generator).float()
    labels = torch.multinomial(sizes, items, replacement=True, generator=generator)
    noise = torch.randn(items, dim, generator=generator) * SPREAD / math.sqrt(dim)
    return torch.nn.functional.normalize(centres[labels] + noise), labels


def measure(name: str, size: dict) -> dict:
    """CPU seconds, extra memory and the outcome of one measure, in this process."""
    torch.set_num_threads(1)
    points, labels = products(size["items"], size["classes"], size["dim"])
    classes = len(labels.unique())
    run = MEASURES[name](points, labels, classes, size["seed"])
    before, begin = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    outcome = run()
    seconds = time.process_time() - begin
    extra = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    row = {"seconds": round(seconds, 3), "extra_mebibytes": round(extra)}
    if isinstance(outcome, float):
        return {**row, "ami": outcome}
    groups = torch.as_tensor(outcome).long()
    from accord.evaluation import normalised_mutual_information

    return {**row, "squares": squares(points, groups), "nmi": normalised_mutual_information(labels, groups)}


def squares(points: torch.Tensor, groups: torch.Tensor) -> float:
    """The sum of squared distances from the means of groups, in float64 for everyone."""
    points = points.double()
    sums = torch.zeros(int(groups.max()) + 1, points.shape[1], dtype=torch.float64).index_add_(0, groups, points)
    counts = torch.bincount(groups, minlength=len(sums)).clamp_min(1)
    return float(points.square().sum() - (sums.square().sum(dim=1) / counts).sum())


def ours(exchanges: int | None = None) -> Callable:
    def prepare(points, labels, classes, seed):
        from accord.evaluation import kmeans

        options = {} if exchanges is None else {"exchanges": exchanges}
        return lambda: kmeans(points, classes, generator=torch.Generator().manual_seed(seed), **options)

    return prepare


def scikit_learn(init: str) -> Callable:
    def prepare(points, labels, classes, seed):
        from sklearn.cluster import KMeans

        peer = KMeans(classes, init=init, n_init=1, random_state=seed)
        return lambda: peer.fit(points.numpy()).labels_

    return prepare


def faiss(points, labels, classes, seed):
    import faiss

    faiss.omp_set_num_threads(1)
    # 20 iterations, as pytorch-metric-learning asks for
    options = {"niter": 20, "seed": seed, "min_points_per_centroid": 1, "max_points_per_centroid": 10**9}
    peer = faiss.Kmeans(points.shape[1], classes, **options)

    def run():
        peer.train(points.numpy())
        return np.ascontiguousarray(peer.index.search(points.numpy(), 1)[1][:, 0])

    return run


def our_ami(points, labels, classes, seed):
    from accord.evaluation import adjusted_mutual_information

    groups = torch.randint(classes, labels.shape, generator=torch.Generator().manual_seed(seed))
    return lambda: adjusted_mutual_information(labels, groups)


def peer_ami(points, labels, classes, seed):
    from sklearn.metrics import adjusted_mutual_info_score

    groups = torch.randint(classes, labels.shape, generator=torch.Generator().manual_seed(seed))
    return lambda: float(adjusted_mutual_info_score(labels.numpy(), groups.numpy()))


MEASURES = {
    "k-means, accord": ours(),
    "k-means, accord without exchanges": ours(0),
    "k-means, accord, 5 exchanges": ours(5),
    "k-means, accord, 15 exchanges": ours(15),
    "k-means, scikit-learn, random start": scikit_learn("random"),
    "k-means, scikit-learn, k-means++": scikit_learn("k-means++"),
    "k-means, faiss, 20 iterations": faiss,
    "AMI, accord": our_ami,
    "AMI, scikit-learn": peer_ami,
}


def table(rows: list[dict]) -> str:
    """The latest results of each size as a Markdown table."""
    latest = {(row["items"], row["classes"], row["dim"], row["seed"], row["measure"]): row for row in rows}
    lines = ["| items × dim, classes | measure | CPU s | extra MiB | sum of squares | NMI / AMI |", "|" + "---|" * 6]
    for (items, classes, dim, _, name), row in latest.items():
        total = f"{row['squares']:,.0f}" if "squares" in row else "–"
        score = f"{row.get('nmi', row.get('ami')):.4f}"
        size = f"{items:,} × {dim}, {classes:,}"
        lines.append(f"| {size} | {name} | {row['seconds']:.2f} | {row['extra_mebibytes']} | {total} | {score} |")
    return "\n".join(lines)


def _known() -> list[dict]:
    return [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []


if __name__ == "__main__":
    main()
