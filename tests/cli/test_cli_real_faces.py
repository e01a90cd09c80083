"""Real photographs of 40 people (AT&T, ORL): trained on as they come, and judged by the N-pair paper's protocols."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import n_pair_by_hand as by_hand
from accord.data import orl_faces, scan
from accord.errors import ResourceError

TINY = ("--size", "32", "--epochs", "1", "--set", "model.dim=16", "--set", "evaluation.nmi_seeds=2")


@pytest.fixture
def faces(request: pytest.FixtureRequest) -> Path:
    """The folder of the faces; the test is skipped, aloud, where they are not installed."""
    try:
        return orl_faces()
    except ResourceError as reason:
        reporter = request.config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            reporter.write_line(f"\n!! NOT TESTED on real faces: {reason}", red=True)
        pytest.skip(str(reason))


def test_the_faces_are_read_as_they_come_and_the_stray_one_is_named(faces: Path) -> None:
    manifest = scan(faces)
    sizes = Counter(item.label for item in manifest.items)
    assert sizes == {f"s{person}": 10 + (person == 10) for person in range(1, 41)}
    assert manifest.notes == ("1 images are no .pgm like the other 400; do they belong? 's10/target.jpg'",)


@pytest.mark.slow
@pytest.mark.pretrained
def test_the_frozen_backbone_scores_on_real_faces_what_slow_loops_say(accord, faces: Path) -> None:
    from accord.recipes.artifacts import embed_items
    from accord.recipes.build import build_baseline
    from accord.recipes.resolve import resolve

    manifest = scan(faces)
    manifest = replace(manifest, items=tuple(item for item in manifest.items if item.path.endswith(".pgm")))
    config = resolve(file={"data": {"source": str(faces)}}, settings=["model.size=64"])
    labelled = embed_items(build_baseline(config), manifest, device=torch.device("cpu"))
    np.save("E.npy", labelled.embeddings.numpy())
    Path("L.txt").write_text("".join(f"{item.label}\n" for item in manifest.items))
    done = accord("evaluate", "--embeddings", "E.npy", "--labels", "L.txt", "--protocol", "n_pair", "--json")
    figures = json.loads(done.out)["n_pair"]["figures"]
    scores, classes = by_hand.cosines(labelled.embeddings), labelled.labels.tolist()
    expected = {
        "vrf@1": [by_hand.against(scores, classes, 1)],
        "vrf@39": [by_hand.against(scores, classes, 39)],
        "verification_accuracy": by_hand.fold_accuracies(scores, classes, folds=10, each=300, seed=0),
        "rank-1": by_hand.closed(scores, classes, draws=10, seed=0),
        "dir@far=0.01": by_hand.opened(scores, classes, draws=10, seed=0),
        "recognition": [by_hand.recognition(scores, classes)],
        **by_hand.clusters(labelled.embeddings, classes, seeds=10, seed=0),
    }
    found = {name: figure["value"] for name, figure in figures.items()}
    assert found == pytest.approx({name: by_hand.mean(values) for name, values in expected.items()}, abs=1e-6)
    errors = {
        name: figure["standard_error"] for name, figure in figures.items() if figure["standard_error"] is not None
    }
    drawn = {name: by_hand.error(values) for name, values in expected.items() if len(values) > 1}
    assert errors == pytest.approx(drawn, abs=1e-6)
    # a network that has learnt from photographs of things tells people apart far better than chance
    assert found["recognition"] > 0.9 > found["rank-1"] > 0.5 > 1 / 40
    assert found["vrf@1"] > 0.9 > found["verification_accuracy"] > 0.75
    assert 0.1 < found["dir@far=0.01"] < found["rank-1"]


@pytest.mark.slow
@pytest.mark.pretrained
def test_a_run_trained_on_real_faces_is_judged_by_the_papers_protocols(accord, faces: Path) -> None:
    trained = accord("train", faces, "--out", "run", *TINY)
    assert trained.code == 0, trained.err
    assert "do they belong? 's10/target.jpg'" in trained.said
    done = accord("evaluate", "run", "--protocol", "n_pair", "--json")
    report = json.loads(done.out)
    assert report["counts"]["classes"] == 20
    assert set(report["n_pair"]["figures"]) == {
        *("vrf@1", "vrf@19", "verification_accuracy", "rank-1", "dir@far=0.01", "recognition", "f1", "nmi")
    }
    assert report["n_pair"]["figures"]["recognition"]["value"] == report["metrics"]["knn_accuracy"] > 0.5
