"""A triplet margin loss that is called NPairMCLoss, beside N-pair-mc: values, gradients, cost, and what each teaches.

python examples/not_n_pair.py            # about a minute; docs/n-pairs.md shows what it prints
python examples/not_n_pair.py --quick    # one seed and fewer steps at the end, the rest is the same
"""

import statistics
import sys
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from accord.data import ImageTable, builtin, split_classes
from accord.evaluation import evaluate
from accord.geometry import normalise
from accord.losses import TripletMargin, n_pair
from accord.models import Embedder, TrunkHead, build_backbone, build_pool, embed
from accord.runs import packaged_weights
from accord.types import Labelled, Preprocessing

MARGIN, DIM, IMAGES = 0.1, 64, 60
RATES = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
Cost = Callable[[Tensor, Tensor, Tensor], Tensor]


def look_alike(anchors: Tensor, positives: Tensor, negatives: Tensor) -> Tensor:
    """mean relu(‖a - p‖ - ‖a - n‖ + 0.1): what code of that name computes. One given negative for each anchor."""
    return F.triplet_margin_loss(anchors, positives, negatives, margin=MARGIN)


def next_positive(positives: Tensor) -> Tensor:
    """The negative of each pair: the positive of the pair after it."""
    return positives.roll(-1, 0)


def worked_batch() -> None:
    """Three pairs in the plane, small enough for pen and paper."""
    anchors = torch.tensor([[2.0, 0.0], [0.0, 1.0], [-1.0, 1.0]], requires_grad=True)
    positives = torch.tensor([[1.0, 1.0], [0.0, 2.0], [-2.0, -1.0]], requires_grad=True)
    print("1. one batch of three pairs")
    print(f"  anchors {_points(anchors)}, positives {_points(positives)}")
    print(f"  S = A Pᵀ, its diagonal is right: {_rows(anchors @ positives.T, 0)}")
    for name, loss in (
        ("N-pair-mc ", n_pair(anchors, positives, penalty=0.0)),
        ("look-alike", look_alike(anchors, positives, next_positive(positives))),
    ):
        gradients = torch.autograd.grad(loss, (anchors, positives))
        print(f"  {name}  value {loss.item():.4f}  d/dA {_rows(gradients[0])}  d/dP {_rows(gradients[1])}")


def pushed(count: int) -> tuple[float, float]:
    """How many positives of other pairs one anchor's loss moves, mean over the anchors of a random batch."""
    generator = torch.Generator().manual_seed(0)
    anchors, positives = (torch.randn(count, 16, generator=generator) for _ in range(2))
    moved = torch.zeros(2)
    for row in range(count):
        keys = positives.clone().requires_grad_()
        own = F.cross_entropy(anchors[row : row + 1] @ keys.T, torch.tensor([row]))
        one = look_alike(anchors[row : row + 1], keys[row : row + 1], next_positive(keys)[row : row + 1])
        for place, loss in enumerate((own, one)):
            (gradient,) = torch.autograd.grad(loss, keys)
            moved[place] += (gradient.abs().sum(dim=1) > 0).sum() - (gradient[row].abs().sum() > 0).float()
    return float(moved[0] / count), float(moved[1] / count)


def negatives() -> None:
    """One of many, or all."""
    print("2. negatives that one anchor moves, mean over a random batch")
    for count in (2, 8, 60):
        many, one = pushed(count)
        print(f"  {count:2d} pairs: N-pair-mc {many:.1f} of {count - 1}, look-alike {one:.2f} of {count - 1}")


def margin_met() -> None:
    """Eight pairs whose two sides coincide on eight axes, the farther out the better told apart."""
    print("3. eight classes told apart, anchor and positive equal, at length s")
    for length in (1.0, 2.0, 3.0):
        told = []
        for loss_of in (
            lambda a, p: n_pair(a, p, penalty=0.0),
            lambda a, p: look_alike(a, p, next_positive(p)),
        ):
            anchors, positives = (length * torch.eye(8)).requires_grad_(), length * torch.eye(8)
            loss = loss_of(anchors, positives)
            (gradient,) = torch.autograd.grad(loss, anchors)
            told.append(f"value {loss.item():.5f} gradient {gradient.norm():.5f}")
        print(f"  s = {length:.0f}: N-pair-mc {told[0]}, look-alike {told[1]}")


def cost() -> None:
    """Images to embed for every anchor to meet every other class once."""
    print("4. images embedded so that each of N anchors meets N - 1 negatives")
    for count in (30, 60, 720):
        triplets, tuplets, pairs = 3 * count * (count - 1), count * (count + 1), 2 * count
        print(f"  N = {count}: triplets {triplets:,}, (N+1)-tuplets {tuplets:,}, N pairs {pairs:,}")


def by_n_pair(head: Tensor, x: Tensor, rows: Tensor) -> Tensor:
    """Thirty pairs of thirty classes."""
    return n_pair(x[rows[:, 0]] @ head, x[rows[:, 1]] @ head)


