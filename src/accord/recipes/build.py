"""Builds what a configuration names: backbone, Embedder, objective, optimiser, batches."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from accord.data import (
    Augment,
    AugmentOptions,
    BatchPlan,
    ClassMap,
    HardClassBatches,
    ImageTable,
    PKBatches,
    RelationBatches,
    TrainingBatches,
)
from accord.ensembles import SHARED, STUDENT, Ensemble, untaught
from accord.errors import UnknownNameError, UsageError
from accord.losses import CrossBatchMemory, Kind, Mined, ProxyStore
from accord.models import (
    BACKBONES,
    Embedder,
    LinearHead,
    MaskedLinearHead,
    MLPHead,
    TrunkHead,
    build_backbone,
    build_pool,
    freeze_batch_norm,
    load_weights,
)
from accord.recipes.catalog.losses import build_loss
from accord.recipes.catalog.miners import build_miner
from accord.recipes.config import LossConfig, RunConfig
from accord.recipes.device import pick_device
from accord.recipes.diversity import (
    build_diversity,
    build_label_tables,
    folded_heads,
    learning,
    learnt_classes,
    seen_by,
)
from accord.recipes.ensembles import WEIGHT_RATES, build_balance, build_weighting, check_weighting
from accord.recipes.head_names import TRUNK, head_names, member_names, on_trunk, stands_for
from accord.recipes.relations import kind_of, related
from accord.recipes.students import EPS, student_heads
from accord.runs import packaged_weights, read_weights
from accord.training import Rates, parameter_groups
from accord.types import Manifest, Preprocessing

MANY_CLASSES = 1000  # to try a loss with before they are known: some refuse to do with two or three
KMEANS_ROUNDS = 10  # where proxies outnumber the classes they start from, or are shared by them


def check_parts(config: RunConfig) -> None:
    """Refuse a device, a backbone or a loss that can't be had, in the moment before any image is read."""
    pick_device(config.training.device)
    if ":" not in config.model.backbone and config.model.backbone not in BACKBONES:
        raise UnknownNameError("backbone", config.model.backbone, BACKBONES)
    kind = kind_of(config)
    for loss in config.losses:
        built = _loss(loss, dim=8, classes=MANY_CLASSES)
        if kind is not None:
            related(built, loss.type, kind)
    if len(config.losses) > 1:
        check_weighting(config, member_names(config))


def build_trunk(config: RunConfig) -> nn.Module:
    """The backbone with its starting weights."""
    backbone = build_backbone(config.model.backbone)
    info = BACKBONES.get(config.model.backbone)
    if config.model.weights is not None:
        load_weights(backbone, read_weights(Path(config.model.weights)))
    elif config.model.pretrained and info is not None and info.weights_package is not None:
        load_weights(backbone, packaged_weights(config.model.backbone))
    return backbone


def build_embedder(config: RunConfig) -> Embedder:
    """Backbone, pooling and one head per loss, or one for all; the heads drawn from the run's seed.

    Where a student learns beside, there are its heads, too.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.training.seed)
        backbone = build_trunk(config)
        width = _width(backbone)
        by_name = dict(zip(member_names(config), config.losses, strict=True))
        # a shared one is made as the first loss that sees it says: they were checked to agree
        first = next((loss for loss in config.losses if loss.sees == "head"), config.losses[0])
        heads = {name: _head(config, by_name.get(name, first), width) for name in head_names(config)}
        heads |= student_heads(config, width)  # last, so that the others are drawn as without a student
    embedder = Embedder(backbone, build_pool(config.model.pool), heads, preprocessing=preprocessing_of(config))
    if config.model.freeze_batch_norm:
        freeze_batch_norm(embedder.backbone)
    return embedder


def build_baseline(config: RunConfig) -> Embedder:
    """The frozen backbone as training found it: its pooled feature is what everything trained is held against."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.training.seed)  # as in `build_embedder`: an untrained backbone is drawn the same
        backbone = build_trunk(config)
    heads = {TRUNK: TrunkHead(_width(backbone))}
    return Embedder(backbone, build_pool("average"), heads, preprocessing=preprocessing_of(config))


