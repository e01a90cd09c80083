"""Whether a compressed embedding should be brought to unit length: its cosines against its Euclidean distances.

    python benchmarks/unit_length.py RUN [RUN …] --dim 64    # about 10 s a run

The joined embedding of each run is mapped by the principal components of its training images, as
`accord compress --method pca` does, and its unseen classes are ranked in both ways. One JSON line per run.
"""

import argparse
import json
import sys
from pathlib import Path

import torch
from torch import Tensor

from accord.ensembles import pca
from accord.errors import AccordError
from accord.geometry import normalise, squared_euclidean
from accord.recipes.artifacts import embed_items, load_data, load_embedder
from accord.runs import RunFolder


def main() -> int:
    """Print R@1 and MAP@R of each run by either ranking, in percent."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", help="folders of finished runs")
    parser.add_argument("--dim", type=int, default=64, help="numbers to keep")
    asked = parser.parse_args()
    try:
        for path in asked.runs:
            print(json.dumps({"run": str(path), **both_ways(path, asked.dim)}), flush=True)
    except AccordError as error:
        sys.exit(f"unit_length: {error}")
    return 0


def both_ways(path: Path, dim: int) -> dict[str, dict[str, float]]:
    """What one run scores ranked by cosine, and by Euclidean distance."""
    run = RunFolder.open(path)
    manifest, embedder = load_data(run), load_embedder(run)
    device = torch.device("cpu")
    train, test = (embed_items(embedder, manifest.only(split), device=device) for split in ("train", "test"))
    rows = pca(train.embeddings.double(), dim=dim)(test.embeddings.double())
    unit = normalise(rows)
    return {
        "cosine": scores(unit @ unit.T, test.labels),
        "euclidean": scores(-squared_euclidean(rows, rows), test.labels),
    }


def scores(similarities: Tensor, labels: Tensor) -> dict[str, float]:
    """R@1 and MAP@R of the mean query, each image against all others; lone images ask nothing."""
    order = similarities.clone().fill_diagonal_(-torch.inf).argsort(dim=1, descending=True)[:, :-1]
    hits = labels[order] == labels[:, None]
    asks = hits.any(dim=1)
    hits = hits[asks]
    wanted, ranks = hits.sum(dim=1, keepdim=True), torch.arange(1, hits.shape[1] + 1)
    precision = torch.where(hits & (ranks <= wanted), hits.cumsum(dim=1) / ranks, 0).sum(dim=1) / wanted[:, 0]
    found = {"recall@1": hits[:, 0].double().mean(), "map@r": precision.mean()}
    return {name: round(100 * value.item(), 2) for name, value in found.items()}


if __name__ == "__main__":
    sys.exit(main())