def by_look_alike(head: Tensor, x: Tensor, rows: Tensor) -> Tensor:
    """Twenty triplets: as many images, the negative is an image of a class drawn at random."""
    some = rows[: IMAGES // 3]
    strangers = rows[IMAGES // 3 :].flatten()[: IMAGES // 3]
    return look_alike(x[some[:, 0]] @ head, x[some[:, 1]] @ head, x[strangers] @ head)


def by_all_triplets(head: Tensor, x: Tensor, rows: Tensor) -> Tensor:
    """The same hinge over all triplets of the thirty pairs: the batch of N-pair, the form of the look-alike."""
    labels = torch.arange(len(rows)).repeat_interleave(2)
    loss = TripletMargin(margin=MARGIN, mining="all", squared=False, normalised=False)
    return loss(x[rows.flatten()] @ head, labels)


ARMS: dict[str, Cost] = {
    "look-alike": by_look_alike,
    "the hinge on all triplets": by_all_triplets,
    "N-pair-mc": by_n_pair,
}


def taught(cost_of: Cost, items: Labelled, *, rate: float, seed: int, steps: int) -> Tensor:
    """A linear head after so many steps of Adam; every step embeds `IMAGES` images."""
    generator = torch.Generator().manual_seed(seed)
    head = (torch.randn(items.embeddings.shape[1], DIM, generator=generator) / DIM**0.5).requires_grad_()
    optimizer = torch.optim.Adam([head], lr=rate)
    members = [(items.labels == label).nonzero()[:, 0] for label in items.labels.unique()]
    for _ in range(steps):
        chosen = torch.randperm(len(members), generator=generator)[: IMAGES // 2].tolist()
        rows = [members[k][torch.randperm(len(members[k]), generator=generator)[:2]] for k in chosen]
        optimizer.zero_grad()
        cost_of(head, items.embeddings, torch.stack(rows)).backward()
        optimizer.step()
    return head.detach()


def recall(items: Labelled, head: Tensor | None = None) -> tuple[float, float]:
    """R@1 by cosine and by Euclidean distance, in percent."""
    embeddings = items.embeddings if head is None else items.embeddings @ head
    cosine = evaluate(items._replace(embeddings=embeddings), metrics=["recall@1"], clusters=False).metrics["recall@1"]
    apart = torch.cdist(embeddings, embeddings).fill_diagonal_(torch.inf)
    return 100 * cosine, 100 * float((items.labels[apart.argmin(dim=1)] == items.labels).double().mean())


def frozen_features() -> list[Labelled]:
    """Unit features of the frozen backbone, centred on the training classes: train, validation and unseen test."""
    manifest, look = split_classes(builtin("objects"), validation=0.2), Preprocessing(size=64)
    backbone = build_backbone("efficientnet_lite0")
    backbone.load_state_dict(packaged_weights("efficientnet_lite0"))
    model = Embedder(backbone, build_pool("average"), {"trunk": TrunkHead(backbone.width)}, preprocessing=look).eval()
    parts = [
        embed(model, ImageTable(manifest.only(name), look).batches(), device="cpu")
        for name in ("train", "validation", "test")
    ]
    middle = parts[0].embeddings.mean(dim=0)
    return [part._replace(embeddings=normalise(part.embeddings - middle)) for part in parts]


def training(*, seeds: int, steps: int) -> None:
    """A head on frozen features of `objects` by each loss, at the rate that did best on validation classes."""
    train, validation, test = frozen_features()
    classes = len(test.labels.unique())
    print(
        f"5. {DIM}-d heads on frozen features, {steps} steps of {IMAGES} images: R@1 on {classes} unseen classes, in %"
    )
    print(f"  frozen features, {test.embeddings.shape[1]}-d: cosine {recall(test)[0]:.1f}")
    untrained = [recall(test, taught(by_n_pair, train, rate=0.0, seed=seed, steps=1))[0] for seed in range(seeds)]
    print(f"  an untrained head: cosine {_spread(untrained)}")
    found = {}
    for name, cost_of in ARMS.items():
        rate = max(RATES, key=lambda r: max(recall(validation, taught(cost_of, train, rate=r, seed=100, steps=steps))))
        scores = [recall(test, taught(cost_of, train, rate=rate, seed=seed, steps=steps)) for seed in range(seeds)]
        by_cosine, by_distance = (list(column) for column in zip(*scores, strict=True))
        found[name] = by_cosine
        print(f"  {name}: rate {rate:g}, cosine {_spread(by_cosine)}, Euclidean {_spread(by_distance)}")
    for name in list(ARMS)[:2]:
        gains = [ours - theirs for ours, theirs in zip(found["N-pair-mc"], found[name], strict=True)]
        print(f"  N-pair-mc less {name}, seed by seed: {_spread(gains)}")


def main(*, quick: bool = False) -> None:
    """Print all five."""
    worked_batch()
    negatives()
    margin_met()
    cost()
    training(seeds=1 if quick else 10, steps=60 if quick else 300)


def _rows(table: Tensor, digits: int = 3) -> str:
    return "[" + "; ".join(" ".join(f"{number + 0.0:.{digits}f}" for number in row) for row in table.tolist()) + "]"


def _spread(values: list[float]) -> str:
    """Mean, and with several values their standard deviation."""
    return f"{statistics.mean(values):.1f}" + (f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else "")


def _points(points: Tensor) -> str:
    return " ".join(f"({x:.0f}, {y:.0f})" for x, y in points.tolist())


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(quick="--quick" in sys.argv)
