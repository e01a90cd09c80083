"""The configuration of a run: strict, frozen models that read from YAML and are saved beside the results."""

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_serializer

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
Whole = Annotated[int, Field(ge=1)]
LARGEST_SEED = 2**63 - 2  # what torch's generators take, with room for the seed after it
Seed = Annotated[int, Field(ge=0, le=LARGEST_SEED)]


class Section(BaseModel):
    """Base of all sections: unknown keys are refused, nothing is converted silently, nothing changes later."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class DataConfig(Section):
    """Which images, and how their classes are divided into train, validation and unseen test classes."""

    source: str = Field(
        "objects", description="a built-in data set; a folder, archive or table of images (`accord ls layouts`)"
    )
    layout: str = Field("auto", description="how the source is read: a name of `accord ls layouts`")
    relations: str | None = Field(
        None, description="a table of pairs or triplets of the source's images, in place of classes"
    )
    root: str | None = Field(None, description="where the paths of a table start; null: in the table's own folder")
    boxes: bool = Field(False, description="crop images to the boxes of a published data set")
    group: str = Field(
        "", description="groups from the paths: stem, parent, or a regular expression with one capture group"
    )
    sha256: str | None = Field(None, description="what the SHA-256 of the archive must be")
    test: Fraction = Field(0.5, description="share of the classes that is never seen in training")
    validation: Fraction = Field(0.1, description="share of the training classes held out to choose the checkpoint")
    split_seed: Seed = Field(0, description="seed of the split of classes, and of the folds")
    fold: Annotated[int, Field(ge=0)] | None = Field(
        None, description="hold out this fold of the training classes for validation, instead of the share"
    )
    folds: Annotated[int, Field(ge=2)] | None = Field(
        None, description="folds the training classes are divided into; null: 4, or 2 for less than 20 classes"
    )
    copies: Literal["drop", "stop", "keep"] = Field(
        "drop", description="training images that are also in the test, byte for byte: leave out, refuse, or keep"
    )


class ModelConfig(Section):
    """Backbone, pooling and heads. What is null is chosen from the data and said aloud."""

    backbone: str = Field(
        "efficientnet_lite0", description="a name of `accord ls backbones`, or package.module:factory"
    )
    pretrained: bool = Field(True, description="start from the packaged weights where the backbone has some")
    weights: str | None = Field(
        None, description="a state dict of your own (.safetensors, or .pth read as weights only)"
    )
    pool: Literal["average", "max", "gem", "average_max"] = "average"
    size: int | None = Field(None, ge=32, le=1024, description="input height and width in pixels")
    fit: Literal["crop", "pad", "stretch"] = Field("crop", description="how a picture that is not square is fitted")
    dim: Whole | None = Field(None, description="numbers per embedding, per head")
    total_dim: Whole | None = Field(
        None, description="numbers of all heads together, in place of `dim`, which the run keeps; the losses divide it"
    )
    head: Literal["linear", "masked", "mlp"] = Field(
        "linear", description="masked: linear, behind a learned mask of the feature; mlp: with a hidden layer"
    )
    hidden: Whole = Field(512, description="width of the hidden layer of an mlp head")
    heads: Literal["own", "shared"] = Field(
        "own", description="own: a head for each loss; shared: one head, whose embedding all losses see"
    )
    trunk_share: Fraction = Field(
        0.0, description="share of the pooled trunk feature at test time, beside losses on it"
    )
    metric: Literal["none", "wccn"] = Field(
        "none", description="wccn: when training is done, the embedding is normalised within the training classes"
    )
    freeze_batch_norm: bool = Field(True, description="keep the pretrained batch-norm statistics")

    @model_serializer(mode="wrap")
    def _written(self, written: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        """Without `heads` where each loss has its own, and without `total_dim` and `metric` where there is none, as
        before there was a choice: such a configuration stays what it was, and its fingerprint with it."""
        raw: dict[str, Any] = written(self)
        if raw.get("total_dim") is None:
            raw.pop("total_dim", None)
        for key, usual in (("heads", "own"), ("metric", "none")):
            if raw.get(key) == usual:
                raw.pop(key)
        return raw


class LossConfig(Section):
    """One loss: its name in the catalogue, its weight, and options handed to its constructor."""

    type: str = Field(description="a name of `accord ls losses`, or package.module:factory")
    weight: Positive = 1.0
    sees: Literal["head", "trunk"] = Field(
        "head", description="what it is given: the output of a head of its own, or the pooled trunk feature as it is"
    )
    unit: bool = Field(False, description="bring its head to unit length before the loss sees it")
    options: dict[str, Any] = Field(default_factory=dict)
    preset: str | None = Field(None, description="take the options published for a data set: cub, cars or sop")
    miner: str | None = Field(None, description="learn only from the pairs it keeps; a name of `accord ls miners`")
    miner_options: dict[str, Any] = Field(default_factory=dict)
    memory: Whole | None = Field(None, description="compare with so many embeddings of earlier batches, too")

    @model_serializer(mode="wrap")
    def _written(self, written: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        """Without `sees` where it has a head, as before there was a choice."""
        raw: dict[str, Any] = written(self)
        if raw.get("sees") == "head":
            raw.pop("sees")
        return raw


class EnsembleConfig(Section):
    """How several losses share one trunk; but for a student without effect when there is one loss."""

    weighting: Literal["fixed", "published", "uncertainty", "dynamic_average", "grad_norm", "random"] = Field(
        "fixed", description="how the losses are weighed; `accord ls ensembles` says what each does"
    )
    normalise: bool = Field(True, description="fixed weights: divide each loss by its running scale first")
    prior: Annotated[tuple[Positive, ...], Field(strict=False)] | None = Field(
        None, description="weights that the others begin with, one per loss; null: the weights of the losses"
    )
    balance: Literal["none", "pcgrad", "cagrad", "nash_mtl", "aligned_mtl"] = Field(
        "none", description="how the losses' gradients are made one at the pooled feature; none: their sum"
    )
    diversity: Literal["none", "distance_hinge", "cka", "distance_decorrelation", "adversarial"] = Field(
        "none", description="a term that makes the heads differ; `accord ls ensembles` says what each does"
    )
    diversity_weight: Positive | None = Field(None, description="weight of that term; null: 0.1")
    labels: Literal["all", "partition", "subset"] = Field(
        "all", description="what each head learns: all classes, random groups of them, or some of them"
    )
    labels_share: Annotated[float, Field(gt=0.0, lt=1.0)] = Field(
        0.5, description="groups per class of a partition, or the share of the classes in a subset"
    )
    idle: Literal["warn", "exclude", "stop"] = Field(
        "warn", description="a loss that was exactly 0 for 100 steps: name it, leave it out of the ensemble, or stop"
    )
    broken: Literal["stop", "exclude"] = Field(
        "stop", description="a loss that is not finite: stop after 10 such steps, or leave it out after 3"
    )
    student: Literal["none", "distil", "stress"] = Field(
        "none",
        description="what learns from the joined embedding meanwhile, and is used in its place: distil, a linear head; "
        "stress, a network on top. Of a single loss, too",
    )
    student_weight: NotNegative | None = Field(
        None, description="distil: weight of its term in what the trunk learns; null: 0, it learns apart"
    )
    student_temperature: Positive | None = Field(None, description="distil: temperature of the cosines; null: 0.1")
    student_dim: Whole | None = Field(None, description="stress: numbers of its embedding; null: twice model.dim")

    @model_serializer(mode="wrap")
    def _written(self, written: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        """Without the options of a student where there is none, and without those for losses that teach nothing where
        they are the usual ones, as before there was a choice."""
        raw: dict[str, Any] = written(self)
        for key, usual in (("idle", "warn"), ("broken", "stop")):
            if raw.get(key) == usual:
                raw.pop(key)
        if raw.get("student") == "none":
            for key in ("student", "student_weight", "student_temperature", "student_dim"):
                raw.pop(key, None)
        return raw


class RateConfig(Section):
    """Peak learning rate of each group of parameters."""

    trunk: Positive = 3e-4
    heads: Positive = 3e-3
    proxies: Positive = 1e-2
    weights: Positive | None = Field(
        None, description="learned weights of losses; null: 1e-4 for published, 1e-2 uncertainty, 2.5e-2 grad_norm"
    )


class TrainingConfig(Section):
    """How long, in which batches, how fast."""

    epochs: Positive | None = Field(None, description="passes over the training images; null: chosen, within `minutes`")
    steps: Whole | None = Field(None, description="optimisation steps, in place of `epochs`; the run keeps the epochs")
    minutes: Positive = Field(10.0, description="cap of the estimated training time when `epochs` is null")
    classes_per_batch: Annotated[int, Field(ge=2)] | None = None
    per_class: Annotated[int, Field(ge=2)] = Field(4, description="images of each class in a batch")
    hard_classes: bool = Field(
        False, description="put classes into a batch that are taken for each other, by a table that is made anew"
    )
    hard_pool: Whole | None = Field(
        None, description="hard classes are chosen from so many drawn at random; null: ten times a batch's"
    )
    hard_share: Annotated[float, Field(gt=0.0, lt=1.0)] = Field(
        0.1, description="share of the training time that embedding for the table may take"
    )
    seed: Seed = Field(0, description="seed of heads, proxies, order and augmentation")
    rates: RateConfig = RateConfig()
    weight_decay: NotNegative = 1e-4
    warmup: Fraction = Field(0.05, description="share of the steps in which the rates rise from zero")
    clip_norm: Positive = Field(10.0, description="largest gradient norm")
    warm_proxies: bool = Field(True, description="start proxies at the class means of a first embedding pass")
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, mps")
    keep: Literal["best", "last"] = Field(
        "best", description="which checkpoint becomes the model, judged on validation"
    )


class AugmentConfig(Section):
    """Random changes to training images."""

    smallest_area: Annotated[float, Field(gt=0.0, le=1.0)] = Field(
        0.35, description="smallest share of the picture kept"
    )
    flip: bool = True
    degrees: Annotated[float, Field(ge=0.0, le=180.0)] = 15.0
    brightness: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.3
    contrast: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.3
    saturation: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.3


class EvaluationConfig(Section):
    """What is measured on the unseen classes. R@1, 2, 4, 8 and MAP@R are always among it."""

    test: bool = Field(True, description="judge on the unseen classes at the end; false: leave them closed")
    metrics: Annotated[tuple[str, ...], Field(strict=False)] = Field(
        (), description="further metrics, such as recall@100, mrr or ndcg@10; see `accord ls metrics`"
    )
    exclude: Literal["self", "same_class_same_group", "same_group"] = Field(
        "self", description="what a query leaves out besides itself; the others need groups (data.group)"
    )
    nmi_seeds: Whole = Field(10, description="k-means runs whose NMI is averaged")
    knn: Whole = Field(3, description="neighbours that vote in the k-NN accuracy")
    raw_pixels: bool | None = Field(
        None, description="judge the pixels themselves, too; null: unless that takes minutes"
    )
    map: Literal["tsne", "pca"] = Field(
        "tsne", description="the report's map of the unseen classes; pca spares a study of many runs seconds each"
    )


class CompressionConfig(Section):
    """How a run's one head was made from the heads of another run; written by `accord compress`, never given."""

    method: str = Field(description="pca, whiten, fold, lda, wccn, student, distil or heads")
    scale: str = Field(description="what the heads were brought to: unit, length or distance")
    dim: Whole = Field(description="numbers per embedding")
    fit_weights: bool = Field(False, description="whether the heads' weights were fitted on held-out classes")
    seed: Seed = Field(0, description="seed of what was trained")
    heads: dict[str, float] | None = Field(None, description="the heads it was made of, with shares, where not of all")


class RunConfig(Section):
    """Everything that decides a run; `config.yaml` in the run folder holds it resolved."""

    schema_version: Literal[1] = 1
    recipe: str = "accord"
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    losses: Annotated[tuple[LossConfig, ...], Field(min_length=1, strict=False)]
    ensemble: EnsembleConfig = EnsembleConfig()
    training: TrainingConfig = TrainingConfig()
    augment: AugmentConfig = AugmentConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    compression: CompressionConfig | None = None

    @model_serializer(mode="wrap")
    def _written(self, written: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        """Without `compression` where nothing was: the configuration of a trained run stays what it was, and its
        fingerprint with it."""
        raw: dict[str, Any] = written(self)
        if raw.get("compression") is None:
            raw.pop("compression", None)
        return raw
