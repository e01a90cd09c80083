"""Promises of the saved state: two generations, a fallback that speaks, never silently from scratch."""

from pathlib import Path

import pytest
import torch

from accord.errors import ArtifactError, NumericError, UsageError
from accord.runs import RunFolder, State
from accord.runs._json import to_sealed


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder.create(tmp_path / "run").__enter__()


def save(run: RunFolder, *steps: int, value: float | None = None) -> None:
    for step in steps:
        number = float(step) if value is None else value
        run.save_state({"weight": torch.full((4,), number)}, {"step": step, "value": number})


def load(run: RunFolder) -> State:
    state = run.load_state()
    assert state is not None
    assert float(state.tensors["weight"][0]) == state.facts["value"]
    return state


def files(run: RunFolder) -> list[str]:
    return sorted(path.name for path in (run.path / "state").iterdir())


def test_the_newest_two_are_kept(run: RunFolder) -> None:
    save(run, 10, 20, 30)
    assert files(run) == ["000020.json", "000020.safetensors", "000030.json", "000030.safetensors"]
    assert (load(run).step, load(run).note) == (30, "")


def test_the_saved_values_are_those_of_the_call(run: RunFolder) -> None:
    weight = torch.zeros(3)
    run.save_state({"weight": weight}, {"step": 1, "value": 0.0})
    weight += 1
    assert float(load(run).tensors["weight"].sum()) == 0


def test_steps_beyond_six_digits_stay_in_order(run: RunFolder) -> None:
    save(run, 999_999, 1_000_000, 10_000_000)
    assert load(run).step == 10_000_000
    assert "1000000.json" in files(run)


@pytest.mark.parametrize("name", ["000020.json", "000020.safetensors"])
@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "delete"])
def test_a_damaged_generation_falls_back_aloud(run: RunFolder, name: str, damage: str) -> None:
    save(run, 10, 20)
    path = run.path / "state" / name
    data = bytearray(path.read_bytes())
    if damage == "flip":
        data[len(data) // 2] ^= 4
    path.write_bytes(data if damage == "flip" else data[: len(data) // 2] if damage == "cut" else b"")
    if damage == "delete":
        path.unlink()
    state = load(run)
    assert state.step == 10
    if (name, damage) != ("000020.json", "delete"):
        assert "going on from step 10" in state.note
        assert name in state.note


def test_every_flipped_bit_of_a_generation_is_noticed(run: RunFolder) -> None:
    save(run, 10, 20)
    for name in ("000020.json", "000020.safetensors"):
        path = run.path / "state" / name
        original = path.read_bytes()
        for place in range(len(original)):
            changed = bytearray(original)
            changed[place] ^= 1 << place % 8
            path.write_bytes(changed)
            assert load(run).step == 10
        path.write_bytes(original)
    assert load(run).step == 20


def test_two_damaged_generations_stop_everything(run: RunFolder) -> None:
    save(run, 10, 20)
    for name in ("000010.safetensors", "000020.json"):
        (run.path / "state" / name).write_bytes(b"?")
    with pytest.raises(ArtifactError, match=r"No saved state(.|\n)*000020\.json(.|\n)*000010\.safetensors"):
        run.load_state()


def test_after_a_fallback_the_abandoned_future_is_gone_and_the_trusted_past_stays(run: RunFolder) -> None:
    save(run, 10, 20, 30)
    (run.path / "state" / "000030.safetensors").write_bytes(b"?")
    assert load(run).step == 20
    save(run, 25)
    assert files(run) == ["000020.json", "000020.safetensors", "000025.json", "000025.safetensors"]
    assert (load(run).step, load(run).note) == (25, "")


def test_a_step_saved_again_replaces_the_old_one(run: RunFolder) -> None:
    save(run, 10, 20)
    for value in (1.0, 2.0, 3.0):
        save(run, 20, value=value)
        assert load(run).facts["value"] == value
        assert len(files(run)) == 4


def test_a_step_saved_again_over_a_damaged_one_is_whole(run: RunFolder) -> None:
    save(run, 10, 20)
    (run.path / "state" / "000020.json").write_bytes(b"?")
    save(run, 20, value=5.0)
    assert (load(run).step, load(run).note) == (20, "")


def test_foreign_files_are_left_alone(run: RunFolder) -> None:
    save(run, 10)
    (run.path / "state" / "notes.json").write_text("mine")
    save(run, 20, 30)
    assert "notes.json" in files(run)
    assert load(run).step == 30


@pytest.mark.parametrize("step", [None, -1, 1.5, True, "10"])
def test_refuses_facts_without_a_step(run: RunFolder, step: object) -> None:
    with pytest.raises(UsageError, match="step"):
        run.save_state({}, {"step": step})


def test_refuses_facts_that_are_not_finite_before_anything_is_written(run: RunFolder) -> None:
    save(run, 10)
    with pytest.raises(NumericError, match=r"facts\.rate is not finite"):
        run.save_state({}, {"step": 20, "rate": float("nan")})
    assert files(run) == ["000010.json", "000010.safetensors"]


def test_a_later_format_is_named(run: RunFolder) -> None:
    save(run, 10)
    (run.path / "state" / "000020.json").write_bytes(to_sealed({"format": 7, "step": 20}))
    state = load(run)
    assert state.step == 10
    assert "format 7" in state.note
