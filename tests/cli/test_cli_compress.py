"""`accord compress`: a table of before and after, everything as JSON, and mistakes with a way out."""

import json
import shutil
from pathlib import Path

import pytest

pytestmark = [pytest.mark.pretrained, pytest.mark.slow]


def test_it_shows_before_and_after_and_what_the_share_is_of(accord, tiny_run: Path, tiny_folder: Path) -> None:
    told = accord("compress", tiny_run, "--dim", "8", "--method", "fold", "--out", "small", "-q")
    assert told.code == 0
    assert "unseen classes" in told.said
    assert "1,360 102,400" in told.said
    assert "fold, scale length" in told.said
    assert "8 10,240 10,248" in told.said
    assert "of the inner products of training images" in told.said
    assert "--allow embedding_size" in told.said
    # what comes out is a run like any other
    assert accord("search", "small", sorted(tiny_folder.rglob("*.jpg"))[0], "--json").code == 0
    assert json.loads(accord("evaluate", "small", "--json").out)["metrics"]["recall@1"] >= 0
    # and what is hinted at next works
    compared = accord("compare", tiny_run, "small", "--allow", "embedding_size", "-q")
    assert compared.code == 0, compared.said


def test_json_tells_what_was_tried_and_what_came_of_it(accord, tiny_run: Path) -> None:
    found = json.loads(accord("compress", tiny_run, "--dim", "8", "--out", "small", "--json").out)
    assert found["run"] == "small"
    assert len(found["tried"]) >= 5
    assert found["after"]["numbers"] == 8
    assert set(found["metrics"]) == set(found["original"])


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (("--dim", "0"), 2, "dim must be a whole number of at least 1"),
        (("--dim", "5000"), 2, "embeddings have 1360 numbers. Give fewer"),
        (("--dim", "50"), 3, "Give --dim 35 or less"),
        (("--dim", "8", "--method", "svd"), 2, "no method of compression called 'svd'"),
        (("--dim", "8", "--scale", "lengths"), 2, "Did you mean 'length'?"),
        (("--dim", "8", "--method", "fold", "--scale", "unit"), 2, "--scale length or distance"),
    ],
)
def test_mistakes_end_with_a_message_and_an_exit_code(accord, tiny_run: Path, words, code: int, text: str) -> None:
    ended = accord("compress", tiny_run, *words, "--out", "small")
    assert ended.code == code
    assert text in ended.said
    assert not Path("small").exists()


def test_a_run_that_has_not_ended_is_refused(accord, tiny_run: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(tiny_run, tmp_path / "run"))
    (run / "manifest.json").unlink()
    (run / "model.safetensors").unlink()
    ended = accord("compress", run, "--dim", "8")
    assert ended.code == 5
    assert "training has not ended" in ended.said
    assert accord("compress", "no-run").code == 5
