"""Which pairs and triplets of a batch a loss learns from: predicates on blocks of rows, and row numbers for others."""

from accord.mining._masks import pair_masks
from accord.mining._rules import all_pairs, batch_hard, semi_hard
from accord.mining._triplets import TRIPLET_RULES, triplets

__all__ = ["TRIPLET_RULES", "all_pairs", "batch_hard", "pair_masks", "semi_hard", "triplets"]
