"""What the losses over tuples of items declare about themselves.

Those that keep statistics are examined as they evaluate, with their state frozen.
"""

from accord.losses import (
    Angular,
    CoSENT,
    DynamicSoftMargin,
    GeneralisedLifted,
    Histogram,
    LiftedStructure,
    NPairAngular,
    Quadruplet,
)
from conformance import Case

WEIGHED = "a triplet's weight counts as a constant in the gradient"

CASES: tuple[Case, ...] = (
    Case("generalised_lifted", GeneralisedLifted),
    Case("generalised_lifted soft", lambda: GeneralisedLifted(hinge="soft", margin=0.5)),
    Case("generalised_lifted raw", lambda: GeneralisedLifted(normalised=False), scaling=False, translation=True),
    Case("lifted_structure", LiftedStructure),
    Case(
        "lifted_structure raw",
        lambda: LiftedStructure(normalised=False),
        scaling=False,
        translation=True,
    ),
    Case("angular", Angular),
    Case("angular 36", lambda: Angular(angle=36.0)),
    Case(
        "n_pair_angular",
        NPairAngular,
        scaling=False,
        row_order=False,
        empty_without_negatives=False,  # one pair costs its penalty
        refuses_without_positives=True,
    ),
    Case("histogram", Histogram),
    Case("histogram 7", lambda: Histogram(bins=7)),
    Case("quadruplet", Quadruplet),
    Case("quadruplet rooted", lambda: Quadruplet(squared=False)),
    Case("quadruplet raw", lambda: Quadruplet(normalised=False), scaling=False, translation=True),
    Case("cosent", CoSENT),
    Case("cosent 5", lambda: CoSENT(scale=5.0)),
    Case(
        "dynamic_soft_margin",
        lambda: DynamicSoftMargin().eval(),
        gradcheck=WEIGHED,
        differentiable_twice=False,
    ),
)
