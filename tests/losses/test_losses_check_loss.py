"""The examiner catches broken losses of every sort, passes good ones, and writes a certificate."""

import json
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

import accord
from accord.errors import PromiseError, UnknownNameError, UsageError
from accord.losses import Contrastive, NormalisedSoftmax, NPair, check_loss, contrastive
from conformance import without_shape_checks

examine = partial(check_loss, strict=False, show=None)


@pytest.fixture(autouse=True)
def our_doorway_answers():
    with without_shape_checks():
        yield


def spread(embeddings: Tensor, labels: Tensor) -> Tensor:
    """A sound little loss: rows of one class together."""
    return ((embeddings[:, None] - embeddings).square().sum(dim=2) * (labels[:, None] == labels)).mean()


class _Backwards(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: object, outer: Tensor) -> Tensor:
        return -outer


class _Unscaled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.square().sum()

    @staticmethod
    def backward(ctx: object, outer: Tensor) -> Tensor:
        return 2 * ctx.saved_tensors[0]


class _Once(_Unscaled):
    @staticmethod
    def backward(ctx: object, outer: Tensor) -> Tensor:
        return 2 * outer * ctx.saved_tensors[0].detach()


def distances(x: Tensor, y: Tensor) -> Tensor:
    """Of different rows, by a root that has no gradient at 0."""
    rest = ~torch.eye(len(x), dtype=torch.bool)
    return (x[:, None] - x).square().sum(dim=2)[rest].sqrt().mean() if len(x) > 1 else x.sum()


class Forgetful(nn.Module):
    """Keeps a running mean, but not as a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.mean = torch.zeros(())

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        value = spread(embeddings, labels)
        self.mean = 0.9 * self.mean + 0.1 * value.detach()
        return value * self.scale.exp() + self.mean


class Chained(Forgetful):
    """Keeps a running mean with its graph."""

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        value = spread(embeddings, labels)
        self.mean = 0.9 * self.mean + 0.1 * value
        return value * self.scale.exp() + self.mean

    def __deepcopy__(self, memo: object) -> "Chained":
        return Chained()


class Idle(nn.Module):
    """Has a parameter that nothing depends on."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        return spread(embeddings, labels)


def _writes(embeddings: Tensor, labels: Tensor) -> Tensor:
    labels.add_(1)
    return spread(embeddings, labels)


def _breaks_on_half(embeddings: Tensor, labels: Tensor) -> Tensor:
    if embeddings.dtype == torch.bfloat16:
        raise NotImplementedError("no bfloat16 here")
    return spread(embeddings, labels)


