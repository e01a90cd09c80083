"""Adversarial regressors: the value by a slow loop, the gradient turned round on its way to the heads, and learning."""

from math import sqrt

import pytest
import torch
from torch import Tensor

from accord.ensembles import AdversarialRegressors, Ensemble, FixedWeights, adversarial_similarity
from accord.errors import BatchError, UsageError
from accord.losses import Contrastive, NPair
from accord.models import Embedder
from accord.training import Rates, parameter_groups
from diverse_heads import heads_of
from slow import Row, mean, unit

LABELS = torch.arange(7) % 3
DIMS = {"a": 3, "b": 5, "c": 4}


def made(**options: object) -> AdversarialRegressors:
    return AdversarialRegressors(DIMS, hidden=20, **options).double()


def slow(term: AdversarialRegressors, heads: dict[str, Tensor]) -> float:
    """The mean over pairs (j, i) of mean over items of dim_i · Σ_k (f_i[k] · ĝ[k])², from plain lists."""
    parts = []
    for (source, target), regressor in zip(term.pairs, term.regressors, strict=True):
        values = []
        for x, y in zip(heads[source].tolist(), heads[target].tolist(), strict=True):
            hidden = [max(0.0, number) for number in _affine(regressor.inner, unit(x))]
            f, g = unit(y), unit(_affine(regressor.outer, hidden))
            values.append(len(f) * sum((p * q) ** 2 for p, q in zip(f, g, strict=True)))
        parts.append(mean(values))
    return -mean(parts)


def _affine(layer: torch.nn.Linear, x: Row) -> Row:
    rows, bias = layer.weight.tolist(), layer.bias.tolist()
    return [sum(w * v for w, v in zip(row, x, strict=True)) + b for row, b in zip(rows, bias, strict=True)]


def test_equals_its_slow_loop() -> None:
    for seed in range(30):
        term = made(generator=torch.Generator().manual_seed(seed), weight=0.7)
        heads = heads_of(*DIMS.values(), seed=seed)
        assert term(heads, LABELS).item() == pytest.approx(0.7 * slow(term, heads), rel=1e-9)


def test_the_regressors_get_the_gradient_and_the_heads_its_opposite() -> None:
    term, heads = made(weight=1.0), heads_of(*DIMS.values())
    term(heads, LABELS).backward()

    def difference(place: Tensor) -> float:
        """The slope of the slow loop at one number, by central differences."""
        with torch.no_grad():
            place += 1e-6
            up = slow(term, heads)
            place -= 2e-6
            down = slow(term, heads)
            place += 1e-6
        return (up - down) / 2e-6

    for name, row, column in (("a", 0, 0), ("b", 3, 4), ("c", 6, 1)):
        expected = -difference(heads[name].detach()[row, column])
        assert heads[name].grad[row, column].item() == pytest.approx(expected, rel=1e-5, abs=1e-8)
    for parameter in term.parameters():
        spot = (0,) * parameter.ndim
        expected = difference(parameter.detach()[spot])
        assert parameter.grad[spot].item() == pytest.approx(expected, rel=1e-5, abs=1e-8)


def test_the_regressors_learn_to_predict_what_can_be_predicted() -> None:
    head = heads_of(4, items=200)["a"].detach()
    heads = {"a": head, "b": head.flip(1)}
    term = AdversarialRegressors({"a": 4, "b": 4}, hidden=32, weight=1.0).double()
    optimizer = torch.optim.Adam(term.parameters(), lr=0.01)
    before = term(heads, torch.zeros(200, dtype=torch.int64)).item()
    for _ in range(400):
        optimizer.zero_grad()
        term(heads, torch.zeros(200, dtype=torch.int64)).backward()
        optimizer.step()
    after = term(heads, torch.zeros(200, dtype=torch.int64)).item()
    # the best there is: all of the prediction on the largest number of each item
    best = -4 * mean([max(number**2 for number in unit(row)) for row in head.tolist()])
    assert before == pytest.approx(-1, abs=0.3)
    assert best <= after <= 0.93 * best


def test_heads_that_learn_with_the_regressors_lose_what_they_share() -> None:
    head = heads_of(4, items=100)["a"].detach()
    heads = {"a": head.clone().requires_grad_(), "b": head.clone().requires_grad_()}
    labels = torch.zeros(100, dtype=torch.int64)
    term = AdversarialRegressors({"a": 4, "b": 4}, hidden=32, weight=1.0).double()
    regressors = torch.optim.Adam(term.parameters(), lr=0.01)
    both = torch.optim.Adam([{"params": list(term.parameters())}, {"params": list(heads.values())}], lr=0.01)
    for _ in range(300):
        regressors.zero_grad()
        term(heads, labels).backward()
        regressors.step()
    predicted = term(heads, labels).item()
    for _ in range(300):
        both.zero_grad()
        term(heads, labels).backward()
        both.step()
    assert predicted < -1.8
    assert term(heads, labels).item() > 0.7 * predicted


