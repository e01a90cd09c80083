"""Examines all losses of the catalogue and some of others, and renders what was found as docs/certificates.md.

Examining takes minutes, so what was found is kept in docs/results/certificates.json; the page is made from that alone.
"""

import json
import sys
from pathlib import Path
from typing import Any

from accord.losses._promises import DECLARED, GROUPS

DOCS = Path(__file__).parent.parent / "docs"
FOUND = DOCS / "results" / "certificates.json"
PEER = "pytorch_metric_learning.losses"
PEERS = (
    "ContrastiveLoss",
    "TripletMarginLoss",
    "NPairsLoss",
    "AngularLoss",
    "MultiSimilarityLoss",
    "CircleLoss",
    "NTXentLoss",
    "SupConLoss",
    "NCALoss",
    "TupletMarginLoss",
    "FastAPLoss",
    "SmoothAPLoss",
    "HistogramLoss",
    "DynamicSoftMarginLoss",
    "ProxyNCALoss",
    "ProxyAnchorLoss",
    "SoftTripleLoss",
    "NormalizedSoftmaxLoss",
    "ArcFaceLoss",
    "CosFaceLoss",
)
# promises a loss of the catalogue is excused from, because its paper asks for it; each must really fail
_WEIGHTS = dict.fromkeys(
    ("has_the_gradient_of_its_value", "has_a_second_derivative"),
    "weights, paces and scales taken from the batch count as constants in the gradient, as in the paper",
)
_NORMS = {"has_the_gradient_of_its_value": "margins follow the lengths of embeddings, which count as constants"}
EXEMPT: dict[str, dict[str, str]] = {
    "circle": _WEIGHTS,
    "dynamic_soft_margin": _WEIGHTS,
    "circle_classes": _WEIGHTS,
    "ada_cos": _WEIGHTS,
    "curricular_face": _WEIGHTS,
    "ada_face": _NORMS,
    "elastic_face": {
        "ignores_the_order_of_the_batch": "draws a margin for each row",
        "compiles_into_one_graph": "its source of random numbers can't be part of a graph",
    },
}


def measure() -> None:
    """Examine everything, and keep what was found."""
    from importlib.metadata import version

    import torch

    from accord.recipes import certify, describe_losses

    torch.set_num_threads(1)
    found: dict[str, Any] = {"torch": torch.__version__, "peer": version("pytorch-metric-learning")}
    for kind, names in (("ours", [loss["name"] for loss in describe_losses()]), ("others", PEERS)):
        found[kind] = []
        for name in names:
            wanted = name if kind == "ours" else f"{PEER}:{name}"
            certificate = certify(wanted, exempt=EXEMPT.get(name, {}), compiled=kind == "ours").as_json()
            broken = [row["promise"] for row in certificate["promises"] if row["verdict"] == "broken"]
            for row in certificate["promises"]:
                if row["verdict"] not in ("broken", "exempt"):
                    del row["detail"]  # which no page shows
            found[kind].append({**certificate, "name": name})
            print(f"{name}: {', '.join(broken) or 'passed'}", file=sys.stderr)
    # a line for each loss
    text = json.dumps(found, ensure_ascii=False).replace('{"name": ', '\n{"name": ')
    FOUND.write_text(text + "\n", encoding="utf-8")


INTRODUCTION = """\
Every loss is examined by `accord check-loss NAME`, or `accord.check_loss(objective)` for your own. A cell says how many
promises of a group are kept, of those that apply. *Finite* counts 500 batches drawn to hurt: duplicates, zeros,
antipodes, class vectors, extreme lengths, odd labels, in every dtype the loss takes.
"""
COMPARISON = """\
The same examination, without asking for our messages, our dtypes and our engine. What is listed as broken is what these
promises ask, not what the authors promised.
"""


def page(note: str) -> str:
    """The page, from what was found last."""
    found = json.loads(FOUND.read_text(encoding="utf-8"))
    parts = [
        "# Certificates\n",
        note,
        INTRODUCTION,
        f"## The losses of accord\n\nWith torch {found['torch']}.\n",
        *_table(found["ours"]),
        f"\n## Losses of pytorch-metric-learning {found['peer']}, for comparison\n",
        COMPARISON,
        *_table(found["others"]),
        "\n### What they break\n",
        *_broken(found["others"]),
        "\n## The promises\n",
        *_promises(),
    ]
    return "\n".join(parts) + "\n"


def stale(losses: list[str]) -> str | None:
    """Why what was found does not cover this catalogue or these promises; None if it does."""
    if not FOUND.is_file():
        return "nothing was examined yet"
    found = json.loads(FOUND.read_text(encoding="utf-8"))
    missing = set(losses) ^ {loss["name"] for loss in found["ours"]}
    if missing:
        return f"losses: {', '.join(sorted(missing))}"
    names = {promise.__name__ for group in GROUPS.values() for promise in group} - set(DECLARED)
    other = names - {row["promise"] for row in found["ours"][0]["promises"]} if found["ours"] else names
    return f"promises: {', '.join(sorted(other))}" if other else None


def _table(losses: list[dict[str, Any]]) -> list[str]:
    groups = list(GROUPS)
    lines = [f"| loss | {' | '.join(groups)} | finite | ignores | exempt |", f"|---|{'---|' * (len(groups) + 3)}"]
    for loss in losses:
        cells = [_cell(loss, group) for group in groups]
        facts = loss["facts"]
        excused = [
            f"{_words(row['promise'])}: {row['detail']}" for row in loss["promises"] if row["verdict"] == "exempt"
        ]
        ignores = ", ".join(facts["invariances"]) or "nothing"
        cells += [facts.get("finite cases", "–"), ignores, "; ".join(excused)]
        lines.append(f"| `{loss['name']}` | {' | '.join(map(_escaped, cells))} |")
    return lines


def _cell(loss: dict[str, Any], group: str) -> str:
    verdicts = [row["verdict"] for row in loss["promises"] if row["group"] == group]
    kept, broken = verdicts.count("kept"), verdicts.count("broken")
    return f"{'✓' if not broken else '✗'} {kept}/{kept + broken}"


def _broken(losses: list[dict[str, Any]]) -> list[str]:
    lines = ["| loss | promise | what was seen |", "|---|---|---|"]
    for loss in losses:
        for row in loss["promises"]:
            if row["verdict"] == "broken":
                lines.append(f"| `{loss['name']}` | {_words(row['promise'])} | {_escaped(row['detail'][:160])} |")
    return lines


def _promises() -> list[str]:
    lines = ["| group | promise | what it asks |", "|---|---|---|"]
    for group, members in GROUPS.items():
        for promise in members:
            said = (promise.__doc__ or "").split("\n\n")[0]
            lines.append(f"| {group} | {_words(promise.__name__)} | {_escaped(' '.join(said.split()))} |")
    return lines


def _words(name: str) -> str:
    return name.replace("_", " ")


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")
