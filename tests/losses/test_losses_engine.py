"""The row engine: blocks, listed or compared labels, triangles and shared sweeps all give the plain result."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product

import pytest
import torch
from torch import Tensor

from accord.errors import BatchError, UnknownNameError, UsageError
from accord.losses import Contrastive, MultiSimilarity, contrastive, multi_similarity, proxy_nca
from accord.losses._engine import sweep, sweep_all
from accord.losses._plan import Member
from accord.losses._products import choose_product_path, product_path
from accord.losses._rule import Tally
from accord.losses._settings import row_engine, settings
from accord.losses._survey import survey
from accord.losses._tables import sweep_classes, sweep_table
from accord.mining import Block, Groups, Own
from conformance import without_shape_checks


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def labelled(kind: str, items: int = 40) -> tuple[Tensor, Tensor]:
    labels = {
        "random": torch.randint(0, 9, (items,), generator=torch.Generator().manual_seed(1)),
        "lone": torch.arange(items),
        "one": torch.zeros(items, dtype=torch.int64),
        "uneven": torch.arange(items).clamp_min(25),
        "pairs": torch.arange(items) // 2 * 10**15,
    }[kind]
    order = torch.randperm(items, generator=torch.Generator().manual_seed(2))
    return random(items, 5).requires_grad_(), labels[order]


@dataclass(frozen=True)
class Spread:
    """A rule that uses everything: distances, a learned tensor, one number per row, without a derivative by hand."""

    measure: str = "squared"
    unit: bool = False
    mutual: bool = False
    name = "spread"

    def costs(self, block: Block, heat: Tensor, shift: Tensor) -> Tally:
        pulls = torch.where(block.kept, block.positives + shift[:, None], 0).sum(dim=1)
        sign = 1 if self.measure == "score" else -1
        there = block.negatives.isfinite()
        found = (sign * heat * torch.where(there, block.negatives, 0)).exp() * there
        return Tally(pulls + found.sum(dim=1), block.positive_count)


@dataclass(frozen=True)
class Even:
    """A rule in which both items of a pair play the same part."""

    measure: str = "squared"
    unit: bool = True
    mutual: bool = True
    name = "even"

    def costs(self, block: Block) -> Tally:
        pulls = torch.where(block.kept, block.positives, 0).square().sum(dim=1)
        pushes = torch.relu((1.7 if self.measure == "squared" else 1.3) - block.negatives).square().sum(dim=1)
        return Tally(pulls + pushes, block.positive_count + block.negative_count)


@dataclass(frozen=True)
class Tail:
    """A survey: the log-sum over all pairs, with the first positive's column looked up."""

    name = "tail"
    pairs = True
    measure = "score"
    unit = True

    def read(self, block: Block) -> Tensor:
        return torch.stack(
            [torch.where(block.kept, -block.positives, -1e9).logsumexp(dim=1), block.negatives.logsumexp(dim=1)], dim=1
        )

    def finish(self, statistics: Tensor, own: Own) -> Tensor:
        assert own.kept.shape[0] == len(statistics)
        return torch.nn.functional.softplus(statistics.logsumexp(dim=0).sum())


HEAT, SHIFT = torch.tensor(0.3, dtype=torch.float64), random(40, seed=3)
LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "contrastive": lambda x, y: contrastive(x, y, margin=1.3),
    "contrastive linear by kinds": lambda x, y: contrastive(x, y, margin=1.3, hinge="linear", average="kinds"),
    "multi_similarity": multi_similarity,
    "multi_similarity unmined": lambda x, y: multi_similarity(x, y, epsilon=None),
    "even euclidean": lambda x, y: sweep(Even(measure="euclidean"), x, y),
    "even squared": lambda x, y: sweep(Even(), x, y),
    "even not unit": lambda x, y: sweep(Even(measure="euclidean", unit=False), x, y),
    "spread": lambda x, y: sweep(Spread(), x, y, learned=[HEAT], per_row=[SHIFT[: len(x)]]),
    "spread euclidean": lambda x, y: sweep(
        Spread(measure="euclidean"), x, y, learned=[HEAT], per_row=[SHIFT[: len(x)]]
    ),
    "spread score unit": lambda x, y: sweep(
        Spread("score", unit=True), x, y, learned=[HEAT], per_row=[SHIFT[: len(x)]]
    ),
    "survey": lambda x, y: survey(Tail(), x, y),
}


@contextmanager
def listed(block_bytes: int) -> Iterator[None]:
    with row_engine(block_bytes=block_bytes, dense_up_to=0):
        yield


def both(loss: Callable[..., Tensor], *inputs: Tensor) -> tuple[Tensor, ...]:
    value = loss(*inputs)
    return (value.detach(), *torch.autograd.grad(value, [x for x in inputs if x.requires_grad]))


