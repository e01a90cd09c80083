"""Promises of the run folder: files, names, ownership, seals."""

import json
import random
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from accord.errors import ArtifactError, NumericError, ResourceError, UsageError
from accord.runs import RunFolder


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "run"


def filled(path: Path) -> RunFolder:
    """A small sealed run with every kind of file."""
    with RunFolder.create(path) as run:
        run.write_text("config.yaml", "seed: 0\n")
        run.write_json("report.json", {"metrics": {"recall@1": 0.5}})
        run.save_tensors("model.safetensors", {"weight": torch.arange(6.0).view(2, 3)}, {"dim": 3})
        run.save_tensors("index/vectors.safetensors", {"vectors": torch.ones(2, 2)})
        for step in (1, 2):
            run.append_log({"step": step, "loss": 0.25})
            run.save_state({"weight": torch.full((3,), float(step))}, {"step": step, "rate": 0.1})
        run.seal()
    return RunFolder.open(path)


def test_gives_back_what_was_written(path: Path) -> None:
    run = filled(path)
    assert run.path == path
    assert run.read_text("config.yaml") == "seed: 0\n"
    assert run.read_json("report.json") == {"metrics": {"recall@1": 0.5}}
    tensors, metadata = run.load_tensors("model.safetensors")
    assert metadata == {"dim": 3}
    assert torch.equal(tensors["weight"], torch.arange(6.0).view(2, 3))
    assert run.read_log() == [{"step": 1, "loss": 0.25}, {"step": 2, "loss": 0.25}]
    assert run.exists("index/vectors.safetensors")
    assert not run.exists("index/other.safetensors")
    assert run.verify() == []


def test_a_new_run_has_neither_log_nor_state(path: Path) -> None:
    with RunFolder.create(path) as run:
        assert run.read_log() == []
        assert run.load_state() is None


def test_other_readers_can_open_the_tensors(path: Path) -> None:
    filled(path)
    assert torch.equal(load_file(path / "model.safetensors")["weight"], torch.arange(6.0).view(2, 3))


def test_equal_contents_give_equal_bytes(path: Path) -> None:
    tensors = {"b": torch.ones(3), "a": torch.zeros(2, 0), "scalar": torch.tensor(2, dtype=torch.int64)}
    with RunFolder.create(path) as run:
        for name in ("one.safetensors", "two.safetensors"):
            run.save_tensors(name, tensors, {"x": 1, "y": [2]})
        assert run.sha256("one.safetensors") == run.sha256("two.safetensors")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool])
def test_keeps_every_bit_of_a_tensor_that_is_a_view(path: Path, dtype: torch.dtype) -> None:
    whole = torch.arange(24).view(4, 6).to(dtype)
    with RunFolder.create(path) as run:
        run.save_tensors("t.safetensors", {"turned": whole.t(), "part": whole[1:3], "whole": whole})
        back, _ = run.load_tensors("t.safetensors")
    assert torch.equal(back["turned"], whole.t())
    assert torch.equal(back["part"], whole[1:3])
    assert torch.equal(back["whole"], whole)
    assert back["whole"].dtype == dtype


def test_text_and_json_hold_any_name(path: Path) -> None:
    odd = "café 猫 \udcff \x00"
    with RunFolder.create(path) as run:
        run.write_json("names.json", [odd])
        run.append_log({"name": odd})
        assert run.read_json("names.json") == [odd]
        assert run.read_log() == [{"name": odd}]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_json_without_nan_names_the_place(path: Path, value: float) -> None:
    with RunFolder.create(path) as run:
        run.write_json("report.json", {"fine": 1})
        with pytest.raises(NumericError, match=r"metrics\.map\.1 is not finite"):
            run.write_json("report.json", {"metrics": {"map": [0.5, value]}})
        with pytest.raises(NumericError, match="loss is not finite"):
            run.append_log({"loss": value})
        with pytest.raises(NumericError, match="the value is not finite"):
            run.write_json("report.json", value)
        assert run.read_json("report.json") == {"fine": 1}
        assert run.read_log() == []


