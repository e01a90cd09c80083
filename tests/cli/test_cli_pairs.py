"""`accord evaluate --pairs`: a published list of pairs is judged from images to accuracy, and a wrong one is named."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import published
from accord.evaluation import verify_pairs
from accord.recipes.artifacts import load_data, load_embedder, load_index
from accord.runs import RunFolder
from published import text, write

TINY = ("model.size=32", "model.dim=16", "training.epochs=1", "training.classes_per_batch=4", "evaluation.nmi_seeds=2")
FIGURES = {"auc", "eer", "eer_threshold", "tar@far=0.1", "tar@far=0.01", "tar@far=0.001", "best_accuracy", "thresholds"}


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A miniature of LFW as published."""
    return write(tmp_path_factory.mktemp("faces") / "set", published.lfw_ten_folds())


@pytest.fixture(scope="module")
def face_run(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was trained on its training people; read it, don't change it."""
    from accord.recipes import resolve, train_run

    out = tmp_path_factory.mktemp("runs") / "faces"
    train_run(resolve(file={"data": {"source": str(faces)}}, settings=TINY), out)
    return out


def _judged(accord, run: Path, file: Path) -> dict[str, object]:
    done = accord("evaluate", run, "--pairs", file, "--no-clusters", "--json")
    assert done.code == 0, done.err
    pairs: dict[str, object] = json.loads(done.out)["pairs"]
    return pairs


def test_a_published_list_is_judged_on_the_people_a_run_has_never_seen(accord, faces: Path, face_run: Path) -> None:
    pairs = _judged(accord, face_run, faces / "pairs.txt")
    assert FIGURES | {"accuracy", "standard_error", "fold_accuracy", "sha256"} <= set(pairs)
    assert (pairs["file"], pairs["pairs"], pairs["left_out"], pairs["judged"]) == ("pairs.txt", 40, 2, 38)
    assert (pairs["same"], pairs["different"]) == (19, 19)
    folds = pairs["fold_accuracy"]
    assert len(folds) == 10
    assert pairs["accuracy"] == pytest.approx(np.mean(folds), abs=1e-6)
    assert pairs["standard_error"] == pytest.approx(np.std(folds, ddof=1) / np.sqrt(10), abs=1e-6)
    assert "2 of 40 pairs show classes the run was trained or validated on and were left out" in pairs["notes"][0]


def test_the_figures_are_those_of_the_cosines_of_the_images(accord, faces: Path, face_run: Path) -> None:
    run = RunFolder.open(face_run)
    labelled, manifest = load_index(run, load_embedder(run)).labelled, load_data(run)
    rows = dict(zip(labelled.ids.tolist(), labelled.embeddings.double(), strict=True))
    unit = {item.path: rows[item.id] for item in manifest.items if item.split == "test"}
    scores, same, folds = [], [], []
    for number, line in enumerate((faces / "pairs.txt").read_text().splitlines()[1:]):
        name, n, *rest = line.split()
        other, m = (name, rest[0]) if len(rest) == 1 else rest
        sides = [f"lfw/{who}/{who}_{int(k):04d}.jpg" for who, k in ((name, n), (other, m))]
        if all(side in unit for side in sides):
            scores.append(float(torch.nn.functional.cosine_similarity(*(unit[side] for side in sides), dim=0)))
            same.append(name == other)
            folds.append(number // 4)
    expected = verify_pairs(torch.tensor(scores).double(), torch.tensor(same), folds=torch.tensor(folds))
    found = _judged(accord, face_run, faces / "pairs.txt")
    assert {name: found[name] for name in expected.metrics} == pytest.approx(expected.metrics, abs=1e-6)


def test_a_person_reads_accuracy_with_its_standard_error(accord, faces: Path, face_run: Path) -> None:
    done = accord("evaluate", face_run, "--pairs", faces / "pairs.txt", "--no-clusters")
    assert done.code == 0
    for word in (
        "Pairs",
        "accuracy",
        "best accuracy (optimistic)",
        "standard error",
        "auc",
        "eer",
        "tar@far=0.1",
        "! 2 of 40 pairs show classes",
    ):
        assert word in done.out


def test_a_table_may_name_the_images_of_a_run_by_path(accord, faces: Path, face_run: Path) -> None:
    paths = [f"lfw/New_{name}/New_{name}_{n:04d}.jpg" for name in "AB" for n in (1, 2)]
    rows = [
        (paths[0], paths[1], 1),
        (paths[2], paths[3], "true"),
        (paths[0], paths[2], 0),
        (paths[1], paths[3], "False"),
    ]
    _table("mine.csv", rows)
    pairs = _judged(accord, face_run, Path("mine.csv"))
    assert (pairs["same"], pairs["different"]) == (2, 2)
    assert "accuracy" not in pairs
    assert "Without two folds there is no accuracy" in pairs["notes"][-1]


NOT_OF_THE_RUN: dict[str, tuple[list[str], str]] = {
    "an image that is not there": (["1", "New_A\t1\t9", "New_A\t1\tNew_B\t1"], "line 2: the image New_A/New_A_0009 is"),
    "one class of pairs": (
        ["2\t1", *["New_A\t1\t2", "Known_A\t1\tNew_B\t1"] * 2],
        "there are 2 of one class and 0 of two",
    ),
    "only trained people": (["1", "Known_A\t1\t2", "Known_A\t1\tKnown_B\t1"], "nothing is left to judge"),
}


@pytest.mark.parametrize("case", NOT_OF_THE_RUN)
def test_a_list_that_does_not_fit_a_run_is_named(case: str, accord, face_run: Path) -> None:
    lines, reason = NOT_OF_THE_RUN[case]
    Path("bad.txt").write_bytes(text(*lines))
    done = accord("evaluate", face_run, "--pairs", "bad.txt", "--no-clusters")
    assert (done.code, done.out) == (3, "")
    assert reason in done.said


ITEMS = [f"{label}/{n}" for label in "abcdef" for n in range(3)]


@pytest.fixture
def vectors(accord, tmp_path: Path) -> tuple[str, ...]:
    """Words that judge eighteen vectors with ids of text."""
    generator = np.random.default_rng(0)
    middle = np.repeat(generator.normal(size=(6, 8)), 3, axis=0)
    np.save("E.npy", (middle + 0.5 * generator.normal(size=(18, 8))).astype("f4"))
    Path("L.txt").write_text("".join(f"{item[0]}\n" for item in ITEMS))
    Path("I.txt").write_text("".join(f"{item}\n" for item in ITEMS))
    return ("evaluate", "--embeddings", "E.npy", "--labels", "L.txt", "--no-clusters", "--ids", "I.txt")


def _table(name: str, rows: list[tuple[object, ...]], header: tuple[str, ...] = ("first", "second", "same")) -> None:
    with Path(name).open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


GOOD = [("a/0", "a/1", 1), ("b/0", "b/2", 1), ("a/0", "b/0", 0), ("c/0", "d/2", 0)] * 2


def test_vectors_are_judged_by_a_table_of_their_ids(accord, vectors: tuple[str, ...]) -> None:
    rows = [(*row, "odd" if place % 2 else "even") for place, row in enumerate(GOOD)]
    _table("P.csv", rows, ("first", "second", "same", "fold"))
    pairs = json.loads(accord(*vectors, "--pairs", "P.csv", "--json").out)["pairs"]
    assert FIGURES | {"accuracy", "standard_error", "fold_accuracy"} <= set(pairs)
    embeddings = torch.from_numpy(np.load("E.npy")).double()
    sides = [[ITEMS.index(row[side]) for row in rows] for side in (0, 1)]
    scores = torch.nn.functional.cosine_similarity(*(embeddings[side] for side in sides))
    same, folds = torch.tensor([row[2] == 1 for row in rows]), torch.tensor([row[3] == "odd" for row in rows]).long()
    expected = verify_pairs(scores, same, folds=folds)
    assert {name: pairs[name] for name in expected.metrics} == pytest.approx(expected.metrics, abs=1e-6)
    np.save("I.npy", np.arange(100, 118))
    _table(
        "P.csv",
        [(*(100 + ITEMS.index(item) for item in row[:2]), *row[2:]) for row in rows],
        ("first", "second", "same", "fold"),
    )
    numbered = json.loads(accord(*vectors[:-1], "I.npy", "--pairs", "P.csv", "--json").out)["pairs"]
    assert {**numbered, "sha256": ""} == {**pairs, "sha256": ""}


def test_pairs_that_contradict_the_labels_are_counted(accord, vectors: tuple[str, ...]) -> None:
    _table("P.csv", [*GOOD, ("e/0", "f/0", 1)])
    notes = json.loads(accord(*vectors, "--pairs", "P.csv", "--json").out)["pairs"]["notes"]
    assert "Pairs that say something else than the labels of their items: 1." in notes


def _write(*rows: tuple[object, ...], header: tuple[str, ...] = ("first", "second", "same")) -> Callable[[], None]:
    return lambda: _table("P.csv", list(rows), header)


BAD: dict[str, tuple[Callable[[], object], tuple[str, ...], int, str]] = {
    "no such item": (_write(GOOD[0], ("a/0", "z/9", 0)), (), 3, "P.csv, line 3: 'z/9' is not among the 18 ids"),
    "an item with itself": (_write(GOOD[0], ("a/0", "a/0", 1)), (), 3, "line 3: 'a/0' is paired with itself"),
    "no word for same": (_write(("a/0", "a/1", "yes")), (), 3, "line 2: same must be one of 1, true, same, 0,"),
    "a cell too few": (_write(GOOD[0], ("a/0", "a/1")), (), 3, "line 3: 2 cells, but the first line names 3"),
    "a missing column": (_write(("a/0", "a/1"), header=("first", "second")), (), 3, "must name the columns first, sec"),
    "a wrong column": (_write(header=("first", "second", "sane")), (), 3, "Did you mean 'same'"),
    "a missing fold": (
        _write((*GOOD[0], "1"), (*GOOD[2], " "), header=("first", "second", "same", "fold")),
        (),
        3,
        "line 3: the fold is missing",
    ),
    "pairs of one class only": (_write(*GOOD[:2]), (), 3, "there are 2 of one class and 0 of two"),
    "no pairs": (_write(), (), 3, "holds no pairs below its first line"),
    "an empty file": (lambda: Path("P.csv").touch(), (), 3, "must name the columns"),
    "no file": (lambda: None, (), 3, "P.csv' can't be read (No such file"),
    "broken quotes": (
        lambda: Path("P.csv").write_text('first,second,same\n"a/0"x,a/1,1\n'),
        (),
        3,
        "Look at its quotes",
    ),
    "queries": (
        _write(*GOOD),
        ("--query-embeddings", "E.npy", "--query-labels", "L.txt", "--query-ids", "I.txt"),
        2,
        "--pairs judges all pairs of one set; leave out the queries",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_table_ends_with_its_line_and_the_right_code(case: str, accord, vectors: tuple[str, ...]) -> None:
    make, words, code, reason = BAD[case]
    make()
    done = accord(*vectors, "--pairs", "P.csv", *words)
    assert (done.code, done.out) == (code, "")
    assert reason in done.said


def test_vectors_without_names_of_faces_take_tables_only(accord, vectors: tuple[str, ...]) -> None:
    Path("pairs.txt").write_text("1\nA 1 2\nA 1 B 1\n")
    done = accord(*vectors, "--pairs", "pairs.txt")
    assert (done.code, "give a .csv with the columns first, second, same, fold" in done.said) == (2, True)
    assert "where --ids are the paths of its images: Name/Name_0001.jpg" in done.said


def _faces_as_vectors(faces: Path) -> tuple[str, ...]:
    """Words that judge a vector per image of the miniature, with its path as id."""
    paths = sorted(path.relative_to(faces).as_posix() for path in faces.rglob("*.jpg"))
    people = [path.split("/")[1] for path in paths]
    generator = np.random.default_rng(3)
    middle = {name: generator.normal(size=8) for name in sorted(set(people))}
    rows = [middle[name] + generator.normal(size=8) for name in people]
    np.save("E.npy", np.asarray(rows, dtype="f4"))
    Path("L.txt").write_text("".join(f"{name}\n" for name in people))
    Path("I.txt").write_text("".join(f"{path}\n" for path in paths))
    return ("evaluate", "--embeddings", "E.npy", "--labels", "L.txt", "--ids", "I.txt", "--no-clusters")


def test_vectors_with_the_paths_of_faces_take_the_published_list(accord, faces: Path) -> None:
    words = _faces_as_vectors(faces)
    pairs = json.loads(accord(*words, "--pairs", faces / "pairs.txt", "--json").out)["pairs"]
    assert (pairs["judged"], pairs["same"], len(pairs["fold_accuracy"])) == (40, 20, 10)
    rows = dict(zip(Path("I.txt").read_text().split(), torch.from_numpy(np.load("E.npy")).double(), strict=True))
    scores, same = [], []
    for line in (faces / "pairs.txt").read_text().splitlines()[1:]:
        name, n, *rest = line.split()
        other, m = (name, rest[0]) if len(rest) == 1 else rest
        sides = [rows[f"lfw/{who}/{who}_{int(k):04d}.jpg"] for who, k in ((name, n), (other, m))]
        scores.append(float(torch.nn.functional.cosine_similarity(*sides, dim=0)))
        same.append(name == other)
    expected = verify_pairs(torch.tensor(scores).double(), torch.tensor(same), folds=torch.arange(40) // 4)
    assert {name: pairs[name] for name in expected.metrics} == pytest.approx(expected.metrics, abs=1e-6)
    assert pairs["accuracy"] > 0.6


def test_a_published_list_that_names_a_face_without_a_vector_ends_with_its_line(accord, faces: Path) -> None:
    words = _faces_as_vectors(faces)
    Path("bad.txt").write_bytes(text("1", "New_A\t1\t2", "New_A\t1\tNobody\t1"))
    done = accord(*words, "--pairs", "bad.txt")
    assert (done.code, done.out) == (3, "")
    assert "bad.txt, line 3: the image Nobody/Nobody_0001 is not in the data set" in done.said
