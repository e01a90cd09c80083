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
from accord.evaluation import evaluate_lists
from accord.geometry import normalise, squared_euclidean
from accord.recipes.artifacts import embed_items, load_data, load_embedder
from accord.runs import RunFolder
from accord.types import Labelled, Neighbours


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
        "cosine": scores(unit @ unit.T, test),
        "euclidean": scores(-squared_euclidean(rows, rows), test),
    }


def scores(similarities: Tensor, items: Labelled) -> dict[str, float]:
    """R@1 and MAP@R, each image against all others, in percent."""
    ranked, order = similarities.sort(dim=1, descending=True)
    found = evaluate_lists(Neighbours(ranked, items.ids[order]), items, items).metrics
    return {name: round(100 * found[name], 2) for name in ("recall@1", "map@r")}


if __name__ == "__main__":
    sys.exit(main())
