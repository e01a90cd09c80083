"""The losses that compare items with learned proxies or class vectors: names, papers, options, published values."""

from accord.recipes.catalog.info import LossInfo

SCALE = "what cosines are multiplied by before the softmax"
CENTRES = "learned vectors for each class"
ASSIGNMENT = "whose a proxy is: static, its class's; dynamic, the nearest item's"
SHARED = {
    "proxies_per_class": "how many: 1; below 1 classes share them at random",
    "init": "where they start: normal (paper) or sphere, of length one",
}
OWNED = {
    "assignment": ASSIGNMENT,
    **SHARED,
    "proxies_per_class": "how many: a whole number, of which the nearest counts; below 1 classes share them at random",
}

LOSSES: dict[str, LossInfo] = {
    "proxy_nca": LossInfo(
        "accord.losses.ProxyNCA",
        "proxy",
        "compares each item with one learned proxy per class",
        "Movshovitz-Attias et al., ICCV 2017",
        2017,
        ("classes",),
        {
            "scale": "length embeddings and proxies are brought to; 1 / scale² is a temperature",
            "positive": "whether the own proxy stands among those an item is told from: excluded (paper) or included",
            **OWNED,
            "smoothing": "share of the target that the other proxies get in equal parts; with positive=included",
        },
        # published as scale²: 13.98, 7.97 and 10.73, with the own proxy included
        {
            "cub": {"scale": 3.739, "positive": "included"},
            "cars": {"scale": 2.823, "positive": "included"},
            "sop": {"scale": 3.276, "positive": "included"},
        },
    ),
    "proxy_nca_plus_plus": LossInfo(
        "accord.losses.ProxyNCAPlusPlus",
        "proxy",
        "makes an item's assignment to the proxy of its class likely, at a low temperature",
        "Teh, DeVries, Taylor, ECCV 2020",
        2020,
        ("classes",),
        {"temperature": "what squared distances are divided by before the softmax; low is sharp", **OWNED},
    ),
    "proxy_triplet": LossInfo(
        "accord.losses.ProxyTriplet",
        "proxy",
        "an item must be nearer to its class's proxy than to any other by a margin",
        "Movshovitz-Attias et al., ICCV 2017",
        2017,
        ("classes",),
        {"margin": "how much nearer, in squared distance of unit vectors", **OWNED},
    ),
    "proxy_anchor": LossInfo(
        "accord.losses.ProxyAnchor",
        "proxy",
        "each class's proxy pulls its hard items and pushes the hard items of others",
        "Kim et al., CVPR 2020",
        2020,
        ("classes",),
        {
            "margin": "cosine by which both sides are asked for more",
            "alpha": "how much harder items count more",
            **SHARED,
        },
    ),
    "soft_triple": LossInfo(
        "accord.losses.SoftTriple",
        "proxy",
        "softmax over classes that have several centres, softly chosen for each item",
        "Qian et al., ICCV 2019",
        2019,
        ("classes",),
        {
            "centres": CENTRES,
            "scale": SCALE,
            "gamma": "how softly an item chooses among a class's centres; near 0 takes the nearest alone",
            "tau": "weight of the distances between centres of a class, which merges those not needed",
            "margin": "cosine taken off the own class",
        },
        {
            "cub": {"scale": 78.0, "gamma": 59.0, "tau": 0.375, "margin": 0.43},
            "cars": {"scale": 17.7, "gamma": 19.2, "tau": 0.067, "margin": 0.36},
            "sop": {"scale": 100.0, "gamma": 47.9, "margin": 0.31},
        },
    ),
    "normalised_softmax": LossInfo(
        "accord.losses.NormalisedSoftmax",
        "classification",
        "softmax over cosines with a temperature",
        "Zhai and Wu, BMVC 2019",
        2019,
        ("classes",),
        {"temperature": "what cosines are divided by before the softmax; low is sharp"},
        {"cub": {"temperature": 0.109}, "cars": {"temperature": 0.0886}, "sop": {"temperature": 0.063}},
    ),
    "cos_face": LossInfo(
        "accord.losses.CosFace",
        "classification",
        "softmax over cosines in which the own class must win by a margin of cosine",
        "Wang et al., CVPR 2018",
        2018,
        ("classes",),
        {"margin": "cosine taken off the own class", "scale": SCALE},
        {
            "cub": {"margin": 0.618, "scale": 100.0},
            "cars": {"margin": 0.432, "scale": 161.5},
            "sop": {"margin": 0.336, "scale": 100.0},
        },
    ),
    "arc_face": LossInfo(
        "accord.losses.ArcFace",
        "classification",
        "softmax over cosines in which the own class must win by a margin of angle",
        "Deng et al., CVPR 2019",
        2019,
        ("classes",),
        {"margin": "angle added to that with the own class, in radians", "scale": SCALE},
        # published in degrees: 23.2, 20.5 and 18.6
        {
            "cub": {"margin": 0.405, "scale": 100.0},
            "cars": {"margin": 0.358, "scale": 49.5},
            "sop": {"margin": 0.325, "scale": 220.0},
        },
    ),
    "sub_centre_arc_face": LossInfo(
        "accord.losses.SubCentreArcFace",
        "classification",
        "ArcFace whose classes have several centres, so that wrong labels gather apart",
        "Deng et al., ECCV 2020",
        2020,
        ("classes",),
        {
            "centres": f"{CENTRES}, of which the nearest counts",
            "margin": "angle added to that with the own class, in radians",
            "scale": SCALE,
        },
    ),
}
