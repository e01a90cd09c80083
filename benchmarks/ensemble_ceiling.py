"""How far losses get that share nothing: networks trained apart, joined, and held against each alone.

    accord study STUDY.yaml --out studies/NAME
    python benchmarks/ensemble_ceiling.py studies/NAME --arms ARM,ARM,ARM    # about 10 s a seed

The pooled features of one seed's runs, each of unit length, are put side by side (`joined`): as many times the
training and the numbers, and so a yardstick, though no proven bound, for an ensemble of these losses on one trunk.
`averaged` is one network whose weights are the mean of theirs. The best arm alone is chosen by the test itself.
Differences are over seeds and classes, as everywhere.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor

from accord.data import ClassMap
from accord.errors import AccordError, UsageError
from accord.evaluation import evaluate, paired_bootstrap
from accord.geometry import normalise
from accord.models import Embedder
from accord.recipes.artifacts import load_data, load_embedder
from accord.recipes.features import Features
from accord.runs import RunFolder
from accord.types import Json, Labelled, Manifest

METRICS = ("recall@1", "map@r")


def main() -> int:
    """Print one JSON line per data set and metric."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path, help="folder of a study with finished runs")
    parser.add_argument("--arms", required=True, help="arms to join, by comma")
    parser.add_argument("--split", default="test", choices=["test", "validation"])
    asked = parser.parse_args()
    arms = tuple(name.strip() for name in asked.arms.split(",") if name.strip())
    try:
        for data in _data_sets(asked.study):
            for line in ceiling(data, arms, asked.split):
                print(json.dumps(line), flush=True)
    except AccordError as error:
        sys.exit(f"ensemble_ceiling: {error}")
    return 0


def ceiling(data: Path, arms: Sequence[str], split: str) -> list[Json]:
    """Joined and averaged networks against the best single one on one data set, by each metric."""
    if len(arms) < 2:
        raise UsageError(f"--arms: names {len(arms)}, and one alone is no ensemble. Give two or more.")
    seeds = _seeds(data, arms)
    scores: dict[str, dict[str, list[Tensor]]] = {
        name: {m: [] for m in METRICS} for name in (*arms, "joined", "averaged")
    }
    labels = torch.empty(0)
    for seed in track(seeds, description=data.name, console=Console(stderr=True)):
        runs = [RunFolder.open(data / arm / seed) for arm in arms]
        networks = [load_embedder(run) for run in runs]
        part = load_data(runs[0]).only(split)
        rows = [normalise(_pooled(network, part)) for network in networks]
        views = dict(zip(arms, rows, strict=True)) | {"joined": torch.cat(rows, dim=1)}
        views["averaged"] = normalise(_pooled(_averaged(networks), part))
        items = Labelled(rows[0], ClassMap(part.classes).numbers(part), torch.tensor([item.id for item in part.items]))
        for name, view in views.items():
            found = evaluate(items._replace(embeddings=view), metrics=METRICS, clusters=False)
            labels = found.query_labels
            for metric in METRICS:
                scores[name][metric].append(found.per_query[metric])
    return [
        _told(data.name, metric, arms, len(seeds), {n: torch.stack(s[metric]) for n, s in scores.items()}, labels)
        for metric in METRICS
    ]


def _told(data: str, metric: str, arms: Sequence[str], seeds: int, scores: dict[str, Tensor], labels: Tensor) -> Json:
    best = max(arms, key=lambda arm: scores[arm].mean().item())
    line: Json = {"data": data, "metric": metric, "seeds": seeds, "best": best}
    line["means"] = {name: round(100 * found.mean().item(), 2) for name, found in scores.items()}
    for name in ("joined", "averaged"):
        drawn = torch.Generator().manual_seed(0)
        bounds = paired_bootstrap(scores[name], scores[best], labels, paired=True, generator=drawn)
        line[name] = {
            "difference": round(100 * (scores[name].mean() - scores[best].mean()).item(), 2),
            "interval": [round(100 * bound, 2) for bound in bounds],
        }
    return line


def _data_sets(study: Path) -> list[Path]:
    runs = study / "runs"
    found = sorted(path for path in runs.iterdir() if path.is_dir()) if runs.is_dir() else []
    if not found:
        raise UsageError(f"{study} holds no runs of a study. Make it: accord study STUDY.yaml --out {study}")
    return found


def _seeds(data: Path, arms: Sequence[str]) -> list[str]:
    """Names of the run folders that every arm has finished."""
    common: set[str] | None = None
    for arm in arms:
        if not (data / arm).is_dir():
            raise UsageError(f"{data} has no arm '{arm}'; it has {', '.join(sorted(p.name for p in data.iterdir()))}.")
        done = {path.name for path in (data / arm).iterdir() if (path / "model.safetensors").exists()}
        common = done if common is None else common & done
    if not common:
        raise UsageError(f"{data}: no seed of which every arm has a finished run.")
    return sorted(common)


def _pooled(network: Embedder, part: Manifest) -> Tensor:
    return Features().of(network, part, device=torch.device("cpu"))


def _averaged(networks: Sequence[Embedder]) -> Embedder:
    """The first network with the mean of all trunks' weights; heads and batch norm's statistics stay as they are."""
    trunks = [dict(network.backbone.state_dict()) for network in networks]
    mean = {
        key: torch.stack([trunk[key].double() for trunk in trunks]).mean(dim=0).to(value.dtype)
        for key, value in trunks[0].items()
        if value.is_floating_point()
    }
    networks[0].backbone.load_state_dict(mean, strict=False)
    return networks[0]


if __name__ == "__main__":
    sys.exit(main())
