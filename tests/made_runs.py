"""Run folders made in a moment, with scores as asked for, without any training; and what runs have logged."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from accord.data import manifest_to_json
from accord.recipes.artifacts import CONFIG, DATA
from accord.recipes.per_query import METRICS_VERSION, PER_QUERY, SCHEMA_VERSION, config_fingerprint, test_set
from accord.recipes.resolve import dump, resolve
from accord.runs import RunFolder
from accord.types import Item, Manifest


def gallery(name: str = "birds", classes: int = 30, images: int = 8) -> Manifest:
    """A manifest of nothing but unseen classes; its images are never looked at."""
    items = (
        Item(row, f"{name}{row // images:03d}/{row % images}.jpg", f"{name}{row // images:03d}", f"{row:064x}", "test")
        for row in range(classes * images)
    )
    return Manifest(name, Path(name), tuple(items))


def scores(seed: int, mean: float, *, classes: int = 30, images: int = 8) -> Tensor:
    """Hits of classes that are hard or easy for every method and seed alike, with noise of each seed's own."""
    hardness = 0.15 * torch.randn(classes, 1, generator=torch.Generator().manual_seed(99), dtype=torch.float64)
    generator = torch.Generator().manual_seed(1000 + seed)
    rest = 0.05 * torch.randn(classes, images, generator=generator, dtype=torch.float64)
    return (mean + hardness + rest).clamp(0, 1).flatten()


def make_run(
    path: Path,
    values: Tensor,
    *,
    recipe: str = "triplet",
    seed: int = 0,
    data: Manifest | None = None,
    settings: tuple[str, ...] = (),
    finished: bool = True,
    metric: str = "map@r",
    **facts: Any,
) -> Path:
    """A run folder with one score per query; `facts` replace what is known of the run."""
    data = data or gallery()
    given = ("model.size=64", "model.dim=16", "training.epochs=4", "training.classes_per_batch=8")
    config = resolve(recipe=recipe, settings=[*given, f"training.seed={seed}", *settings])
    with RunFolder.create(path) as run:
        run.write_text(CONFIG, dump(config))
        run.write_json(DATA, manifest_to_json(data))
        if not finished:
            return path
        about = {
            "schema_version": SCHEMA_VERSION,
            "accord_version": "0.1.0",
            "metrics_version": METRICS_VERSION,
            "run": path.name,
            "recipe": recipe,
            "seed": seed,
            **test_set(data),
            "training_data": "a" * 64,
            "protocol": {
                "queries": "leave-one-out",
                "score": "cosine",
                "exclude": "self",
                "re_ranking": "none",
                "knn": 3,
            },
            "backbone": config.model.backbone,
            "weights": "packaged",
            "augmentation": config.augment.model_dump(mode="json"),
            "input_size": f"{config.model.size} px, crop",
            "embedding_size": config.model.dim,
            "batch": "8 classes × 4",
            "epochs": config.training.epochs,
            "steps": 100,
            "skipped_steps": 0,
            "training_seconds": 12.5,
            "tuning": 0,
            "model": f"{seed:02x}" * 32,
            "config_sha256": config_fingerprint(config),
            "config": config.model_dump(mode="json"),
            "test_set": {"opened": 1, "models": 1},
            **facts,
        }
        ids = torch.arange(len(data))
        names = {label: place for place, label in enumerate(data.classes)}
        labels = torch.tensor([names[item.label] for item in data.items])
        tensors = {"ids": ids, "labels": labels, "places": ids}
        tensors |= {f"trained/{metric}": values.double(), f"baseline/{metric}": torch.full_like(values, 0.25).double()}
        run.save_tensors(PER_QUERY, tensors, about)
        run.seal()
    return path


def make_methods(root: Path, means: dict[str, float], *, seeds: int = 5, **more: Any) -> dict[str, list[Path]]:
    """Several runs of each method, by recipe and mean score."""
    return {
        recipe: [
            make_run(root / f"{recipe}-{seed}", scores(10 * place + seed, mean), recipe=recipe, seed=seed, **more)
            for seed in range(seeds)
        ]
        for place, (recipe, mean) in enumerate(means.items())
    }


def logged_steps(run: Path) -> list[dict[str, Any]]:
    """What a run's log says of each training step."""
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [row for row in rows if "terms" in row]
