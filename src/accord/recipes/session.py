"""One training session: everything a run trains with, and how it is saved and resumed."""

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from accord.data import BatchPlan, HardClassBatches, ImageTable, TrainingBatches, fingerprint
from accord.ensembles import Ensemble, test_weights, untaught
from accord.errors import ArtifactError
from accord.evaluation import evaluate
from accord.models import Embedder, embed
from accord.recipes.artifacts import CONFIG, EMBED_BATCH, embed_items
from accord.recipes.build import (
    build_batches,
    build_embedder,
    build_objective,
    build_optimizer,
    deployed,
    preprocessing_of,
    warm_proxies,
)
from accord.recipes.config import RunConfig
from accord.recipes.device import pick_device
from accord.recipes.ensembles import attach_balance
from accord.recipes.head_names import head_names
from accord.recipes.idle_members import IdleMembers
from accord.recipes.proxy_log import PREFIX, ProxyLog
from accord.recipes.relations import TRIPLET_ACCURACY, accuracy_on
from accord.recipes.resolve import filled, flat
from accord.recipes.students import as_student, with_student
from accord.recipes.watch import Watch
from accord.runs import RunFolder
from accord.training import collapse, restore, spread, training_state
from accord.types import Batch, Json, Manifest

OVERSIZE = 1.15
MINED = "mined."  # before the names of what is saved of the class table


@dataclass
class Session:
    """The moving parts of one run."""

    config: RunConfig
    manifest: Manifest
    device: torch.device
    embedder: Embedder
    objective: nn.Module
    optimizer: torch.optim.AdamW
    table: ImageTable
    plan: BatchPlan
    images: TrainingBatches
    proxies: ProxyLog
    idle: IdleMembers
    best: dict[str, float] = field(default_factory=dict)
    warned: bool = False
    seconds_before: float = 0.0
    begin: float = field(default_factory=time.perf_counter)

    @property
    def seconds(self) -> float:
        """How long the run has taken, the time before it was stopped included and the pause left out."""
        return self.seconds_before + time.perf_counter() - self.begin

    @property
    def steps(self) -> int:
        """Optimisation steps of the whole run."""
        assert self.config.training.epochs is not None, "epochs are chosen before the session starts"
        return max(1, round(self.config.training.epochs * len(self.plan)))

    def batches(self, step: int) -> Batch:
        """The batch of one step; where classes are mined and their table is due, it is made anew first."""
        if isinstance(self.plan, HardClassBatches) and self.plan.due(step):
            rows = self.plan.examples(step)
            looked = embed(self.deployed(), self.table.batches(EMBED_BATCH, rows.flatten()), device=self.device)
            self.plan.learn(step, looked.embeddings.view(*rows.shape, -1))
        return self.images(step)

    def save(self, run: RunFolder, *, step: int) -> None:
        """Save everything needed to go on bit-equal after `step` steps."""
        extra: Json = {
            "best": self.best,
            "seconds": self.seconds,
            "idle": self.idle.state(self.objective),
            "data": fingerprint(self.manifest),
            "config": self.config.model_dump(mode="json"),
        }
        tensors, facts = training_state(self.embedder, self.objective, self.optimizer, step=step, extra=extra)
        if isinstance(self.plan, HardClassBatches):
            tensors = {**tensors, **{MINED + name: tensor for name, tensor in self.plan.state().items()}}
        run.save_state({**tensors, **self.proxies.state()}, facts)

    def restore(self, tensors: Mapping[str, Tensor], facts: Json) -> int:
        """Go back to a saved state; return the next step."""
        self.best, self.seconds_before = dict(facts["extra"]["best"]), float(facts["extra"].get("seconds", 0.0))
        # first, as an ensemble that leaves out members has one tensor more
        self.idle.restore(facts["extra"].get("idle", {}), self.objective)
        self.proxies.restore(tensors)
        mined = {name: tensor for name, tensor in tensors.items() if name.startswith(MINED)}
        if isinstance(self.plan, HardClassBatches):
            self.plan.restore({name.removeprefix(MINED): tensor for name, tensor in mined.items()})
        rest = {name: tensor for name, tensor in tensors.items() if not name.startswith((MINED, PREFIX))}
        return restore(self.embedder, self.objective, self.optimizer, rest, facts)

    def deployed(self) -> Embedder:
        """The Embedder as it would be used now, with the head weights that the objective has now; the student's, where
        one learns beside."""
        objective = untaught(self.objective)
        if isinstance(objective, Ensemble) and self.config.model.heads == "own":
            shares = {name: float(share) for name, share in test_weights(objective).items()}
        else:
            shares = dict.fromkeys(head_names(self.config), 1.0)
        return as_student(deployed(self.embedder, self.config, shares), self.embedder, self.objective)

    def validate(self, watch: Watch, embedder: Embedder | None = None) -> dict[str, float] | None:
        """R@1 and MAP@R on the held-out training classes, None when they can't tell; warns of a collapse.

        Judges `embedder`, by default the one in training as it would be used now. Where triplets were given, the share
        of those among them that holds is beside.
        """
        held_out = self.manifest.only("validation")
        if not can_be_judged(held_out):
            return None
        embedded = embed_items(embedder or self.deployed(), held_out, device=self.device)
        warning = collapse(spread(embedded.embeddings)) if len(held_out.classes) > 2 else None
        if warning:
            watch.warn(warning)
        found = evaluate(embedded, clusters=False).metrics
        triplets = accuracy_on(embedded, held_out)
        told = {name: found[name] for name in ("recall@1", "map@r")}
        return told if triplets is None else {**told, TRIPLET_ACCURACY: triplets[0]}


