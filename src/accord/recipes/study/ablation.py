"""The arms that take an ensemble apart: its members alone, wider, and one loss several times; other rules of weighing;
each loss left out; and what is left of each when its runs are compressed to the numbers of a single head."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from accord.errors import UsageError
from accord.recipes.config import EnsembleConfig, LossConfig, RunConfig
from accord.recipes.head_names import TRUNK, loss_names, member_names, on_trunk, own_heads
from accord.recipes.study.config import CompressArm, Part

OURS = "ours"
Settings = dict[str, Any]


class Ablation:
    """What `ablate` adds to a study: arms by name, and compressed arms by name.

    `config` is the base's, with all its losses. A member alone is called by its name, `triplet_margin`;
    `triplet_margin-wide` has as many numbers in its one head as the ensemble has in all, `triplet_margin-x5` learns the
    same loss in as many heads, and `without-triplet_margin` is the ensemble without it.
    """

    def __init__(self, config: RunConfig, parts: Sequence[Part]) -> None:
        if len(config.losses) < 2:
            raise UsageError(
                "ablate: the base has one loss, and nothing to take apart. Give it several, or another recipe."
            )
        if config.model.heads == "shared":
            raise UsageError(
                "ablate: takes an ensemble apart that has a head per loss, and the base has model.heads=shared.\n"
                "  Leave that out of the base, and put it beside as an arm: arms: {one_head: {model.heads: shared}}."
            )
        if config.ensemble.student != "none":
            raise UsageError(
                "ablate: takes the heads of an ensemble apart, and of the base only its student is kept "
                f"(ensemble.student={config.ensemble.student}).\n"
                "  Leave that out of the base, and put it beside as an arm: arms: {taught: {ensemble.student: distil}}."
            )
        if config.model.metric != "none":
            raise UsageError(
                f"ablate: says by arms of its own, …-wccn, what model.metric={config.model.metric} does.\n"
                "  Set model.metric: none in the base."
            )
        self.config, self.parts = config, parts
        self.losses = dict(zip(member_names(config), config.losses, strict=True))
        self.arms: dict[str, Settings] = {OURS: {}}
        self.compress: dict[str, CompressArm] = {}
        self._whole: dict[str, Settings] = {OURS: {}}  # arms that have forms of few numbers, and how they are made
        adders: Mapping[Part, Callable[[], None]] = {
            "members": self._members,
            "wide": self._wide,
            "same": self._same,
            "rules": self._rules,
            "leave_one_out": self._leave_one_out,
            "compressions": self._compressions,
            "metrics": self._metrics,
        }
        for part in adders:
            if part in parts:
                adders[part]()

    @property
    def references(self) -> tuple[str, ...]:
        """What the ensemble is held against: the members alone, each in the forms that are in the study."""
        forms = [*self._alone, *(name for name, arm in self.compress.items() if arm.of in self._alone)]
        return tuple(forms) if "members" in self.parts else (OURS,)

    def _members(self) -> None:
        """Each loss alone: its head, its trunk, and both made one vector of a head's size.

        Where a member of the ensemble learns on the pooled feature, each loss is tried there alone, too.
        """
        for name, loss in self.losses.items():
            if on_trunk(self.config):
                arm = f"{name}-on-trunk"
                self.arms[arm] = {**self._only([_placed(loss, "trunk")]), "model.trunk_share": 0.0}
                self._small(arm, "pca", method="pca")
                self._last(arm)
            self.arms[name] = self._only([_placed(loss, "head")])
            self._heads(name, "trunk", TRUNK)
            if self.config.model.trunk_share > 0:
                self._heads(name, "head", *loss_names([loss]))
                self._small(name, "trunk-pca", method="pca", heads={TRUNK: None})
                self._small(name, "pca", method="pca")
                self._last(name)
            else:  # its one head is all there is, and small as it is
                self._last(f"{name}-trunk", of=name, heads={TRUNK: None})

    def _wide(self) -> None:
        """Each loss alone with as many numbers as the ensemble's heads have together, or would have."""
        count = len(own_heads(self.config)) or len(self.losses)
        for name, loss in self.losses.items() if count > 1 else ():
            arm = f"{name}-wide"
            self.arms[arm] = {**self._only([_placed(loss, "head")]), "model.dim": self._dim * count}
            self._heads(arm, "head", *loss_names([loss]))
            self._small(arm, "pca", method="pca", heads=dict.fromkeys(loss_names([loss])))

    def _same(self) -> None:
        """One loss in as many heads as there are members; on one and the same feature it would be itself."""
        count = len(self.losses)
        for name, loss in self.losses.items() if own_heads(self.config) else ():
            arm = f"{name}-x{count}"
            self.arms[arm] = self._only([_placed(loss, other.sees) for other in self.losses.values()])
            if self.config.ensemble.prior is not None:
                self.arms[arm]["ensemble.prior"] = [1.0] * count
            self._last(arm)

    def _rules(self) -> None:
        """Equal weights, where the base has others; random ones; and the published method: its rule and its term for
        diversity."""
        equal = [loss.model_copy(update={"weight": 1.0}) for loss in self.losses.values()]
        usual = {"ensemble.prior": None, "ensemble.weighting": "fixed"}
        if len({loss.weight for loss in self.losses.values()}) > 1 or self.config.ensemble != EnsembleConfig():
            self.arms["uniform"] = {**self._only(equal), **usual}
        self.arms["random"] = {**self._only(equal), **usual, "ensemble.weighting": "random"}
        self.arms["published"] = {
            **self._only([_placed(loss, "head") for loss in equal]),
            "ensemble.weighting": "published",
            "ensemble.prior": [1.0] * len(equal),
            "ensemble.diversity": "distance_hinge",
            "ensemble.diversity_weight": 0.1,
        }
        for arm in [arm for arm in ("uniform", "random", "published") if arm in self.arms]:
            self._last(arm)
        if self.config.model.trunk_share > 0:
            self._heads("published", "heads", *self.losses)
        everything = dict.fromkeys(self.losses)
        self._small("published", "student-2d", method="student", dim=2 * self._dim, heads=everything)

    def _leave_one_out(self) -> None:
        """The ensemble without each of its losses; of two, each other one alone is a member's arm."""
        for name in self.losses if len(self.losses) > 2 else ():
            arm = f"without-{name}"
            self.arms[arm] = self._only([loss for other, loss in self.losses.items() if other != name])
            if self.config.ensemble.prior is not None:
                kept = zip(self.losses, self.config.ensemble.prior, strict=True)
                self.arms[arm]["ensemble.prior"] = [share for other, share in kept if other != name]
            self._last(arm)

    def _compressions(self) -> None:
        """The ensemble's heads and trunk by themselves, and every way to make one small vector of them."""
        if own_heads(self.config):
            self._heads(OURS, "heads", *own_heads(self.config))
            self._heads(OURS, "trunk", TRUNK)
            self._small(OURS, "trunk-pca", method="pca", heads={TRUNK: None})
            self._small(OURS, "pca-fitted", method="pca", fit_weights=True)
            if self.config.model.head != "mlp":
                self._small(OURS, "fold", method="fold")
        for method in ("pca", "whiten", "lda", "distil", "student"):
            self._small(OURS, method, method=method)
        self._small(OURS, "student-2d", method="student", dim=2 * self._dim)

    def _metrics(self) -> None:
        """All numbers of an arm, normalised within the training classes."""
        for arm, how in self._whole.items():
            self._small(arm, "wccn", method="wccn", **{**how, "dim": None})

    @property
    def _alone(self) -> list[str]:
        """The arms of one loss each, without what is made of them."""
        return [*self.losses, *(f"{name}-on-trunk" for name in self.losses if on_trunk(self.config))]

    @property
    def _dim(self) -> int:
        dim = self.config.model.dim
        if dim is None:
            raise UsageError("ablate: say how many numbers a head has; write model.dim, such as 64, in `base`.")
        return dim

    def _only(self, losses: Sequence[LossConfig]) -> Settings:
        """The losses in place of the base's; one alone has no weight, and no options of an ensemble."""
        told = [loss.model_dump(exclude_defaults=True) for loss in losses]
        if len(losses) > 1:
            return {"losses": told}
        given, usual = self.config.ensemble, EnsembleConfig()
        changed = [key for key in EnsembleConfig.model_fields if getattr(given, key) != getattr(usual, key)]
        idle = {f"ensemble.{key}": getattr(usual, key) for key in changed}
        return {"losses": [{key: value for key, value in told[0].items() if key != "weight"}], **idle}

    def _heads(self, arm: str, form: str, *heads: str) -> None:
        """An arm's named heads as they are."""
        self.compress[f"{arm}-{form}"] = CompressArm(of=arm, method="heads", heads=dict.fromkeys(heads))

    def _last(self, arm: str, **how: Any) -> None:
        """An arm compressed by the two methods that held-out classes like best."""
        for method in ("whiten", "distil"):
            self._small(arm, method, method=method, **how)
        self._whole[arm] = how

    def _small(self, arm: str, form: str, **how: Any) -> None:
        """An arm compressed to the numbers of a single head, or to as many as said."""
        self.compress[f"{arm}-{form}"] = CompressArm(**{"of": arm, "dim": self._dim, **how})


def _placed(loss: LossConfig, sees: str) -> LossConfig:
    """The same loss on a head of its own, or on the pooled feature, which is no head to bring to unit length."""
    return loss.model_copy(update={"sees": sees, "unit": loss.unit and sees == "head"})
