"""How far accord's losses are from pytorch-metric-learning's: with defaults, and with options that make them agree.

    python benchmarks/peer_parity.py    # prints the tables of docs/peer-differences.md; about forty seconds

Twenty random float64 batches a cell, of 8 numbers an item: classes of four items in a random order, then ("uneven")
classes of 9, 5, 3, 2, 1 and 1. A cell holds the largest relative difference of value and of gradient, the latter over
embeddings and whatever is learned: the largest absolute difference over the largest absolute entry. What both learn
begins at the same numbers. Beyond 1e-5 it is bold. The second table compares the peer with slow loops of what it
computes where it does not agree.
"""

import re
import warnings
from collections.abc import Callable
from copy import deepcopy
from math import radians

import torch
from peer_loops import CLASSES, DIM, LOOPS, batch, earlier
from pytorch_metric_learning import distances, losses, miners, reducers, regularizers
from torch import Tensor, nn
from torch.nn.functional import normalize

import accord.losses

BATCHES = 20
Loss = Callable[[Tensor, Tensor], Tensor]
Outcome = tuple[Tensor, list[Tensor]]

# name: (ours, theirs) with defaults; then, unless the defaults agree, (ours, theirs) with options that make them agree
CONTRASTIVE = (
    "L.Contrastive(margin=1, hinge='linear', average='kinds')",
    "P.ContrastiveLoss(reducer=R.MeanReducer())",
)
RAW_SNR = (
    "P.SignalToNoiseRatioContrastiveLoss(distance=D.SNRDistance(normalize_embeddings=False), "
    "reducer=R.MeanReducer(), embedding_regularizer=G.ZeroMeanRegularizer(), embedding_reg_weight=0.005)"
)
SPARSE_TRIPLE = (
    "P.SoftTripleLoss(classes, dim, weight_regularizer=G.SparseCentersRegularizer(classes, 10), weight_reg_weight=0.2)"
)
ROWS: dict[str, tuple[str, ...]] = {
    "contrastive": ("L.Contrastive()", "P.ContrastiveLoss()", *CONTRASTIVE),
    "triplet, no miner": (
        "L.TripletMargin()",
        "P.TripletMarginLoss()",
        "L.TripletMargin(mining='all', squared=False, margin=0.05, violating_only=True)",
        "P.TripletMarginLoss()",
    ),
    "triplet, all": (
        "L.TripletMargin(mining='all')",
        "P.TripletMarginLoss()",
        "L.TripletMargin(mining='all')",
        "P.TripletMarginLoss(margin=0.2, distance=D.LpDistance(power=2), reducer=R.MeanReducer())",
    ),
    "triplet, hard": (
        "L.TripletMargin(mining='hard')",
        "mined(P.TripletMarginLoss(), M.TripletMarginMiner(type_of_triplets='hard'))",
        "L.TripletMargin(mining='hard', squared=False)",
        "mined(P.TripletMarginLoss(margin=0.2), M.TripletMarginMiner(type_of_triplets='hard'))",
    ),
    "triplet, all semi-hard": (
        "L.TripletMargin(mining='all_semi_hard')",
        "mined(P.TripletMarginLoss(), M.TripletMarginMiner(type_of_triplets='semihard'))",
        "L.TripletMargin(mining='all_semi_hard', squared=False)",
        "mined(P.TripletMarginLoss(margin=0.2), M.TripletMarginMiner(margin=0.2, type_of_triplets='semihard'))",
    ),
    "triplet, batch-hard": (
        "L.TripletMargin(mining='batch_hard')",
        "mined(P.TripletMarginLoss(), M.BatchHardMiner())",
        "L.TripletMargin(mining='batch_hard', squared=False)",
        "mined(P.TripletMarginLoss(margin=0.2, reducer=R.MeanReducer()), M.BatchHardMiner())",
    ),
    "triplet, soft margin": (
        "L.TripletMargin(mining='all', margin='soft')",
        "P.TripletMarginLoss(smooth_loss=True)",
        "L.TripletMargin(mining='all', margin='soft', squared=False)",
        "P.TripletMarginLoss(smooth_loss=True, margin=0)",
    ),
    "triplet, swapped": (
        "L.TripletMargin(mining='batch_hard', swap=True)",
        "mined(P.TripletMarginLoss(swap=True), M.BatchHardMiner())",
        "L.TripletMargin(mining='batch_hard', swap=True, squared=False)",
        "mined(P.TripletMarginLoss(margin=0.2, swap=True, reducer=R.MeanReducer()), M.BatchHardMiner())",
    ),
    "N-pair": (
        "L.NPair()",
        "P.NPairsLoss()",
        "L.NPair(penalty=0.0)",
        "P.NPairsLoss(distance=D.DotProductSimilarity(normalize_embeddings=False))",
    ),
    "NT-Xent": ("L.NTXent()", "P.NTXentLoss()"),
    "SupCon": ("L.SupCon()", "P.SupConLoss()", "L.SupCon()", "P.SupConLoss(temperature=0.07)"),
    "NCA": (
        "L.NCA()",
        "P.NCALoss()",
        "L.NCA()",
        "P.NCALoss(distance=D.LpDistance(normalize_embeddings=False, power=2))",
    ),
    "multi-similarity": (
        "L.MultiSimilarity()",
        "P.MultiSimilarityLoss()",
        "L.MultiSimilarity()",
        "mined(P.MultiSimilarityLoss(), M.MultiSimilarityMiner(0.1))",
    ),
    "multi-similarity, unmined": (
        "L.MultiSimilarity()",
        "P.MultiSimilarityLoss()",
        "L.MultiSimilarity(epsilon=None)",
        "P.MultiSimilarityLoss()",
    ),
    "lifted structure": ("L.LiftedStructure()", "P.LiftedStructureLoss()"),
    "generalised lifted": ("L.GeneralisedLifted()", "P.GeneralizedLiftedStructureLoss()"),
    "angular": ("L.Angular()", "P.AngularLoss()", "L.Angular()", "unit(P.AngularLoss(45))"),
    "histogram": ("L.Histogram()", "P.HistogramLoss()", "L.Histogram(bins=128)", "P.HistogramLoss(n_bins=128)"),
    "circle": ("L.Circle()", "P.CircleLoss()"),
    "margin": (
        "L.Margin()",
        "P.MarginLoss()",
        "L.Margin(average='triplets', nu=0.1)",
        "P.MarginLoss(learn_beta=True, nu=0.1)",
    ),
    "margin, a radius per class": (
        "L.Margin(classes=classes)",
        "P.MarginLoss(learn_beta=True, num_classes=classes)",
        "L.Margin(average='triplets', classes=classes)",
        "P.MarginLoss(learn_beta=True, num_classes=classes)",
    ),
    "margin, a radius per class with nu": (
        "L.Margin(classes=classes, nu=0.1)",
        "P.MarginLoss(learn_beta=True, num_classes=classes, nu=0.1)",
        "L.Margin(average='triplets', classes=classes, nu=0.1)",
        "P.MarginLoss(learn_beta=True, num_classes=classes, nu=0.1)",
    ),
    "signal to noise": (
        "L.SignalToNoise()",
        "P.SignalToNoiseRatioContrastiveLoss()",
        "L.SignalToNoise()",
        RAW_SNR,
    ),
    "tuplet margin": ("L.TupletMargin()", "P.TupletMarginLoss()"),
    "intra-pair variance": (
        "L.TupletMargin(variance=0.5)",
        "P.TupletMarginLoss()",
        "L.TupletMargin(variance=0.5)",
        "total(P.TupletMarginLoss(), P.IntraPairVarianceLoss(), 0.5)",
    ),
    "FastAP": ("L.FastAP()", "P.FastAPLoss()"),
    "Smooth-AP": ("L.SmoothAP()", "P.SmoothAPLoss()", "L.SmoothAP(itself='included')", "P.SmoothAPLoss()"),
    "PNP": ("L.PNP()", "P.PNPLoss()", "L.PNP(itself='included')", "P.PNPLoss()"),
    "ranked list": ("L.RankedList()", "P.RankedListLoss(margin=0.4, Tn=10, alpha=1.2)"),
    "cross-batch memory": (
        "filled(L.CrossBatchMemory(L.Contrastive(), dim=dim))",
        "filled(P.CrossBatchMemory(P.ContrastiveLoss(), dim))",
        f"filled(L.CrossBatchMemory({CONTRASTIVE[0]}, dim=dim))",
        f"filled(P.CrossBatchMemory({CONTRASTIVE[1]}, dim, memory_size=8192))",
    ),
    "dynamic soft margin, first batch": ("fresh(L.DynamicSoftMargin())", "fresh(P.DynamicSoftMarginLoss())"),
    "Proxy-NCA": (
        "L.ProxyNCA(dim, classes)",
        "P.ProxyNCALoss(classes, dim)",
        "L.ProxyNCA(dim, classes, positive='included')",
        "P.ProxyNCALoss(classes, dim, softmax_scale=9)",
    ),
    "Proxy-NCA++": (
        "L.ProxyNCAPlusPlus(dim, classes)",
        "P.ProxyNCALoss(classes, dim)",
        "L.ProxyNCAPlusPlus(dim, classes)",
        "P.ProxyNCALoss(classes, dim, softmax_scale=9)",
    ),
    "Proxy-Anchor": ("L.ProxyAnchor(dim, classes)", "P.ProxyAnchorLoss(classes, dim)"),
    "SoftTriple": (
        "L.SoftTriple(dim, classes)",
        "P.SoftTripleLoss(classes, dim)",
        "L.SoftTriple(dim, classes)",
        SPARSE_TRIPLE,
    ),
    "normalised softmax": ("L.NormalisedSoftmax(dim, classes)", "P.NormalizedSoftmaxLoss(classes, dim)"),
    "CosFace": ("L.CosFace(dim, classes)", "P.CosFaceLoss(classes, dim)"),
    "ArcFace": (
        "L.ArcFace(dim, classes)",
        "P.ArcFaceLoss(classes, dim)",
        "L.ArcFace(dim, classes, margin=radians(28.6))",
        "P.ArcFaceLoss(classes, dim)",
    ),
    "sub-centre ArcFace": (
        "L.SubCentreArcFace(dim, classes)",
        "P.SubCenterArcFaceLoss(num_classes=classes, embedding_size=dim)",
        "L.SubCentreArcFace(dim, classes, margin=radians(28.6))",
        "P.SubCenterArcFaceLoss(num_classes=classes, embedding_size=dim)",
    ),
    "SphereFace": ("L.SphereFace(dim, classes)", "P.SphereFaceLoss(classes, dim)"),
    "large-margin softmax": ("L.LargeMarginSoftmax(dim, classes)", "P.LargeMarginSoftmaxLoss(classes, dim)"),
    "P2SGrad": (
        "L.P2SGrad(dim, classes)",
        "P.P2SGradLoss(dim, classes)",
        "L.P2SGrad(dim, classes)",
        "times(classes / 2, P.P2SGradLoss(dim, classes))",
    ),
    "VICReg, variance and covariance": (
        "L.VarianceCovariance()",
        "twice(P.VICRegLoss())",
        "L.VarianceCovariance(covariance=2.0)",
        "twice(P.VICRegLoss())",
    ),
    "embedding norm": (
        "L.EmbeddingNorm()",
        "alone(G.LpRegularizer())",
        "L.EmbeddingNorm()",
        "alone(G.LpRegularizer(power=2))",
    ),
    "RegularFace, of a table": ("table(L.CentreDecorrelation())", "alone(G.RegularFaceRegularizer())"),
}