def test_the_length_of_heads_and_predictions_changes_nothing() -> None:
    term, heads = made(), heads_of(*DIMS.values())
    expected = term(heads, LABELS)
    torch.testing.assert_close(term({name: 30 * head for name, head in heads.items()}, LABELS), expected)
    with torch.no_grad():
        for regressor in term.regressors:
            regressor.outer.weight *= 5
            regressor.outer.bias *= 5
    torch.testing.assert_close(term(heads, LABELS), expected)


def test_a_prediction_of_one_number_gets_its_share() -> None:
    heads = {"a": torch.eye(3, dtype=torch.float64), "b": torch.full((3, 4), sqrt(0.25), dtype=torch.float64)}
    first = torch.eye(4, dtype=torch.float64)[:1]
    one = {("a", "b"): lambda x: first.expand(3, 4), ("b", "a"): lambda x: first[:, :3].expand(3, 3)}
    # head b uses its four numbers alike: 1; of head a, whose items use one number each, every third is found: 3 / 3
    assert adversarial_similarity(heads, one).item() == pytest.approx(-1)


def test_there_is_a_regressor_between_every_two_heads_both_ways() -> None:
    term = made()
    assert term.pairs == [("a", "b"), ("a", "c"), ("b", "a"), ("b", "c"), ("c", "a"), ("c", "b")]
    shapes = [(part.inner.in_features, part.outer.out_features) for part in term.regressors]
    assert shapes == [(DIMS[source], DIMS[target]) for source, target in term.pairs]
    with pytest.raises(BatchError, match="no regressor for a → c, b → a"):
        adversarial_similarity(heads_of(*DIMS.values()), {("a", "b"): torch.nn.Identity()})


def test_the_first_weights_come_from_the_generator_alone() -> None:
    before = torch.get_rng_state()
    one, two, other = (made(generator=torch.Generator().manual_seed(seed)).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(one["regressors.0.inner.weight"], other["regressors.0.inner.weight"])


def test_the_regressors_learn_with_the_heads_and_are_not_decayed(tiny_model: Embedder) -> None:
    term = AdversarialRegressors(tiny_model.dims)
    objective = Ensemble({"a": Contrastive(), "b": NPair()}, weighting=FixedWeights(), diversity=term)
    groups = {
        group["name"]: group for group in parameter_groups(tiny_model, objective, rates=Rates(heads=0.5, proxies=0.25))
    }
    heads = groups["heads_no_decay"]
    assert {id(parameter) for parameter in term.parameters()} <= {id(parameter) for parameter in heads["params"]}
    assert (heads["lr"], heads["weight_decay"]) == (0.5, 0.0)
    assert "proxies" not in groups


@pytest.fixture
def tiny_model() -> Embedder:
    from accord.models import LinearHead, build_backbone, build_pool
    from accord.types import Preprocessing

    backbone = build_backbone("resnet10")
    heads = {name: LinearHead(backbone.width, 4) for name in ("a", "b")}
    return Embedder(backbone, build_pool("average"), heads, preprocessing=Preprocessing(32))


@pytest.mark.parametrize("items", [0, 1])
def test_few_items_carry_a_gradient(items: int) -> None:
    term, heads = AdversarialRegressors(DIMS), {name: head.detach()[:items] for name, head in heads_of(3, 5, 4).items()}
    found = term({name: head.requires_grad_() for name, head in heads.items()}, LABELS[:items])
    found.backward()
    assert bool(found.isfinite())
    assert all(bool(parameter.grad.isfinite().all()) for parameter in term.parameters())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_regressors_in_single_precision_take_heads_of_all(dtype: torch.dtype) -> None:
    heads = {name: head.detach().to(dtype).requires_grad_() for name, head in heads_of(3, 5, 4).items()}
    term = AdversarialRegressors(DIMS)
    found = term(heads, LABELS)
    found.backward()
    exact = term({name: head.double() for name, head in heads.items()}, LABELS)
    torch.testing.assert_close(found.double(), exact.double(), rtol=1e-3, atol=1e-4)


def test_other_heads_than_it_was_made_for_are_refused() -> None:
    for heads in (heads_of(3, 5), heads_of(3, 5, 6), dict(zip("abd", heads_of(3, 5, 4).values(), strict=True))):
        with pytest.raises(BatchError, match=r"not those that the regressors were made for(.|\n)*made for: \{'a': 3"):
            made()(heads, LABELS)


@pytest.mark.parametrize(
    ("dims", "options", "message"),
    [
        ({"a": 3}, {}, "at least 2 heads to compare, not 1"),
        ({"a": 3, "b": 0}, {}, "the width of head 'b' must be a whole number of at least 1"),
        (DIMS, {"hidden": 0}, "hidden must be a whole number of at least 1"),
        (DIMS, {"weight": -0.1}, "weight must be at least 0"),
    ],
)
def test_options_out_of_range_are_refused(dims: dict[str, int], options: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError, match=f"adversarial: {message}|adversarial: needs {message}"):
        AdversarialRegressors(dims, **options)
