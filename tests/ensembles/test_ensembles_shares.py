"""Head weights and head scales at test time: held against loops, found where they must lie, refused with a reason."""

import pytest
import torch
from torch import Tensor

from accord.ensembles import fit_shares, head_distance_scales
from accord.errors import BatchError, UsageError
from accord.evaluation import evaluate
from accord.geometry import normalise
from accord.types import Labelled

LABELS = torch.arange(24) % 6


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def telling(noise: float, seed: int) -> Tensor:
    """A head that tells the classes, the worse the more noise there is."""
    return drawn(6, 8, seed=seed)[LABELS] + noise * drawn(24, 8, seed=seed + 10)


SAME = LABELS[:, None] == LABELS


def loss(shares: dict[str, float], heads: dict[str, Tensor], sharpness: float) -> float:
    total = 0.0
    for i in range(24):
        scores = torch.stack(
            [
                sum(
                    share * torch.cosine_similarity(heads[name][i], heads[name][j], dim=0)
                    for name, share in shares.items()
                )
                for j in range(24)
            ]
        )
        weights = (sharpness * scores).exp()
        weights[i] = 0
        total -= float((weights[SAME[i]].sum() / weights.sum()).log())
    return total / 24


def test_scales_are_the_mean_distances_of_a_loop() -> None:
    heads = {"a": drawn(7, 3), "b": 5 * drawn(7, 4, seed=1)}
    for name, scale in head_distance_scales(heads).items():
        rows = heads[name]
        expected = sum((rows[i] - rows[j]).norm() for i in range(7) for j in range(i)) / 21
        assert scale == pytest.approx(float(expected), rel=1e-6)


def test_divided_by_its_scale_every_head_is_equally_wide() -> None:
    heads = {"a": drawn(7, 3), "b": 5 * drawn(7, 4, seed=1)}
    scales = head_distance_scales(heads)
    assert head_distance_scales({name: head / scales[name] for name, head in heads.items()}) == pytest.approx(
        {"a": 1.0, "b": 1.0}
    )


@pytest.mark.parametrize(("head", "words"), [(torch.ones(1, 2), "has 1 rows"), (torch.ones(4, 2), "are the same")])
def test_heads_without_distances_are_refused(head: Tensor, words: str) -> None:
    with pytest.raises(BatchError, match=f"'a'.*{words}|{words} of head 'a'|rows of head 'a' {words}"):
        head_distance_scales({"a": head})


@pytest.mark.parametrize("by", ["map@r", "nca"])
def test_the_head_that_tells_the_classes_gets_the_weight(by: str) -> None:
    shares = fit_shares({"noise": drawn(24, 8), "good": telling(0.5, 1)}, LABELS, by=by)
    assert shares["good"] > 0.8
    assert sum(shares.values()) == pytest.approx(1)
    assert min(shares.values()) >= 0


def test_no_other_shares_near_by_have_a_smaller_loss() -> None:
    heads = {"a": telling(1.5, 1), "b": telling(1.5, 2), "c": telling(3.0, 3)}
    shares = fit_shares(heads, LABELS, by="nca")
    # the sharpness was fitted beside the shares: the best one on a grid
    best = min(loss(shares, heads, sharpness) for sharpness in (2, 4, 6, 8, 10, 12, 16, 20, 30, 50, 100))
    for name in heads:
        for step in (-0.1, 0.1):
            moved = {key: max(0.0, share + (step if key == name else 0)) for key, share in shares.items()}
            moved = {key: share / sum(moved.values()) for key, share in moved.items()}
            other = min(loss(moved, heads, sharpness) for sharpness in (2, 4, 6, 8, 10, 12, 16, 20, 30, 50, 100))
            assert other > best - 0.01
    assert best < min(loss(dict.fromkeys(heads, 1 / 3), heads, s) for s in (2, 4, 6, 8, 10, 12, 16, 20, 30, 50, 100))


@pytest.mark.parametrize("by", ["map@r", "nca"])
def test_heads_of_one_kind_share_alike_and_order_does_not_matter(by: str) -> None:
    good = telling(1.0, 1)
    assert fit_shares({"a": good, "b": good.clone()}, LABELS, by=by) == pytest.approx({"a": 0.5, "b": 0.5})
    heads = {"a": telling(1.5, 1), "b": telling(2.0, 2)}
    turned = torch.randperm(24, generator=torch.Generator().manual_seed(0))
    again = fit_shares({name: head[turned] for name, head in heads.items()}, LABELS[turned], by=by)
    assert again == pytest.approx(fit_shares(heads, LABELS, by=by), abs=1e-4)


def test_a_lone_head_has_all_and_none_is_refused() -> None:
    assert fit_shares({"a": drawn(24, 3)}, LABELS) == {"a": 1.0}
    with pytest.raises(UsageError, match="at least one head"):
        fit_shares({}, LABELS)


def test_items_without_another_of_their_class_do_not_ask_and_alone_are_refused() -> None:
    labels = LABELS.clone()
    labels[0] = 99
    shares = fit_shares({"noise": drawn(24, 8), "good": telling(0.5, 1)}, labels)
    assert shares["good"] > 0.8
    with pytest.raises(BatchError, match="no class has two items"):
        fit_shares({"a": drawn(24, 8), "b": drawn(24, 8)}, torch.arange(24))


def map_at_r(shares: dict[str, float], heads: dict[str, Tensor]) -> float:
    parts = [normalise(heads[name]) * share**0.5 for name, share in shares.items()]
    joined = Labelled(torch.cat(parts, dim=1), LABELS, torch.arange(24))
    return evaluate(joined, clusters=False).metrics["map@r"]


@pytest.mark.parametrize("seed", range(4))
def test_the_climb_ends_where_no_step_leads_up_and_never_below_its_start(seed: int) -> None:
    heads = {"a": telling(1.5, seed), "b": telling(2.0, seed + 20), "c": telling(3.0, seed + 40)}
    start = {"a": 0.1, "b": 0.3, "c": 0.6}
    shares = fit_shares(heads, LABELS, start=start)
    best = map_at_r(shares, heads)
    assert best > map_at_r(start, heads)
    for name in heads:
        for factor in (0.0, 0.5, 2.0):
            moved = {key: share * (factor if key == name else 1) for key, share in shares.items()}
            total = sum(moved.values())
            if total:
                assert map_at_r({key: share / total for key, share in moved.items()}, heads) <= best + 1e-9


def test_a_head_that_was_given_up_may_come_back() -> None:
    heads = {"noise": drawn(24, 8), "good": telling(0.5, 1)}
    assert fit_shares(heads, LABELS, start={"noise": 1.0, "good": 0.0})["good"] > 0.8


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"by": "map"}, "Did you mean 'map@r'"),
        ({"start": {"a": 1.0}}, "start names"),
        ({"start": {"a": 0.0, "b": 0.0}}, "must be more than 0"),
        ({"start": {"a": -1.0, "b": 2.0}}, "at least 0"),
        ({"by": "nca", "start": {"a": 0.5, "b": 0.5}}, "leave it out"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        fit_shares({"a": drawn(24, 3), "b": drawn(24, 3)}, LABELS, **options)
