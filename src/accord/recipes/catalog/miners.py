"""The miners by name: what each keeps of a batch, where it lives, which paper it follows."""

import inspect
from collections.abc import Mapping
from importlib import import_module
from typing import Any, NamedTuple

from accord.errors import UnknownNameError
from accord.mining import Miner
from accord.recipes.made import made


class MinerInfo(NamedTuple):
    """One miner of the catalogue; `options` says what each of its options means."""

    path: str
    summary: str
    paper: str
    year: int
    options: Mapping[str, str] = {}


MINERS: dict[str, MinerInfo] = {
    "all": MinerInfo("accord.mining.AllPairs", "every pair of rows that have both a positive and a negative", "", 0),
    "hard": MinerInfo(
        "accord.mining.HardPairs",
        "each row's farthest positive and closest negative",
        "Hermans, Beyer, Leibe, arXiv 1703.07737 (batch hard)",
        2017,
    ),
    "semi_hard": MinerInfo(
        "accord.mining.SemiHard",
        "leaves out negatives that are closer than every positive of their row",
        "Schroff, Kalenichenko, Philbin, CVPR 2015 (FaceNet), for pairs",
        2015,
        {"margin": "how much farther than the farthest positive a negative may be, in squared distance; none: any"},
    ),
    "easy_positive": MinerInfo(
        "accord.mining.EasyPositive",
        "each row's closest positive, so that classes may stay spread out",
        "Xuan, Stylianou, Pless, WACV 2020",
        2020,
        {"negatives": "against which negatives of the row: semi_hard, hard or all"},
    ),
    "multi_similarity": MinerInfo(
        "accord.mining.MultiSimilarityPairs",
        "pairs that come within epsilon of their rivals around the same anchor",
        "Wang et al., CVPR 2019",
        2019,
        {"epsilon": "how far a pair may be from its hardest rival, in cosine"},
    ),
    "distance_weighted": MinerInfo(
        "accord.mining.DistanceWeighted",
        "one negative drawn per positive, near ones as likely as far ones",
        "Wu et al., ICCV 2017",
        2017,
        {
            "dim": "width of the embeddings; known by itself inside Mined",
            "cutoff": "distances below count as this one",
            "reach": "no negative beyond this distance is drawn",
            "draw": "number of the draw; counted by itself inside Mined",
        },
    ),
    "angular": MinerInfo(
        "accord.mining.AngularPairs",
        "pairs that come within an angle of their rivals around the same anchor",
        "multi-similarity's comparison in degrees; ours",
        2019,
        {"angle": "how far a pair may be from its hardest rival, in degrees"},
    ),
    "pair_margin": MinerInfo(
        "accord.mining.PairMargin",
        "positives farther than one distance, negatives closer than another",
        "Hadsell, Chopra, LeCun, CVPR 2006, as a threshold",
        2006,
        {
            "positive": "positives closer than this are left out",
            "negative": "negatives farther than this are left out",
        },
    ),
    "per_row_cap": MinerInfo(
        "accord.mining.PerRowCap",
        "at most so many positives and negatives of each row",
        "ours",
        2026,
        {
            "positives": "how many positives a row may keep; none: all",
            "negatives": "how many negatives a row may keep; none: all",
            "choice": "which: hardest, or draw for a random choice",
            "draw": "number of the draw; counted by itself inside Mined",
        },
    ),
}


def build_miner(name: str, **options: Any) -> Miner:
    """Build a miner by its catalogued name; options are checked."""
    if not isinstance(name, str) or name not in MINERS:
        raise UnknownNameError("miner", name, MINERS)
    module, _, factory_name = MINERS[name].path.rpartition(".")
    factory = getattr(import_module(module), factory_name)
    known = list(inspect.signature(factory).parameters)
    for option in options:
        if option not in known:
            raise UnknownNameError(f"option of {name}", option, known)
    built: Miner = made(name, factory, options)
    return built
