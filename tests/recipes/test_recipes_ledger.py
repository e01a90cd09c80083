"""The ledger of test-set openings: counted once each, whoever writes, and never in a run's way."""

import multiprocessing
import sys
from pathlib import Path

import pytest

from accord.recipes import ledger
from accord.recipes.ledger import open_test_set, read_ledger, state_folder


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ACCORD_STATE", str(tmp_path / "state"))
    return tmp_path / "state"


def _open(model: str = "m", test_set: str = "abc") -> ledger.Opening:
    return open_test_set(test_set, model=model, config="c", run="r")


def test_each_opening_is_a_line_and_is_counted(state: Path) -> None:
    assert [_open(model).opened for model in ("a", "b", "b")] == [1, 2, 3]
    assert [entry["model"] for entry in read_ledger("abc")] == ["a", "b", "b"]
    assert len((state / "test-sets" / "abc.jsonl").read_text().splitlines()) == 3
    assert _open(test_set="other").opened == 1
    assert read_ledger("unknown") == []


def test_only_different_models_are_looks() -> None:
    first, again, other = _open("a"), _open("a"), _open("b")
    assert (first.models, again.models, other.models) == (1, 1, 2)
    assert not first.notes
    assert not again.notes
    assert "opened 3 times, by 2 models" in other.notes[0]
    assert "0.23 points better than it is (if seeds alone move a score by 0.4 points)" in other.notes[0]
    assert first.as_json()["expected_optimism"] == 0
    assert other.as_json()["expected_optimism"] == pytest.approx(0.004 / 3.14159265**0.5)


def test_says_how_often_in_words() -> None:
    assert [_open(model).words for model in ("a", "a", "b")] == [
        "once, by 1 model",
        "twice, by 1 model",
        "3 times, by 2 models",
    ]


def test_a_torn_line_costs_no_later_one_and_counts(state: Path) -> None:
    _open("a")
    with (state / "test-sets" / "abc.jsonl").open("a") as file:
        file.write('{"model": "hal')
    opening = _open("b")
    assert (opening.opened, opening.models) == (3, 3)
    assert [entry.get("model") for entry in read_ledger("abc")] == ["a", None, "b"]
    (state / "test-sets" / "abc.jsonl").write_text("[1]\n")
    assert read_ledger("abc") == [{}]


def test_a_place_that_can_not_be_written_is_a_note(state: Path) -> None:
    state.write_text("a file where a folder should be")
    opening = _open()
    assert opening.opened is None
    assert "can't be written" in opening.notes[0]
    assert opening.words == "not counted"
    assert opening.as_json()["expected_optimism"] is None


def test_a_user_without_a_home_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("ACCORD_STATE")
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    assert "Could not determine home" in _open().notes[0]


def _open_often(name: str, told: "multiprocessing.SimpleQueue[list[int | None]]") -> None:
    told.put([_open(f"{name}{number}").opened for number in range(40)])


def test_two_processes_at_once_lose_nothing() -> None:
    context = multiprocessing.get_context("fork")  # importing everything again would take most of the time
    told = context.SimpleQueue()
    running = [context.Process(target=_open_often, args=(name, told)) for name in ("a", "b")]
    for process in running:
        process.start()
    numbers = [number for _ in running for number in told.get()]
    for process in running:
        process.join()
    assert sorted(numbers) == list(range(1, 81))
    assert len(read_ledger("abc")) == 80


@pytest.mark.parametrize(
    ("system", "variables", "expected"),
    [
        ("Linux", {}, ".local/state/accord"),
        ("Linux", {"XDG_STATE_HOME": "/var/mine"}, "/var/mine/accord"),
        ("Darwin", {}, "Library/Application Support/accord"),
        ("Windows", {}, "AppData/Local/accord"),
        ("Windows", {"LOCALAPPDATA": "/local"}, "/local/accord"),
    ],
)
def test_the_state_folder_is_the_systems_own(
    system: str, variables: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ACCORD_STATE", "XDG_STATE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(ledger.platform, "system", lambda: system)
    assert state_folder() == Path.home() / expected


def test_a_system_without_file_locks_counts_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fcntl", None)
    assert [_open().opened, _open().opened] == [1, 2]
