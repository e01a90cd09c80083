"""Opening arrays and columns that somebody else wrote: every format gives the same, nothing is ever unpickled."""

import builtins
import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from accord.errors import AccordError, DataError, ResourceError, UnknownNameError
from accord.recipes.arrays import open_array
from accord.recipes.tables import Wanted

E = np.asarray([[1.0, 0.1], [0.5, -2.0], [3.25, 1e-7]], dtype=np.float32)
LABELS = ["cat", "dog", "cat"]
MATRIX = Wanted("embeddings", ("embeddings", "embedding"), matrix=True)
COLUMN = Wanted("labels", ("label", "labels"))


class Trap:
    """Unpickling it would leave a file."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.touch, (self.proof,)


def _csv(path: Path) -> None:
    lines = ["path,label,e0,e1", *(f"{n}.jpg,{label},{a:.9g},{b:.9g}" for n, (label, (a, b)) in enumerate(_rows()))]
    path.write_text("\ufeff" + "\n".join(lines) + "\n", encoding="utf-8")


def _rows() -> list[tuple[str, tuple[float, float]]]:
    return [(label, (float(row[0]), float(row[1]))) for label, row in zip(LABELS, E, strict=True)]


def _parquet(path: Path, **columns: object) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    pq.write_table(pa.table(columns), path)


def _write(path: Path) -> None:
    """The embeddings in the format of the file's ending."""
    kind = path.suffix
    if kind == ".npy":
        np.save(path, E)
    elif kind == ".npz":
        np.savez(path, embeddings=E, other=E[:1])
    elif kind == ".safetensors":
        save_file({"embeddings": torch.from_numpy(E), "labels": torch.tensor([1, 2, 1])}, path)
    elif kind == ".csv":
        _csv(path)
    elif kind == ".json":
        path.write_text(json.dumps(E.tolist()))
    else:
        pa = pytest.importorskip("pyarrow")
        flat = pa.array(E.reshape(-1))
        _parquet(path, embedding=pa.FixedSizeListArray.from_arrays(flat, 2), label=LABELS)


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".safetensors", ".csv", ".json", ".parquet"])
def test_every_format_gives_the_same_embeddings(suffix: str, tmp_path: Path) -> None:
    _write(tmp_path / f"E{suffix}")
    found = open_array(str(tmp_path / f"E{suffix}"), MATRIX)
    assert np.array_equal(np.asarray(found, dtype=np.float32), E)


def test_a_npy_file_is_mapped_and_never_written_to(tmp_path: Path) -> None:
    np.save(tmp_path / "E.npy", E)
    before = (tmp_path / "E.npy").read_bytes()
    found = open_array(tmp_path / "E.npy", MATRIX)
    assert isinstance(found, np.memmap)
    torch.from_numpy(found).zero_()  # no warning: torch may write to it, and the file does not change
    assert (tmp_path / "E.npy").read_bytes() == before


def test_arrays_tensors_and_lists_are_taken_as_they_are() -> None:
    assert open_array(E, MATRIX) is E
    tensor = torch.from_numpy(E).requires_grad_()
    assert not open_array(tensor, MATRIX).requires_grad
    assert np.asarray(open_array(LABELS, COLUMN)).tolist() == LABELS
    with pytest.raises(DataError, match="this list is no array"):
        open_array([[1.0], [1.0, 2.0]], MATRIX)