# ways to call -----------------------------------------------------------------------------------------------------


def mined(loss: Callable[..., Tensor], miner: Callable[..., object]) -> Loss:
    return lambda x, y: loss(x, y, miner(x, y))


def unit(loss: Loss) -> Loss:
    return lambda x, y: loss(normalize(x), y)


def total(loss: Loss, other: Loss, weight: float) -> Loss:
    return lambda x, y: loss(x, y) + weight * other(x, y)


def times(factor: float, loss: nn.Module) -> nn.Module:
    """A module still, so that what it learns is found."""
    loss.register_forward_hook(lambda _module, _inputs, value: factor * value)
    return loss


def twice(loss: Callable[..., Tensor]) -> Loss:
    """Two views that are one: without the invariance term, which then is zero."""
    return lambda x, _: loss(x, ref_emb=x)


def alone(regulariser: Callable[[Tensor], Tensor]) -> Loss:
    return lambda x, _: regulariser(x)


def table(loss: Callable[..., Tensor]) -> Loss:
    return lambda x, y: accord.losses.centre_decorrelation(x, y, x)


def fresh(loss: nn.Module) -> Loss:
    """The peer's histogram keeps its graph, so a second backward pass of the same loss fails."""
    return lambda x, y: deepcopy(loss).double()(x, y)


