"""What losses are handed that they can't use, or hardly: refused in our words, or taken for what it is."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from accord import losses
from accord.errors import BatchError, UsageError
from accord.losses import (
    AdaFace,
    CurricularFace,
    DynamicMarginArcFace,
    ElasticFace,
    LargeMarginSoftmax,
    curricular_face,
    dynamic_soft_margin,
    elastic_face,
    koleo,
    large_margin_softmax,
)
from accord.losses._settings import row_engine
from accord.recipes import build_loss
from accord.recipes.catalog.losses import LOSSES
from conformance import generator, without_shape_checks

DIM, CLASSES, ITEMS = 6, 8, 16
TABLES = [name for name, info in LOSSES.items() if "classes" in info.needs]
WIDE = (torch.float64, torch.float32), (torch.float32, torch.float64)


def made(name: str, dtype: torch.dtype = torch.float32) -> nn.Module:
    # by class, for losses that take `classes` without needing it would be made without
    return build_loss(name, dim=DIM, classes=CLASSES).to(dtype)


def batch(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    embeddings = torch.randn(ITEMS, DIM, generator=generator(3), dtype=torch.float64).to(dtype)
    return embeddings.requires_grad_(), torch.arange(ITEMS) % (CLASSES // 2)


def results(objective: nn.Module, embeddings: Tensor, labels: Tensor) -> list[Tensor]:
    value = objective(embeddings, labels)
    known = [tensor for tensor in (embeddings, *objective.parameters()) if tensor.requires_grad]
    return [value, *torch.autograd.grad(value, known, materialize_grads=True)]


@pytest.mark.parametrize("name", LOSSES)
def test_takes_uint8_labels(name: str) -> None:
    embeddings, labels = batch()
    if name not in TABLES:
        labels = 255 - labels
    expected = results(made(name), embeddings, labels)
    torch.testing.assert_close(results(made(name), embeddings, labels.to(torch.uint8)), expected)


@pytest.mark.parametrize("dtype", [torch.uint16, torch.uint32, torch.uint64])
@pytest.mark.parametrize("name", LOSSES)
def test_refuses_wider_unsigned_labels(name: str, dtype: torch.dtype) -> None:
    embeddings, labels = batch()
    with without_shape_checks(), pytest.raises(BatchError, match=r"labels\.long\(\)"):
        made(name)(embeddings, labels.to(dtype))


@pytest.mark.parametrize("name", LOSSES)
def test_refuses_embeddings_no_kernel_takes(name: str) -> None:
    embeddings, labels = batch()
    embeddings = embeddings.detach()
    for wrong in (embeddings[:, :0], embeddings.to_sparse(), embeddings.to(torch.float8_e4m3fn), None):
        with without_shape_checks(), pytest.raises(BatchError):
            made(name)(wrong, labels)


@pytest.mark.parametrize("name", TABLES)
def test_refuses_a_batch_that_does_not_fit_the_table(name: str) -> None:
    embeddings, labels = (part.detach() for part in batch())
    objective = made(name)
    before = {key: value.clone() for key, value in objective.state_dict().items()}
    for x, y in ((embeddings[:, :4], labels), (embeddings.to("meta"), labels.to("meta"))):
        with without_shape_checks(), pytest.raises(BatchError, match=r"width of the learned classes(.|\n)*classes:"):
            objective(x, y)
    torch.testing.assert_close(objective.state_dict(), before, rtol=0, atol=0)


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize(("of_batch", "of_table"), WIDE)
def test_takes_a_table_of_another_precision(name: str, of_batch: torch.dtype, of_table: torch.dtype) -> None:
    embeddings, labels = batch(of_batch)
    mixed = made(name, of_table)
    found = results(mixed, embeddings, labels)
    assert [part.dtype for part in found[1:]] == [of_batch] + [part.dtype for part in mixed.parameters()]
    whole = results(made(name, torch.float64), batch(of_batch)[0].double().detach().requires_grad_(), labels)
    for left, right in zip(found, whole, strict=True):
        torch.testing.assert_close(left.double(), right.double(), rtol=1e-4, atol=1e-5)


def test_the_table_of_another_precision_is_used_whole() -> None:
    embeddings, labels = batch(torch.float64)
    table = torch.randn(CLASSES, DIM, generator=generator(4))
    expected = losses.arc_face(embeddings, labels, table.double())
    assert losses.arc_face(embeddings, labels, table).item() == pytest.approx(expected.item(), rel=1e-14)


@pytest.mark.parametrize(
    "call",
    [
        lambda x, y: elastic_face(x, y, torch.ones(CLASSES, DIM)),
        lambda x, y: dynamic_soft_margin(x, y, torch.zeros(10)),
        lambda x, y: curricular_face(x, y, torch.ones(CLASSES, DIM), torch.tensor(0.0)),
        lambda x, y: large_margin_softmax(x, y, torch.ones(CLASSES, DIM)),
    ],
)
def test_functions_look_at_the_batch_first(call: Callable[[object, object], object]) -> None:
    embeddings, labels = (part.detach() for part in batch())
    for wrong in (None, embeddings.numpy()):
        with without_shape_checks(), pytest.raises(BatchError, match="must be tensors"):
            call(wrong, labels)


@pytest.mark.parametrize("table", [None, torch.ones(CLASSES), torch.ones(CLASSES, DIM, dtype=torch.int64)])
def test_refuses_a_table_that_is_none(table: object) -> None:
    with without_shape_checks(), pytest.raises(BatchError, match=r"\(class, dim\) tensor"):
        losses.arc_face(*batch(), table)


@pytest.mark.parametrize("kind", [AdaFace, CurricularFace, DynamicMarginArcFace, ElasticFace])
def test_a_refused_batch_leaves_no_trace(kind: type) -> None:
    objective = kind(DIM, CLASSES)
    before = {key: value.clone() for key, value in objective.state_dict().items()}
    with without_shape_checks(), pytest.raises(BatchError):
        objective(torch.ones(4, DIM + 1), torch.arange(4))
    torch.testing.assert_close(objective.state_dict(), before, rtol=0, atol=0)


@pytest.mark.parametrize("length", [1e-8, 1e-4, 1e-2, 1.0, 1e3])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_koleo_has_a_gradient_that_fits(length: float, dtype: torch.dtype) -> None:
    for items in (2, 3, 64):
        embeddings = (torch.randn(items, 128, generator=generator(0)) * length).to(dtype).requires_grad_()
        close = torch.cat([embeddings, embeddings * 1.001])
        value = koleo(close, torch.zeros(2 * items, dtype=torch.int64))
        value.backward()
        assert value.isfinite()
        assert embeddings.grad.isfinite().all()


def test_large_margin_softmax_has_one_gradient_by_its_table() -> None:
    embeddings, labels = batch(torch.float64)
    labels = labels % 3  # several items of one class, and classes without one
    weight = torch.randn(CLASSES, DIM, generator=generator(5), dtype=torch.float64)
    weight[1] = 0  # a vector without a length
    weight.requires_grad_()

    def both() -> tuple[Tensor, ...]:
        return torch.autograd.grad(large_margin_softmax(embeddings, labels, weight, margin=3), (embeddings, weight))

    with row_engine(plain=True):
        expected = both()
    torch.testing.assert_close(both(), expected)
    # twice from one graph: the table's gradient is not written to a second time
    value = large_margin_softmax(embeddings, labels, weight, margin=3)
    once = torch.autograd.grad(value, weight, retain_graph=True)[0].clone()
    torch.testing.assert_close(torch.autograd.grad(value, weight)[0], once)
    # a table that also flows elsewhere
    (found,) = torch.autograd.grad(large_margin_softmax(embeddings, labels, weight, margin=3) + weight.sum(), weight)
    torch.testing.assert_close(found, expected[1] + 1)


def test_large_margin_softmax_has_a_second_derivative_by_its_table() -> None:
    embeddings, labels = batch(torch.float64)
    weight = torch.randn(CLASSES, DIM, generator=generator(6), dtype=torch.float64).requires_grad_()
    small = embeddings.detach()[:5].requires_grad_()
    assert torch.autograd.gradgradcheck(lambda x, w: large_margin_softmax(x, labels[:5], w, margin=2), (small, weight))


def test_large_margin_softmax_makes_no_second_table() -> None:
    objective = LargeMarginSoftmax(64, 20_000)
    table_bytes = objective.weight.numel() * 4
    embeddings, labels = torch.randn(16, 64, generator=generator(0), requires_grad=True), torch.arange(16)
    with torch.profiler.profile(profile_memory=True) as profile:
        objective(embeddings, labels).backward()
    large = [event for event in profile.events() if event.self_cpu_memory_usage >= table_bytes]
    assert len(large) == 1


WRONG: tuple[tuple[Callable[[], object], str], ...] = (
    (lambda: build_loss("sup_con", temperature=1e-320), "temperature must be at least 1e-12"),
    (lambda: build_loss("proxy_anchor", dim=4, classes=3, alpha=1e300), "alpha must be more than 0 and at most 1e6"),
    (lambda: build_loss("arc_face", dim=4, classes=3, scale=1e38), "scale must be more than 0 and at most 1e6"),
    (lambda: build_loss("triplet_margin", margin=1e300), "margin must be at least 0 and at most 1e6"),
    (lambda: build_loss("cos_face", dim=4, classes=3, scale=1e300), "scale must be"),
    (lambda: build_loss("cosent", scale=10**400), "scale must be .* at most 1e6"),
    (lambda: build_loss("fast_ap", bins=10**7), "bins must be .* at most 10,000"),
    (lambda: build_loss("histogram", bins=10**7), "bins must be .* at most 10,000"),
    (lambda: build_loss("dynamic_soft_margin", bins=10**7), "bins must be .* at most 10,000"),
    (lambda: build_loss("dynamic_margin_arc_face", dim=4, classes=5, counts=[-1] * 5), "counts must be at least 0"),
    (lambda: build_loss("sphere_face", dim=4, classes=3, margin=10**6), "margin must be .* at most 16"),
    (lambda: build_loss("large_margin_softmax", dim=4, classes=3, margin=10**6), "margin must be .* at most 16"),
    (lambda: build_loss("triplet_margin", squared="no"), "squared must be True or False, not 'no'"),
    (lambda: build_loss("triplet_margin", normalised=1), "normalised must be True or False, not 1"),
    (lambda: build_loss("triplet_margin", swap="no"), "swap must be True or False"),
    (lambda: build_loss("triplet_margin", violating_only=0), "violating_only must be True or False"),
    (lambda: build_loss("circle", detach="no"), "detach must be True or False"),
    (lambda: build_loss("n_pair", symmetric=3), "symmetric must be True or False"),
    (lambda: build_loss("n_pair_ovo", symmetric=3), "symmetric must be True or False"),
    (lambda: build_loss("n_pair_angular", symmetric=3), "symmetric must be True or False"),
    (lambda: build_loss("quadruplet", squared="no"), "squared must be True or False"),
    (lambda: build_loss("quadruplet", normalised="no"), "normalised must be True or False"),
    (lambda: build_loss("lifted_structure", normalised="no"), "normalised must be True or False"),
    (lambda: build_loss("generalised_lifted", normalised="no"), "normalised must be True or False"),
    (lambda: build_loss("nca", normalised="no"), "normalised must be True or False"),
    (lambda: build_loss("ada_cos", dim=4, classes=3, dynamic="no"), "dynamic must be True or False"),
)


@pytest.mark.parametrize(("make", "message"), WRONG, ids=[message for _, message in WRONG])
def test_refuses_options_no_number_can_hold(make: Callable[[], object], message: str) -> None:
    with without_shape_checks(), pytest.raises(UsageError, match=message):
        make()