@pytest.mark.parametrize("suffix", [".txt", ".csv", ".json", ".parquet", ".npy", ".npz"])
def test_every_format_gives_the_same_labels(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"L{suffix}"
    if suffix == ".txt":
        path.write_text("cat\ndog\ncat\n")
    elif suffix == ".csv":
        _csv(path)
    elif suffix == ".json":
        path.write_text(json.dumps([{"path": "x", "label": label} for label in LABELS]))
    elif suffix == ".parquet":
        pa = pytest.importorskip("pyarrow")
        _parquet(path, label=pa.array(LABELS).dictionary_encode(), e0=[1.0, 2.0, 3.0])
    elif suffix == ".npy":
        np.save(path, np.asarray(LABELS))
    else:
        np.savez(path, labels=np.asarray(LABELS))
    assert np.asarray(open_array(path, COLUMN)).tolist() == LABELS


def test_what_accord_embed_wrote_can_be_read_back(tmp_path: Path) -> None:
    from accord.reports import write_embeddings

    rows = [{"path": f"{number}.jpg", "label": label} for number, label in enumerate(LABELS)]
    for name, names in (("e.npy", "e.json"), ("e.safetensors", "e.safetensors"), ("e.csv", "e.csv")):
        write_embeddings(tmp_path / name, torch.from_numpy(E), rows)
        assert np.array_equal(np.asarray(open_array(tmp_path / name, MATRIX)), E)
        assert np.asarray(open_array(tmp_path / names, COLUMN)).tolist() == LABELS


def test_a_name_after_a_colon_picks_one_of_several(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", first=E, second=E[:1])
    save_file({"first": torch.from_numpy(E), "second": torch.zeros(1, 2)}, tmp_path / "a.safetensors")
    for name in ("a.npz", "a.safetensors"):
        assert len(open_array(f"{tmp_path / name}:second", MATRIX)) == 1
        with pytest.raises(DataError, match=r"holds first, second\. Say which"):
            open_array(tmp_path / name, MATRIX)
        with pytest.raises(UnknownNameError, match="Did you mean 'second'"):
            open_array(f"{tmp_path / name}:secund", MATRIX)
    _csv(tmp_path / "a.csv")
    assert np.asarray(open_array(f"{tmp_path}/a.csv:path", COLUMN)).tolist() == ["0.jpg", "1.jpg", "2.jpg"]
    _parquet(tmp_path / "a.parquet", x=[[1.0], [2.0]], y=[[1.0, 2.0], [3.0, 4.0]])
    assert np.asarray(open_array(f"{tmp_path}/a.parquet:y", MATRIX)).tolist() == [[1.0, 2.0], [3.0, 4.0]]


def test_parquet_columns_of_numbers_make_a_matrix(tmp_path: Path) -> None:
    _parquet(tmp_path / "a.parquet", label=["a", "b"], id=[1.0, 2.0], e0=[1.0, 2.0], e1=[3.0, 4.0])
    assert np.asarray(open_array(tmp_path / "a.parquet", MATRIX)).tolist() == [[1.0, 3.0], [2.0, 4.0]]


@pytest.mark.parametrize("name", ["E.npy", "E.npz", "E.pt", "E.pkl", "E.pth"])
def test_nothing_is_ever_unpickled(name: str, tmp_path: Path) -> None:
    trap, proof = tmp_path / name, tmp_path / "proof"
    if name == "E.npy":
        np.save(trap, np.asarray([Trap(proof)], dtype=object), allow_pickle=True)
    elif name == "E.npz":
        np.savez(trap, embeddings=np.asarray([Trap(proof)], dtype=object))
    else:
        trap.write_bytes(pickle.dumps(Trap(proof)))
    with pytest.raises(DataError, match=r"pickle|Python objects|Object arrays"):
        open_array(trap, MATRIX)
    assert not proof.exists()


def _damage(name: str, path: Path) -> None:
    if name == "half.npy":
        np.save(path, E)
        path.write_bytes(path.read_bytes()[:-4])
    elif name == "half.npz":
        np.savez(path, embeddings=E)
        path.write_bytes(path.read_bytes()[:-9])
    elif name == "half.safetensors":
        save_file({"embeddings": torch.from_numpy(E)}, path)
        path.write_bytes(path.read_bytes()[:-4])
    elif name == "ragged.json":
        path.write_text("[[1, 2], [1]]")
    elif name == "deep.json":
        path.write_text("[" * 100_000)
    elif name == "nul.csv":
        path.write_bytes(b"e0,e1\n1,\x002\n")
    else:
        path.write_bytes(b"not what it says")


@pytest.mark.parametrize(
    "name",
    ["half.npy", "half.npz", "half.safetensors", "ragged.json", "deep.json", "nul.csv"]
    + [f"text{suffix}" for suffix in (".npy", ".npz", ".safetensors", ".json", ".parquet")],
)
def test_a_damaged_file_is_named(name: str, tmp_path: Path) -> None:
    _damage(name, tmp_path / name)
    with pytest.raises(DataError, match=name):
        open_array(tmp_path / name, MATRIX)


REFUSED: dict[str, tuple[str, str, Wanted]] = {
    "too few cells": ("a.csv", "label,e0,e1\na,1,2\nb,1\n", MATRIX),
    "no number": ("a.csv", "label,e0,e1\na,1,2\nb,1,x\n", MATRIX),
    "no numeric column": ("a.csv", "path,label\n1,2\n", MATRIX),
    "no label column": ("a.csv", "x,y\n1,2\n", COLUMN),
    "an empty table": ("a.csv", "", COLUMN),
    "an object": ("a.json", '{"a": 1}', COLUMN),
    "an empty list": ("a.json", "[]", COLUMN),
    "a missing field": ("a.json", '[{"label": 1}, {"x": 2}]', COLUMN),
    "an unknown ending": ("a.xls", "x", MATRIX),
    "text for a matrix": ("a.txt", "1 2\n3 4\n", MATRIX),
}
SAID = {
    "too few cells": "a.csv, line 3: 2 values, but the first line names 3 columns",
    "no number": "a.csv, line 3: could not convert string to float: 'x'",
    "no numeric column": "a.csv has no column of numbers. Its columns: path, label",
    "no label column": "a.csv holds x, y. Say which: a.csv:NAME",
    "an empty table": "a.csv holds nothing",
    "an object": "must hold a JSON list",
    "an empty list": "must hold a JSON list",
    "a missing field": "entry 1 has no 'label'",
    "an unknown ending": "this kind of file is not read",
    "text for a matrix": "this kind of file is not read",
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_can_not_be_read_says_where_and_why(case: str, tmp_path: Path) -> None:
    name, content, wanted = REFUSED[case]
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError) as told:
        open_array(tmp_path / name, wanted)
    assert SAID[case] in str(told.value)


def test_parquet_with_holes_or_unequal_lists_is_refused(tmp_path: Path) -> None:
    columns: dict[str, tuple[list[object], str, Wanted]] = {
        "hole": ([[1.0], None], "1 values are missing, first in row 1", MATRIX),
        "inner": ([[1.0], [None]], "1 numbers inside its lists are missing", MATRIX),
        "unequal": ([[1.0], [1.0, 2.0]], "its lists differ in length", MATRIX),
        "nothing": (["a", "b"], "no column of lists and none of floating numbers", MATRIX),
        "label": (["a", None], "1 values are missing, first in row 1", COLUMN),
    }
    for name, (values, sentence, wanted) in columns.items():
        _parquet(tmp_path / "a.parquet", **{name: values})
        with pytest.raises(DataError, match=sentence):
            open_array(tmp_path / "a.parquet", wanted)


def test_parquet_without_pyarrow_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    real = builtins.__import__

    def without(name: str, *rest: object) -> object:
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return real(name, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ResourceError, match=r"accord\[parquet\]"):
        open_array(tmp_path / "a.parquet", MATRIX)


def test_files_that_are_not_there_and_names_that_mean_nothing(tmp_path: Path) -> None:
    np.save(tmp_path / "E.npy", E)
    (tmp_path / "L.txt").write_text("a\n")
    for source, sentence in {
        f"{tmp_path}/none.npy": "there is no file at",
        f"{tmp_path}": "there is a folder at",
        f"{tmp_path}/E.npy:x": "holds one array; leave out ':x'",
        f"{tmp_path}/L.txt:x": "has one value per line and no columns",
    }.items():
        with pytest.raises(AccordError, match=sentence):
            open_array(source, COLUMN)


def test_a_pickle_named_npz_is_no_archive(tmp_path: Path) -> None:
    np.save(tmp_path / "E.npy", E)
    (tmp_path / "E.npy").rename(tmp_path / "E.npz")
    with pytest.raises(DataError, match=r"is no \.npz archive"):
        open_array(tmp_path / "E.npz", MATRIX)
