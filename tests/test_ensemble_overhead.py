"""The benchmark of an ensemble's cost: its interval, and that it runs."""

import sys
from importlib import import_module
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent.parent / "benchmarks"))
overhead = import_module("ensemble_overhead")


def test_the_interval_is_between_two_of_the_ratios() -> None:
    other = [1.0] * 15
    own = [1 + place / 100 for place in (7, 3, 11, 0, 14, 5, 9, 1, 13, 2, 10, 4, 12, 6, 8)]
    # of 15 pairs the 4th and the 12th: P(fewer than 4 heads of 15) = 576 / 32768, twice that is 3.5 %
    assert tuple(overhead.paired(own, other)) == pytest.approx((1.07, 1.03, 1.11))
    assert tuple(overhead.paired([3.0, 2.0], [1.0, 1.0])) == (2.5, 2.0, 3.0), "of two pairs all that was seen"
    assert str(overhead.paired([2.0], [1.0])) == "2.000 (2.000–2.000)"


def test_every_job_has_its_turn_and_who_comes_first_goes_round() -> None:
    calls: list[str] = []
    jobs = {name: lambda name=name: calls.append(name) for name in "abc"}
    seconds = overhead.in_turn(jobs, 1, 2)
    assert "".join(calls) == "abcbcacab"
    assert {name: len(own) for name, own in seconds.items()} == dict.fromkeys("abc", 2)


@pytest.mark.pretrained
@pytest.mark.slow
def test_it_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    few = {name: overhead.ARMS[name] for name in ("one loss", "five losses", "default recipe")}
    monkeypatch.setattr(overhead, "ARMS", few)
    overhead.main(["--quick"])
    told = capsys.readouterr().out
    assert told.count("five losses") == 2
    assert "target: ≤ 1.15" in told
    assert "folded" in told
    assert "with its metric" in told
