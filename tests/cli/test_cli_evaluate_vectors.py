"""`accord evaluate --embeddings`: judges any model's vectors, and refuses what can't be judged, by name."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

CLASSES, EACH, DIM = 12, 6, 8


@pytest.fixture
def here(accord, tmp_path: Path) -> Path:
    """The folder in which commands run, with E.npy and L.npy in it."""
    folder = tmp_path / "here"
    generator = np.random.default_rng(0)
    labels = np.repeat(np.arange(CLASSES), EACH)
    middle = generator.normal(size=(CLASSES, DIM))
    embeddings = middle[labels] + 0.8 * generator.normal(size=(len(labels), DIM))
    np.save(folder / "E.npy", embeddings.astype(np.float32))
    np.save(folder / "L.npy", labels)
    np.save(folder / "G.npy", np.tile([0, 1, 2], len(labels) // 3))
    (folder / "L.txt").write_text("".join(f"class {label}\n" for label in labels))
    return folder


BASE = ("--embeddings", "E.npy", "--labels", "L.npy", "--no-clusters")


def test_prints_the_keys_of_a_report_as_json(accord, here: Path) -> None:
    done = accord("evaluate", "--embeddings", "E.npy", "--labels", "L.npy", "--json", "--nmi-seeds", "2")
    assert done.code == 0
    report = json.loads(done.out)
    keys = {"metrics", "intervals", "counts", "chance", "optimistic", "notes", "per_class", "protocol", "vectors"}
    assert keys | {"schema_version", "accord_version", "created", "title", "environment", "seconds"} <= set(report)
    assert {"recall@1", "map@r", "r_precision", "knn_accuracy", "nmi"} <= set(report["metrics"])
    assert all(0 <= value <= 1 for name, value in report["metrics"].items() if name not in ("ami", "ari"))
    low, high = report["intervals"]["recall@1"]
    assert low <= report["metrics"]["recall@1"] <= high
    assert report["t_intervals"]["recall@1"][0] <= report["metrics"]["recall@1"]
    assert (report["counts"]["queries"], report["counts"]["classes"]) == (CLASSES * EACH, CLASSES)
    assert report["protocol"]["nmi_seeds"] == 2
    assert report["vectors"]["gallery"]["dim"] == DIM
    assert any("Only 12 classes" in note for note in report["notes"])


def test_a_runs_vectors_in_files_give_its_report_key_by_key(accord, here: Path, tiny_run: Path) -> None:
    from accord.recipes.artifacts import load_data, load_embedder, load_index
    from accord.runs import RunFolder

    run = RunFolder.open(tiny_run)
    labelled, unseen = load_index(run, load_embedder(run)).labelled, load_data(run).only("test").items
    rows = [labelled.ids.tolist().index(item.id) for item in unseen]
    np.save("E.npy", labelled.embeddings[rows].numpy())
    np.save("I.npy", labelled.ids[rows].numpy())
    Path("L.txt").write_text("".join(f"{item.label}\n" for item in unseen))
    words = ("--embeddings", "E.npy", "--labels", "L.txt", "--ids", "I.npy", "--nmi-seeds", "2")
    found, report = json.loads(accord("evaluate", *words, "--json").out), run.read_json("report.json")
    for key in ("schema_version", "metrics", "counts", "chance", "optimistic", "per_class", "environment"):
        assert found[key] == report[key]
    assert found["protocol"].items() >= report["protocol"].items()
    assert found["intervals"].items() >= report["intervals"].items()
    assert {"accord_version", "created", "title", "notes", "seconds", "peak_memory_bytes"} <= set(found) & set(report)


def test_the_engine_gives_the_same_figures(accord, here: Path) -> None:
    from accord.evaluation import evaluate
    from accord.types import Labelled

    report = json.loads(accord("evaluate", *BASE, "--json").out)
    embeddings, labels = torch.from_numpy(np.load("E.npy")), torch.from_numpy(np.load("L.npy"))
    expected = evaluate(Labelled(embeddings, labels, torch.arange(len(labels))), clusters=False)
    assert report["metrics"] == {name: round(value, 6) for name, value in expected.metrics.items()}
    assert report["chance"] == {name: round(value, 6) for name, value in expected.chance.items()}


def test_a_person_gets_a_table_with_intervals_chance_and_the_worst_classes(accord, here: Path) -> None:
    done = accord("evaluate", "--embeddings", "E.npy", "--labels", "L.txt", "--no-clusters")
    assert done.code == 0
    assert "E.npy: 72 queries, 72 items, 12 classes" in done.out
    assert "95 % interval" in done.out
    assert "Recall@1" in done.out
    assert "The worst of 12 classes" in done.out
    assert "class 1" in done.out
    assert "Leave-one-out by cosine; no item finds itself." in done.out


def test_labels_as_text_and_as_numbers_give_the_same_figures(accord, here: Path) -> None:
    report = json.loads(accord("evaluate", *BASE, "--json").out)
    text = json.loads(accord("evaluate", "--embeddings", "E.npy", "--labels", "L.txt", "--no-clusters", "--json").out)
    assert text["metrics"] == report["metrics"]
    np.save("big.npy", np.load("L.npy").astype(np.int64) + 2**62)
    big = json.loads(accord("evaluate", "--embeddings", "E.npy", "--labels", "big.npy", "--no-clusters", "--json").out)
    assert big["metrics"] == report["metrics"]


def test_queries_ask_a_gallery_and_never_find_themselves(accord, here: Path) -> None:
    embeddings, labels = np.load("E.npy"), np.load("L.npy")
    ids = np.arange(len(labels)) + 100
    for name, array in {"QE": embeddings[::2], "QL": labels[::2], "QI": ids[::2], "I": ids}.items():
        np.save(f"{name}.npy", array)
    words = ("--query-embeddings", "QE.npy", "--query-labels", "QL.npy")
    alone = json.loads(accord("evaluate", *BASE, *words, "--json").out)
    assert alone["metrics"]["recall@1"] == 1.0, "without ids a query is another item, and finds its copy"
    same = json.loads(accord("evaluate", *BASE, *words, "--ids", "I.npy", "--query-ids", "QI.npy", "--json").out)
    assert same["protocol"]["queries"] == "query/gallery"
    everyone = json.loads(accord("evaluate", *BASE, "--json", "--per-query", "all.csv").out)
    rows = [line.split(",") for line in Path("all.csv").read_text().splitlines()]
    recalls = [float(row[rows[0].index("recall@1")]) for row in rows[1::2]]
    assert same["metrics"]["recall@1"] == pytest.approx(sum(recalls) / len(recalls), abs=1e-6)
    assert everyone["protocol"]["queries"] == "leave-one-out"


def test_groups_are_left_out_as_told(accord, here: Path) -> None:
    for exclude in ("same_group", "same_class_same_group"):
        done = accord("evaluate", *BASE, "--groups", "G.npy", "--exclude", exclude, "--json")
        report = json.loads(done.out)
        assert report["protocol"]["exclude"] == exclude
        assert report["counts"]["excluded"] > 0


def test_a_sample_of_queries_is_drawn_by_its_seed(accord, here: Path) -> None:
    words = ("evaluate", "--embeddings", "E.npy", "--labels", "L.npy", "--sample-queries", "20", "--json")
    first, again, other = (json.loads(accord(*words, "--seed", seed).out) for seed in (1, 1, 2))
    assert first["counts"]["queries"] == 20
    assert first["counts"]["gallery"] == CLASSES * EACH
    assert first["metrics"] == again["metrics"] != other["metrics"]
    assert any("Clusters were left out" in note for note in first["notes"])
    everyone = json.loads(accord(*words[:5], "--no-clusters", "--sample-queries", "999", "--json").out)
    assert everyone["counts"]["queries"] == CLASSES * EACH


def test_writes_the_report_and_what_each_query_scored(accord, here: Path) -> None:
    Path("ids.txt").write_text("".join(f"image {number}\n" for number in range(CLASSES * EACH)))
    done = accord("evaluate", *BASE, "--ids", "ids.txt", "--out", "r.json", "--per-query", "q.csv", "--json")
    assert json.loads(Path("r.json").read_text()) == json.loads(done.out)
    header, first, *_ = Path("q.csv").read_text().splitlines()
    assert header.startswith("id,label,recall@1")
    assert first.startswith("image 0,0,")
    assert accord("evaluate", *BASE, "--ids", "ids.txt", "--per-query", "q.safetensors").code == 0
    with safe_open("q.safetensors", "pt") as file:
        assert file.get_tensor("recall@1").dtype == torch.float64
        assert json.loads(file.metadata()["class_names"]) == [str(label) for label in range(CLASSES)]
        names = json.loads(file.metadata()["item_names"])
        assert {names[str(item)] for item in file.get_tensor("ids").tolist()} == {f"image {n}" for n in range(72)}
    again = accord("evaluate", *BASE, "--out", "r.json")
    assert (again.code, "exists already" in again.said) == (2, True)
    assert accord("evaluate", *BASE, "--out", "r.json", "--overwrite").code == 0


def test_verification_and_space_are_judged_on_demand(accord, here: Path) -> None:
    report = json.loads(accord("evaluate", *BASE, "--verification", "--space", "--json").out)
    assert 0.5 < report["verification"]["auc"] <= 1
    assert report["verification"]["tar@far=0.1"] <= 1
    assert report["space"]["effective_rank"] > 1
    shown = accord("evaluate", *BASE, "--verification", "--space").said
    assert "Verification" in shown
    assert "effective rank" in shown


@pytest.mark.parametrize("name", ["query_expansion", "database_augmentation", "k_reciprocal"])
def test_re_ranking_is_named_and_stands_beside_the_plain_figure(name: str, accord, here: Path) -> None:
    words = ("evaluate", "--embeddings", "E.npy", "--labels", "L.npy")
    report = json.loads(accord(*words, "--rerank", name, "--rerank-k", "5", "--json").out)
    plain = json.loads(accord(*words, "--no-clusters", "--json").out)
    assert report["protocol"]["re_ranking"] == name
    assert report["re_ranking"]["neighbours"] == 5
    assert report["re_ranking"]["plain"]["map@r"] == pytest.approx(plain["metrics"]["map@r"], abs=1e-6)
    assert any("not comparable with a plain one" in note for note in report["notes"])
    assert "not re-ranked" in accord(*words, "--rerank", name).said


def test_a_protocol_sets_the_rules(accord, here: Path) -> None:
    words = ("evaluate", "--embeddings", "E.npy", "--labels", "L.npy", "--protocol")
    report = json.loads(accord(*words, "mlrc", "--json").out)
    assert set(report["metrics"]) == {"recall@1", "r_precision", "map@r"}
    assert report["protocol"]["preset"]["name"] == "mlrc"
    assert "f1" in json.loads(accord(*words, "n_pair", "--json").out)["metrics"]


def _save(**arrays: np.ndarray) -> Callable[[], None]:
    return lambda: [np.save(f"{name}.npy", array) for name, array in arrays.items()] and None


ROWS = CLASSES * EACH
E = np.random.default_rng(1).normal(size=(ROWS, DIM)).astype(np.float32)
L = np.repeat(np.arange(CLASSES), EACH)
NAN, ZERO = E.copy(), E.copy()
NAN[[3, 7]] = np.nan
ZERO[5] = 0
BAD: dict[str, tuple[Callable[[], None], tuple[str, ...], int, str]] = {
    "a NaN row": (_save(E=NAN), (), 4, "2 of 72 rows are not: 3 (id 3), 7 (id 7)"),
    "a zero row": (_save(E=ZERO), (), 4, "1 of 72 items have one: id 5"),
    "all singletons": (_save(L=np.arange(ROWS)), (), 3, "no item has another one of its class to find"),
    "one class": (_save(L=np.zeros(ROWS, int)), (), 3, "there must be at least two classes"),
    "no rows": (_save(E=E[:0], L=L[:0]), (), 3, "there is nothing to judge"),
    "fewer labels": (_save(L=L[:-2]), (), 3, "labels must have one entry per embedding, but there are 70 for 72"),
    "labels as a column": (_save(L=L[:, None]), (), 3, "save labels.reshape(-1)"),
    "one-hot labels": (_save(L=np.eye(ROWS)), (), 3, "save labels.argmax(axis=1)"),
    "fractional labels": (_save(L=L + 0.5), (), 3, "row 0 holds 0.5"),
    "rounded labels": (_save(L=(L + 2**25).astype("f4")), (), 3, "different ones may have become equal"),
    "pickled labels": (
        lambda: np.save("L.npy", np.asarray([{}] * ROWS), allow_pickle=True),
        (),
        3,
        "L.npy can't be read: it holds Python objects, which are never unpickled",
    ),
    "an empty query set": (
        _save(QE=E[:0], QL=L[:0]),
        ("--query-embeddings", "QE.npy", "--query-labels", "QL.npy"),
        3,
        "query_embeddings hold no rows",
    ),
    "queries of another width": (
        _save(QE=E[:, :3], QL=L),
        ("--query-embeddings", "QE.npy", "--query-labels", "QL.npy"),
        3,
        "must be equally wide",
    ),
    "queries without labels": (
        _save(QE=E),
        ("--query-embeddings", "QE.npy"),
        2,
        "but only query_embeddings came",
    ),
    "queries of unknown classes": (
        _save(QE=E, QL=L + 100),
        ("--query-embeddings", "QE.npy", "--query-labels", "QL.npy"),
        3,
        "to find",
    ),
    "ids given twice": (_save(I=L), ("--ids", "I.npy"), 3, "ids must be unique, but 12 are given more than once"),
    "query ids alone": (
        _save(QE=E, QL=L, QI=np.arange(ROWS)),
        ("--query-embeddings", "QE.npy", "--query-labels", "QL.npy", "--query-ids", "QI.npy"),
        3,
        "give ids, too",
    ),
    "groups for nothing": (lambda: None, ("--groups", "G.npy"), 2, "groups are given, but nothing is done with them"),
    "no groups": (lambda: None, ("--exclude", "same_group"), 3, "needs groups"),
    "a wrong exclusion": (lambda: None, ("--exclude", "same_grup"), 2, "Did you mean 'same_group'"),
    "a wrong metric": (lambda: None, ("--metrics", "recal@1"), 2, "Did you mean 'recall@1'"),
    "k of zero": (lambda: None, ("--metrics", "recall@0"), 2, "must be a whole number from 1"),
    "no metric": (lambda: None, ("--metrics", ""), 2, "There is no metric called ''"),
    "no neighbours": (lambda: None, ("--knn", "0"), 2, "must be a whole number of at least 1, not 0"),
    "a sample of none": (lambda: None, ("--sample-queries", "0"), 2, "sample_queries must be a whole number"),
    "a wrong protocol": (lambda: None, ("--protocol", "mlcr"), 2, "Did you mean 'mlrc'"),
    "a protocol and metrics": (lambda: None, ("--protocol", "mlrc", "--metrics", "mrr"), 2, "rules metrics"),
    "a protocol with queries": (lambda: None, ("--protocol", "in_shop"), 2, "needs queries beside the gallery"),
    "a wrong re-ranking": (lambda: None, ("--rerank", "k_reciprocl"), 2, "Did you mean 'k_reciprocal'"),
    "re-ranking more than there is": (
        lambda: None,
        ("--rerank", "query_expansion", "--rerank-k", "999"),
        3,
        "lower k",
    ),
    "re-ranking by nobody": (
        lambda: None,
        ("--rerank", "query_expansion", "--rerank-k", "0"),
        2,
        "rerank_k must be a whole number of at least 1",
    ),
    "a figure of clusters as a metric": (lambda: None, ("--metrics", "nmi"), 2, "nmi comes with clusters"),
    "runs of k-means without clusters": (
        lambda: None,
        ("--no-clusters", "--nmi-seeds", "3"),
        2,
        "leave out one of the two",
    ),
    "a file cut off": (
        lambda: Path("E.npy").write_bytes(Path("E.npy").read_bytes()[:900]) and None,
        (),
        3,
        "E.npy can't be read: it is cut off",
    ),
    "k for no re-ranking": (lambda: None, ("--rerank-k", "5"), 2, "rerank_k is how many neighbours"),
    "re-ranked clusters": (lambda: None, ("--rerank", "query_expansion", "--clusters"), 2, "knows nothing of clusters"),
    "re-ranked mrr": (
        lambda: None,
        ("--rerank", "k_reciprocal", "--metrics", "mrr"),
        2,
        "give recall@k, map@r and r_precision only, not mrr",
    ),
    "an output that is no JSON": (lambda: None, ("--out", "x.txt"), 2, "ends in .json"),
    "scores as a picture": (lambda: None, ("--per-query", "x.png"), 2, "ends in .csv or .safetensors"),
    "no such folder": (lambda: None, ("--out", "none/x.json"), 6, "There is no folder none"),
    "imports": (lambda: None, ("--allow-imports",), 2, "--allow-imports is for runs"),
    "verifying queries": (
        _save(QE=E, QL=L),
        ("--verification", "--query-embeddings", "QE.npy", "--query-labels", "QL.npy"),
        2,
        "judges all pairs of one set",
    ),
    "verifying across groups": (
        lambda: None,
        ("--verification", "--groups", "G.npy", "--exclude", "same_group"),
        2,
        "judges all pairs alike",
    ),
    "space of NaN": (_save(E=NAN), ("--space", "--allow-nonfinite"), 2, "space needs every row"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_ends_with_its_name_the_way_out_and_the_right_code(case: str, accord, here: Path) -> None:
    make, words, code, sentence = BAD[case]
    make()
    clusters = [] if "--clusters" in words or "--protocol" in words or "--rerank" in words else ["--no-clusters"]
    done = accord("evaluate", "--embeddings", "E.npy", "--labels", "L.npy", *clusters, *words)
    assert (done.code, done.out) == (code, "")
    assert sentence in done.said
    assert not list(here.glob("x.*")), "a refused command leaves nothing behind"


def test_what_is_to_be_judged_must_be_said_once(accord, here: Path, tiny_run: Path) -> None:
    assert "Say what to judge" in accord("evaluate").said
    assert accord("evaluate").code == 2
    assert accord("evaluate", "--embeddings", "E.npy").code == 2
    both = accord("evaluate", tiny_run, "--labels", "L.npy")
    assert (both.code, "leave out the run folder, or --labels" in both.said) == (2, True)


def test_rows_that_are_not_finite_are_counted_as_misses_when_allowed(accord, here: Path) -> None:
    clean = json.loads(accord("evaluate", *BASE, "--json").out)
    embeddings = np.load("E.npy")
    embeddings[[1, 9]] = np.inf
    np.save("E.npy", embeddings)
    report = json.loads(accord("evaluate", *BASE, "--allow-nonfinite", "--json").out)
    assert report["counts"]["nonfinite"] == 2
    assert report["counts"]["queries"] == CLASSES * EACH
    for name in ("recall@1", "recall@8", "map@r", "r_precision", "knn_accuracy"):
        assert report["metrics"][name] <= clean["metrics"][name]


def test_equal_embeddings_score_no_more_than_chance(accord, here: Path) -> None:
    np.save("E.npy", np.ones((CLASSES * EACH, DIM), dtype=np.float16))
    report = json.loads(accord("evaluate", *BASE, "--json").out)
    assert report["metrics"]["recall@1"] == 0 <= report["chance"]["recall@1"]
    assert report["optimistic"]["recall@1"] == 1
    assert report["counts"]["tied_queries"] == CLASSES * EACH
    assert any("collapsed" in note for note in report["notes"])


def test_half_precision_is_judged_as_it_is(accord, here: Path) -> None:
    np.save("H.npy", np.load("E.npy").astype(np.float16))
    np.save("W.npy", np.load("H.npy").astype(np.float64))
    half, wide = (
        json.loads(accord("evaluate", "--embeddings", name, "--labels", "L.npy", "--no-clusters", "--json").out)
        for name in ("H.npy", "W.npy")
    )
    assert half["metrics"] == wide["metrics"]
    assert half["vectors"]["gallery"]["dtype"] == "float16"


def test_k_beyond_the_gallery_is_flagged(accord, here: Path) -> None:
    report = json.loads(accord("evaluate", *BASE, "--metrics", "recall@500,precision@500", "--json").out)
    assert report["metrics"]["recall@500"] == 1
    assert any("recall@500 can't miss" in note for note in report["notes"])
    assert any("precision@500 look further" in note for note in report["notes"])


def test_duplicated_rows_are_counted(accord, here: Path) -> None:
    embeddings = np.load("E.npy")
    embeddings[1] = embeddings[0]
    np.save("E.npy", embeddings)
    report = json.loads(accord("evaluate", *BASE, "--json").out)
    assert report["counts"]["duplicates"] == 2
    assert report["metrics"]["without_duplicates_recall@1"] <= report["metrics"]["recall@1"]


def test_hostile_class_names_do_not_reach_the_terminal(accord, here: Path) -> None:
    names = [f"\x1b[31mred{label}[bold]" for label in np.load("L.npy")]
    Path("L.txt").write_text("\n".join(names) + "\n")
    done = accord("evaluate", "--embeddings", "E.npy", "--labels", "L.txt", "--no-clusters")
    assert done.code == 0
    assert "\x1b[31m" not in done.out
    assert "[bold]" in done.out
