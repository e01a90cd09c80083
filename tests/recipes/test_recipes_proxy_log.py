"""What the log says of proxies: dead ones counted, the bound read, and no word lost by a stop."""

import json
from pathlib import Path

import pytest
import torch

from accord.ensembles import Ensemble, FixedWeights
from accord.losses import Contrastive, ProxyNCA, proxy_epsilon
from accord.recipes import resolve, train_run
from accord.recipes.interrupt import StoppedError
from accord.recipes.proxy_log import ProxyLog, warnings_of
from accord.recipes.train import resume_run
from stopping import StopAt

POINTS = torch.eye(4)[[0, 0, 1, 1]]
LABELS = torch.tensor([0, 0, 1, 1])


def _loss() -> ProxyNCA:
    loss = ProxyNCA(4, 3)
    loss.reset_(torch.eye(4)[:3])
    return loss


def test_a_proxy_that_nothing_is_near_is_counted_until_the_next_reading() -> None:
    loss = _loss()
    log = ProxyLog(loss, every=1)
    loss(POINTS, LABELS)
    told = log.read()[""]
    assert (told["proxies"], told["dead_proxies"], told["unassigned_proxies"]) == (3, 1, 1)
    assert told["epsilon"] == float(proxy_epsilon(POINTS, torch.eye(4)[LABELS])) == 0
    assert told["true_loss"] <= told["bound"] + 1e-6
    assert log.read()[""]["dead_proxies"] == 3


def test_losses_go_by_their_member_s_name_and_others_are_not_watched() -> None:
    both = Ensemble({"pairs": Contrastive(), "proxies": _loss()}, weighting=FixedWeights())
    assert list(ProxyLog(both, every=1).read()) == ["proxies"]
    assert ProxyLog(Contrastive(), every=1).read() == {}


def test_most_proxies_dead_is_worth_a_warning() -> None:
    (warning,) = warnings_of({"a": {"dead_proxies": 2.0, "proxies": 3}, "b": {"dead_proxies": 1.0, "proxies": 3}})
    assert warning.startswith("a: no image was nearest to 2 of 3")


def test_a_state_is_told_on_and_an_older_one_has_none() -> None:
    first, second = _loss(), _loss()
    log, other = ProxyLog(first, every=2), ProxyLog(second, every=2)
    first(POINTS, LABELS)
    other.restore(log.state())
    other.restore({})
    assert other.watches[""].batches == 1
    assert other.read() == log.read()


@pytest.mark.pretrained
@pytest.mark.slow
def test_a_run_logs_its_proxies_each_epoch_and_a_stop_changes_no_word(tiny_folder: Path, tmp_path: Path) -> None:
    settings = ("model.size=32", "model.dim=16", "training.epochs=2", "training.classes_per_batch=4")
    config = resolve(
        recipe="proxy_nca",
        file={"data": {"source": str(tiny_folder)}},
        settings=[*settings, "training.per_class=2", "evaluation.test=false"],
    )
    train_run(config, tmp_path / "whole")
    with pytest.raises(StoppedError):
        train_run(config, tmp_path / "stopped", watch=StopAt(2))
    resume_run(tmp_path / "stopped")
    whole, stopped = (
        [
            line["proxies"]
            for line in map(json.loads, (tmp_path / name / "log.jsonl").read_text().splitlines())
            if "proxies" in line
        ]
        for name in ("whole", "stopped")
    )
    assert whole == stopped
    assert len(whole) == 2
    assert whole[-1][""]["true_loss"] <= whole[-1][""]["bound"]