def can_be_judged(part: Manifest) -> bool:
    """Whether there are two classes, and in one of them two images: something to find, and something to miss."""
    counts = Counter(item.label for item in part.items)
    return len(counts) > 1 and max(counts.values()) > 1


def open_session(config: RunConfig, manifest: Manifest) -> Session:
    """Build everything for a resolved configuration; a run that begins also wants `warm_up`."""
    device = pick_device(config.training.device)
    train = manifest.only("train")
    table = ImageTable(train, preprocessing_of(config), oversize=OVERSIZE)
    embedder = build_embedder(config).to(device)
    plan, images = build_batches(config, table)
    objective = build_objective(config, classes=len(train.classes), steps_per_epoch=len(plan), width=embedder.width)
    objective = with_student(objective, config, embedder).to(device)
    attach_balance(embedder, objective)
    optimizer = build_optimizer(config, embedder, objective)
    watched = ProxyLog(untaught(objective), every=len(plan))
    idle = IdleMembers(config.ensemble.idle, config.ensemble.broken)
    return Session(config, manifest, device, embedder, objective, optimizer, table, plan, images, watched, idle)


def seconds_per_step(session: Session) -> float:
    """Time three training steps without moving any weight, running statistic or random number; the quickest counts.

    The first one warms up, and what else the machine is doing for a moment should not decide how long a run trains.
    """
    buffers = [(buffer, buffer.clone()) for buffer in session.embedder.buffers()]
    seconds = float("inf")
    session.embedder.train()
    with torch.random.fork_rng(devices=[]):
        for _ in range(3):
            begin = time.perf_counter()
            batch = session.batches(0)
            outputs = session.embedder.outputs(batch.inputs.to(session.device))
            sum(output.square().mean() for output in outputs.values()).backward()  # type: ignore[union-attr]
            if session.device.type != "cpu":  # which has only been told what to do so far
                torch.accelerator.synchronize(session.device)
            seconds = min(seconds, time.perf_counter() - begin)
    session.embedder.zero_grad(set_to_none=True)
    for buffer, before in buffers:
        buffer.copy_(before)
    return seconds


@torch.no_grad()
def warm_up(session: Session) -> None:
    """Move proxies to where their classes lie, if the configuration says so; costs one pass over the images."""
    if not session.config.training.warm_proxies:
        return
    session.embedder.eval()
    outputs: dict[str, list[Tensor]] = {}
    for batch in session.table.batches(128):
        found = session.embedder.outputs(batch.inputs.to(session.device))
        for name in head_names(session.config):
            outputs.setdefault(name, []).append(found[name])
    joined = {name: torch.cat(parts) for name, parts in outputs.items()}
    warm_proxies(session.objective, joined, session.table.labels.to(session.device))


def refuse_other_run(facts: Json, config: RunConfig, manifest: Manifest) -> None:
    """A state goes on bit-equal only with the images and the options it was saved under; the device may change."""
    if facts["extra"]["data"] != fingerprint(manifest):
        raise ArtifactError("The images or the split are no longer those the run was started with; it can't go on.")
    saved, given = flat(filled(facts["extra"]["config"])), flat(config.model_dump(mode="json"))
    other = sorted(key for key in saved.keys() | given.keys() if saved.get(key) != given.get(key))
    if other and other != ["training.device"]:
        raise ArtifactError(
            f"The saved state belongs to another configuration than {CONFIG}: {', '.join(other[:5])} differ.\n"
            "  Put the file or the state back, or start a new run."
        )