def same(left: tuple[Tensor, ...], right: tuple[Tensor, ...]) -> None:
    for one, other in zip(left, right, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("kind", ["random", "lone", "one", "uneven", "pairs"])
@pytest.mark.parametrize("name", LOSSES)
def test_every_way_gives_the_plain_value_and_gradient(name: str, kind: str) -> None:
    embeddings, labels = labelled(kind)
    loss = LOSSES[name]
    with row_engine(plain=True):
        plain = both(lambda x: loss(x, labels), embeddings)
    for block_bytes, dense_up_to in product((1, 700, 5000, 10**6), (0, 10**6)):
        with row_engine(block_bytes=block_bytes, dense_up_to=dense_up_to):
            same(both(lambda x: loss(x, labels), embeddings), plain)


@pytest.mark.parametrize("name", LOSSES)
def test_the_gradient_has_a_gradient(name: str) -> None:
    embeddings, labels = random(12, 3).requires_grad_(), torch.arange(12) % 5
    with listed(300):
        assert torch.autograd.gradcheck(lambda x: LOSSES[name](x, labels), (embeddings,))
        assert torch.autograd.gradgradcheck(lambda x: LOSSES[name](x, labels), (embeddings,))


def test_learned_tensors_get_their_gradient() -> None:
    embeddings, labels = labelled("random")
    heat, shift = HEAT.clone().requires_grad_(), SHIFT.clone().requires_grad_()
    for unit in (False, True):

        def loss(x: Tensor, heat: Tensor, shift: Tensor, unit: bool = unit) -> Tensor:
            return sweep(Spread(unit=unit), x, labels, learned=[heat], per_row=[shift])

        with row_engine(plain=True):
            plain = both(loss, embeddings, heat, shift)
        with listed(700):
            same(both(loss, embeddings, heat, shift), plain)


@pytest.mark.parametrize("unit", [True, False])
@pytest.mark.parametrize("measure", ["score", "squared", "euclidean"])
def test_rows_may_be_held_against_other_columns(measure: str, unit: bool) -> None:
    embeddings, labels = labelled("random")
    keys = random(31, 5, seed=5).requires_grad_()
    # no column has label 8, and class 20 is no row's
    key_labels = torch.arange(31) % 8
    key_labels[30] = 20
    rule = Spread(measure, unit)

    def loss(x: Tensor, k: Tensor) -> Tensor:
        return sweep(rule, x, labels, keys=k, key_labels=key_labels, learned=[HEAT], per_row=[SHIFT])

    with row_engine(plain=True):
        plain = both(loss, embeddings, keys)
    with row_engine(plain=True, dense_up_to=0):
        same(both(loss, embeddings, keys), plain)
    for block_bytes, dense_up_to in product((1, 900, 10**6), (0, 10**6)):
        with row_engine(block_bytes=block_bytes, dense_up_to=dense_up_to):
            same(both(loss, embeddings, keys), plain)


def test_a_large_table_is_scaled_instead_of_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    embeddings, labels = labelled("random")
    proxies = random(50, 5, seed=7).requires_grad_()

    def loss(x: Tensor, p: Tensor) -> Tensor:
        return proxy_nca(x, labels, p) + sweep_classes(Even(measure="score"), x, labels, p)

    with row_engine(plain=True):
        plain = both(loss, embeddings, proxies)
    monkeypatch.setattr("accord.losses._vectors.COPY_BYTES", 300)
    with listed(3000):
        same(both(loss, embeddings, proxies), plain)


def test_a_backward_pass_may_be_repeated_to_the_bit() -> None:
    embeddings, labels = labelled("random")
    proxies = random(50, 5, seed=7).requires_grad_()
    for loss in (
        contrastive(embeddings, labels),
        proxy_nca(embeddings, labels, proxies),
        survey(Tail(), embeddings, labels),
    ):
        first = torch.autograd.grad(3 * loss, embeddings, retain_graph=True)[0]
        second = torch.autograd.grad(3 * loss, embeddings, retain_graph=True)[0]
        assert torch.equal(first, second)


def test_a_shared_sweep_gives_each_loss_its_value_and_weight() -> None:
    embeddings, labels = labelled("random")
    weights = torch.tensor([0.5, 2.0, -1.0], dtype=torch.float64)
    members = [Member(Contrastive(margin=1.2).rule), Member(MultiSimilarity().rule), Member(Even())]
    for kind in ("random", "lone", "one"):
        labels = labelled(kind)[1]
        alone = torch.stack([sweep(member.rule, embeddings, labels) for member in members])
        for block_bytes in (1, 900, 10**6):
            with listed(block_bytes):
                together = sweep_all(members, embeddings, labels)
                torch.testing.assert_close(together, alone)
                same(
                    torch.autograd.grad(together @ weights, embeddings),
                    torch.autograd.grad(alone @ weights, embeddings, retain_graph=True),
                )
    few, of_few = random(12, 3).requires_grad_(), torch.arange(12) % 5
    assert torch.autograd.gradgradcheck(lambda x: sweep_all(members, x, of_few) @ weights, (few,))


def test_only_what_needs_a_gradient_gets_one() -> None:
    embeddings, labels = labelled("random")
    proxies = random(50, 5, seed=7).requires_grad_()
    proxy_nca(embeddings.detach(), labels, proxies).backward()
    assert proxies.grad is not None
    assert embeddings.grad is None
    frozen = proxies.detach()
    proxy_nca(embeddings, labels, frozen).backward()
    assert frozen.grad is None
    with torch.no_grad():
        assert not contrastive(embeddings, labels).requires_grad


def test_nothing_costs_nothing_and_carries_a_gradient() -> None:
    embeddings, labels = torch.zeros(0, 5, requires_grad=True), torch.zeros(0, dtype=torch.int64)
    heat = torch.ones((), requires_grad=True)
    for value in (
        sweep(Spread(), embeddings, labels, learned=[heat]),
        survey(Tail(), embeddings, labels, learned=[heat]),
        sweep_all([Member(Even()), Member(Even())], embeddings, labels).sum(),
        sweep(
            Even(),
            torch.ones(2, 5, requires_grad=True),
            torch.ones(2, dtype=torch.int64),
            keys=embeddings,
            key_labels=labels,
        ),
    ):
        assert value == 0
        value.backward()


def test_a_memory_s_columns_cost_no_product() -> None:
    embeddings, labels = labelled("random")
    memory = random(30, 5, seed=9)

    @dataclass(frozen=True)
    class Remembering(Even):
        """The even rule with a memory beside the batch."""

        mutual: bool = False

        def beside(self, rows: Tensor, row_labels: Tensor) -> tuple[Tensor, Tensor]:
            return torch.cat([rows, memory]), torch.cat([row_labels, torch.arange(30) % 9])

    with row_engine(plain=True):
        plain = both(lambda x: sweep(Remembering(), x, labels), embeddings)
    for block_bytes in (1, 700, 10**6):
        with listed(block_bytes):
            same(both(lambda x: sweep(Remembering(), x, labels), embeddings), plain)


def test_no_batch_times_batch_numbers_are_kept() -> None:
    items = 1500
    embeddings, labels = random(items, 8, dtype=torch.float32).requires_grad_(), torch.arange(items) // 3
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, call, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            nonlocal largest
            out = call(*args, **(kwargs or {}))
            if isinstance(out, Tensor):
                largest = max(largest, out.untyped_storage().nbytes())
            return out

    with row_engine(block_bytes=100_000), Watch():
        (contrastive(embeddings, labels) + multi_similarity(embeddings, labels)).backward()
    assert 0 < largest <= 400_000 < items * items * 4  # 64 rows at least


def test_refuses_columns_that_do_not_fit() -> None:
    embeddings, labels = labelled("random")
    with pytest.raises(BatchError, match="must have their width"):
        sweep(Even(), embeddings, labels, keys=torch.ones(3, 4), key_labels=torch.arange(3))
    with pytest.raises(BatchError, match="width of the learned classes"):
        sweep_table(Even(measure="score"), embeddings, labels, torch.ones(9, 4))
    with pytest.raises(UsageError, match="block_bytes must be"), row_engine(block_bytes=0):
        pass


def test_settings_return_when_left() -> None:
    before = settings()
    with row_engine(block_bytes=5, plain=True):
        assert settings().plain
    assert settings() == before


def test_products_may_take_another_path() -> None:
    items = 1200
    embeddings, labels = random(items, 32, dtype=torch.float32).requires_grad_(), torch.arange(items) // 3
    expected = both(lambda x: multi_similarity(x, labels), embeddings)
    choose_product_path("onednn")
    try:
        found = both(lambda x: multi_similarity(x, labels), embeddings)
        assert product_path() in ("onednn", "default")
    finally:
        choose_product_path("default")
    torch.testing.assert_close(found[0], expected[0], rtol=1e-5, atol=0)
    torch.testing.assert_close(found[1], expected[1], rtol=1e-3, atol=1e-6)
    with without_shape_checks(), pytest.raises(UnknownNameError, match="Did you mean 'onednn'"):
        choose_product_path("onednm")  # type: ignore[arg-type]


def test_groups_list_the_same_columns_as_they_compare() -> None:
    for kind in ("random", "lone", "one", "uneven", "pairs"):
        labels = labelled(kind)[1]
        for triangle in (False, True):
            dense, sorted_ = (Groups(labels, triangle=triangle, dense_up_to=n) for n in (10**6, 0))
            sorted_.triangle = dense.triangle = triangle
            for rows in (slice(0, 13), slice(13, 40)):
                left, right = dense.own(rows), sorted_.own(rows)
                assert torch.equal(left.kept.sum(dim=1), right.kept.sum(dim=1))
                assert torch.equal(left.negative_count, right.negative_count)
                if right.chosen is not None:
                    found = torch.zeros_like(left.kept).scatter_(1, right.chosen, right.kept)
                    assert torch.equal(found | left.kept, left.kept)
            assert all(torch.equal(one, other) for one, other in zip(dense.totals, sorted_.totals, strict=True))
