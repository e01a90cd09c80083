"""The catalogue's part on losses that weigh pairs: each with its options and with values published for a data set."""

from accord.recipes.catalog.info import LossInfo

LOSSES: dict[str, LossInfo] = {
    "circle": LossInfo(
        "accord.losses.Circle",
        "pair",
        "weights each pair by how far it is from its optimum, all pairs of an anchor together",
        "Sun et al., CVPR 2020",
        2020,
        ("pairs",),
        {
            "margin": "positives are to exceed a cosine of 1 - margin, negatives to stay below margin (0 … 1)",
            "gamma": "how sharply pairs far from their optimum prevail (more than 0)",
            "detach": "whether weights count as constants in the gradient, as published",
        },
    ),
    "margin": LossInfo(
        "accord.losses.Margin",
        "pair",
        "pairs of one class within a learned radius, others outside it, each by a margin",
        "Wu et al., ICCV 2017",
        2017,
        ("pairs",),
        {
            "alpha": "the margin on both sides of the radius, in distance (at least 0)",
            "beta": "the radius to start from (0 … 2)",
            "classes": "with a number of classes each has a radius of its own; none: one for all",
            "nu": "weight of the mean radius, which keeps it from growing (at least 0)",
            "average": "pairs: each counts once; triplets: each as often as it is part of a triplet",
        },
        {
            "cub": {"alpha": 0.088, "beta": 0.784, "average": "triplets"},
            "cars": {"alpha": 0.078, "beta": 1.316, "average": "triplets"},
            "sop": {"alpha": 0.0915, "beta": 1.107, "average": "triplets"},
        },
    ),
    "binomial_deviance": LossInfo(
        "accord.losses.BinomialDeviance",
        "pair",
        "the logistic cost of each pair's cosine, positives and negatives averaged apart",
        "Yi, Lei, Li, arXiv 1407.4979",
        2014,
        ("pairs",),
        {
            "alpha": "slope for negatives (more than 0)",
            "beta": "slope for positives (more than 0)",
            "margin": "the cosine at which a pair is undecided (-1 … 1)",
            "negative_cost": "weight of the negatives' mean beside that of the positives (at least 0)",
        },
    ),
    "signal_to_noise": LossInfo(
        "accord.losses.SignalToNoise",
        "pair",
        "contrastive on the variance of a pair's difference relative to its anchor's",
        "Yuan et al., CVPR 2019",
        2019,
        ("pairs",),
        {
            "positive_margin": "noise by signal up to which a positive costs nothing (at least 0)",
            "negative_margin": "noise by signal from which a negative costs nothing (more than 0)",
            "average": "kinds: mean over positives plus mean over negatives; pairs: mean over all",
            "penalty": "weight of the mean absolute sum of each embedding's values (at least 0)",
        },
        {
            "cub": {"positive_margin": 0.326, "negative_margin": 0.845, "penalty": 0.0},
            "cars": {"positive_margin": 0.167, "negative_margin": 0.934, "penalty": 0.0},
            "sop": {"positive_margin": 0.376, "negative_margin": 1.083, "penalty": 0.0},
        },
    ),
    "tuplet_margin": LossInfo(
        "accord.losses.TupletMargin",
        "pair",
        "each positive pair against all negatives of its anchor, eased by an angular margin",
        "Yu, Tao, ICCV 2019",
        2019,
        ("pairs",),
        {
            "scale": "what cosines are multiplied by (more than 0)",
            "margin_degrees": "angle within which a positive is close enough (0 … 90)",
            "variance": "weight of the intra-pair variance loss; 0 leaves it out",
            "epsilon": "share of the mean cosine by which pairs may differ from it for free (0 … 1)",
        },
    ),
    "sigmoid": LossInfo(
        "accord.losses.Sigmoid",
        "pair",
        "every pair is a yes-or-no question of its own, with a learned scale and bias",
        "Zhai et al., ICCV 2023 (SigLIP)",
        2023,
        (),
        {
            "scale": "what cosines are multiplied by at the start (more than 0)",
            "bias": "what is added to them at the start",
        },
    ),
}
