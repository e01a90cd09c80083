"""Promises under fire: whatever call fails, whenever the process or the power dies, a state can be read."""

import errno
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from accord.errors import ResourceError
from accord.runs import RunFolder, _disk, _lock, _log
from accord.runs._state import load_state

# newer Pythons warn of forking a process with threads; the child here only writes files and dies
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")

TICKING = {"open", "write", "pwrite", "fsync", "replace", "unlink", "ftruncate", "mkdir", "close"}


class Faulty:
    """The system's file calls, of which the n-th one does what it was told instead."""

    def __init__(self, at: int, fail: Callable[[str, tuple[Any, ...]], None]) -> None:
        self.at, self.fail, self.calls = at, fail, 0

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name not in TICKING:
            return real

        def call(*given: Any) -> Any:
            self.calls += 1
            if self.calls == self.at:
                self.fail(name, given)
            return real(*given)

        return call


def use(monkeypatch: pytest.MonkeyPatch, system: object) -> None:
    for module in (_disk, _log, _lock):
        monkeypatch.setattr(module, "os", system)


def save(run: RunFolder, step: int) -> None:
    """What a training run writes around a checkpoint."""
    run.append_log({"step": step, "note": "x" * 50})
    run.save_tensors("best.safetensors", {"weight": torch.full((5,), float(step))})
    run.save_state({"weight": torch.full((50,), float(step))}, {"step": step})
    run.write_json("report.json", {"step": step})


def seeded(path: Path) -> RunFolder:
    run = RunFolder.create(path).__enter__()
    for step in (1, 2):
        save(run, step)
    return run


def check(path: Path, at_least: int) -> None:
    """Every file is an old or a new one; no acknowledged step is lost; the log has neither gap nor double."""
    run = RunFolder.open(path)
    state = run.load_state()
    assert state is not None
    assert state.note == "" or "interrupted" in state.note
    assert state.step in {at_least, at_least + 1}
    assert torch.equal(state.tensors["weight"], torch.full((50,), float(state.step)))
    assert run.read_json("report.json")["step"] in {at_least, at_least + 1}
    assert float(run.load_tensors("best.safetensors")[0]["weight"][0]) in {at_least, at_least + 1}
    steps = [entry["step"] for entry in run.read_log()]
    assert steps == list(range(1, len(steps) + 1))
    assert len(steps) >= state.step


