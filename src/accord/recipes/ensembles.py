"""Builds what a configuration says about several losses on one trunk: their weighting and their balance."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from torch import Tensor, nn

from accord.ensembles import (
    AlignedMTL,
    CAGrad,
    DynamicAverage,
    Ensemble,
    FixedWeights,
    GradientBalance,
    GradNorm,
    NashMTL,
    PCGrad,
    PlainSum,
    PublishedWeights,
    RandomWeights,
    Rule,
    UncertaintyWeights,
    Weighting,
    untaught,
)
from accord.errors import UsageError
from accord.models import Embedder
from accord.recipes.config import EnsembleConfig, RunConfig

# how fast learned weights move where `training.rates.weights` is null; the first and the last are the papers'
WEIGHT_RATES = {"published": 1e-4, "uncertainty": 1e-2, "grad_norm": 2.5e-2}
WATCHED = 10  # of so many steps one tells how the losses' gradients lie to each other
RULES: dict[str, Callable[[], Rule]] = {
    "pcgrad": PCGrad,
    "cagrad": CAGrad,
    "nash_mtl": NashMTL,
    "aligned_mtl": AlignedMTL,
}


def build_weighting(config: RunConfig, names: Sequence[str], *, steps_per_epoch: int) -> Weighting:
    """The configured weighting; its prior is `ensemble.prior`, or else the losses' weights."""
    given = config.ensemble.prior or [loss.weight for loss in config.losses]
    prior = dict(zip(names, given, strict=True))
    seed = config.training.seed
    made: dict[str, Callable[[], Weighting]] = {
        "fixed": lambda: FixedWeights(prior, normalise=config.ensemble.normalise),
        "published": lambda: PublishedWeights(prior),
        "uncertainty": lambda: UncertaintyWeights(prior),
        "dynamic_average": lambda: DynamicAverage(prior, steps_per_epoch=steps_per_epoch),
        "grad_norm": lambda: GradNorm(prior),
        "random": lambda: RandomWeights(prior, seed=seed),
    }
    return made[config.ensemble.weighting]()


def build_balance(config: RunConfig) -> GradientBalance | None:
    """The configured balance of gradients; for the plain sum one that only watches them, in every tenth step.

    None where there is no one place at which all gradients meet, and where the weighting brings its own.
    """
    rule = RULES.get(config.ensemble.balance)
    if rule is not None:
        return GradientBalance(rule(), seed=config.training.seed)
    past_the_head = config.model.heads == "shared" and any(loss.sees == "trunk" for loss in config.losses)
    if past_the_head or config.ensemble.weighting == "grad_norm":
        return None
    return GradientBalance(PlainSum(), every=WATCHED)


def check_weighting(config: RunConfig, names: Sequence[str]) -> None:
    """Refuse a prior that the weighting can't begin with, and say where to set another."""
    try:
        build_weighting(config, names, steps_per_epoch=1).bind(names)
    except UsageError as error:
        equal = ", ".join("1" for _ in names)
        way = f"Set ensemble.prior, a number for each loss, such as [{equal}]; else the losses' weights count."
        if config.ensemble.weighting == "fixed":
            way = "Set losses.0.weight and so on; only what they are to each other counts where losses are normalised."
        raise UsageError(f"{error}\n  {way}") from None


def attach_balance(embedder: Embedder, objective: nn.Module) -> None:
    """Let the objective's balance, where it has one, hand the pooled feature to the heads; of one that all losses share
    the ensemble hands out the embedding itself.

    A student's head, and the feature as a head, get it as it is: what a student wants of the trunk is added to what is
    made of the losses' gradients. It is no member that a rule could weigh against others: it has no loss of its own.
    """
    ensemble = untaught(objective)
    if not isinstance(ensemble, Ensemble) or ensemble.balance is None:
        return
    if set(embedder.heads) == set(ensemble.names):
        embedder.splitter = ensemble.balance.split
    elif set(embedder.heads) > set(ensemble.names):
        embedder.splitter = partial(_split, ensemble.balance)


def _split(balance: GradientBalance, features: Tensor, names: Sequence[str]) -> Mapping[str, Tensor]:
    own = balance.split(features, [name for name in names if name in balance.names])
    return {name: own.get(name, features) for name in names}


def refuse_unlike_losses(config: RunConfig) -> None:
    """Refuse one head for a single loss, and losses that disagree on how long the embedding is that all of them see."""
    if config.model.heads == "own":
        return
    if len(config.losses) == 1:
        raise UsageError("model.heads: a single loss has no other to share its head with. Leave it out.")
    seeing = [(place, loss.unit) for place, loss in enumerate(config.losses) if loss.sees == "head"]
    if len({unit for _, unit in seeing}) > 1:
        odd = next(place for place, unit in seeing if unit != seeing[0][1])
        raise UsageError(
            f"losses.{odd}.unit: with model.heads=shared all losses see one embedding, which is brought to unit length "
            "or is not.\n  Give all of them the same `unit`."
        )


def refuse_idle_ensemble(config: RunConfig) -> None:
    """Refuse options of the ensemble that would have no effect."""
    ensemble, usual, rate = config.ensemble, EnsembleConfig(), config.training.rates.weights
    if len(config.losses) == 1:
        for key in ("weighting", "balance", "prior", "normalise"):
            if getattr(ensemble, key) != getattr(usual, key):
                raise UsageError(f"ensemble.{key}: a single loss has no other to share a trunk with. Leave it out.")
        for key in ("idle", "broken"):
            if getattr(ensemble, key) == "exclude":
                raise UsageError(f"ensemble.{key}: without its single loss a run would learn nothing. Leave it out.")
    if ensemble.weighting != "fixed" and not ensemble.normalise:
        raise UsageError(
            f"ensemble.normalise: belongs to ensemble.weighting=fixed; '{ensemble.weighting}' sees to the losses' "
            "sizes in its own way. Leave it out."
        )
    if ensemble.weighting == "fixed" and ensemble.prior is not None:
        raise UsageError("ensemble.prior: with ensemble.weighting=fixed set losses.0.weight and so on in its place.")
    if ensemble.prior is not None and len(ensemble.prior) != len(config.losses):
        raise UsageError(
            f"ensemble.prior: has {len(ensemble.prior)} numbers, but there are {len(config.losses)} losses. "
            "Give one for each, in their order."
        )
    if rate is not None and ensemble.weighting not in WEIGHT_RATES:
        raise UsageError(
            f"training.rates.weights: ensemble.weighting={ensemble.weighting} learns no weights; "
            f"{', '.join(WEIGHT_RATES)} do. Leave it out."
        )
    epochs = config.training.epochs
    if ensemble.weighting == "dynamic_average" and epochs is not None and epochs <= 2:
        raise UsageError(
            f"ensemble.weighting: dynamic_average compares two epochs, so in {epochs:g} nothing would happen. "
            "Set training.epochs above 2, or another weighting."
        )