def deployed(embedder: Embedder, config: RunConfig, shares: Mapping[str, float]) -> Embedder:
    """The Embedder as it is used: trained heads with their shares and, where configured, the trunk's pooled feature. It
    stands for the losses that learn on it, too, and has their share.

    Shares its modules with the Embedder in training, so it costs nothing and always shows the newest weights; but for
    masked heads, which are folded as they are now.
    """
    part, below = config.model.trunk_share, stands_for(config)
    heads = folded_heads({name: embedder.heads[name] for name in shares if name not in on_trunk(config)})
    weights = {name: shares[name] * (1 - part) for name in heads}
    if part > 0 or below:
        weights[TRUNK] = part + (1 - part) * sum(shares[name] for name in below)
        heads[TRUNK] = TrunkHead(embedder.width)
    return Embedder(embedder.backbone, embedder.pool, heads, preprocessing=embedder.preprocessing, weights=weights)


def preprocessing_of(config: RunConfig) -> Preprocessing:
    """The backbone's own mean and standard deviation at the configured size."""
    info = BACKBONES.get(config.model.backbone)
    assert config.model.size is not None, "sizes are chosen before anything is built"
    base = info.preprocessing if info is not None else Preprocessing(config.model.size)
    return base._replace(size=config.model.size, fit=config.model.fit)


def build_objective(
    config: RunConfig, *, classes: int, steps_per_epoch: int = 1, width: int | None = None
) -> nn.Module:
    """The configured loss, or the ensemble of all of them; some weightings need to know how long an epoch is, and some
    losses on the pooled feature its `width`."""
    kind: Kind | None = None if config.data.relations is None else "pairs"  # which is refused least; it was checked
    names, tables = member_names(config), build_label_tables(config, classes=classes)
    members = []
    for place, (name, loss) in enumerate(zip(names, config.losses, strict=True)):
        learnt = classes if tables is None else learnt_classes(tables[place])
        dim = config.model.dim if loss.sees == "head" else width
        built = _loss(loss, dim=dim, classes=learnt, seed=config.training.seed)
        built = built if kind is None else related(built, name, kind)
        members.append(built if tables is None else learning(built, tables[place]))
    if len(members) == 1:
        return members[0]
    return Ensemble(
        zip(names, members, strict=True),
        weighting=build_weighting(config, names, steps_per_epoch=steps_per_epoch),
        diversity=build_diversity(config, names),
        balance=build_balance(config),
    )


def build_optimizer(config: RunConfig, embedder: Embedder, objective: nn.Module) -> torch.optim.AdamW:
    """AdamW with its groups found by themselves."""
    rates = config.training.rates.model_dump()
    rates["weights"] = rates["weights"] or WEIGHT_RATES.get(config.ensemble.weighting, Rates.weights)
    groups = parameter_groups(
        embedder,
        objective,
        rates=Rates(**rates),
        weight_decay=config.training.weight_decay,
    )
    for group in groups:
        if group["name"] == STUDENT:
            group["eps"] = EPS
    return torch.optim.AdamW(groups, betas=(0.9, 0.99), fused=True)


def build_batches(config: RunConfig, table: ImageTable) -> tuple[BatchPlan, TrainingBatches]:
    """The plan of batches, balanced by classes or made of relations, and the batches themselves with augmentation."""
    training = config.training
    classes, each = training.classes_per_batch or 2, training.per_class
    plan: BatchPlan
    if table.manifest.relations:
        plan = RelationBatches(_by_row(table.manifest), table.labels, images=classes * each, seed=training.seed)
    elif training.hard_classes:
        plan = HardClassBatches(
            table.labels,
            classes_per_batch=classes,
            per_class=each,
            seed=training.seed,
            pool=training.hard_pool,
            share=training.hard_share,
        )
    else:
        plan = PKBatches(table.labels, classes_per_batch=classes, per_class=each, seed=training.seed)
    options = config.augment
    augment = Augment(
        AugmentOptions(
            scale=(options.smallest_area, 1.0),
            flip=options.flip,
            degrees=options.degrees,
            brightness=options.brightness,
            contrast=options.contrast,
            saturation=options.saturation,
        ),
        preprocessing_of(config).size,
    )
    return plan, TrainingBatches(table, plan, augment, seed=config.training.seed)


