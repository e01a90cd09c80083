"""Ensembles that can't be trained as they are asked for: the member is named, and the way out."""

from pathlib import Path

import pytest

SMALL = ("model.size=32", "model.dim=8", "model.backbone=resnet10", "model.pretrained=false", "evaluation.test=false")
ODD = {
    "vector": "lambda embeddings, labels: embeddings.sum(dim=1)",
    "broken": "lambda embeddings, labels: embeddings.sum() * float('nan')",
}


def _settings(*more: str) -> list[str]:
    return [word for setting in (*SMALL, "training.classes_per_batch=4", *more) for word in ("--set", setting)]


@pytest.fixture
def odd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [f"def {name}():\n    return {loss}\n" for name, loss in ODD.items()]
    (tmp_path / "strange_losses.py").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (["losses=[]"], "losses: "),
        (["losses=[{type: n_pair}]", "ensemble.idle=exclude"], "without its single loss a run would learn nothing"),
        (
            ["losses=[{type: n_pair}, {type: contrastive}]", "model.dim=null", "model.total_dim=511"],
            "511 numbers can't be divided equally among 2 heads; 510 are 255",
        ),
        (["ensemble.broken=warn"], "ensemble.broken: "),
    ],
)
def test_an_ensemble_that_can_not_be_made(settings: list[str], sentence: str, accord, tiny_folder: Path) -> None:
    done = accord("train", tiny_folder, "--out", "run", *_settings(*settings))
    assert (done.code, done.out) == (2, "")
    assert sentence in done.said
    assert not list(Path.cwd().iterdir())


@pytest.mark.parametrize(
    ("losses", "code", "sentence"),
    [
        (
            "[{type: 'strange_losses:vector'}, {type: n_pair}]",
            2,
            "vector.<locals>.<lambda> (foreign) must return one",
        ),
        ("[{type: 'strange_losses:vector'}]", 2, "vector.<locals>.<lambda> (foreign) must return one"),
        ("[{type: 'strange_losses:broken'}, {type: n_pair}]", 4, "not finite: loss terms (broken)"),
        ("[{type: 'strange_losses:broken'}]", 4, "not finite: loss terms (loss)"),
    ],
)
def test_a_loss_that_returns_what_it_must_not(
    losses: str, code: int, sentence: str, accord, odd: None, tiny_folder: Path
) -> None:
    done = accord("train", tiny_folder, "--out", "run", *_settings(f"losses={losses}", "training.steps=12"))
    assert done.code == code
    assert sentence in done.said


def test_one_loss_twice_makes_two_heads_and_one_that_is_broken_is_left_out(
    accord, odd: None, tiny_folder: Path
) -> None:
    losses = "losses=[{type: n_pair}, {type: 'strange_losses:broken'}, {type: n_pair}]"
    settings = _settings(losses, "training.steps=5", "ensemble.broken=exclude", "model.trunk_share=0")
    done = accord("train", tiny_folder, "--out", "run", *settings)
    assert done.code == 0
    assert "broken: its loss was not finite in 3 steps in a row, which were undone." in done.said
    log = Path("run", "log.jsonl").read_text().splitlines()
    assert '"n_pair_1"' in log[-2]
    assert "excluded" in log[3]
    refused = accord("compress", "run", "--dim", 25, "--allow-imports")
    assert refused.code == 2
    assert "dim=25, but the heads of this run that count have 16 numbers. Give fewer." in refused.said
