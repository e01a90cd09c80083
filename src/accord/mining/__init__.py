"""Which pairs and triplets of a batch a loss learns from: predicates on blocks of rows, and row numbers for others."""

from accord.mining._block import FAR, Block, Measure
from accord.mining._cap import PerRowCap
from accord.mining._classes import hard_classes
from accord.mining._distance_weighted import DistanceWeighted
from accord.mining._groups import DENSE_UP_TO, NOBODY, Groups, Own, TableGroups
from accord.mining._hard import AllPairs, EasyPositive, HardPairs, SemiHard
from accord.mining._margins import AngularPairs, MultiSimilarityPairs, PairMargin
from accord.mining._masks import pair_masks
from accord.mining._miner import Chain, Miner, bound
from accord.mining._named import NamedGroups
from accord.mining._pairs import PairNumbers, batch_block, mined_pairs
from accord.mining._rules import all_pairs, batch_hard, semi_hard
from accord.mining._triplets import TRIPLET_RULES, triplets

__all__ = [
    "DENSE_UP_TO",
    "FAR",
    "NOBODY",
    "TRIPLET_RULES",
    "AllPairs",
    "AngularPairs",
    "Block",
    "Chain",
    "DistanceWeighted",
    "EasyPositive",
    "Groups",
    "HardPairs",
    "Measure",
    "Miner",
    "MultiSimilarityPairs",
    "NamedGroups",
    "Own",
    "PairMargin",
    "PairNumbers",
    "PerRowCap",
    "SemiHard",
    "TableGroups",
    "all_pairs",
    "batch_block",
    "batch_hard",
    "bound",
    "hard_classes",
    "mined_pairs",
    "pair_masks",
    "semi_hard",
    "triplets",
]
