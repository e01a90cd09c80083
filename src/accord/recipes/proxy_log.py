"""Watches the proxies of a run while they learn: what is logged each epoch, and what a resume needs of it."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from accord.losses import BoundReading, ProxyLoss, ProxyWatch
from accord.recipes.log_entry import finite
from accord.types import Json

PREFIX = "watched."
FEW_DEAD = 0.5  # share of the proxies; more of them stand for nothing, and the user is told


class ProxyLog:
    """Watches every proxy loss of an objective, each epoch anew.

    Of each it tells how many proxies were nearest to no item (`dead_proxies`) or assigned to none
    (`unassigned_proxies`), and of the latest batch that was looked at how tight the bound of Movshovitz-Attias et al.
    (ICCV 2017) is: `epsilon`, `proxy_loss`, `true_loss` ≤ `bound`, and the `slack` in it. One batch is looked at in
    `every`.
    """

    def __init__(self, objective: nn.Module, *, every: int) -> None:
        losses = {_name(path): part for path, part in objective.named_modules() if isinstance(part, ProxyLoss)}
        self.watches = {name: ProxyWatch(loss, every=every) for name, loss in losses.items()}

    def read(self) -> Json:
        """What was seen since the last reading, by loss; empty without proxies."""
        told: Json = {}
        for name, watch in self.watches.items():
            terms = {key: finite(value) for key, value in watch.terms.items()}
            told[name] = {"proxies": len(watch.loss.proxies), **terms}
            watch.restart()
        return told

    def state(self) -> dict[str, Tensor]:
        """What a resumed run must know to tell the same as one that was never stopped."""
        saved: dict[str, Tensor] = {}
        for name, watch in self.watches.items():
            kept = {"near": watch.use.near, "taken": watch.use.taken, "batches": torch.tensor(watch.batches)}
            if watch.reading is not None:
                kept["reading"] = torch.stack(list(watch.reading))
            saved |= {f"{PREFIX}{name}.{key}": tensor for key, tensor in kept.items()}
        return saved

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Go back to a saved state; a version before this one saved none."""
        for name, watch in self.watches.items():
            start = f"{PREFIX}{name}."
            kept = {key.removeprefix(start): tensor for key, tensor in tensors.items() if key.startswith(start)}
            if not kept:
                continue
            watch.use.near.copy_(kept["near"])
            watch.use.taken.copy_(kept["taken"])
            watch.batches = int(kept["batches"])
            if "reading" in kept:
                watch.reading = BoundReading(*kept["reading"].unbind())


def warnings_of(told: Json) -> list[str]:
    """A sentence for every loss most of whose proxies stand for nothing."""
    return [
        f"{name or 'the loss'}: no image was nearest to {seen['dead_proxies']:.0f} of {seen['proxies']} proxies.\n"
        "  Fewer proxies, a higher training.rates.proxies, or training.warm_proxies=true may help."
        for name, seen in told.items()
        if seen["dead_proxies"] > FEW_DEAD * seen["proxies"]
    ]


def _name(path: str) -> str:
    """A member's name in an ensemble; a single loss, wrapped or not, goes without."""
    parts = path.split(".")
    return parts[1] if parts[0] == "members" else ""
