"""The catalogue's part on list-wise losses, which look at a query's whole ranking: each with its options."""

from accord.recipes.catalog.info import LossInfo

_TAU = "temperature of the sigmoid that stands for a comparison, in cosine (more than 0)"
_ITSELF = "excluded: a query is not in its own list; included: it is, as one more positive of cosine 1"

LOSSES: dict[str, LossInfo] = {
    "fast_ap": LossInfo(
        "accord.losses.FastAP",
        "list",
        "average precision of each item's neighbours, sorted into soft bins of distance",
        "Cakir et al., CVPR 2019",
        2019,
        ("pairs", "ranks"),
        {"bins": "into how many bins squared distances, 0 … 4, are sorted (at least 1)"},
    ),
    "smooth_ap": LossInfo(
        "accord.losses.SmoothAP",
        "list",
        "average precision of each item's neighbours, with a sigmoid for every comparison",
        "Brown et al., ECCV 2020",
        2020,
        ("pairs", "ranks"),
        {"tau": _TAU, "itself": _ITSELF},
    ),
    "sup_ap": LossInfo(
        "accord.losses.SupAP",
        "list",
        "average precision bounded by a step that keeps its slope; with calibration it is ROADMAP",
        "Ramzi et al., NeurIPS 2021",
        2021,
        ("pairs", "ranks"),
        {
            "tau": _TAU,
            "rho": "slope of the straight part of the step (more than 0)",
            "delta": "how far ahead of a positive a negative must be for the straight part (at least 0)",
            "offset": "height of the straight part, continued to 0; none: so that it joins the curved part",
            "calibration": "weight of the hinges on cosines of pairs (at least 0; ROADMAP: 1)",
            "positive_bound": "the cosine that positive pairs are to reach, if calibrated (-1 … 1)",
            "negative_bound": "the cosine that negative pairs are to stay below, if calibrated (-1 … 1)",
        },
        {"cub": {"calibration": 1.0}, "sop": {"calibration": 1.0}},
    ),
    "recall_at_k": LossInfo(
        "accord.losses.RecallAtK",
        "list",
        "recall among the first k neighbours for several k, with sigmoids for ranks and for the cut",
        "Patel, Tolias, Matas, CVPR 2022",
        2022,
        ("pairs", "ranks"),
        {
            "ks": "the numbers of neighbours looked at, ascending",
            "tau_rank": _TAU,
            "tau_k": "temperature of the sigmoid that cuts at k, in ranks (more than 0)",
        },
    ),
    "pnp": LossInfo(
        "accord.losses.PNP",
        "list",
        "only negatives ranked before positives are penalised, by a chosen function of their number",
        "Li et al., AAAI 2022",
        2022,
        ("pairs", "ranks"),
        {
            "tau": _TAU,
            "variant": "O: all alike; Ds, Dq: less the worse a positive is; Iu, Ib: more the worse it is",
            "alpha": "exponent of variant Dq (at least 1)",
            "b": "curvature of variant Ib (more than 0)",
            "itself": _ITSELF,
        },
    ),
    "ranked_list": LossInfo(
        "accord.losses.RankedList",
        "list",
        "each class inside a ball, others outside a wider one, the nearest negatives weighing most",
        "Wang et al., CVPR 2019",
        2019,
        ("pairs",),
        {
            "margin": "how much nearer than alpha positives are to be, in distance (0 … alpha)",
            "alpha": "the distance negatives are to keep (0 … 2)",
            "negative_temperature": "how much more the nearest negatives weigh, a factor in an exponent (at least 0)",
            "positive_temperature": "the same for the farthest positives (at least 0)",
            "balance": "share of the negatives' part of an item's cost (0 … 1)",
        },
    ),
}
