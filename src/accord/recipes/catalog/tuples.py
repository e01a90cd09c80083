"""The catalogue's losses over tuples of items: more than two at a time, or all of a batch together."""

from accord.recipes.catalog.info import LossInfo

_MARGIN = "by how much negatives must be farther than positives"
_NORMALISED = "whether embeddings are brought to length one first"
_ANGLE = "the largest angle a pair may span, in degrees, at most 65"

LOSSES: dict[str, LossInfo] = {
    "generalised_lifted": LossInfo(
        "accord.losses.GeneralisedLifted",
        "pair",
        "a soft maximum over an anchor's positives against a soft minimum over its negatives",
        "Hermans, Beyer, Leibe, 2017",
        2017,
        ("pairs",),
        {
            "margin": _MARGIN,
            "hinge": "'hard' cuts off at zero, 'soft' is log(1 + exp)",
            "normalised": _NORMALISED,
        },
    ),
    "lifted_structure": LossInfo(
        "accord.losses.LiftedStructure",
        "pair",
        "each positive pair against all negatives of both its ends",
        "Oh Song et al., CVPR 2016",
        2016,
        ("pairs",),
        {"margin": _MARGIN, "normalised": _NORMALISED},
    ),
    "angular": LossInfo(
        "accord.losses.Angular",
        "pair",
        "bounds the angle that a positive pair spans at each negative",
        "Wang et al., ICCV 2017",
        2017,
        ("pairs",),
        {"angle": _ANGLE},
    ),
    "n_pair_angular": LossInfo(
        "accord.losses.NPairAngular",
        "pair",
        "N-pair loss with angular loss beside it",
        "Wang et al., ICCV 2017",
        2017,
        ("pairs",),
        {
            "angle": _ANGLE,
            "weight": "how much the angular loss counts beside N-pair",
            "penalty": "how much squared lengths cost in the N-pair part",
            "symmetric": "whether N-pair is taken both ways",
        },
    ),
    "histogram": LossInfo(
        "accord.losses.Histogram",
        "pair",
        "how often a negative pair is more similar than a positive one, from soft histograms",
        "Ustinova, Lempitsky, NIPS 2016",
        2016,
        ("pairs",),
        {"bins": "into how many equal intervals similarities are divided"},
    ),
    "quadruplet": LossInfo(
        "accord.losses.Quadruplet",
        "pair",
        "a triplet's hinge and a second one against the closest pair of two foreign classes",
        "Chen et al., CVPR 2017",
        2017,
        ("pairs",),
        {
            "margin": _MARGIN,
            "second_margin": "the same against the pair of two foreign classes",
            "squared": "whether distances are squared",
            "normalised": _NORMALISED,
        },
    ),
    "cosent": LossInfo(
        "accord.losses.CoSENT",
        "pair",
        "every positive pair of the batch ranked before every negative one",
        "Su, 2022",
        2022,
        ("pairs",),
        {"scale": "what similarities are multiplied by; larger looks at the worst pairs only"},
    ),
    "dynamic_soft_margin": LossInfo(
        "accord.losses.DynamicSoftMargin",
        "pair",
        "the hardest triplets, each weighted by its place among those of earlier batches; no margin to choose",
        "Zhang, Rusinkiewicz, ICCV 2019",
        2019,
        ("pairs",),
        {
            "bins": "how finely the distribution of earlier triplets is kept",
            "momentum": "the share of each new batch in that distribution",
        },
    ),
}
