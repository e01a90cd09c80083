"""The list-wise losses, in every configuration worth a row of the shared promises."""

from accord.losses import PNP, FastAP, RankedList, RecallAtK, SmoothAP, SupAP
from conformance import Case

PAIRS = {"empty_without_positives": False, "empty_without_negatives": False}

CASES = (
    Case("fast-ap", FastAP),
    Case("fast-ap fine", lambda: FastAP(bins=40)),
    Case("smooth-ap", SmoothAP),
    Case("smooth-ap soft", lambda: SmoothAP(tau=0.2)),
    Case("smooth-ap itself", lambda: SmoothAP(itself="included", tau=0.05)),
    Case("sup-ap", SupAP),
    Case("sup-ap joined", lambda: SupAP(offset=None, tau=0.05)),
    Case("roadmap", lambda: SupAP(calibration=1.0), **PAIRS),
    Case("recall@k", RecallAtK),
    Case("recall@k sharp", lambda: RecallAtK(ks=(2, 5), tau_rank=0.05, tau_k=0.3)),
    Case("pnp O", PNP),
    Case("pnp Ds", lambda: PNP(variant="Ds")),
    Case("pnp Dq", lambda: PNP(variant="Dq", alpha=2.0, tau=0.05)),
    Case("pnp Iu", lambda: PNP(variant="Iu")),
    Case("pnp Ib", lambda: PNP(variant="Ib", b=3.0)),
    Case("pnp itself", lambda: PNP(itself="included", tau=0.05)),
    Case("ranked list", RankedList, **PAIRS),
    Case("ranked list tilted", lambda: RankedList(positive_temperature=3.0, alpha=1.4, balance=0.3), **PAIRS),
)
