"""Promises of the saved state: going on from it is the same as never having stopped."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from accord.errors import ArtifactError, NumericError, UsageError
from accord.runs import RunFolder
from accord.training import environment_changes, restore, train, training_state, warmup_cosine
from accord.types import Json

STEPS = 12


def go(parts: Any, batches: Any, first: int, last: int, **options: Any) -> list[float]:
    """Train from one step to another of a plan of twelve."""
    options = {"schedule": lambda step: warmup_cosine(step, steps=STEPS, warmup=0.25), "clip_norm": 1.0, **options}
    steps = train(
        parts.model, parts.objective, batches, parts.optimizer, steps=last, first=first, steps_per_epoch=4, **options
    )
    return [float(step.loss) for step in steps]


def same(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def saved_at(build: Any, batches: Any, split: int, **options: Any) -> tuple[dict[str, Tensor], Json, list[float]]:
    parts = build()
    losses = go(parts, batches, 0, split, **options)
    return *training_state(*parts, step=split, extra={"best": 0.25}), losses


def continued(
    build: Any, batches: Any, tensors: dict[str, Tensor], facts: Json, **options: Any
) -> tuple[Any, list[float]]:
    """Restore into parts of another start, as a new process would, and train to the end."""
    parts = build(seed=99)
    first = restore(*parts, tensors, facts)
    return parts, go(parts, batches, first, STEPS, **options)


@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize("split", range(STEPS + 1))
def test_goes_on_bit_equal_from_every_step(
    build: Any, batches: Any, tmp_path: Path, split: int, precision: str
) -> None:
    whole = build()
    losses = go(whole, batches, 0, STEPS, precision=precision)
    tensors, facts, before = saved_at(build, batches, split, precision=precision)
    with RunFolder.create(tmp_path / "run") as run:
        run.save_state(tensors, facts)
        state = run.load_state()
    assert state is not None
    assert state.facts["extra"] == {"best": 0.25}
    parts, after = continued(build, batches, state.tensors, state.facts, precision=precision)
    assert before + after == losses
    assert same(parts.everything(), whole.everything())
    groups = [parts.optimizer.param_groups, whole.optimizer.param_groups]
    plain = [[{key: value for key, value in group.items() if key != "params"} for group in each] for each in groups]
    assert plain[0] == plain[1]


PIECES = [
    "model/backbone.0.weight",
    "model/backbone.1.running_mean",
    "model/backbone.1.running_var",
    "model/heads.pairs.weight",
    "objective/proxies",
    "objective/loss_weights",
    "objective/scale",
    "objective/memory",
    "objective/place",
    "/exp_avg",
    "/exp_avg_sq",
    "/step",
    "random/cpu",
]


@pytest.mark.parametrize("piece", [*PIECES, "next step", "first rates"])
def test_no_piece_of_the_state_is_there_for_nothing(build: Any, batches: Any, piece: str) -> None:
    whole = build()
    losses = go(whole, batches, 0, STEPS)
    tensors, facts, before = saved_at(build, batches, 5)
    fresh, _ = training_state(*build(), step=0)
    if piece == "next step":
        facts["step"] = 4
    elif piece == "first rates":
        groups = dict(dict(facts["structure"]["optimizer"]["dict"])["param_groups"]["list"][0]["dict"])
        groups["initial_lr"]["value"] *= 1.01
    else:
        hit = [name for name in tensors if name.endswith(piece)]
        assert hit
        for name in hit:
            tensors[name] = fresh.get(name, torch.zeros_like(tensors[name]))
    parts, after = continued(build, batches, tensors, facts)
    assert before + after != losses or not same(parts.everything(), whole.everything())


def test_the_state_is_a_copy(build: Any, batches: Any) -> None:
    parts = build()
    tensors, _ = training_state(*parts, step=0)
    before = {name: value.clone() for name, value in tensors.items()}
    go(parts, batches, 0, 2)
    assert same(tensors, before)


def test_saving_changes_nothing(build: Any, batches: Any) -> None:
    whole, watched = build(), build()
    torch.manual_seed(3)
    go(whole, batches, 0, 4)
    torch.manual_seed(3)
    for step in train(
        watched.model, watched.objective, batches, watched.optimizer, steps=4, steps_per_epoch=4,
        schedule=lambda step: warmup_cosine(step, steps=STEPS, warmup=0.25), clip_norm=1.0,
    ):  # fmt: skip
        training_state(*watched, step=step.number + 1)
    assert same(whole.everything(), watched.everything())


def test_weights_that_are_not_finite_are_never_saved(build: Any) -> None:
    for part, name in ((0, r"model\.heads\.pairs\.weight"), (1, r"objective\.proxies")):
        parts = build()
        parameter = parts[0].heads["pairs"].weight if part == 0 else parts[1].proxies
        with torch.no_grad():
            parameter[0, 0] = torch.nan
        with pytest.raises(NumericError, match=name):
            training_state(*parts, step=1)


def refused(parts: Any, tensors: dict[str, Tensor], facts: Json, message: str) -> None:
    before, random = parts.everything(), torch.get_rng_state()
    with pytest.raises(ArtifactError, match=message):
        restore(*parts, tensors, facts)
    assert same(parts.everything(), before)
    assert torch.equal(torch.get_rng_state(), random)


def test_another_model_is_refused_by_the_names_and_shapes_that_differ(build: Any, batches: Any) -> None:
    tensors, facts, _ = saved_at(build, batches, 2)
    wider = build()
    wider.model.heads["pairs"] = nn.Linear(6, 5)
    shapes = r"another model\.(.|\n)*heads\.pairs\.weight: saved \(4, 6\) float32, here \(5, 6\) float32"
    refused(wider, tensors, facts, shapes)
    more = build()
    more.model.heads["third"] = nn.Linear(6, 4)
    refused(more, tensors, facts, r"heads\.third\.weight: saved absent, here \(4, 6\)")
    fewer = build()
    del fewer.model.backbone[0:2]
    refused(fewer, tensors, facts, r"backbone\.0\.weight: saved \(6, 3, 3, 3\) float32, here absent(.|\n)*more")
    doubled = build()
    doubled.model.double()
    refused(doubled, tensors, facts, "float64")


def test_another_objective_is_refused(build: Any, batches: Any) -> None:
    tensors, facts, _ = saved_at(build, batches, 2)
    parts = build()
    parts.objective.register_buffer("memory", torch.zeros(9, 4))
    refused(parts, tensors, facts, r"another objective\.(.|\n)*memory: saved \(6, 4\) float32, here \(9, 4\)")
    parts = parts._replace(objective=nn.Identity())
    with pytest.raises(ArtifactError, match="another objective"):
        restore(*parts, tensors, facts)


def test_another_optimiser_is_refused(build: Any, batches: Any) -> None:
    tensors, facts, _ = saved_at(build, batches, 2)
    parts = build()
    plain = torch.optim.AdamW([*parts.model.parameters(), *parts.objective.parameters()])
    refused(parts._replace(optimizer=plain), tensors, facts, r"saved: AdamW of trunk \(1\)(.|\n)*here: *AdamW of group")
    sgd = torch.optim.SGD([dict(group) for group in parts.optimizer.param_groups], lr=0.1)
    refused(parts._replace(optimizer=sgd), tensors, facts, "here: *SGD of trunk")


def test_a_state_of_another_format_or_with_holes_is_refused(build: Any, batches: Any) -> None:
    tensors, facts, _ = saved_at(build, batches, 2)
    refused(build(), tensors, {**facts, "format": 2}, "format 2")
    missing = {name: value for name, value in tensors.items() if name != "model/heads.pairs.weight"}
    refused(build(), missing, facts, r"damaged(.|\n)*heads\.pairs\.weight")
    for broken in ({}, {"a": 1, "b": 2}, {"dict": 5}, {"dict": [1]}, [1], {"float": "x"}):
        refused(build(), tensors, {**facts, "structure": {**facts["structure"], "model": broken}}, "damaged")
    strange = {**facts, "structure": {**facts["structure"], "model": {"pickle": ""}}}
    refused(build(), tensors, strange, "'pickle', which this version")


def test_a_plain_function_has_no_state(tiny: Any, batches: Any) -> None:
    model = tiny(heads=("only",))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    def objective(embeddings: Tensor, labels: Tensor) -> Tensor:
        return embeddings.square().sum()

    list(train(model, objective, batches, optimizer, steps=2, steps_per_epoch=1))
    tensors, facts = training_state(model, objective, optimizer, step=2)
    assert restore(model, objective, optimizer, tensors, facts) == 2
    assert facts["extra"] == {}


class Counter(nn.Module):
    """Keeps a number that is no tensor."""

    count = 0

    def get_extra_state(self) -> Json:
        return {"count": self.count}

    def set_extra_state(self, state: Json) -> None:
        self.count = state["count"]


def test_state_that_is_no_tensor_comes_back_too(build: Any) -> None:
    parts, other = build(), build()
    for each, count in ((parts, 7), (other, 0)):
        each.objective.counter = Counter()
        each.objective.counter.count = count
    restore(*other, *training_state(*parts, step=0))
    assert other.objective.counter.count == 7


def test_every_kind_of_value_comes_back_as_it_was(build: Any) -> None:
    parts = build()
    odd = {"none": None, "yes": True, "inf": float("-inf"), "pair": (1, [2.5, "x"]), "by number": {3: torch.ones(2)}}
    parts.optimizer.param_groups[0]["odd"] = odd
    tensors, facts = training_state(*parts, step=0)
    other = build()
    restore(*other, tensors, facts)
    found = other.optimizer.param_groups[0]["odd"]
    assert torch.equal(found["by number"].pop(3), odd["by number"].pop(3))
    assert found == odd
    assert [type(value) for value in found.values()] == [type(value) for value in odd.values()]


def test_values_that_are_neither_tensors_nor_json_are_named(build: Any) -> None:
    parts = build()
    parts.optimizer.param_groups[0]["odd"] = object()
    with pytest.raises(UsageError, match="optimizer/param_groups/0/odd is a object"):
        training_state(*parts, step=0)


def test_random_numbers_of_other_devices_are_kept(build: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    states = [torch.arange(4, dtype=torch.uint8), torch.arange(4, 8, dtype=torch.uint8)]
    given: list[Tensor] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", lambda: states)
    monkeypatch.setattr(torch.cuda, "set_rng_state_all", given.extend)
    parts = build()
    restore(*parts, *training_state(*parts, step=0))
    assert len(given) == 1
    assert torch.equal(given[0], states[0])


def test_says_what_differs_between_the_machines(build: Any) -> None:
    _, facts = training_state(*build(), step=0)
    assert environment_changes(facts) == []
    facts["environment"] = {"torch": "1.0", "threads": torch.get_num_threads()}
    assert environment_changes(facts) == [f"torch was 1.0 and is now {torch.__version__}"]