def filled(loss: nn.Module) -> Loss:
    def call(x: Tensor, y: Tensor) -> Tensor:
        memory = deepcopy(loss).double()
        for past in earlier():
            memory(*past)
        return memory(x, y)

    return call


LIBRARIES = {"L": accord.losses, "P": losses, "M": miners, "D": distances, "R": reducers, "G": regularizers}
WAYS = {way.__name__: way for way in (mined, unit, total, times, twice, alone, table, fresh, filled, radians)}
SCOPE = {**LIBRARIES, **WAYS, "dim": DIM, "classes": CLASSES}


# differences ------------------------------------------------------------------------------------------------------


def made(code: str) -> Loss:
    loss = eval(code, SCOPE)
    return loss.double() if isinstance(loss, nn.Module) else loss


def learned(loss: Loss) -> list[nn.Parameter]:
    return list(loss.parameters()) if isinstance(loss, nn.Module) else []


def fitted(tensor: Tensor, shape: torch.Size) -> Tensor:
    """The peer keeps some tables on their side and numbers as vectors of one."""
    return tensor.T if tensor.ndim == 2 and tensor.T.shape == shape != tensor.shape else tensor.reshape(shape)


def outcome(loss: Loss, x: Tensor, y: Tensor) -> Outcome:
    x = x.clone().requires_grad_()
    value = loss(x, y)
    return value.detach(), list(torch.autograd.grad(value, [x, *learned(loss)]))


