"""What the catalogue knows of the losses that compare the pairs of a batch."""

from accord.recipes.catalog.info import LossInfo

_PENALTY = "weight of the mean squared length of anchors plus that of positives; no less than 0"
_SYMMETRIC = "average with the same loss with anchors and positives exchanged"
# the tuned margins were found with the plain distance, over all triplets that cost something
_ALL_VIOLATING = {"mining": "all", "squared": False, "violating_only": True}
_TEMPERATURE = "cosines are divided by it; smaller looks at the hardest negatives only; more than 0"

LOSSES: dict[str, LossInfo] = {
    "contrastive": LossInfo(
        "accord.losses.Contrastive",
        "pair",
        "pulls pairs of one class together, pushes others until a margin separates them",
        "Hadsell, Chopra, LeCun, CVPR 2006",
        2006,
        ("pairs",),
        {
            "margin": "distance from which on a negative pair costs nothing; in (0, 2]",
            "hinge": "'squared' as published, or 'linear'",
            "average": "over all 'pairs' together, or over the two 'kinds', positive and negative, one by one",
        },
    ),
    "triplet_margin": LossInfo(
        "accord.losses.TripletMargin",
        "pair",
        "an anchor must be nearer to its own class than to another by a margin",
        "Schroff, Kalenichenko, Philbin, CVPR 2015 (FaceNet)",
        2015,
        ("pairs",),
        {
            "margin": "by how much a negative must be farther than a positive, or 'soft' for a logistic loss",
            "mining": "which triplets: 'semi_hard', 'batch_hard', 'all', 'hard' or 'all_semi_hard'",
            "squared": "squared Euclidean distances, or plain ones",
            "normalised": "bring embeddings to length one first",
            "violating_only": "average over the triplets that cost something only",
            "swap": "a negative's distance is the smaller of those to the anchor and to the positive",
            "band": "how much farther than a positive 'all_semi_hard' looks for negatives; by default the margin",
        },
        {
            "cub": {"margin": 0.0961, **_ALL_VIOLATING},
            "cars": {"margin": 0.119, **_ALL_VIOLATING},
            "sop": {"margin": 0.0451, **_ALL_VIOLATING},
        },
    ),
    "n_pair": LossInfo(
        "accord.losses.NPair",
        "pair",
        "one positive against the positives of all other classes of the batch",
        "Sohn, NIPS 2016",
        2016,
        ("pairs",),
        {"penalty": _PENALTY, "symmetric": _SYMMETRIC},
    ),
    "n_pair_ovo": LossInfo(
        "accord.losses.NPairOVO",
        "pair",
        "one positive against each other class's positive, one at a time",
        "Sohn, NIPS 2016",
        2016,
        ("pairs",),
        {"penalty": _PENALTY, "symmetric": _SYMMETRIC},
    ),
    "tuplet": LossInfo(
        "accord.losses.Tuplet",
        "pair",
        "each positive against all negatives of the batch, by inner product",
        "Sohn, NIPS 2016",
        2016,
        ("pairs",),
        {"penalty": "weight of twice the mean squared length of the batch; no less than 0"},
    ),
    "nt_xent": LossInfo(
        "accord.losses.NTXent",
        "pair",
        "each positive recognised by a softmax of cosines (InfoNCE, SimCLR)",
        "Chen, Kornblith, Norouzi, Hinton, ICML 2020 (SimCLR)",
        2020,
        ("pairs",),
        {
            "temperature": _TEMPERATURE,
            "denominator": "rivals of a positive: the 'negatives', or 'all' items but the anchor",
        },
        {"cub": {"temperature": 0.0091}, "cars": {"temperature": 0.0219}, "sop": {"temperature": 0.0002}},
    ),
    "sup_con": LossInfo(
        "accord.losses.SupCon",
        "pair",
        "all positives of an anchor against everything else, by a softmax of cosines",
        "Khosla et al., NeurIPS 2020",
        2020,
        ("pairs",),
        {
            "temperature": _TEMPERATURE,
            "variant": "the mean over positives 'out'side the logarithm, or 'in'side",
        },
    ),
    "decoupled_contrastive": LossInfo(
        "accord.losses.DecoupledContrastive",
        "pair",
        "NT-Xent without the positive in its denominator",
        "Yeh et al., ECCV 2022",
        2022,
        ("pairs",),
        {"temperature": _TEMPERATURE},
    ),
    "nca": LossInfo(
        "accord.losses.NCA",
        "pair",
        "a neighbour picked at random, near ones likelier, should be of the same class",
        "Goldberger, Roweis, Hinton, Salakhutdinov, NIPS 2004",
        2004,
        ("pairs",),
        {
            "scale": "squared distances are multiplied by it; more than 0",
            "goal": "the 'log'arithm of being right, or the 'expected' share of errors",
            "normalised": "bring embeddings to length one first; then choose a larger scale",
        },
    ),
    "multi_similarity": LossInfo(
        "accord.losses.MultiSimilarity",
        "pair",
        "mines and weights pairs by self- and relative similarity",
        "Wang et al., CVPR 2019",
        2019,
        ("pairs",),
        {
            "alpha": "sharpness of the weights of positives; more than 0",
            "beta": "sharpness of the weights of negatives; more than 0",
            "base": "cosine around which pairs are weighted; in [-1, 1]",
            "epsilon": "how far a pair may be beyond its rivals and still be mined; None keeps all pairs",
        },
        {
            "cub": {"alpha": 0.01, "beta": 50.6, "base": 0.56, "epsilon": None},
            "cars": {"alpha": 14.35, "beta": 75.8, "base": 0.66, "epsilon": None},
            "sop": {"alpha": 8.5, "beta": 57.4, "base": 0.41, "epsilon": None},
        },
    ),
}