def test_a_circle_in_json_stays_a_bug(path: Path) -> None:
    with RunFolder.create(path) as run, pytest.raises(TypeError):
        run.write_json("report.json", {"a": object()})


@pytest.mark.parametrize("text", ["{", "NaN", "[Infinity]", "[" * 100_000, "\udcff"])
def test_refuses_what_is_no_json(path: Path, text: str) -> None:
    with RunFolder.create(path) as run:
        run.write_bytes("report.json", text.encode(errors="surrogateescape"))
        with pytest.raises(ArtifactError, match=r"report\.json is not valid JSON"):
            run.read_json("report.json")


def test_refuses_a_text_that_is_none(path: Path) -> None:
    with RunFolder.create(path) as run:
        run.write_bytes("config.yaml", b"\xff\xfe")
        with pytest.raises(ArtifactError, match="UTF-8"):
            run.read_text("config.yaml")


@pytest.mark.parametrize(
    "name",
    ["", "/etc/passwd", "../x", "a/../../x", "a\\b", "a\0b", "accord.lock", "manifest.json", ".x.accord-tmp", "."],
)
def test_no_name_leaves_the_folder(path: Path, name: str) -> None:
    with RunFolder.create(path) as run:
        for use in (lambda: run.write_text(name, "x"), lambda: run.read_text(name), lambda: run.exists(name)):
            with pytest.raises(UsageError, match="can't be the name"):
                use()


def test_names_a_file_that_is_missing(path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"other\.json can't be read: No such file"):
        filled(path).read_json("other.json")


def test_reading_needs_no_ownership_and_writing_does(path: Path) -> None:
    run = filled(path)
    for write in (
        lambda: run.write_text("x", "y"),
        lambda: run.append_log({}),
        lambda: run.save_state({}, {"step": 1}),
        lambda: run.truncate_log(1),
        run.seal,
    ):
        with pytest.raises(UsageError, match="open for reading only"):
            write()
    assert run.verify() == []


def test_refuses_a_folder_that_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "picture.jpg").write_bytes(b"x")
    with pytest.raises(ArtifactError, match="no run folder"):
        RunFolder.open(tmp_path)
    with pytest.raises(ArtifactError, match="no run folder"):
        RunFolder.open(tmp_path / "absent")


def test_never_starts_over_an_existing_run_unasked(path: Path) -> None:
    filled(path)
    with pytest.raises(UsageError, match=r"holds a run already\. Choose another --out.* accord train --resume"):
        RunFolder.create(path)
    assert RunFolder.open(path).verify() == []
    with RunFolder.open(path):  # the refused one has let go of the lock
        pass


def test_overwrite_starts_from_nothing(path: Path) -> None:
    filled(path)
    with RunFolder.create(path, overwrite=True) as run:
        assert run.read_log() == []
        assert run.load_state() is None
        assert sorted(entry.name for entry in path.iterdir()) == ["accord.lock"]


@pytest.mark.parametrize("name", ["holiday.jpg", "config.yaml", "accord.lock"])
def test_overwrite_never_empties_a_folder_of_somebody_else(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"precious")
    (tmp_path / "sub").mkdir()
    with pytest.raises(UsageError, match="no run of accord's"):
        RunFolder.create(tmp_path, overwrite=True)
    assert (tmp_path / name).read_bytes() == b"precious"


def test_overwrite_does_not_follow_links_out_of_the_folder(tmp_path: Path) -> None:
    filled(tmp_path / "run")
    outside = tmp_path / "pictures"
    outside.mkdir()
    (outside / "a.jpg").write_bytes(b"precious")
    (tmp_path / "run" / "link").symlink_to(outside)
    with RunFolder.create(tmp_path / "run", overwrite=True):
        pass
    assert (outside / "a.jpg").read_bytes() == b"precious"


