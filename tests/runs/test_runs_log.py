"""Promises of the diary: torn tails go, damage is named, nothing is counted twice."""

import os
from pathlib import Path

import pytest

from accord.errors import ArtifactError, ResourceError
from accord.runs import RunFolder, _log


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    with RunFolder.create(tmp_path / "run") as run:
        for step in range(1, 6):
            run.append_log({"step": step})
    return run


def steps(run: RunFolder) -> list[int]:
    return [entry["step"] for entry in run.read_log()]


@pytest.mark.parametrize("tail", [b'{"step": 6', b'{"step": 6}', b"\0" * 64, b"\0" * 64 + b'{"step": 7}\n'])
def test_a_torn_end_is_left_out_and_overwritten(run: RunFolder, tail: bytes) -> None:
    log = run.path / "log.jsonl"
    log.write_bytes(log.read_bytes() + tail)
    assert steps(run) == [1, 2, 3, 4, 5]
    with run:
        run.append_log({"step": 6})
    assert steps(run) == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("line", [b"{nonsense}", b"[1]", b"", b'{"a": 1\r{"b": 2}'])
def test_damage_in_the_middle_is_named_and_not_cut_away(run: RunFolder, line: bytes) -> None:
    log = run.path / "log.jsonl"
    damaged = log.read_bytes().replace(b'{"step": 3}', line)
    log.write_bytes(damaged)
    with pytest.raises(ArtifactError, match=r"log\.jsonl, line 3,"):
        run.read_log()
    with pytest.raises(ArtifactError, match=r"log\.jsonl, line 3,"):
        run.__enter__()
    assert log.read_bytes() == damaged


@pytest.mark.parametrize(("step", "left"), [(0, []), (3, [1, 2, 3]), (5, [1, 2, 3, 4, 5]), (9, [1, 2, 3, 4, 5])])
def test_resuming_forgets_what_came_after(run: RunFolder, step: int, left: list[int]) -> None:
    with run:
        run.truncate_log(step)
        assert steps(run) == left
        run.append_log({"step": step + 1})
    assert steps(run) == [*left, step + 1]


def test_entries_without_a_step_stay_with_their_neighbours(tmp_path: Path) -> None:
    with RunFolder.create(tmp_path / "run") as run:
        entries = [{"event": "start"}, {"step": 1}, {"event": "seen"}, {"step": 2}, {"event": "end"}]
        for entry in entries:
            run.append_log(entry)
        run.truncate_log(1)
        assert run.read_log() == entries[:3]


@pytest.mark.parametrize("cut_fails", [False, True])
def test_a_full_disk_loses_one_entry_and_no_other(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch, cut_fails: bool
) -> None:
    real_write, real_cut = os.pwrite, os.ftruncate

    def half_then_full(descriptor: int, data: bytes, offset: int) -> int:
        if len(data) > 40:
            return real_write(descriptor, data[:30], offset)
        raise OSError(28, "No space left on device")

    def refuse(descriptor: int, length: int) -> None:
        raise OSError(5, "Input/output error")

    with run:
        monkeypatch.setattr(_log.os, "pwrite", half_then_full)
        if cut_fails:
            monkeypatch.setattr(_log.os, "ftruncate", refuse)
        with pytest.raises(ResourceError, match="ENOSPC"):
            run.append_log({"step": 6, "note": "x" * 30})
        monkeypatch.setattr(_log.os, "pwrite", real_write)
        monkeypatch.setattr(_log.os, "ftruncate", real_cut)
        assert steps(run) == [1, 2, 3, 4, 5]
        assert (run.path / "log.jsonl").read_bytes().endswith(b'{"step": 5}\n') != cut_fails
        run.append_log({"step": 6})
    assert steps(run) == [1, 2, 3, 4, 5, 6]


def test_a_log_that_can_not_be_opened_is_a_resource_error(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int, length: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(_log.os, "ftruncate", refuse)
    with pytest.raises(ResourceError, match="EIO"):
        _log.LogWriter(run.path / "log.jsonl")
