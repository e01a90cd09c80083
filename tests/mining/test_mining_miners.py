"""Each miner keeps what a slow loop written from its definition keeps, in dense blocks and in listed ones."""

from collections.abc import Callable, Iterator
from math import acos, degrees, sqrt

import pytest
import torch
from torch import Tensor

from accord.errors import UnknownNameError, UsageError
from accord.geometry import cosine
from accord.losses._plan import Member, Plan
from accord.losses._rule import Tally
from accord.losses._settings import row_engine
from accord.losses._work import Work
from accord.mining import (
    AllPairs,
    AngularPairs,
    Block,
    Chain,
    DistanceWeighted,
    EasyPositive,
    Groups,
    HardPairs,
    Measure,
    Miner,
    MultiSimilarityPairs,
    PairMargin,
    PerRowCap,
    SemiHard,
    batch_block,
    mined_pairs,
)
from conformance import without_shape_checks

Row = tuple[dict[int, float], dict[int, float]]  # a row's positives and negatives by column, as cosines
Kept = tuple[set[int], set[int]]


def batch(seed: int) -> tuple[Tensor, Tensor]:
    """Fifteen unit vectors of four classes, one of them with 60 % of the items and one alone."""
    x = torch.randn(15, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return x / x.norm(dim=1, keepdim=True), torch.tensor([0, 0, 1, 0, 2, 0, 0, 1, 0, 3, 0, 0, 1, 2, 0])


def rows(x: Tensor, labels: Tensor) -> Iterator[Row]:
    scores, names = cosine(x, x).tolist(), labels.tolist()
    for a, name in enumerate(names):
        own = {c: scores[a][c] for c in range(len(names)) if names[c] == name and c != a}
        yield own, {c: scores[a][c] for c in range(len(names)) if names[c] != name}


def closest(side: dict[int, float]) -> set[int]:
    return {max(side, key=lambda c: side[c])} if side else set()


def farthest(side: dict[int, float]) -> set[int]:
    return {min(side, key=lambda c: side[c])} if side else set()


def everything(positives: dict[int, float], negatives: dict[int, float]) -> Kept:
    return set(positives), set(negatives)


def hard(positives: dict[int, float], negatives: dict[int, float]) -> Kept:
    return farthest(positives), closest(negatives)


def semi_hard(margin: float | None) -> Callable[..., Kept]:
    def slow(positives: dict[int, float], negatives: dict[int, float]) -> Kept:
        def squared(cosine: float) -> float:
            return 2 - 2 * cosine

        near, far = squared(max(positives.values())), squared(min(positives.values()))
        kept = {c for c, s in negatives.items() if squared(s) > near and (margin is None or squared(s) < far + margin)}
        return (set(positives) if kept else set()), kept

    return slow


def easy(kind: str) -> Callable[..., Kept]:
    def slow(positives: dict[int, float], negatives: dict[int, float]) -> Kept:
        best = max(positives.values())
        if kind == "all":
            return closest(positives), set(negatives)
        rivals = {c: s for c, s in negatives.items() if kind == "hard" or s < best}
        return (closest(positives) if rivals else set()), closest(rivals)

    return slow


def multi_similarity(positives: dict[int, float], negatives: dict[int, float]) -> Kept:
    low, high = min(positives.values()), max(negatives.values())
    return {c for c, s in positives.items() if s - 0.1 < high}, {c for c, s in negatives.items() if s + 0.1 > low}


def angular(positives: dict[int, float], negatives: dict[int, float]) -> Kept:
    def angle(cosine: float) -> float:
        return degrees(acos(max(-1.0, min(1.0, cosine))))

    wide = max(angle(s) for s in positives.values())
    narrow = min(angle(s) for s in negatives.values())
    kept = {c for c, s in positives.items() if angle(s) > narrow - 20}
    return kept, {c for c, s in negatives.items() if angle(s) < wide + 20}


def pair_margin(positives: dict[int, float], negatives: dict[int, float]) -> Kept:
    def distance(cosine: float) -> float:
        return sqrt(2 - 2 * cosine)

    kept = {c for c, s in positives.items() if distance(s) > 0.9}
    return kept, {c for c, s in negatives.items() if distance(s) < 1.2}


def capped(positives: dict[int, float], negatives: dict[int, float]) -> Kept:
    kept = sorted(positives, key=lambda c: positives[c])[:2]
    return set(kept), set(sorted(negatives, key=lambda c: -negatives[c])[:3])


# what a miner keeps of a row, and whether it keeps anything of rows that have one kind of pair only
CASES: dict[str, tuple[Miner, Callable[..., Kept], bool]] = {
    "all": (AllPairs(), everything, False),
    "hard": (HardPairs(), hard, False),
    "semi-hard": (SemiHard(), semi_hard(None), False),
    "semi-hard with a margin": (SemiHard(margin=0.4), semi_hard(0.4), False),
    "easy positive": (EasyPositive(), easy("semi_hard"), False),
    "easy positive, hard negative": (EasyPositive(negatives="hard"), easy("hard"), False),
    "easy positive, all negatives": (EasyPositive(negatives="all"), easy("all"), False),
    "multi-similarity": (MultiSimilarityPairs(), multi_similarity, False),
    "angular": (AngularPairs(), angular, False),
    "pair margin": (PairMargin(positive=0.9, negative=1.2), pair_margin, True),
    "cap": (PerRowCap(positives=2, negatives=3), capped, True),
}
RANDOM: dict[str, Miner] = {
    "distance weighted": DistanceWeighted(dim=4),
    "drawn cap": PerRowCap(positives=2, negatives=3, choice="draw"),
}
EVERY = {**{name: case[0] for name, case in CASES.items()}, **RANDOM}


def kept_of(block: Block) -> list[Kept]:
    """What a dense block has left, as sets of columns."""
    negatives = block.negatives.isfinite()
    return [
        ({*kept.nonzero().flatten().tolist()}, {*left.nonzero().flatten().tolist()})
        for kept, left in zip(block.kept, negatives, strict=True)
    ]


@pytest.mark.parametrize("name", CASES)
def test_keeps_what_its_definition_says(name: str) -> None:
    miner, slow, one_sided = CASES[name]
    for seed in range(40):
        x, labels = batch(seed)
        expected = [slow(*row) if (row[0] and row[1]) or one_sided else (set(), set()) for row in rows(x, labels)]
        assert kept_of(miner(batch_block(x, labels))) == expected


class Spy:
    """A rule that costs nothing and notes what a miner leaves of the engine's own blocks."""

    name, tables = "spy", 0

    def __init__(self, miner: Miner, measure: Measure, *, unit: bool = True) -> None:
        self.miner, self.measure, self.unit = miner, measure, unit
        self.found: list[tuple[slice, Block]] = []

    def costs(self, block: Block) -> Tally:
        assert block.unit == self.unit
        self.found.append((block.rows, self.miner(block)))
        return Tally(block.negative_count * 0, None)


def mined_by_engine(miner: Miner, x: Tensor, labels: Tensor, measure: Measure, dense_up_to: int) -> list[Kept]:
    groups = Groups(labels, dense_up_to=dense_up_to)
    spy = Spy(miner, measure)
    with row_engine(block_bytes=100):
        plan = Plan((Member(spy),), groups, 1e-12, 1e-12)
    Work(plan, x, None, (), (False,)).go([1.0])
    kept = []
    for where, block in spy.found:
        chosen = groups.own(where).chosen
        for r in range(len(block.kept)):
            slots = block.kept[r].nonzero().flatten()
            own = slots if chosen is None else chosen[r, slots]
            kept.append(({*own.tolist()}, {*block.negatives[r].isfinite().nonzero().flatten().tolist()}))
    assert len(spy.found) > 1
    return kept


@pytest.mark.parametrize("measure", ["score", "squared", "euclidean"])
@pytest.mark.parametrize("dense_up_to", [0, 10**6], ids=["listed", "dense"])
@pytest.mark.parametrize("name", EVERY)
def test_keeps_the_same_in_every_kind_of_block(name: str, dense_up_to: int, measure: Measure) -> None:
    x = torch.randn(40, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x = x / x.norm(dim=1, keepdim=True)
    labels = torch.arange(40) % 9
    labels[39] = 77
    whole = kept_of(EVERY[name](batch_block(x, labels)))
    with without_shape_checks():
        assert mined_by_engine(EVERY[name], x, labels, measure, dense_up_to) == whole


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("labels", [[0, 0, 0, 0], [0, 1, 2, 3], [0, 0, 1, 2]])
def test_rows_that_lack_a_side_do_no_harm(name: str, labels: list[int]) -> None:
    found = EVERY[name](batch_block(torch.eye(4), torch.tensor(labels)))
    assert found.positives.isfinite().all()
    assert not found.negatives.isnan().any()
    for (positives, negatives), label in zip(kept_of(found), labels, strict=True):
        assert all(labels[c] == label for c in positives)
        assert all(labels[c] != label for c in negatives)


@pytest.mark.parametrize("name", EVERY)
def test_passes_no_gradient_through_the_choice(name: str) -> None:
    x, labels = batch(0)
    x = x.requires_grad_()
    block = batch_block(x, labels)
    scores = x @ x.T
    block = block._replace(positives=scores, negatives=torch.where(block.negatives.isfinite(), scores, -torch.inf))
    found = EVERY[name](block)
    assert not found.kept.requires_grad
    kept = torch.where(found.kept, found.positives, 0).sum() + found.negatives[found.negatives.isfinite()].sum()
    plainly = torch.where(found.kept, scores, 0).sum() + scores[found.negatives.isfinite()].sum()
    (ours,), (expected,) = torch.autograd.grad(kept, x, retain_graph=True), torch.autograd.grad(plainly, x)
    torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize("name", EVERY)
def test_never_waits_for_the_device(name: str) -> None:
    x, labels = batch(0)
    block = batch_block(x, labels)
    away = block._replace(
        **{field: getattr(block, field).to("meta") for field in ("positives", "kept", "negatives", "negative_count")}
    )
    assert EVERY[name](away).negatives.shape == block.negatives.shape


def test_a_chain_hands_on_what_is_left() -> None:
    x, labels = batch(3)
    block = batch_block(x, labels)
    chain = Chain(SemiHard(), HardPairs())
    assert kept_of(chain(block)) == kept_of(HardPairs()(SemiHard()(block)))
    assert kept_of(chain(block)) != kept_of(HardPairs()(block))


def test_miners_of_a_chain_draw_apart() -> None:
    cap = PerRowCap(negatives=4, choice="draw")
    chain = Chain(cap, cap).bound(torch.tensor(5), 4)
    first, second = (miner(batch_block(*batch(0))) for miner in chain.miners)
    assert kept_of(first) != kept_of(second)


def test_draws_change_with_the_number_of_the_draw_alone() -> None:
    block = batch_block(*batch(0))
    for miner in RANDOM.values():
        one, same, other = (kept_of(miner.bound(torch.tensor(draw), 4)(block)) for draw in (1, 1, 2))
        assert one == same != other


def test_a_drawn_cap_keeps_so_many_and_each_as_often() -> None:
    block, hits = batch_block(*batch(0)), torch.zeros(15, 15)
    for draw in range(2000):
        found = PerRowCap(negatives=2, choice="draw", draw=draw)(block)
        assert bool((found.negative_count == 2).all())
        hits += found.negatives.isfinite()
    present = block.negatives.isfinite()
    expected = (2 / present.sum(dim=1, keepdim=True)).expand_as(present)
    assert (hits / 2000 - expected)[present].abs().max() < 0.06
    assert not hits[~present].any()


def test_distances_are_drawn_with_the_inverse_of_their_density() -> None:
    # one anchor, one positive, negatives at known distances from the anchor
    distances = [0.2, 0.5, 0.8, 1.1, 1.3, 1.45]
    cosines = torch.tensor([1 - d * d / 2 for d in distances], dtype=torch.float64)
    scores = torch.cat([torch.tensor([1.0, 0.9], dtype=torch.float64), cosines])[None]
    labels = torch.tensor([0, 0, 1, 1, 1, 1, 1, 1])
    same = labels[None] == 0
    kept = same & torch.tensor([[False, *[True] * 7]])
    block = Block("score", True, slice(0, 1), scores, kept, scores.masked_fill(same, -torch.inf), torch.tensor([6.0]))
    hits = torch.zeros(8)
    for draw in range(4000):
        found = DistanceWeighted(dim=16, draw=draw)(block)
        assert found.negative_count.tolist() == [1]
        hits += found.negatives[0].isfinite()

    def weight(d: float) -> float:
        d = max(d, 0.5)
        return 0.0 if d > 1.4 else 1 / (d**14 * (1 - d * d / 4) ** 6.5)

    weights = [weight(d) for d in distances]
    for hit, mine in zip((hits[2:] / 4000).tolist(), weights, strict=True):
        assert hit == pytest.approx(mine / sum(weights), abs=0.03)


def test_each_positive_draws_a_negative() -> None:
    x = torch.randn(60, 8, generator=torch.Generator().manual_seed(0))
    block = batch_block(x, torch.arange(60) % 12)
    found = DistanceWeighted(dim=8, reach=2.0)(block)
    assert torch.equal(found.kept, block.kept)
    assert found.negative_count.max() == 4  # four positives, so four draws
    assert found.negative_count.mean() > 3


def test_refuses_a_batch_without_length_one_where_angles_count() -> None:
    raw = batch_block(*batch(0))._replace(unit=False)
    for miner in (MultiSimilarityPairs(), AngularPairs(), PairMargin(), SemiHard(margin=0.2)):
        with pytest.raises(UsageError, match="normalise"):
            miner(raw)
    with pytest.raises(UsageError, match="give dim="):
        DistanceWeighted()(batch_block(*batch(0)))
    assert kept_of(HardPairs()(raw)) == kept_of(HardPairs()(batch_block(*batch(0))))


WRONG: tuple[tuple[Callable[[], object], str], ...] = (
    (lambda: MultiSimilarityPairs(epsilon=-1.0), "epsilon must be at least 0"),
    (lambda: AngularPairs(angle=100.0), "angle must be"),
    (lambda: PairMargin(positive=-0.1), "positive must be"),
    (lambda: PairMargin(negative=-0.1), "negative must be"),
    (lambda: SemiHard(margin=0.0), "margin must be more than 0"),
    (lambda: DistanceWeighted(dim=1), "dim must be a whole number of at least 2"),
    (lambda: DistanceWeighted(cutoff=0.0), "cutoff must be"),
    (lambda: DistanceWeighted(cutoff=1.0, reach=0.9), "reach must be"),
    (lambda: PerRowCap(), "positives= or negatives="),
    (lambda: PerRowCap(positives=0), "positives must be"),
    (lambda: Chain(), "one miner or more"),
)


@pytest.mark.parametrize(("make", "message"), WRONG, ids=[message for _, message in WRONG])
def test_refuses_options_out_of_range(make: Callable[[], object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make()


def test_suggests_the_option_that_was_meant() -> None:
    with without_shape_checks():
        with pytest.raises(UnknownNameError, match="Did you mean 'semi_hard'"):
            EasyPositive(negatives="semihard")
        with pytest.raises(UnknownNameError, match="Did you mean 'hardest'"):
            PerRowCap(positives=1, choice="hard")


def foreign_pairs(miner: Callable[..., tuple[Tensor, ...]], x: Tensor, labels: Tensor) -> tuple[set, set]:
    a, p, b, n = miner(x, labels)
    return {*zip(a.tolist(), p.tolist(), strict=True)}, {*zip(b.tolist(), n.tolist(), strict=True)}


def test_agrees_with_pytorch_metric_learning_where_definitions_do() -> None:
    miners = pytest.importorskip("pytorch_metric_learning.miners")
    for seed in range(10):
        x, labels = batch(seed)
        for ours, theirs in (
            (MultiSimilarityPairs(), miners.MultiSimilarityMiner()),
            (PairMargin(), miners.PairMarginMiner()),
        ):
            a, p, b, n = mined_pairs(x, labels, ours)
            mine = {*zip(a.tolist(), p.tolist(), strict=True)}, {*zip(b.tolist(), n.tolist(), strict=True)}
            assert mine == foreign_pairs(theirs, x, labels)
        a, p, _, n = mined_pairs(x, labels, HardPairs())
        assert {*zip(a.tolist(), p.tolist(), n.tolist(), strict=True)} == {
            *zip(*(part.tolist() for part in miners.BatchHardMiner()(x, labels)), strict=True)
        }
        a, p, _, n = mined_pairs(x, labels, EasyPositive())
        easy_semi = miners.BatchEasyHardMiner(pos_strategy="easy", neg_strategy="semihard")(x, labels)
        theirs = [part.tolist() for part in easy_semi]
        assert {*zip(a.tolist(), p.tolist(), strict=True)} == {*zip(theirs[0], theirs[1], strict=True)}
        assert {*zip(a.tolist(), n.tolist(), strict=True)} == {
            *zip(theirs[-2] if len(theirs) == 4 else theirs[0], theirs[-1], strict=True)
        }


def test_pairs_of_an_empty_batch_are_none() -> None:
    found = mined_pairs(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), HardPairs())
    assert [part.tolist() for part in found] == [[], [], [], []]