def test_starts_in_an_empty_folder(tmp_path: Path) -> None:
    with RunFolder.create(str(tmp_path)) as run:
        run.write_text("config.yaml", "")
    assert RunFolder.open(str(tmp_path)).read_text("config.yaml") == ""


def test_refuses_a_file_in_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("x")
    with pytest.raises(UsageError, match="is a file"):
        RunFolder.create(tmp_path / "run")
    with pytest.raises(UsageError, match="is a file"):
        RunFolder.create(tmp_path / "run" / "deeper")


def test_sweeps_what_a_killed_writer_left(path: Path) -> None:
    filled(path)
    leftovers = [path / ".report.json.accord-tmp", path / "state" / ".000003.json.accord-tmp"]
    for leftover in leftovers:
        leftover.write_bytes(b"half")
    assert RunFolder.open(path).verify() == []  # they are no files of the run
    with RunFolder.open(path):
        assert not any(leftover.exists() for leftover in leftovers)


def test_every_flipped_bit_cut_and_zeroed_page_of_a_sealed_run_is_refused(path: Path) -> None:
    run = filled(path)
    draw = random.Random(0)
    files = [file for file in path.rglob("*") if file.is_file() and file.name != "accord.lock"]
    assert len(files) == 10
    for file in files:
        original = file.read_bytes()
        for _ in range(100):
            place = draw.randrange(len(original))
            changed = bytearray(original)
            changed[place] ^= 1 << draw.randrange(8)
            file.write_bytes(changed)
            with pytest.raises(ArtifactError, match=file.name.replace(".", r"\.")):
                run.verify()
        for bad in (original[: len(original) // 2], b"", bytes(len(original)), original + b"\n"):
            file.write_bytes(bad)
            with pytest.raises(ArtifactError):
                run.verify()
        file.unlink()
        with pytest.raises(ArtifactError):
            run.verify()
        file.write_bytes(original)
    assert run.verify() == []


def test_reading_a_changed_file_of_a_sealed_run_is_refused(path: Path) -> None:
    run = filled(path)
    (path / "report.json").write_text('{"metrics": {"recall@1": 0.9}}')
    with pytest.raises(ArtifactError, match="changed since the run ended"):
        run.read_json("report.json")


def test_tensors_notice_changes_without_a_seal_on_the_run(path: Path) -> None:
    run = filled(path)
    (path / "manifest.json").unlink()
    file = path / "model.safetensors"
    original = file.read_bytes()
    for place in range(len(original)):
        changed = bytearray(original)
        changed[place] ^= 1 << place % 8
        file.write_bytes(changed)
        with pytest.raises(ArtifactError, match=r"model\.safetensors"):
            run.load_tensors("model.safetensors")


@pytest.mark.parametrize(
    "attack",
    [
        b"",
        b"\x80\x04K\x01.",  # a pickle
        (2**40).to_bytes(8, "little") + b"{}",
        (200_000).to_bytes(8, "little") + b"[" * 200_000,
        (2).to_bytes(8, "little") + b"{}",
    ],
)
def test_refuses_foreign_bytes_in_place_of_tensors(path: Path, attack: bytes) -> None:
    with RunFolder.create(path) as run:
        run.write_bytes("model.safetensors", attack)
        with pytest.raises(ArtifactError, match="not what accord wrote"):
            run.load_tensors("model.safetensors")


def test_refuses_a_rightly_sealed_file_that_is_no_safetensors(path: Path) -> None:
    from accord.runs._disk import sha256

    blank = rb"{\"seal\": \"" + b"0" * 64 + b"nothing else"
    forged = blank.replace(b"0" * 64, sha256(blank).encode())
    with RunFolder.create(path) as run:
        run.write_bytes("model.safetensors", forged)
        with pytest.raises(ArtifactError, match="no safetensors file of accord"):
            run.load_tensors("model.safetensors")


def test_writing_takes_the_seal_away_and_says_so(path: Path) -> None:
    filled(path)
    with RunFolder.open(path) as run:
        run.write_json("report.json", {})
        with pytest.raises(ArtifactError, match=r"has no manifest\.json"):
            run.verify()
        run.seal()
        assert run.verify() == []
        run.append_log({"step": 3})
        assert not (path / "manifest.json").exists()
        run.seal()
    assert RunFolder.open(path).read_json("report.json") == {}


def test_verify_tells_of_files_that_were_added(path: Path) -> None:
    run = filled(path)
    (path / "notes.txt").write_text("mine")
    assert run.verify() == ["notes.txt"]


@pytest.mark.parametrize("content", [b"[]", b"{}", b'{"seal": "x"}', b"\xff"])
def test_a_manifest_of_another_make_is_refused(path: Path, content: bytes) -> None:
    run = filled(path)
    (path / "manifest.json").write_bytes(content)
    with pytest.raises(ArtifactError, match=r"manifest\.json"):
        run.verify()


def test_a_manifest_of_a_later_format_is_refused(path: Path) -> None:
    from accord.runs._json import to_sealed

    run = filled(path)
    (path / "manifest.json").write_bytes(to_sealed({"format": 2, "files": {}}))
    with pytest.raises(ArtifactError, match="format 2"):
        run.verify()


def test_a_manifest_can_not_point_outside(path: Path) -> None:
    from accord.runs._json import to_sealed

    run = filled(path)
    (path / "manifest.json").write_bytes(to_sealed({"format": 1, "files": {"../../secret": {}}}))
    with pytest.raises(UsageError, match="can't be the name"):
        run.verify()


def test_the_second_owner_is_told_who_is_the_first(path: Path) -> None:
    with RunFolder.create(path) as run:
        run.write_text("config.yaml", "")
        signature = json.loads((path / "accord.lock").read_text())
        for take in (RunFolder.open(path).__enter__, lambda: RunFolder.create(path, overwrite=True)):
            with pytest.raises(ResourceError) as caught:
                take()
            for part in (str(signature["pid"]), signature["host"], signature["since"]):
                assert part in str(caught.value)
    with RunFolder.open(path) as later:
        later.write_text("config.yaml", "mine")


def test_an_owner_without_a_signature_is_another_process(path: Path) -> None:
    with RunFolder.create(path):
        (path / "accord.lock").write_text("")
        with pytest.raises(ResourceError, match="in use by another process"):
            RunFolder.open(path).__enter__()


def test_a_lock_that_is_a_link_is_not_followed(path: Path) -> None:
    filled(path)
    (path / "accord.lock").unlink()
    (path / "accord.lock").symlink_to(path / "report.json")
    with pytest.raises(ResourceError, match="ELOOP"):
        RunFolder.open(path).__enter__()
    assert RunFolder.open(path).verify() == []


def test_a_run_that_can_not_be_entered_lets_go(path: Path) -> None:
    filled(path)
    log = path / "log.jsonl"
    good = log.read_bytes()
    log.write_bytes(b"broken\n" + good)
    with pytest.raises(ArtifactError, match="line 1"):
        RunFolder.open(path).__enter__()
    log.write_bytes(good)
    with RunFolder.open(path):
        pass


def test_where_folders_can_not_be_locked_a_run_is_read_but_not_written(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(path)
    monkeypatch.setattr("accord.runs._lock.find_spec", lambda _: None)
    with pytest.raises(ResourceError, match="Linux and macOS only"):
        RunFolder.open(path).__enter__()
    assert RunFolder.open(path).verify() == []


def test_drops_files_and_folders_and_is_no_longer_sealed(path: Path) -> None:
    filled(path)
    with RunFolder.open(path) as run:
        run.drop("state")
        run.drop("model.safetensors")
        run.drop("nothing")
        assert not run.is_sealed()
        run.seal()
    assert {entry.name for entry in path.iterdir()} == {
        "accord.lock",
        "config.yaml",
        "index",
        "log.jsonl",
        "manifest.json",
        "report.json",
    }
    run.verify()
    with pytest.raises(UsageError, match="open for reading only"):
        run.drop("report.json")