def _by_row(manifest: Manifest) -> list[tuple[int, ...]]:
    """The relations of a manifest by place in its items."""
    rows = {item.id: row for row, item in enumerate(manifest.items)}
    return [tuple(rows[item] for item in relation) for relation in manifest.relations]


def class_map(train: Manifest) -> ClassMap:
    """Numbers for the training classes, in byte order of their names."""
    return ClassMap(train.classes)


@torch.no_grad()
def warm_proxies(objective: nn.Module, outputs: dict[str, Tensor], labels: Tensor) -> list[str]:
    """Move each member's proxies to the class means of a first embedding pass; return the members that were moved.

    Random proxies far from every class pull the trunk apart before they have found their places.
    """
    objective = untaught(objective)
    members: dict[str, Any] = dict(objective.members) if isinstance(objective, Ensemble) else {}
    if not members:
        members = {next(iter(outputs)): objective}
    elif SHARED in outputs:
        outputs = dict.fromkeys(members, outputs[SHARED]) | {n: rows for n, rows in outputs.items() if n != SHARED}
    moved = []
    for name in [name for name in members if name in outputs]:
        member, embeddings, own = seen_by(members[name], outputs[name], labels)
        if isinstance(member, ProxyStore):  # which may share proxies among classes, or have several
            member.start_at_(embeddings, own, rounds=KMEANS_ROUNDS)
            moved.append(name)
            continue
        proxies = getattr(member, "proxies", None)
        if isinstance(proxies, nn.Parameter) and proxies.dim() == 2:
            points = nn.functional.normalize(embeddings.float(), dim=1)
            sums = torch.zeros_like(proxies).index_add_(0, own, points.to(proxies.dtype))
            proxies.copy_(nn.functional.normalize(sums, dim=1) * proxies.norm(dim=1, keepdim=True))
            moved.append(name)
    return moved


def _width(backbone: nn.Module) -> int:
    width = backbone.width
    assert isinstance(width, int), "build_backbone finds the width"
    return width


def _loss(loss: LossConfig, *, dim: int | None, classes: int, seed: int = 0) -> nn.Module:
    taken = sorted({"name", "dim", "classes", "generator"} & loss.options.keys())
    if taken:
        raise UsageError(f"{loss.type}: '{taken[0]}' is no option here; it follows from the rest. Leave it out.")
    generator = torch.Generator().manual_seed(seed)
    built = build_loss(loss.type, dim=dim, classes=classes, preset=loss.preset, generator=generator, **loss.options)
    if loss.miner is not None:
        built = Mined(built, build_miner(loss.miner, **loss.miner_options), generator=generator)
    elif loss.miner_options:
        raise UsageError(f"{loss.type}: miner_options are of no use without a miner; name one, or leave them out.")
    if loss.memory is not None:
        assert dim is not None, "the embedding size is chosen before anything is built"
        built = CrossBatchMemory(built, size=loss.memory, dim=dim)
    return built


def _head(config: RunConfig, loss: LossConfig, width: int) -> nn.Module:
    """Raw outputs unless `unit`: each loss normalises as its paper says, and N-pair's wants lengths to be free."""
    if loss.sees == "trunk":
        return TrunkHead(width)
    assert config.model.dim is not None, "the embedding size is chosen before anything is built"
    if config.model.head == "masked":
        return MaskedLinearHead(width, config.model.dim, normalise=loss.unit)
    if config.model.head == "mlp":
        return MLPHead(width, config.model.dim, hidden=config.model.hidden, normalise=loss.unit)
    return LinearHead(width, config.model.dim, normalise=loss.unit)


def ask_before_imports(config: RunConfig, *, allow_imports: bool) -> None:
    """Refuse to import the code that a run's configuration names unless its user agreed to it."""
    named = {"backbone": [config.model.backbone], "loss": [loss.type for loss in config.losses]}
    foreign = [(part, name) for part, names in named.items() for name in names if ":" in name]
    if foreign and not allow_imports:
        part, name = foreign[0]
        raise UsageError(
            f"This run's {part} is code of another package, {name}.\n"
            "  If you trust it, say so: --allow-imports (in Python: allow_imports=True)."
        )