BROKEN: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], str]] = {
    "wrong sign": (lambda x, y: spread(_Backwards.apply(x), y), "has_the_gradient_of_its_value"),
    "wrong sign, and it climbs": (lambda x, y: spread(_Backwards.apply(x), y), "trains_two_steps"),
    "forgets the outer gradient": (lambda x, y: _Unscaled.apply(x), "passes_the_outer_gradient_on"),
    "first order only": (lambda x, y: _Once.apply(x), "has_a_second_derivative"),
    "order of rows": (lambda x, y: (x[1:] - x[:-1]).square().sum() + x[:1].sum(), "ignores_the_order_of_the_batch"),
    "names of classes": (lambda x, y: (x.sum(dim=1) * y).square().sum(), "ignores_the_names_of_classes"),
    "NaN at duplicates": (distances, "survives_duplicates"),
    "NaN somewhere": (distances, "stays_finite_on_any_batch"),
    "unbounded at zero": (
        lambda x, y: spread(x / x.norm(dim=1, keepdim=True).clamp_min(1e-12), y),
        "survives_zero_rows_with_a_bounded_gradient",
    ),
    "NaN always": (lambda x, y: (x[:, None] - x).norm(dim=2).pow(-1).mean(), "trains_two_steps"),
    "silent constant": (lambda x, y: 0 * x.sum() + 1, "teaches_embeddings_and_parameters"),
    "idle parameter": (Idle(), "teaches_embeddings_and_parameters"),
    "asks for a number": (lambda x, y: spread(x, y) * (1 if spread(x, y).item() > 0 else 2), "asks_for_no_value"),
    "selects by a mask": (lambda x, y: x[y > 0].square().sum(), "asks_for_no_value"),
    "counts classes": (lambda x, y: spread(x, y) / len(y.unique()), "never_waits_for_the_device"),
    "a dtype": (_breaks_on_half, "takes_every_floating_dtype"),
    "forgets its state": (Forgetful(), "returns_from_its_state"),
    "keeps the graph": (Chained(), "trains_two_steps"),
    "writes into labels": (_writes, "leaves_what_it_is_given"),
    "draws globally": (lambda x, y: spread(x, y) * (1 + torch.rand(())), "leaves_what_it_is_given"),
    "lets NaN through": (spread, "names_the_row_that_is_not_finite"),
    "lets floating labels through": (spread, "refuses_labels_of_another_kind"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_catches(fault: str) -> None:
    objective, promise = BROKEN[fault]
    assert promise in {row.promise for row in examine(objective).broken}


def test_finds_little_wrong_with_a_little_loss() -> None:
    found = {row.promise for row in examine(spread).broken}
    assert found <= {
        "names_the_row_that_is_not_finite",
        "refuses_labels_of_another_kind",
        "takes_or_refuses_lists_and_arrays",
        "stands_an_empty_batch",
        "stays_finite_on_any_batch",  # squares of 65504 do not fit float16
        "takes_every_floating_dtype",
        "keeps_its_precision_under_autocast",
    }


@pytest.mark.parametrize("objective", [Contrastive(), contrastive, NormalisedSoftmax(6, 5), NPair()])
def test_passes_ours(objective: Callable[[Tensor, Tensor], Tensor]) -> None:
    certificate = check_loss(objective, show=None)
    assert certificate.passed
    assert certificate.facts["dtypes"] == ["float64", "float32", "bfloat16", "float16"]


def test_takes_other_widths_and_numbers_of_classes() -> None:
    certificate = check_loss(NormalisedSoftmax(17, 100), dim=17, classes=100, show=None)
    assert certificate.facts["learns classes"] is True


def test_finds_out_what_a_loss_ignores() -> None:
    assert examine(contrastive).facts["invariances"] == ["length", "rotation", "row order"]
    assert examine(spread).facts["invariances"] == ["rotation", "translation", "row order"]
    assert examine(NPair()).facts["invariances"] == ["rotation"]
    assert examine(Forgetful()).facts["remembers batches"] is True


def test_shows_a_certificate() -> None:
    said: list[str] = []
    certificate = check_loss(contrastive, show=said.append)
    assert said == [str(certificate)]
    assert said[0].startswith("contrastive: passed (")
    assert "finite cases: 500/500" in said[0]
    assert "✓ has the gradient of its value" in said[0]


def test_a_certificate_is_plain_data() -> None:
    plain = json.loads(json.dumps(examine(spread, name="mine").as_json()))
    assert plain["name"] == "mine"
    assert plain["passed"] is False
    assert plain["facts"]["learns classes"] is False
    assert {row["verdict"] for row in plain["promises"]} == {"kept", "broken", "not applicable"}


def test_raises_with_the_broken_promises_unless_told_otherwise() -> None:
    with pytest.raises(
        PromiseError, match=r"spread breaks \d+ promises(.|\n)*names_the_row_that_is_not_finite: "
    ) as caught:
        check_loss(spread, show=None)
    assert not caught.value.certificate.passed
    assert caught.value.exit_code == 1


def test_an_exemption_needs_a_fault() -> None:
    name = "names_the_row_that_is_not_finite"
    rows = {row.promise: row for row in examine(spread, exempt={name: "trusted input"}).rows}
    assert rows[name][2:] == ("exempt", "trusted input")
    rows = {row.promise: row for row in examine(contrastive, exempt={name: "no need"}).rows}
    assert rows[name][2:] == ("broken", "exempt (no need), yet kept")
    with pytest.raises(UnknownNameError, match="no promise called 'names_the_row'"):
        check_loss(spread, exempt={"names_the_row": "typing"})


def test_says_what_to_do_about_the_wrong_width() -> None:
    with pytest.raises(UsageError, match=r"can't take a usual batch(.|\n)*give dim= and classes="):
        check_loss(NormalisedSoftmax(17, 5), show=None)
    with pytest.raises(UsageError, match="can't be called"):
        check_loss(3)
    with pytest.raises(UsageError, match="at least 2"):
        check_loss(spread, classes=1)


def test_leaves_the_objective_and_the_random_state_alone() -> None:
    objective = NormalisedSoftmax(6, 5)
    state, weights = torch.get_rng_state(), [tensor.clone() for tensor in objective.parameters()]
    examine(objective)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(*pair) for pair in zip(weights, objective.parameters(), strict=True))
    assert all(tensor.grad is None and tensor.dtype == torch.float32 for tensor in objective.parameters())


def test_works_where_gradients_are_off() -> None:
    with torch.no_grad():
        assert check_loss(contrastive, show=None).passed


def test_is_found_at_the_front_door() -> None:
    assert accord.check_loss is check_loss


FOREIGN = (
    ("ArcFaceLoss", (5, 6), "survives_embeddings_on_their_class_vectors"),
    ("TupletMarginLoss", (), "survives_duplicates"),
    ("SmoothAPLoss", (), "ignores_the_order_of_the_batch"),
    ("DynamicSoftMarginLoss", (), "trains_two_steps"),
    ("TripletMarginLoss", (), "takes_every_floating_dtype"),
    ("CircleLoss", (), "has_the_gradient_of_its_value"),
)


@pytest.mark.parametrize(("name", "needs", "promise"), FOREIGN)
def test_reports_on_losses_of_others(name: str, needs: tuple[int, ...], promise: str) -> None:
    losses = pytest.importorskip("pytorch_metric_learning.losses")
    certificate = examine(getattr(losses, name)(*needs))
    kept = {row.promise for row in certificate.rows if row.verdict == "kept"}
    assert "teaches_embeddings_and_parameters" in kept
    assert certificate.facts["learns classes"] is bool(needs)
    if promise in kept:
        pytest.skip(f"the installed {name} has been mended: it {promise.replace('_', ' ')}")
    assert promise in {row.promise for row in certificate.broken}
