"""Thresholds for production: the promise they make, kept on new scores, and refused where it can't be."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from accord.errors import BatchError, DataError, NumericError, UsageError
from accord.evaluation import calibrate, clopper_pearson, rate, rate_in_gallery
from conformance import without_shape_checks


def normal(count, mean=0.0, seed=0):
    return mean + torch.randn(count, generator=torch.Generator().manual_seed(seed))


def test_the_threshold_worked_by_hand():
    impostors = torch.tensor([0.1, 0.5, 0.2, 0.4, 0.3, 0.0, -0.1, -0.2, -0.3])
    genuine = torch.tensor([0.45, 0.6, 0.35, 0.05])
    found = calibrate(genuine, impostors, far=0.2, frr=0.4)
    # k = 0.2 · 10 = 2: the second highest, 0.4, is no longer accepted; k = 0.4 · 5 = 2: what is below 0.35 is different
    assert found.same_above == float(torch.nextafter(torch.tensor(0.4), torch.tensor(1.0)))
    assert found.different_below == pytest.approx(0.35)
    assert found.false_accepts[:3] == (1, 9, 1 / 9)
    assert found.false_rejects[:3] == (1, 4, 0.25)
    assert found.accepted[:3] == (2, 4, 0.5)
    without = calibrate(genuine, impostors, far=0.2)
    assert without.different_below is None
    assert without.same_above == found.same_above
    assert without.false_rejects[:3] == (2, 4, 0.5)


def test_one_threshold_is_enough_where_kinds_are_far_apart():
    found = calibrate(normal(50, 9.0), normal(50), far=0.05, frr=0.05)
    assert found.different_below == found.same_above
    assert found.accepted.share == 1
    assert found.false_rejects.times == 0


@pytest.mark.parametrize("far", [0.01, 0.05, 0.1])
def test_new_impostors_are_accepted_as_seldom_as_promised(far):
    shares = []
    for seed in range(100):
        found = calibrate(normal(20, 2.0, seed), normal(120, seed=seed + 1000), far=far)
        shares.append(1 - torch.distributions.Normal(0.0, 1.0).cdf(torch.tensor(found.same_above)))
    realised = torch.stack(shares).double()
    # the promise holds on average over calibrations, and is not bought by accepting nobody
    margin = 3 * float(realised.std()) / math.sqrt(len(realised))
    assert far * 0.7 - margin < float(realised.mean()) <= far + margin


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=40), st.sampled_from([0.05, 0.1, 0.25, 0.5]))
def test_no_more_impostors_are_accepted_than_wanted(scores, far):
    impostors = torch.tensor(scores) / 5
    if len(scores) + 1 < 1 / far:
        with pytest.raises(DataError):
            calibrate(impostors, impostors, far=far)
        return
    found = calibrate(impostors, impostors, far=far)
    assert found.false_accepts.share <= far
    assert found.false_accepts.times == int((impostors >= found.same_above).sum())


def test_a_rate_that_the_scores_cannot_support_is_refused():
    assert calibrate(normal(5), normal(99), far=0.01).false_accepts.times == 0
    with pytest.raises(DataError, match=r"at least 99 impostor scores, and there are 98.*\n.*far=0.01 or more"):
        calibrate(normal(5), normal(98), far=0.01)
    with pytest.raises(DataError, match="at least 99 genuine scores"):
        calibrate(normal(5), normal(99), far=0.01, frr=0.01)


@pytest.mark.parametrize(("count", "total"), [(0, 1), (1, 1), (0, 10), (3, 10), (10, 10), (7, 900), (5000, 100_000)])
def test_the_interval_of_a_share_is_clopper_and_pearsons(count, total):
    exact = binomtest(count, total).proportion_ci(method="exact")
    assert clopper_pearson(count, total) == pytest.approx((exact.low, exact.high), abs=1e-9)


def test_the_interval_of_a_share_of_billions_is_found():
    low, high = clopper_pearson(1_800_000, 1_800_000_000)
    assert low < 0.001 < high
    assert high - low == pytest.approx(2 * 1.96 * math.sqrt(0.001 / 1_800_000_000), rel=0.01)


def test_the_interval_knows_that_scores_of_a_class_are_alike():
    groups = torch.arange(20).repeat_interleave(50)
    hits = groups < 4
    alone, grouped = rate(hits), rate(hits, groups=groups)
    assert grouped[:3] == alone[:3] == (200, 1000, 0.2)
    assert grouped.interval[0] < alone.interval[0] < 0.2 < alone.interval[1] < grouped.interval[1]
    assert grouped == rate(hits, groups=groups, generator=torch.Generator().manual_seed(0))
    # one class tells nothing of others, and classes without a hit are no proof that there will be none
    assert rate(hits, groups=torch.zeros(1000, dtype=torch.int64)) == alone
    none = torch.zeros(1000, dtype=torch.bool)
    assert rate(none, groups=groups).interval == rate(none).interval
    assert rate(none).interval[1] > 0


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"far": 0.0}, UsageError, "far must be more than 0"),
        ({"far": 1.0}, UsageError, "far must be at least|far must be more than 0 and less than 1"),
        ({"frr": 2.0}, UsageError, "frr"),
        ({"genuine": torch.tensor([math.nan])}, NumericError, "genuine"),
        ({"impostors": torch.empty(0)}, BatchError, "at least one"),
        ({"genuine": torch.tensor([1, 2])}, BatchError, "floating-point"),
        ({"genuine": torch.ones(2, 2)}, BatchError, "one score per query"),
        ({"genuine": [0.5]}, BatchError, "list"),
        ({"impostor_groups": torch.tensor([1])}, BatchError, "impostors_groups"),
    ],
)
def test_bad_input_is_refused(change, error, says):
    given = {"genuine": normal(9), "impostors": normal(200), **change}
    genuine, impostors = given.pop("genuine"), given.pop("impostors")
    with without_shape_checks(), pytest.raises(error, match=says):
        calibrate(genuine, impostors, **given)
    with pytest.raises(UsageError, match="count"):
        clopper_pearson(5, 3)


def test_a_rate_is_carried_over_to_a_gallery_of_another_size() -> None:
    assert rate_in_gallery(0.05, calibrated=40, searched=40) == 0.05
    # 0.9 of strangers pass neither of two halves that each refuse √0.9
    assert rate_in_gallery(0.1, calibrated=1, searched=2) == pytest.approx(1 - 0.9**0.5)
    assert rate_in_gallery(0.1, calibrated=3, searched=1) == pytest.approx(1 - 0.9**3)
    with pytest.raises(UsageError, match="searched"):
        rate_in_gallery(0.1, calibrated=1, searched=0)


def test_a_rate_carried_over_holds_in_a_gallery_twice_as_large() -> None:
    generator = torch.Generator().manual_seed(1)
    shares = []
    for _ in range(40):
        strangers = torch.randn(2000, 40, generator=generator)  # best of 40 against best of 80, independent scores
        far = rate_in_gallery(0.05, calibrated=40, searched=80)
        threshold = calibrate(strangers[:400].amax(dim=1), strangers[:400].amax(dim=1), far=far).same_above
        larger = torch.cat([strangers[400:1200], strangers[1200:]], dim=1).amax(dim=1)
        shares.append(float((larger >= threshold).double().mean()))
    assert sum(shares) / len(shares) == pytest.approx(0.05, abs=0.008)
