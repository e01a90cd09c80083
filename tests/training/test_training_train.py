"""Promises of the training loop."""

import math
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from accord.errors import BatchError, NumericError, UsageError
from accord.training import train
from accord.types import Batch, Step, Triplets

Bad = Callable[[Any], Any]


def run(parts: Any, batches: Callable[[int], Batch], **options: Any) -> list[Step]:
    options = {"steps": 4, "steps_per_epoch": 3, **options}
    return list(train(parts.model, parts.objective, batches, parts.optimizer, **options))


def same(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def test_yields_what_each_step_did(build: Any, batches: Any) -> None:
    steps = run(build(), batches, schedule=lambda step: 0.5)
    assert [(step.number, step.epoch, step.skipped) for step in steps] == [(0, 0, 0), (1, 0, 0), (2, 0, 0), (3, 1, 0)]
    assert steps[0].rates == pytest.approx(
        {
            "trunk": 0.005,
            "trunk_no_decay": 0.005,
            "heads": 0.01,
            "heads_no_decay": 0.01,
            "proxies": 0.025,
            "loss_weights": 0.005,
        }
    )
    assert set(steps[0].terms) == {"pairs", "proxies"}
    for value in (steps[0].loss, steps[0].gradient_norm, *steps[0].terms.values()):
        assert not value.requires_grad
        assert value.ndim == 0


def test_the_loss_falls(build: Any, batches: Any) -> None:
    steps = run(build(), lambda step: batches(0), steps=40)
    assert float(steps[-1].loss) < 0.8 * float(steps[0].loss)


def test_is_the_plain_loop_written_out(build: Any, batches: Any) -> None:
    ours, plain = build(), build()
    torch.manual_seed(5)
    run(ours, batches, clip_norm=0.1)
    torch.manual_seed(5)
    plain.model.train()
    # a norm adds its parts up in their order, which is the optimiser's
    groups = [group for group in plain.optimizer.param_groups if group["name"] != "loss_weights"]
    for number in range(4):
        batch = batches(number)
        plain.optimizer.zero_grad()
        plain.objective(plain.model.outputs(batch.inputs), batch.labels).backward()
        torch.nn.utils.clip_grad_norm_([own for group in groups for own in group["params"]], 0.1)
        plain.optimizer.step()
    assert same(ours.everything(), plain.everything())


def test_weights_of_losses_neither_cut_the_rest_down_nor_are_cut(build: Any, batches: Any) -> None:
    def steps(slope: float) -> list[Step]:
        parts = build()
        plain = parts.objective.forward
        # a steep penalty on the weights alone, such as one that holds their sum
        parts.objective.forward = lambda *given: plain(*given) + slope * parts.objective.loss_weights.sum()
        return run(parts, batches, steps=1, clip_norm=0.1)

    torch.testing.assert_close(steps(0.0)[0].gradient_norm, steps(1e6)[0].gradient_norm)
    assert steps(math.nan)[0].skipped


def test_a_student_neither_cuts_its_teacher_down_nor_is_cut(build: Any, batches: Any) -> None:
    def trained(slope: float) -> tuple[Step, dict[str, Tensor], Tensor]:
        parts, student = build(), nn.Parameter(torch.ones(3))
        plain = parts.objective.forward
        parts.objective.register_parameter("student", student)
        parts.objective.forward = lambda *given: plain(*given) + slope * student.square().sum()
        parts.optimizer.add_param_group({"params": [student], "name": "student", "lr": 0.1})
        (step,) = run(parts, batches, steps=1, clip_norm=0.1)
        return step, parts.model.state_dict(), student.grad

    (little, alone, _), (much, beside, gradient) = trained(0.0), trained(1e6)
    assert torch.equal(little.gradient_norm, much.gradient_norm)
    assert same(alone, beside)
    assert gradient.tolist() == [2e6] * 3
    assert trained(math.nan)[0].skipped


def test_a_gradient_of_the_weights_that_is_not_finite_is_skipped(build: Any, batches: Any) -> None:
    parts = build()
    parts.objective.loss_weights.register_hook(lambda gradient: gradient * math.inf)
    before = parts.everything()
    (step,) = run(parts, batches, steps=1)
    assert step.skipped
    assert same(before, parts.everything())


def test_does_nothing_before_it_is_asked_for_a_step(build: Any, batches: Any) -> None:
    parts = build()
    before = parts.everything()
    steps = train(parts.model, parts.objective, batches, parts.optimizer, steps=3, steps_per_epoch=1)
    assert same(parts.everything(), before)
    assert next(steps).number == 0
    assert not same(parts.everything(), before)


def test_a_single_head_is_handed_over_by_itself(tiny: Any, batches: Any) -> None:
    seen = []

    def objective(embeddings: Tensor, labels: Tensor) -> Tensor:
        seen.append((embeddings.shape, labels.tolist()))
        return embeddings.square().mean()

    model = tiny(heads=("only",))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    (step,) = train(model, objective, batches, optimizer, steps=1, steps_per_epoch=1)
    assert seen == [((8, 4), batches(0).labels.tolist())]
    assert list(step.terms) == ["loss"]
    assert step.rates == {"group 0": 0.1}


def test_pairs_and_triplets_teach_in_place_of_labels(tiny: Any, batches: Any) -> None:
    seen = []

    def objective(embeddings: Tensor, relations: object) -> Tensor:
        seen.append(relations)
        return embeddings.square().mean()

    said = Triplets(*torch.tensor([[0], [3], [1]]))
    model = tiny(heads=("only",))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    list(train(model, objective, lambda n: batches(n)._replace(relations=said), optimizer, steps=1, steps_per_epoch=1))
    assert seen == [said]


def test_the_schedule_multiplies_the_first_rate_and_not_the_last(build: Any, batches: Any) -> None:
    steps = run(build(), batches, schedule=lambda step: 0.5**step)
    assert [step.rates["proxies"] for step in steps] == pytest.approx([0.05, 0.025, 0.0125, 0.00625])


def test_goes_back_to_training_mode_after_an_evaluation_in_between(build: Any, batches: Any) -> None:
    parts = build()
    modes = []
    for _ in train(parts.model, parts.objective, batches, parts.optimizer, steps=3, steps_per_epoch=1):
        modes.append((parts.model.training, parts.objective.training))
        parts.model.eval()
        parts.objective.eval()
    assert modes == [(True, True)] * 3


def test_a_frozen_batch_norm_stays_frozen(build: Any, batches: Any) -> None:
    parts = build()
    parts.model.backbone[1].eval()
    before = parts.model.backbone[1].running_mean.clone()
    run(parts, batches)
    assert not parts.model.backbone[1].training
    assert torch.equal(parts.model.backbone[1].running_mean, before)


class BadOnce:
    """Makes one place not finite at the steps it was told."""

    def __init__(self, parts: Any, batches: Any, where: str, at: set[int], value: float = math.nan) -> None:
        self.batches, self.where, self.at, self.value, self.number = batches, where, at, value, -1
        hooks = {"embedding": parts.model.heads["pairs"], "loss": parts.objective}
        if where in hooks:
            hooks[where].register_forward_hook(self._spoil)
        if where == "gradient":
            parts.model.heads["pairs"].weight.register_hook(lambda grad: self._spoil(None, None, grad))

    def __call__(self, number: int) -> Batch:
        self.number = number
        batch = self.batches(number)
        inputs = batch.inputs.float()
        if self.where == "image" and number in self.at:
            inputs[2] = self.value
        return batch._replace(inputs=inputs)

    def _spoil(self, module: object, inputs: object, output: Tensor) -> Tensor | None:
        if self.number not in self.at:
            return None
        spoiled = output.clone()
        spoiled.view(-1)[0] = self.value
        return spoiled


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("at", [0, 1, 3])
@pytest.mark.parametrize("where", ["image", "embedding", "loss", "gradient"])
def test_a_step_that_is_not_finite_leaves_every_bit_as_it_was(
    build: Any, batches: Any, where: str, at: int, value: float
) -> None:
    parts = build()
    bad = BadOnce(parts, batches, where, {at}, value)
    before = parts.everything()
    for step in train(parts.model, parts.objective, bad, parts.optimizer, steps=4, steps_per_epoch=4):
        assert step.skipped == (step.number == at)
        assert same(parts.everything(), before) == step.skipped
        before = parts.everything()
    assert all(bool(value.isfinite().all()) for value in before.values())


@pytest.mark.parametrize(
    ("where", "what", "ids"),
    [
        ("image", r"embeddings \(pairs, proxies\); loss terms", "300, 301, 302, 303, 304, 305, 306, 307"),
        ("embedding", r"embeddings \(pairs\); loss terms \(pairs\)", "300"),
        ("loss", "loss", "300, 301, 302, 303, 304, 305, 306, 307"),
        ("gradient", r"gradient of heads\.pairs\.weight and 0 more", "300, 301, 302, 303, 304, 305, 306, 307"),
    ],
)
def test_stops_after_too_many_in_a_row_and_names_the_items(
    build: Any, batches: Any, where: str, what: str, ids: str
) -> None:
    parts = build()
    bad = BadOnce(parts, batches, where, {0, 2, 3})
    seen = []
    steps = train(parts.model, parts.objective, bad, parts.optimizer, steps=9, steps_per_epoch=4, patience_nonfinite=2)
    with pytest.raises(NumericError, match=f"2 steps in a row(.|\n)*step 3(.|\n)*: {what}(.|\n)*: *ids {ids}\n"):
        seen.extend(step.skipped for step in steps)
    assert seen == [True, False, True]
    assert all(bool(value.isfinite().all()) for value in parts.everything().values())


def test_the_items_of_a_huge_batch_are_named_in_part(build: Any, batches: Any) -> None:
    parts = build()

    def many(number: int) -> Batch:
        return Batch(*(torch.cat([value] * 4) for value in batches(number)[:3]))

    bad = BadOnce(parts, many, "loss", {0})
    with pytest.raises(NumericError, match="and 12 more"):
        run(parts, bad, patience_nonfinite=1)


def test_a_loss_that_refuses_what_is_not_finite_counts_as_a_skipped_step(build: Any, batches: Any) -> None:
    parts = build()
    before = parts.everything()

    class Refuses(nn.Module):
        def forward(self, embeddings: Any, labels: Tensor) -> Tensor:
            raise NumericError("embeddings must be finite")

    optimizer = parts.optimizer
    steps = list(train(parts.model, Refuses(), batches, optimizer, steps=2, steps_per_epoch=1))
    assert [step.skipped for step in steps] == [True, True]
    assert same(parts.everything(), before)
    assert bool(steps[0].loss.isnan())
    with pytest.raises(NumericError, match="1 steps in a row") as caught:
        list(train(parts.model, Refuses(), batches, optimizer, steps=2, steps_per_epoch=1, patience_nonfinite=1))
    assert "embeddings must be finite" in str(caught.value.__cause__)


def test_a_gradient_too_long_to_measure_is_skipped(tiny: Any, batches: Any) -> None:
    model = tiny(heads=("only",))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def steep(embeddings: Tensor, labels: Tensor) -> Tensor:
        return 1e25 * embeddings.sum()

    with pytest.raises(NumericError, match="length of the gradient"):
        list(train(model, steep, batches, optimizer, steps=1, steps_per_epoch=1, patience_nonfinite=1))


def test_buffers_that_change_their_size_come_back_too(tiny: Any, batches: Any) -> None:
    class Grows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("queue", torch.zeros(0, 4))

        def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
            self.queue = torch.cat([self.queue, embeddings.detach()])
            return embeddings.sum() * (math.nan if len(self.queue) > 8 else 1.0)

    model, objective = tiny(heads=("only",)), Grows()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    steps = list(train(model, objective, batches, optimizer, steps=2, steps_per_epoch=1))
    assert [step.skipped for step in steps] == [False, True]
    assert objective.queue.shape == (8, 4)


def test_many_skipped_steps_are_said_once(build: Any, batches: Any) -> None:
    parts = build()
    bad = BadOnce(parts, batches, "loss", set(range(0, 120, 2)))
    with pytest.warns(RuntimeWarning, match="41 of the last 81 steps were skipped") as said:
        run(parts, bad, steps=120)
    assert len(said) == 1


def test_few_skipped_steps_are_not_worth_a_warning(build: Any, batches: Any) -> None:
    parts = build()
    bad = BadOnce(parts, batches, "loss", set(range(0, 250, 6)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(parts, bad, steps=250)


def test_a_batch_of_one_class_is_refused_or_skipped(build: Any, batches: Any) -> None:
    parts = build()
    before = parts.everything()

    def single(number: int) -> Batch:
        return batches(number)._replace(labels=torch.full((8,), 2))

    with pytest.raises(BatchError, match=r"step 0 can't teach(.|\n)*\[2, 2, 2, 2, 2\]"):
        run(parts, single)
    steps = run(parts, single, on_empty="skip")
    assert [step.skipped for step in steps] == [True] * 4
    assert same(parts.everything(), before)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_short_formats_train_and_keep_the_loss_in_float32(build: Any, batches: Any, precision: str) -> None:
    parts = build()
    seen = set()
    parts.objective.register_forward_pre_hook(lambda module, given: seen.update(v.dtype for v in given[0].values()))
    inside = set()
    parts.model.backbone[0].register_forward_hook(lambda module, given, out: inside.add(out.dtype))
    steps = run(parts, lambda step: batches(0), steps=30, precision=precision)
    assert seen == {torch.float32}
    assert inside == {getattr(torch, precision)}
    assert float(steps[-1].loss) < 0.9 * float(steps[0].loss)
    exact = run(build(), lambda step: batches(0), steps=1)
    assert float(steps[0].gradient_norm) == pytest.approx(float(exact[0].gradient_norm), rel=0.05)


def test_float16_scales_down_when_gradients_overflow_and_remembers_it_in_the_optimiser(
    build: Any, batches: Any
) -> None:
    parts = build()
    parts.optimizer.param_groups[0]["grad_scaler"] = {
        "scale": 2.0**120,
        "growth_factor": 2.0,
        "backoff_factor": 0.5,
        "growth_interval": 2000,
        "_growth_tracker": 0,
    }
    before = parts.everything()
    steps = run(parts, batches, steps=3, precision="float16")
    assert [step.skipped for step in steps] == [True] * 3
    assert same(parts.everything(), before)
    assert parts.optimizer.param_groups[0]["grad_scaler"]["scale"] == 2.0**117


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        ({"steps": -1}, "steps"),
        ({"first": -1}, "first"),
        ({"steps_per_epoch": 0}, "steps_per_epoch"),
        ({"patience_nonfinite": 0}, "patience_nonfinite"),
        ({"clip_norm": 0.0}, "clip_norm"),
        ({"on_empty": "pass"}, "on_empty"),
        ({"precision": "float8"}, "precision"),
    ],
)
def test_wrong_options_are_told_at_the_call(build: Any, batches: Any, wrong: dict[str, Any], name: str) -> None:
    parts = build()
    options = {"steps": 1, "steps_per_epoch": 1, **wrong}
    with pytest.raises(UsageError, match=name):
        train(parts.model, parts.objective, batches, parts.optimizer, **options)


def test_a_schedule_that_is_not_finite_never_reaches_the_weights(build: Any, batches: Any) -> None:
    parts = build()
    before = parts.everything()
    with pytest.raises(UsageError, match="schedule"):
        run(parts, batches, schedule=lambda step: math.nan)
    assert same(parts.everything(), before)


def test_a_model_without_outputs_is_refused(build: Any, batches: Any) -> None:
    parts = build()
    with pytest.raises(UsageError, match="Linear has no `outputs"):
        train(nn.Linear(2, 2), parts.objective, batches, parts.optimizer, steps=1, steps_per_epoch=1)


def test_a_model_without_heads_is_refused(tiny: Any, batches: Any) -> None:
    model = tiny(heads=())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(UsageError, match="no head"):
        list(train(model, lambda e, y: e.sum(), batches, optimizer, steps=1, steps_per_epoch=1))


@pytest.mark.parametrize("returned", [lambda e, y: 1.0, lambda e, y: e, lambda e, y: e.detach().sum()])
def test_an_objective_without_a_scalar_gradient_is_refused(tiny: Any, batches: Any, returned: Any) -> None:
    model = tiny(heads=("only",))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(UsageError, match="scalar tensor with a gradient"):
        list(train(model, returned, batches, optimizer, steps=1, steps_per_epoch=1))
