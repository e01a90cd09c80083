"""Features that are kept: nothing is looked at twice, and what comes of them is what a new pass would give."""

import shutil
from pathlib import Path

import pytest
import torch

from accord.recipes import compress_run, judgements
from accord.recipes.artifacts import embed_items, load_config, load_data, load_embedder
from accord.recipes.build import build_baseline
from accord.recipes.evaluate import read_report
from accord.recipes.features import FEATURES, Features, Looked, embed_kept, load_looked, save_looked
from accord.recipes.judgements import judge_once
from accord.runs import RunFolder

pytestmark = [pytest.mark.pretrained, pytest.mark.slow]
CPU = torch.device("cpu")


class Counter:
    def __init__(self) -> None:
        self.opened: dict[str, int] = {}

    def say(self, text: str) -> None: ...

    def warn(self, text: str) -> None: ...

    def progress(self, stage: str, done: int, total: int, facts: object = None) -> None:
        if done == total:
            self.opened[stage] = total


@pytest.fixture
def keeping(tiny_run: Path, tmp_path: Path) -> Path:
    """A run that keeps what its trunk and the frozen one gave."""
    path = Path(shutil.copytree(tiny_run, tmp_path / "keeping"))
    with RunFolder.open(path) as run:
        manifest, config, looked = load_data(run), load_config(run), Looked.nothing()
        looked.own.of(load_embedder(run), manifest, device=CPU)
        frozen = embed_kept(build_baseline(config), manifest.only("test"), looked.frozen, device=CPU)
        judge_once(frozen, manifest, config, looked.judged, nmi_seeds=config.evaluation.nmi_seeds)
        save_looked(run, looked)
        run.seal()
    return path


def test_what_is_kept_embeds_bit_for_bit_as_a_pass_does(tiny_run: Path) -> None:
    run = RunFolder.open(tiny_run)
    embedder, manifest = load_embedder(run), load_data(run)
    want = embed_items(embedder, manifest, device=CPU)
    kept = Features()
    for _ in range(2):
        found = embed_kept(embedder, manifest, kept, device=CPU)
        assert all(torch.equal(one, other) for one, other in zip(found, want, strict=True))


def test_only_what_is_new_is_looked_at(tiny_run: Path) -> None:
    run = RunFolder.open(tiny_run)
    embedder, manifest = load_embedder(run), load_data(run)
    kept, passes = Features(), []
    for part in (manifest.only("test"), manifest, manifest.only("train")):
        seen: list[int] = []
        rows = kept.of(embedder, part, device=CPU, progress=lambda done, total, seen=seen: seen.append(total))
        assert len(rows) == len(part)
        passes.append(seen[-1] if seen else 0)
    test = len(manifest.only("test"))
    assert passes == [test, len(manifest) - test, 0]
    whole = Features().of(embedder, manifest, device=CPU)
    torch.testing.assert_close(kept.of(embedder, manifest, device=CPU), whole)


def test_a_run_is_compressed_from_what_it_keeps(keeping: Path, tiny_run: Path, tmp_path: Path) -> None:
    kept, new = Counter(), Counter()
    found = compress_run(keeping, method="pca", dim=4, out=tmp_path / "kept", watch=kept)
    want = compress_run(tiny_run, method="pca", dim=4, out=tmp_path / "new", watch=new)
    assert not kept.opened.keys() & {"embedding", "embedding train", "frozen baseline"}
    manifest = load_data(RunFolder.open(tiny_run))
    assert new.opened["embedding"] == len(manifest.only("test"))  # and no image of the others a second time
    assert found["metrics"].keys() == want["metrics"].keys()
    for name in ("recall@1", "map@r"):
        assert found["metrics"][name] == pytest.approx(want["metrics"][name], abs=1e-6)
    assert not RunFolder.open(tmp_path / "kept").exists(FEATURES)


def test_the_frozen_backbone_is_judged_once(
    keeping: Path, tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every figure of the report is the one that another judgement gives, and nobody judges."""
    compress_run(tiny_run, method="pca", dim=4, out=tmp_path / "new")

    def refuse(*unused: object, **unused_too: object) -> None:
        raise AssertionError("the frozen backbone was judged again")

    monkeypatch.setattr(judgements, "judge_test", refuse)
    compress_run(keeping, method="pca", dim=4, out=tmp_path / "kept")
    kept, new = (read_report(tmp_path / name) for name in ("kept", "new"))
    for part in ("baseline", "gain_intervals", "chance", "recall_curve"):
        assert kept.get(part) == new.get(part)
    assert kept["baseline"]["nmi"] > 0


def test_what_was_asked_otherwise_is_judged_anew(keeping: Path) -> None:
    run = RunFolder.open(keeping)
    manifest, config, looked = load_data(run), load_config(run), load_looked(run)
    assert len(looked.judged) == 1
    frozen = embed_kept(build_baseline(config), manifest.only("test"), looked.frozen, device=CPU)
    more = config.model_copy(update={"evaluation": config.evaluation.model_copy(update={"metrics": ("mrr",)})})
    found = judge_once(frozen, manifest, more, looked.judged, nmi_seeds=1)
    assert "mrr" in found.metrics
    assert judge_once(frozen, manifest, more, looked.judged, nmi_seeds=1) is found
    assert len(looked.judged) == 2
    assert judge_once(frozen, manifest, more, None, nmi_seeds=0).metrics["mrr"] == found.metrics["mrr"]


def test_judgements_come_back_from_a_file_as_they_were(keeping: Path) -> None:
    judged = load_looked(RunFolder.open(keeping)).judged
    back = judgements.from_tensors(*judgements.as_tensors(judged))
    assert back.keys() == judged.keys()
    for asked, found in back.items():
        assert found.metrics == judged[asked].metrics
        assert (found.chance, found.counts) == (judged[asked].chance, judged[asked].counts)
        assert (found.optimistic, found.notes) == (judged[asked].optimistic, judged[asked].notes)
        assert found.aside.keys() == judged[asked].aside.keys() != set()


def test_what_another_model_saw_is_not_taken(keeping: Path) -> None:
    assert len(load_looked(RunFolder.open(keeping)).own.ids)
    with RunFolder.open(keeping) as run:
        tensors, metadata = run.load_tensors("model.safetensors")
        key = next(iter(tensors))
        run.save_tensors("model.safetensors", {**tensors, key: tensors[key] + 1}, metadata)
        assert not len(load_looked(run).own.ids)
