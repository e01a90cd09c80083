"""Leave-one-out evaluation beside PML's AccuracyCalculator, faiss-flat and scikit-learn: CPU seconds and memory.

Each measure runs in a process of its own on one thread, so that its peak of memory is its own; the peak before the work
is subtracted. Results go to evaluation.jsonl as they come, and what is there is not measured again (`--again` does).

    python benchmarks/evaluation.py --sizes 10000 60502
    python benchmarks/evaluation.py --table
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RESULTS = Path(__file__).with_name("evaluation.jsonl")
DIM, CLASS = 512, {10_000: 100, 60_502: 5}
MEASURES = ("gemm", "accord", "accord, no clusters", "pml", "pml, all metrics", "faiss", "sklearn")
STREAM = (1_000_000, 128, 10_000)
MIB = 2**20
SPREAD = 3.0  # of a class around its centre: some classes are confused


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 60_502])
    parser.add_argument("--only", nargs="+", default=[*MEASURES, "budget", "stream"])
    parser.add_argument("--again", action="store_true", help="measure anew what has been measured")
    parser.add_argument("--table", action="store_true", help="print the results as a table and stop")
    parser.add_argument("--child", nargs=2, metavar=("MEASURE", "SIZE"))
    options = parser.parse_args()
    if options.child:
        return child(options.child[0], int(options.child[1]))
    if options.table:
        return print(table(known()))
    jobs = [(name, size) for size in options.sizes for name in MEASURES if name in options.only]
    jobs += [("budget", 60_000)] * ("budget" in options.only) + [("stream", STREAM[0])] * ("stream" in options.only)
    for number, (name, size) in enumerate(jobs, 1):
        if not options.again and (name, size) in {(row["measure"], row["size"]) for row in known()}:
            continue
        print(f"{number} of {len(jobs)}: {name} at {size:,} …", file=sys.stderr, flush=True)
        row = run(name, size)
        print(json.dumps(row), flush=True)
        with RESULTS.open("a") as file:
            file.write(json.dumps(row) + "\n")
    return print(table(known()))


def run(name: str, size: int) -> dict:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "--child", name, str(size)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["killed"])[-1]
        return {"measure": name, "size": size, "error": last[:200]}
    return {"measure": name, "size": size, **json.loads(done.stdout.splitlines()[-1])}


def known() -> list[dict]:
    """The last result of each measure and size."""
    lines = RESULTS.read_text().splitlines() if RESULTS.exists() else []
    rows = [json.loads(line) for line in lines]
    return list({(row["measure"], row["size"]): row for row in rows}.values())


def table(rows: list[dict]) -> str:
    text = [
        "| items | measure | CPU s | ÷ PML | ÷ bare product | extra MiB | R@1 | MAP@R |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in sorted(rows, key=lambda row: (row["size"], row["measure"])):
        if "error" in row:
            text.append(f"| {row['size']:,} | {row['measure']} | failed: {row['error']} | | | | | |")
            continue
        beside = {other["measure"]: other.get("cpu_seconds") for other in rows if other["size"] == row["size"]}
        ratios = [f"{row['cpu_seconds'] / beside[of]:.2f}" if beside.get(of) else "" for of in ("pml", "gemm")]
        found = [f"{row[name]:.4f}" if name in row else "" for name in ("recall@1", "map@r")]
        cells = [f"{row['size']:,}", row["measure"], f"{row['cpu_seconds']:.1f}", *ratios, f"{row['extra_mib']:.0f}"]
        text.append("| " + " | ".join([*cells, *found]) + " |")
    return "\n".join(text)


def child(name: str, size: int) -> None:
    import torch

    torch.set_num_threads(1)
    if name == "stream":
        return streamed(*STREAM)
    embeddings, labels = items(size)
    work = {
        "gemm": gemm, "accord": accord, "accord, no clusters": quick, "budget": quick,
        "pml": pml, "pml, all metrics": pml_in_full, "faiss": faiss_flat, "sklearn": sklearn,
    }[name]  # fmt: skip
    work(embeddings[:300], torch.arange(300) // 5)  # imports and first calls are not what is measured
    return report(lambda: work(embeddings, labels))


def report(work) -> None:
    before, begin, wall = peak(), time.process_time(), time.perf_counter()
    found = work()
    seconds = {"cpu_seconds": time.process_time() - begin, "wall_seconds": time.perf_counter() - wall}
    print(json.dumps({**seconds, "extra_mib": (peak() - before) / MIB, "peak_mib": peak() / MIB, **found}))


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def items(size: int):
    import torch

    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(size) // CLASS.get(size, 5)
    embeddings = torch.empty(size, DIM)
    centres = torch.Generator().manual_seed(1)
    for label in range(int(labels[-1]) + 1):  # in place, so that the peak before the work is small
        rows = slice(label * CLASS.get(size, 5), (label + 1) * CLASS.get(size, 5))
        noise = torch.randn(embeddings[rows].shape, generator=generator)
        embeddings[rows] = torch.randn(1, DIM, generator=centres) + SPREAD * noise
        embeddings[rows] /= embeddings[rows].norm(dim=1, keepdim=True)
    return embeddings, labels


def gemm(embeddings, labels) -> dict:
    """The products alone, by blocks that stay in cache."""
    import torch

    out = torch.empty(2048, 2048)
    for rows in embeddings.split(2048):
        for columns in embeddings.split(2048):
            torch.mm(rows, columns.T, out=out[: len(rows), : len(columns)])
    return {}


def accord(embeddings, labels, clusters: bool = True) -> dict:
    import torch

    from accord.evaluation import evaluate
    from accord.types import Labelled

    found = evaluate(Labelled(embeddings, labels, torch.arange(len(labels))), clusters=clusters, nmi_seeds=1)
    return {name: found.metrics[name] for name in ("recall@1", "r_precision", "map@r")}


def quick(embeddings, labels) -> dict:
    return accord(embeddings, labels, clusters=False)


def pml(embeddings, labels) -> dict:
    from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator

    names = ("precision_at_1", "r_precision", "mean_average_precision_at_r")
    found = AccuracyCalculator(include=names, k="max_bin_count").get_accuracy(embeddings, labels)
    return dict(zip(("recall@1", "r_precision", "map@r"), (float(found[name]) for name in names), strict=True))


def pml_in_full(embeddings, labels) -> dict:
    """Its whole default set: clusters by faiss, and lists as deep as the gallery for MRR and MAP."""
    from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator

    found = AccuracyCalculator(device=embeddings.device).get_accuracy(embeddings, labels)
    return {"recall@1": float(found["precision_at_1"]), "map@r": float(found["mean_average_precision_at_r"])}


def faiss_flat(embeddings, labels) -> dict:
    """Recall@1 from an exact inner-product search as deep as the largest class."""
    import faiss

    faiss.omp_set_num_threads(1)
    index = faiss.IndexFlatIP(DIM)
    index.add(embeddings.numpy())
    neighbours = index.search(embeddings.numpy(), 1 + int(labels.bincount().max()))[1]
    return {"recall@1": float((labels.numpy()[neighbours[:, 1]] == labels.numpy()).mean())}


def sklearn(embeddings, labels) -> dict:
    from sklearn.neighbors import NearestNeighbors

    found = NearestNeighbors(n_neighbors=1 + int(labels.bincount().max()), algorithm="brute").fit(embeddings.numpy())
    neighbours = found.kneighbors(embeddings.numpy(), return_distance=False)
    return {"recall@1": float((labels.numpy()[neighbours[:, 1]] == labels.numpy()).mean())}


def streamed(size: int, dim: int, queries: int) -> None:
    """A gallery on disk, read as it is needed, with a sample of it as queries; another process has written it."""
    import numpy as np
    import torch

    from accord.evaluation import evaluate
    from accord.types import Labelled

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "gallery.npy"
        command = [sys.executable, "-c", f"import evaluation; evaluation.write({str(path)!r}, {size}, {dim})"]
        subprocess.run(command, check=True, cwd=Path(__file__).parent)
        rows = torch.from_numpy(np.load(path, mmap_mode="c"))
        labels, ids = torch.arange(size) // 5, torch.arange(size)
        some = torch.randperm(size, generator=torch.Generator().manual_seed(0))[:queries]
        asked = Labelled(rows[some], labels[some], ids[some])

        def work() -> dict:
            found = evaluate(Labelled(rows, labels, ids), queries=asked, clusters=False)
            return {"recall@1": found.metrics["recall@1"]}

        report(work)


def write(path: str, size: int, dim: int) -> None:
    import numpy as np
    import torch

    generator = torch.Generator().manual_seed(0)
    table = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(size, dim))
    for start in range(0, size, 50_000):
        centres = torch.randn(10_000, dim, generator=generator).repeat_interleave(5, dim=0)
        table[start : start + 50_000] = (centres + torch.randn(50_000, dim, generator=generator)).numpy()
    table.flush()


if __name__ == "__main__":
    main()
