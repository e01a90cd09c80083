"""The pair losses, in every configuration worth a row of the shared promises."""

from accord.losses import (
    NCA,
    Contrastive,
    DecoupledContrastive,
    MultiSimilarity,
    NPair,
    NPairOVO,
    NTXent,
    SupCon,
    TripletMargin,
    Tuplet,
)
from conformance import Case

PAIRS = {"empty_without_positives": False, "empty_without_negatives": False}
N_PAIR = {**PAIRS, "scaling": False, "row_order": False, "refuses_without_positives": True}
RANKED = {"empty_without_negatives": False}  # positives are rivals of each other

CASES = (
    Case("contrastive", lambda: Contrastive(margin=1.5), **PAIRS),
    Case("contrastive linear", lambda: Contrastive(hinge="linear", margin=1.5), **PAIRS),
    Case("contrastive by kinds", lambda: Contrastive(average="kinds", margin=1.5), **PAIRS),
    Case("triplet semi-hard", TripletMargin),
    Case("triplet semi-hard soft", lambda: TripletMargin(margin="soft", squared=False)),
    Case("triplet batch-hard", lambda: TripletMargin(mining="batch_hard")),
    Case(
        "triplet batch-hard soft, as Hermans",
        lambda: TripletMargin(mining="batch_hard", margin="soft", squared=False, normalised=False),
        scaling=False,
        translation=True,
    ),
    Case("triplet all", lambda: TripletMargin(mining="all", squared=False)),
    Case("triplet all violating", lambda: TripletMargin(mining="all", violating_only=True)),
    Case("triplet all soft", lambda: TripletMargin(mining="all", margin="soft")),
    Case("triplet hard", lambda: TripletMargin(mining="hard", squared=False)),
    Case("triplet hard soft", lambda: TripletMargin(mining="hard", margin="soft")),
    Case("triplet all semi-hard", lambda: TripletMargin(mining="all_semi_hard", margin=0.5)),
    Case(
        "triplet all semi-hard, as Zabihzadeh",
        lambda: TripletMargin(mining="all_semi_hard", margin=1.0, band=0.1, squared=False),
    ),
    Case("triplet semi-hard swapped", lambda: TripletMargin(swap=True)),
    Case("triplet batch-hard swapped", lambda: TripletMargin(mining="batch_hard", squared=False, swap=True)),
    Case("n-pair", NPair, **N_PAIR),
    Case("n-pair symmetric", lambda: NPair(symmetric=True), **N_PAIR),
    Case("n-pair one against one", NPairOVO, **N_PAIR),
    Case(
        "n-pair one against one symmetric",
        lambda: NPairOVO(symmetric=True, penalty=0.0),
        **(N_PAIR | {"empty_without_negatives": True}),
    ),
    Case("tuplet", Tuplet, scaling=False, **PAIRS),
    Case("tuplet without penalty", lambda: Tuplet(penalty=0.0), scaling=False),
    Case("nt-xent", NTXent),
    Case("nt-xent against all", lambda: NTXent(denominator="all", temperature=0.2), **RANKED),
    Case("sup-con out", SupCon, **RANKED),
    Case("sup-con in", lambda: SupCon(variant="in", temperature=0.2), **RANKED),
    Case("decoupled contrastive", DecoupledContrastive),
    Case("nca", NCA, scaling=False, translation=True),
    Case("nca expected", lambda: NCA(goal="expected", scale=0.5), scaling=False, translation=True),
    Case("nca normalised", lambda: NCA(scale=10.0, normalised=True)),
    Case("multi-similarity", MultiSimilarity),
    Case("multi-similarity unmined", lambda: MultiSimilarity(epsilon=None, beta=40.0), **PAIRS),
)