def apart(one: Tensor, other: Tensor) -> float:
    one, other = one.double(), other.double()
    assert one.isfinite().all()
    assert other.isfinite().all()
    return ((one - other).abs().max() / torch.maximum(one.abs().max(), other.abs().max())).item()


def difference(ours: Loss, theirs: Loss, kind: str) -> tuple[float, float]:
    """The largest relative difference of value and of gradient."""
    for mine, peer in zip(learned(ours), learned(theirs), strict=False):
        peer.data.copy_(fitted(mine.data, peer.shape))
    values, gradients = [0.0], [0.0]
    for seed in range(BATCHES):
        (value, left), (expected, right) = (outcome(loss, *batch(seed, kind)) for loss in (ours, theirs))
        values.append(apart(value, expected))
        gradients += [apart(a, fitted(b, a.shape)) for a, b in zip(left, right, strict=False)]
    return max(values), max(gradients)


def cell(ours: str, theirs: str, kind: str) -> str:
    torch.manual_seed(0)
    try:
        return shown(difference(made(ours), made(theirs), kind))
    except ValueError:
        return "refused by the peer"


def shown(numbers: tuple[float, float]) -> str:
    return " · ".join(f"**{number:.1e}**" if number > 1e-5 else f"{number:.0e}" for number in numbers)


def readable(code: str) -> str:
    return re.sub(r"\b[LPMDRG]\.", "", code)


def line(name: str, *codes: str) -> str:
    ours, theirs = codes[-2:]
    options = f"`{readable(ours)}` · `{readable(theirs)}`" if len(codes) > 2 else "the defaults"
    first = "sorted" if name == "Smooth-AP" else "even"
    cells = [name, cell(*codes[:2], "even"), options, cell(ours, theirs, first), cell(ours, theirs, "uneven")]
    return f"| {' | '.join(cells)} |"


# and a fault that no table shows ---------------------------------------------------------------------------------


def fails_on_duplicates(loss: Loss, seed: int) -> bool:
    x, y = batch(seed, "even")
    x[1] = x[0]
    try:
        loss(x, y)
    except RuntimeError:
        return True
    return False


def facts() -> None:
    failures = [sum(fails_on_duplicates(made(code), seed) for seed in range(50)) for code in ROWS["histogram"][:2]]
    print("\nHistogram, errors in 50 batches with two equal items: ours {}, theirs {}.".format(*failures))


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    warnings.simplefilter("ignore")
    print("| loss | defaults: value · gradient | ours · theirs, made to agree | value · gradient | the same, uneven |")
    print("|---|---|---|---|---|")
    for name, codes in ROWS.items():
        print(line(name, *codes), flush=True)
    print("\n| loss | what the peer computes, by a loop | value · gradient | the same, uneven |\n|---|---|---|---|")
    for name, loop in LOOPS.items():
        cells = [shown(difference(loop, made(ROWS[name][-1]), kind)) for kind in ("even", "uneven")]
        print(f"| {name} | {loop.__doc__} | {' | '.join(cells)} |")
    facts()


if __name__ == "__main__":
    main()
