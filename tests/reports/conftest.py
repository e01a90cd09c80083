"""A small but complete set of report inputs, measured from real pictures of the embedded data."""

import zipfile
from collections.abc import Callable, Sequence
from importlib.resources import files
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from accord.reports import ReportInputs, Thumbnails
from accord.types import Evaluation, Json, Labelled, Neighbours


def measure(embeddings: Tensor, labels: Tensor, ids: Tensor) -> tuple[Evaluation, Neighbours]:
    """Rank by cosine and measure, the slow and obvious way."""
    x = F.normalize(embeddings.double(), dim=1)
    scores = (x @ x.T).fill_diagonal_(-2)
    order = scores.argsort(dim=1, descending=True, stable=True)[:, :-1]
    hits = (labels[order] == labels[:, None]).double()
    relevant = hits.sum(1).long()
    place = torch.arange(1, hits.shape[1] + 1)
    within = (place <= relevant[:, None]).double()
    precision = hits.cumsum(1) / place
    per_query = {f"recall@{k}": hits[:, :k].amax(1) for k in (1, 2, 4, 8)}
    per_query["map@r"] = (precision * hits * within).sum(1) / relevant
    per_query["r_precision"] = (hits * within).sum(1) / relevant
    per_query["knn_accuracy"] = (hits[:, :3].sum(1) >= 2).double()
    counts = {"queries": len(ids), "gallery": len(ids), "classes": len(labels.unique()), "singletons": 0}
    evaluation = Evaluation(per_query, ids, labels, {"nmi": 0.5}, counts, {"recall@1": 0.1})
    return evaluation, Neighbours(scores.gather(1, order[:, :10]).float(), ids[order[:, :10]])