def stop_with(code: int) -> Callable[[str, tuple[Any, ...]], None]:
    def fail(name: str, given: tuple[Any, ...]) -> None:
        if name in {"write", "pwrite"}:  # a full disk takes a part first
            getattr(os, name)(given[0], given[1][: len(given[1]) // 2], *given[2:])
        if name == "close":
            os.close(given[0])
        raise OSError(code, os.strerror(code))

    return fail


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_every_single_call_may_fail_and_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    refused = []
    seeded(tmp_path / "seeded").close()
    for at in range(1, 200):
        shutil.copytree(tmp_path / "seeded", tmp_path / f"{at}")
        run = RunFolder.open(tmp_path / f"{at}").__enter__()
        system = Faulty(at, stop_with(code))
        with monkeypatch.context() as patch:
            use(patch, system)
            try:
                save(run, 3)
            except ResourceError as error:
                refused.append(str(error))
        check(run.path, at_least=2)
        assert not list(run.path.rglob("*.accord-tmp"))  # on a full disk least of all
        run.truncate_log(2)
        save(run, 3)  # the same object, as training going on would
        check(run.path, at_least=3)
        run.close()
        if system.calls < at:
            break
    assert system.calls < at, "no clean pass"
    assert len(refused) >= 30
    parts = (errno.errorcode[code], "needed:", "free:", "bytes", "untouched")
    assert all(part in message for message in refused for part in parts)


def die(name: str, given: tuple[Any, ...]) -> None:
    if name in {"write", "pwrite"}:
        getattr(os, name)(given[0], given[1][: len(given[1]) // 2], *given[2:])
    os.kill(os.getpid(), signal.SIGKILL)


def in_child(work: Callable[[], None]) -> bool:
    """Do it in a forked process; whether that lived to the end."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return not os.WIFSIGNALED(status)


def test_a_kill_at_any_call_loses_nothing_and_frees_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seeded(tmp_path / "seeded").close()
    for at in range(1, 200):
        path = tmp_path / f"{at}"
        shutil.copytree(tmp_path / "seeded", path)

        def resume_and_save(at: int = at, path: Path = path) -> None:
            use(monkeypatch, Faulty(at, die))
            with RunFolder.open(path) as run:
                save(run, 3)

        lived = in_child(resume_and_save)
        check(path, at_least=2)
        with RunFolder.open(path) as run:
            assert not list(path.rglob("*.accord-tmp"))
            state = run.load_state()
            assert state is not None
            run.truncate_log(state.step)
            save(run, state.step + 1)
        check(path, at_least=state.step + 1)
        assert len(list((path / "state").iterdir())) == 4
        if lived:
            break
    assert lived
    assert at > 40


def test_a_loop_of_crashes_comes_to_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run"
    seeded(path).close()

    def crash(at: int) -> None:
        use(monkeypatch, Faulty(at, die))
        with RunFolder.open(path) as run:
            save(run, 3)

    for at in range(1, 40):  # each start finds what the one before left
        in_child(lambda at=at: crash(at))
        assert len(list(path.rglob("*.accord-tmp"))) <= 1
    state = RunFolder.open(path).load_state()
    assert state is not None
    assert state.step >= 2


def test_a_disk_known_to_be_too_small_is_told_before_anything_is_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = seeded(tmp_path / "run")
    usage = _disk.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(_disk.shutil, "disk_usage", lambda path: usage._replace(free=100))
    with pytest.raises(
        ResourceError, match=r"ENOSPC(.|\n)*needed: [\d,]+ bytes(.|\n)*free: +100 bytes(.|\n)*Make room"
    ):
        run.save_state({"weight": torch.zeros(50)}, {"step": 3})
    monkeypatch.undo()
    check(run.path, at_least=2)


def test_a_disk_that_does_not_know_its_size_is_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = seeded(tmp_path / "run")
    usage = _disk.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(_disk.shutil, "disk_usage", lambda path: usage._replace(total=0, free=0))
    save(run, 3)
    monkeypatch.undo()
    check(run.path, at_least=3)


def test_a_disk_that_is_gone_is_told_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = seeded(tmp_path / "run")

    def gone(path: Path) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(_disk.shutil, "disk_usage", gone)
    with pytest.raises(ResourceError, match=r"EIO(.|\n)*free: +unknown(.|\n)*Mend this"):
        run.write_text("config.yaml", "")


class Change(NamedTuple):
    """A change of names that no fsync of the folder has confirmed yet: `inode`, or nothing, stands under `name`."""

    name: Path
    inode: int | None


class Recorder:
    """The system's file calls, and beside them what a disk would hold if the power failed now."""

    def __init__(self) -> None:
        self.live: dict[int, bytearray] = {}
        self.durable: dict[int, bytes] = {}
        self.names: dict[Path, int] = {}
        self.kept_names: dict[Path, int] = {}
        self.pending: list[Change] = []
        self.open_files: dict[int, tuple[Path, int | None]] = {}
        self.disks: list[tuple[int, dict[Path, bytes]]] = []
        self.acknowledged = 0

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        note = getattr(type(self), f"note_{name}", None)
        if note is None:
            return real

        def call(*given: Any) -> Any:
            result = real(*given)
            note(self, result, *given)
            self.disks.extend((self.acknowledged, disk) for disk in self._after_power_cut())
            return result

        return call

    def note_open(self, descriptor: int, path: Path, flags: int, mode: int = 0) -> None:
        inode = self.names.get(Path(path))
        if Path(path).is_dir():
            inode = None
        elif inode is None:
            inode = len(self.live)
            self.live[inode], self.durable[inode] = bytearray(), b""
            self._rename(Path(path), inode)
        elif flags & os.O_TRUNC:
            self.live[inode].clear()
        self.open_files[descriptor] = Path(path), inode

    def note_write(self, count: int, descriptor: int, data: bytes) -> None:
        _, inode = self.open_files[descriptor]
        assert inode is not None
        self.live[inode] += bytes(data)[:count]

    def note_pwrite(self, count: int, descriptor: int, data: bytes, offset: int) -> None:
        _, inode = self.open_files[descriptor]
        assert inode is not None
        self.live[inode][offset : offset + count] = bytes(data)[:count]

    def note_ftruncate(self, result: None, descriptor: int, length: int) -> None:
        _, inode = self.open_files[descriptor]
        assert inode is not None
        del self.live[inode][length:]

    def note_fsync(self, result: None, descriptor: int) -> None:
        path, inode = self.open_files[descriptor]
        if inode is not None:
            self.durable[inode] = bytes(self.live[inode])
            return
        for change in [change for change in self.pending if change.name.parent == path]:
            self._apply(self.kept_names, change)
            self.pending.remove(change)

    def note_replace(self, result: None, source: Path, target: Path) -> None:
        self._rename(target, self.names[source])
        self._rename(source, None)

    def note_unlink(self, result: None, path: Path) -> None:
        self._rename(path, None)

    def _rename(self, name: Path, inode: int | None) -> None:
        change = Change(name, inode)
        self._apply(self.names, change)
        self.pending.append(change)

    @staticmethod
    def _apply(names: dict[Path, int], change: Change) -> None:
        if change.inode is None:
            names.pop(change.name, None)
        else:
            names[change.name] = change.inode

    def _after_power_cut(self) -> Iterator[dict[Path, bytes]]:
        """Every beginning of the unconfirmed names, with unconfirmed data kept, lost, cut at half or zeroed."""
        for confirmed in range(len(self.pending) + 1):
            names = dict(self.kept_names)
            for change in self.pending[:confirmed]:
                self._apply(names, change)
            for mode in ("kept", "lost", "half", "zeros"):
                yield {name: self._content(inode, mode) for name, inode in names.items()}

    def _content(self, inode: int, mode: str) -> bytes:
        live, durable = bytes(self.live[inode]), self.durable[inode]
        if live == durable or mode == "kept":
            return live
        common = next((i for i, pair in enumerate(zip(live, durable, strict=False)) if pair[0] != pair[1]), None)
        safe = min(len(live), len(durable)) if common is None else common
        loose = live[safe:]
        return {
            "lost": durable,
            "half": live[:safe] + loose[: len(loose) // 2],
            "zeros": live[:safe] + bytes(len(loose)),
        }[mode]


def test_a_power_cut_at_any_moment_keeps_every_acknowledged_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder, root = Recorder(), tmp_path / "run"
    use(monkeypatch, recorder)
    with RunFolder.create(root) as run:
        for step in (1, 2, 3, 4):
            run.append_log({"step": step})
            run.save_state({"weight": torch.full((40,), float(step))}, {"step": step})
            recorder.acknowledged = step
        run.save_state({"weight": torch.full((40,), 4.5)}, {"step": 4})
    monkeypatch.undo()
    for step, entry in enumerate(run.read_log(), start=1):
        assert entry["step"] == step
    distinct = {(acknowledged, tuple(sorted(disk.items()))) for acknowledged, disk in recorder.disks}
    assert len(recorder.disks) >= 500
    assert len(distinct) >= 100
    for number, (acknowledged, files) in enumerate(sorted(distinct)):
        disk = tmp_path / f"disk {number}"
        (disk / "state").mkdir(parents=True)
        for path, data in files:
            (disk / path.relative_to(root)).write_bytes(data)
        state = load_state(disk / "state")
        assert (state.step if state else 0) >= acknowledged
        steps = [entry["step"] for entry in _log.read_log(disk / "log.jsonl")]
        assert steps[:acknowledged] == list(range(1, acknowledged + 1))
        assert steps == list(range(1, len(steps) + 1))


def test_of_many_who_start_at_once_exactly_one_owns_the_folder(tmp_path: Path) -> None:
    for round_ in range(10):
        path = tmp_path / f"run {round_}"
        ready, go = os.pipe()
        answers, answer = os.pipe()
        children = []
        for _ in range(4):
            child = os.fork()
            if child == 0:
                os.close(go)
                try:
                    os.read(ready, 1)
                    RunFolder.create(path)
                    os.write(answer, b"y")
                    signal.pause()
                except ResourceError:
                    os.write(answer, b"n")
                finally:
                    os._exit(0)
            children.append(child)
        os.close(ready)
        os.close(go)  # all of them wake up
        try:
            heard = b"".join(os.read(answers, 1) for _ in children)
        finally:
            for child in children:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
        assert sorted(heard) == sorted(b"nnny")
        with RunFolder.create(path) as run:  # the dead owner's lock is gone with it
            run.append_log({"step": 1})
        os.close(answers)
        os.close(answer)