def log_rows(steps: int) -> list[Json]:
    """A training log of two terms with a validation in its middle."""
    rows: list[Json] = []
    for step in range(steps):
        terms = {"n_pair": 3.0 / (1 + step), "proxy_nca": 4.0}
        rates = {"trunk": 3e-7 * (step + 1), "heads": 1e-3}
        weights = {"n_pair": 0.5, "proxy_nca": 0.5}
        rows.append({"step": step, "epoch": step // 5, "loss": 1.0 / (1 + step), "terms": terms, "weights": weights})
        rows[-1] |= {"rates": rates, "seconds": 0.1 * step}
        if step == steps // 2:
            rows.append({"validation": {"step": step, "recall@1": 0.6, "map@r": 0.3}})
    return rows


def _one_head(name: str, share: float, lost: float, interval: list[float] | None) -> Json:
    def both(value: float) -> Json:
        return {"recall@1": value, "map@r": value / 2}

    return {
        "name": name,
        "numbers": 8,
        "share": share,
        "alone": both(0.5),
        "without": both(0.6 - lost),
        "lost": both(lost),
        "lost_intervals": {} if interval is None else {"recall@1": interval, "map@r": interval},
    }


def told_heads(*names: str, **changes: object) -> Json:
    """Heads of which the first is missed, the second is in the way, and of the others nobody knows."""
    lost = [(0.2, [0.1, 0.3]), (-0.1, [-0.2, -0.05]), (0.0, [-0.1, 0.1]), (0.05, None)]
    found = [_one_head(name, 1 / len(names), *case) for name, case in zip(names, lost, strict=False)]
    pairs = [(one, other) for place, one in enumerate(names) for other in names[place + 1 :]]
    agreement = [
        {"first": one, "second": other, "cka": 0.1 * place, "same_neighbour": 0.25, "one_right": 0.125}
        for place, (one, other) in enumerate(pairs, start=1)
    ]
    return {
        "schema_version": 1,
        "images": 24,
        "of_images": 24,
        "classes": 6,
        "queries": 24,
        "metrics": {"recall@1": 0.6, "map@r": 0.3},
        "heads": found,
        "silent": [],
        "agreement": agreement,
        **changes,
    }


def complete(embeddings: Tensor, labels: Tensor, names: Sequence[str], **changes: object) -> ReportInputs:
    """Inputs with every field filled."""
    ids = torch.arange(len(labels)) + 100
    trained, neighbours = measure(embeddings, labels, ids)
    baseline, _ = measure(embeddings[:, :3] + 0.01, labels, ids)
    fields: Json = {
        "run": "run-1",
        "title": "objects",
        "baseline": baseline,
        "paths": {int(item): f"{names[label]}/{item}.jpg" for item, label in zip(ids, labels, strict=True)},
        "history": log_rows(20),
        "heads": told_heads("n_pair", "proxy_nca", "smoothed_cross_entropy", "trunk"),
        "intervals": {"recall@1": (0.4, 0.6)},
        "gain_intervals": {"recall@1": (-0.1, 0.2)},
        "configuration": {"seed": 0, "model": {"backbone": "resnet10", "rates": {"trunk": 1e-4}}, "empty": {}},
        "data": {
            "name": "objects",
            "sha256": "ab" * 32,
            "split": {"train": {"classes": 5, "images": 60}, "test": {"classes": len(names), "images": len(ids)}},
            "notes": ["One file was left out."],
        },
        "environment": {"torch": "2.13.0", "deterministic": True, "accelerator": None},
        "seconds": {"training": 70.0, "evaluation": 2.0},
        "peak_memory_bytes": 900_000_000,
        "notes": ["Only one seed was run."],
        "created": "2026-11-22T00:12:00+00:00",
    }
    return ReportInputs(trained, Labelled(embeddings, labels, ids), neighbours, names, **(fields | changes))


@pytest.fixture(scope="session")
def pictures() -> tuple[np.ndarray, list[str]]:
    """Six views each of eight classes of the embedded data, and the class of each."""
    archive = zipfile.ZipFile(Path(str(files("accord.data") / "objects.zip")))
    members = sorted(name for name in archive.namelist() if name.endswith(".jpg"))
    chosen = [name for name in members if int(name.split("/")[1][:2]) < 6][:48]
    opened = [np.asarray(Image.open(BytesIO(archive.read(name))).convert("RGB")) for name in chosen]
    return np.stack(opened), [name.split("/")[0] for name in chosen]


@pytest.fixture(scope="session")
def make_inputs(pictures: tuple[np.ndarray, list[str]]) -> Callable[..., ReportInputs]:
    """Builds complete inputs whose embeddings are small pixels; class names and fields can be replaced."""
    pixels, labels = pictures
    found = sorted(set(labels))
    embeddings = torch.from_numpy(pixels[:, ::8, ::8].reshape(len(pixels), -1)).float() - 127
    numbers = torch.tensor([found.index(label) for label in labels])

    def build(names: Sequence[str] = tuple(found), **changes: object) -> ReportInputs:
        return complete(embeddings, numbers, names, **changes)

    return build


@pytest.fixture(scope="session")
def thumbnails(pictures: tuple[np.ndarray, list[str]]) -> Thumbnails:
    return Thumbnails(torch.arange(len(pictures[0])) + 100, torch.from_numpy(pictures[0]))


@pytest.fixture(scope="session")
def measured() -> Callable[[Tensor, Tensor, Tensor], tuple[Evaluation, Neighbours]]:
    return measure


@pytest.fixture(scope="session")
def rows() -> Callable[[int], list[Json]]:
    return log_rows


HOSTILE = (
    "</script><script>window.stolen=1</script>",
    "<img src=x onerror=window.stolen=1>",
    "\" onmouseover=window.stolen=1 '",
    "__proto__",
    "$title ${css} &amp;",
    "broken \udcff name \u2028 line",
    "עברית \u202e reversed",
    "a" * 300,
)


@pytest.fixture(scope="session")
def hostile_names() -> tuple[str, ...]:
    return HOSTILE


@pytest.fixture(scope="session")
def told() -> Callable[..., Json]:
    return told_heads
