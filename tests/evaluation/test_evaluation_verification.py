"""Verification: every figure against a slow loop and a case worked by hand, and all pairs against the list of them."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score, roc_curve

from accord.errors import BatchError, NumericError, UsageError
from accord.evaluation import pair_scores, verify_against, verify_all, verify_pairs
from accord.evaluation._scores import TIE
from accord.types import Labelled, Pairs
from conformance import without_shape_checks

FARS = (0.5, 0.3, 0.1, 0.01)


def random_items(count, classes, dim=5, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(count, dim, generator=generator).to(dtype)
    return Labelled(rows, torch.randint(classes, (count,), generator=generator), 100 + torch.arange(count))


def at(scores, same, threshold):
    """False-accept rate and true-accept rate of one threshold, by counting."""
    false = sum(s >= threshold for s, yes in zip(scores, same, strict=True) if not yes)
    true = sum(s >= threshold for s, yes in zip(scores, same, strict=True) if yes)
    return false / same.count(False), true / same.count(True)


@st.composite
def lists_of_pairs(draw):
    """Scores with many ties, at least one pair of each kind."""
    same = draw(st.lists(st.booleans(), min_size=2, max_size=14).filter(lambda flags: len(set(flags)) == 2))
    scores = draw(st.lists(st.integers(-4, 4), min_size=len(same), max_size=len(same)))
    return [score / 4 for score in scores], same


@given(lists_of_pairs())
def test_every_figure_is_what_counting_gives(pairs):
    scores, same = pairs
    found = verify_pairs(torch.tensor(scores, dtype=torch.float64), torch.tensor(same), fars=FARS)
    genuine = [s for s, yes in pairs_of(scores, same) if yes]
    impostors = [s for s, yes in pairs_of(scores, same) if not yes]
    wins = sum((g > i) + (g == i) / 2 for g in genuine for i in impostors)
    assert found.auc == pytest.approx(wins / len(genuine) / len(impostors), abs=1e-14)
    candidates = [*sorted(set(scores)), math.inf]
    for far, point in found.tar.items():
        allowed = [at(scores, same, t) for t in candidates if at(scores, same, t)[0] <= far]
        best = max(true for _, true in allowed)
        assert point.true_rate == best
        assert point.false_rate == min(false for false, true in allowed if true == best)
        assert at(scores, same, point.threshold) == (point.false_rate, point.true_rate)
    right = [sum((s >= t) == yes for s, yes in pairs_of(scores, same)) / len(same) for t in candidates]
    assert found.best_accuracy == max(right)
    decisions = sum((s >= found.best_threshold) == yes for s, yes in pairs_of(scores, same))
    assert decisions / len(same) == found.best_accuracy
    assert found.eer == pytest.approx(slow_eer(scores, same), abs=1e-12)


def pairs_of(scores, same):
    return zip(scores, same, strict=True)


def slow_eer(scores, same):
    """Walk down the ROC, one distinct score at a time, and cut the segment that crosses the diagonal of errors."""
    points = [(0.0, 1.0)]
    for threshold in sorted(set(scores), reverse=True):
        false, true = at(scores, same, threshold)
        points.append((false, 1 - true))
    for (false, missed), (next_false, next_missed) in itertools.pairwise(points):
        if next_false >= next_missed - 1e-12:
            share = (missed - false) / (missed - false + next_false - next_missed)
            return false + share * (next_false - false)
    raise AssertionError


def test_figures_worked_by_hand():
    #       accepted from the top: yes, no, yes, (yes and no tied), no
    scores = torch.tensor([0.9, 0.8, 0.7, 0.5, 0.5, 0.1])
    same = torch.tensor([True, False, True, True, False, False])
    found = verify_pairs(scores, same, fars=(0.4, 0.2))
    # wins of 0.9: 3, of 0.7: 2, of 0.5: one and a half
    assert found.auc == pytest.approx(6.5 / 9)
    # after 0.7 a third of the impostors and two thirds of the genuine are accepted: errors are equal there
    assert found.eer == pytest.approx(1 / 3)
    assert found.eer_threshold == pytest.approx(0.7)
    assert found.tar[0.4].threshold == pytest.approx(0.7)
    assert found.tar[0.4].true_rate == 2 / 3
    assert found.tar[0.2].true_rate == 1 / 3
    assert found.tar[0.2].false_rate == 0
    assert found.best_accuracy == 4 / 6
    false, true = found.steps.roc()
    assert [round(3 * x) for x in false.tolist()] == [0, 0, 0, 1, 1, 1, 2, 3]
    assert [round(3 * x) for x in true.tolist()] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert found.metrics.keys() == {"auc", "eer", "tar@far=0.4", "tar@far=0.2"}
    assert found.accuracy is None
    assert found.standard_error is None


def test_agrees_with_scikit_learn():
    generator = torch.Generator().manual_seed(3)
    same = torch.rand(3000, generator=generator) < 0.2
    scores = ((same + torch.randn(3000, generator=generator)) * 20).round() / 20
    found = verify_pairs(scores, same)
    assert found.auc == pytest.approx(roc_auc_score(same.numpy(), scores.numpy()), abs=1e-12)
    false, true, _ = roc_curve(same.numpy(), scores.numpy(), drop_intermediate=False)
    ours = set(zip(*(side.tolist() for side in found.steps.roc()), strict=True))
    for point in zip(false.tolist(), true.tolist(), strict=True):
        assert any(abs(point[0] - x) < 1e-12 and abs(point[1] - y) < 1e-12 for x, y in ours) or point[1] in {
            y for _, y in ours
        }


def test_a_rate_that_the_impostors_cannot_support_is_flagged_and_lets_none_through():
    scores = torch.tensor([0.9, 0.3, 0.2, 0.1] * 5)
    same = torch.tensor([True, False, False, False] * 5)
    found = verify_pairs(scores, same, fars=(0.1, 0.01))
    assert found.tar[0.1].supported
    assert not found.tar[0.01].supported
    assert found.tar[0.01].needed == 100
    assert found.tar[0.01].false_rate == 0
    assert any("0.01 takes at least 100 pairs" in note and "there are 15" in note for note in found.notes)
    assert any("0.1 rests on 1 of 15" in note for note in found.notes)


def test_a_rate_that_is_a_whole_share_of_the_impostors_is_used_to_the_full():
    for wanted, total in ((0.29, 100), (0.07, 100), (0.001, 1000), (0.57, 100)):
        impostors = torch.arange(total, dtype=torch.float64)
        genuine = impostors + 0.5
        scores, same = torch.cat([impostors, genuine]), torch.arange(2 * total) >= total
        assert verify_pairs(scores, same, fars=(wanted,)).tar[wanted].false_rate == pytest.approx(wanted)


def test_nothing_can_be_accepted_where_an_impostor_is_best():
    found = verify_pairs(torch.tensor([0.9, 0.1, 0.5]), torch.tensor([False, False, True]), fars=(0.3,))
    assert found.tar[0.3].threshold == math.inf
    assert found.tar[0.3].true_rate == 0
    assert verify_pairs(torch.tensor([0.9, 0.8, 0.5]), torch.tensor([False, False, True])).best_threshold == math.inf


def test_equal_scores_are_guessing():
    found = verify_pairs(torch.zeros(40), torch.arange(40) % 2 == 0)
    assert (found.auc, found.eer, found.best_accuracy) == (0.5, 0.5, 0.5)
    assert all(point.true_rate == 0 for point in found.tar.values())


def test_the_threshold_of_a_fold_is_chosen_on_the_others():
    # fold 0 alone would choose 0.5; the others choose 0.85, at which fold 0 decides two of four pairs rightly
    scores = torch.tensor([0.6, 0.7, 0.1, 0.2, 0.9, 0.8, 0.9, 0.8])
    same = torch.tensor([True, True, False, False, True, False, True, False])
    folds = torch.tensor([0, 0, 0, 0, 1, 1, 2, 2])
    found = verify_pairs(scores, same, folds=folds)
    # fold 1 is judged at the best of 0.6 0.7 0.9 | 0.1 0.2 0.8: half-way between 0.2 and 0.6
    assert found.fold_accuracy.tolist() == [0.5, 0.5, 0.5]
    assert found.accuracy == 0.5
    assert found.standard_error == 0
    assert found.metrics["accuracy"] == 0.5


def test_accuracy_by_folds_is_what_a_loop_gives():
    generator = torch.Generator().manual_seed(1)
    same = torch.arange(200) % 2 == 0
    scores = (same + torch.randn(200, generator=generator)).double()
    folds = torch.randint(5, (200,), generator=generator) * 7
    accuracies = []
    for fold in sorted(set(folds.tolist())):
        rest = sorted(s for s, f in zip(scores.tolist(), folds.tolist(), strict=True) if f != fold)
        edges = [-math.inf, *((a + b) / 2 for a, b in itertools.pairwise(rest)), math.inf]
        held = folds == fold
        right = [int(((scores[~held] >= t) == same[~held]).sum()) for t in edges]
        best = [t for t, count in zip(edges, right, strict=True) if count == max(right)]
        accuracies.append(float(((scores[held] >= best[(len(best) - 1) // 2]) == same[held]).double().mean()))
    found = verify_pairs(scores, same, folds=folds)
    assert found.fold_accuracy.tolist() == pytest.approx(accuracies, abs=1e-12)
    mean = sum(accuracies) / 5
    spread = math.sqrt(sum((a - mean) ** 2 for a in accuracies) / 4)
    assert found.standard_error == pytest.approx(spread / math.sqrt(5))
    assert found.accuracy <= found.best_accuracy


@pytest.mark.parametrize(
    ("scores", "same", "options", "error", "says"),
    [
        ([0.1, 0.2], [True, True], {}, BatchError, "0 of two"),
        ([0.1, 0.2], [False, False], {}, BatchError, "0 of one class"),
        ([0.1, math.nan], [True, False], {}, NumericError, "1"),
        ([0.1, 0.2, 0.3], [True, False], {}, BatchError, "one entry per pair"),
        ([0.1, 0.2], [True, False], {"fars": (0.0,)}, UsageError, "more than 0"),
        ([0.1, 0.2], [True, False], {"fars": (1.0,)}, UsageError, "less than 1"),
        ([0.1, 0.2], [True, False], {"fars": (0.1, 0.1)}, UsageError, "twice"),
        ([0.1, 0.2], [True, False], {"folds": torch.tensor([3, 3])}, UsageError, "two or more"),
        ([0.1, 0.2], [True, False], {"folds": torch.tensor([3])}, BatchError, "one number per pair"),
        ([1, 2], [True, False], {}, BatchError, "floating-point"),
        ([0.1, 0.2], [1, 0], {}, BatchError, "boolean"),
        ("scores", [True], {}, BatchError, "floating-point"),
    ],
)
def test_bad_lists_are_refused(scores, same, options, error, says):
    scores = scores if isinstance(scores, str) else torch.tensor(scores)
    with without_shape_checks(), pytest.raises(error, match=says):
        verify_pairs(scores, torch.tensor(same), **options)


def test_pairs_are_looked_up_by_id_or_by_row():
    items = random_items(9, 3)
    unit = torch.nn.functional.normalize(items.embeddings.double())
    rows = Pairs(torch.tensor([0, 4, 8]), torch.tensor([5, 4, 1]))
    by_row = pair_scores(items, rows, by="row")
    assert torch.allclose(by_row, (unit[rows.anchors] * unit[rows.others]).sum(1), atol=1e-14, rtol=0)
    assert torch.equal(pair_scores(items, Pairs(items.ids[rows.anchors], items.ids[rows.others])), by_row)
    with pytest.raises(BatchError, match="id 7"):
        pair_scores(items, Pairs(torch.tensor([7]), torch.tensor([100])))
    with pytest.raises(BatchError, match="row 9"):
        pair_scores(items, Pairs(torch.tensor([0]), torch.tensor([9])), by="row")
    with without_shape_checks(), pytest.raises(BatchError, match="two items"):
        pair_scores(items, Pairs(torch.tensor([0]), torch.tensor([0, 1])), by="row")
    with without_shape_checks(), pytest.raises(UsageError, match="'id' or 'row'"):
        pair_scores(items, rows, by="name")


@pytest.mark.parametrize("kind", ["gaussian", "codes", "copies", "half", "long"])
@pytest.mark.parametrize("budget", [1, 3000, 2**26])
def test_all_pairs_give_exactly_what_the_list_of_them_gives(kind, budget):
    items = random_items(61, 7, dim=6)
    rows = items.embeddings
    if kind == "codes":
        rows = rows.sign()
    if kind == "copies":
        rows = rows[:20].repeat(4, 1)[:61]
    if kind == "half":
        rows = rows.half()
    if kind == "long":
        rows = rows.double() * 1e200
    items = items._replace(embeddings=rows)
    first, second = torch.triu_indices(61, 61, 1)
    same = items.labels[first] == items.labels[second]
    listed = verify_pairs(pair_scores(items, Pairs(first, second), by="row"), same, fars=FARS)
    found = verify_all(items, fars=FARS, budget_bytes=budget)
    assert found.metrics == listed.metrics
    assert found.tar == listed.tar
    assert (found.eer_threshold, found.best_accuracy, found.best_threshold) == (
        listed.eer_threshold,
        listed.best_accuracy,
        listed.best_threshold,
    )
    for ours, theirs in zip(found.steps, listed.steps, strict=True):
        assert torch.equal(torch.as_tensor(ours), torch.as_tensor(theirs))
    assert any("not independent" in note for note in found.notes)


def test_all_pairs_of_too_many_are_refused_and_so_is_one_kind():
    items = random_items(30, 2)
    with pytest.raises(UsageError, match="most_genuine=10"):
        verify_all(items, most_genuine=10)
    with pytest.raises(BatchError, match="pairs of both kinds"):
        verify_all(items._replace(labels=torch.zeros(30, dtype=torch.int64)))
    items.embeddings[7] = 0
    with pytest.raises(NumericError, match="id 107"):
        verify_all(items)


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"ids": torch.zeros(8, dtype=torch.int64)}, BatchError, "given more than once: 0"),
        ({"ids": torch.zeros(3, dtype=torch.int64)}, BatchError, "one entry per embedding"),
        ({"labels": torch.zeros(3, dtype=torch.int64)}, BatchError, "one entry per embedding"),
        ({"embeddings": torch.full((8, 5), torch.inf)}, NumericError, "id 100"),
        ({"embeddings": torch.zeros(0, 5), "ids": torch.zeros(0, dtype=torch.int64)}, BatchError, "no items"),
        ({"ids": torch.arange(24) // 2, "embeddings": torch.ones(24, 2)}, BatchError, "and 2 more"),
    ],
)
def test_bad_items_are_refused(change, error, says):
    items = random_items(8, 3)._replace(**change)
    if "24" in str(len(items.ids)):
        items = items._replace(labels=torch.zeros(24, dtype=torch.int64))
    with without_shape_checks(), pytest.raises(error, match=says):
        verify_all(items)


def chance_to_beat(items, query, k):
    """The share of all sets of k negatives that all score below a positive, averaged over the positives."""
    unit = torch.nn.functional.normalize(items.embeddings.double())
    scores, labels = (unit @ unit[query]).tolist(), items.labels.tolist()
    negatives = [scores[j] for j in range(len(scores)) if labels[j] != labels[query]]
    positives = [scores[j] for j in range(len(scores)) if labels[j] == labels[query] and j != query]
    shares = []
    for positive in positives:
        sets = list(itertools.combinations(negatives, k))
        shares.append(sum(max(drawn) < positive - TIE for drawn in sets) / len(sets))
    return sum(shares) / len(shares) if shares else None


@pytest.mark.parametrize("budget", [1, 2000, 2**26])
@pytest.mark.parametrize("codes", [False, True])
def test_against_k_negatives_is_the_share_over_all_sets_of_them(codes, budget):
    items = random_items(14, 4, dim=4)
    if codes:
        items = items._replace(embeddings=items.embeddings[:, :3].sign())
    found = verify_against(items, negatives=(1, 3), budget_bytes=budget)
    for k, values in found.items():
        wanted = [chance_to_beat(items, query, k) for query in range(14)]
        assert values.tolist() == pytest.approx([share for share in wanted if share is not None], abs=1e-12)


def test_against_k_negatives_random_embeddings_guess_and_constant_ones_never_win():
    items = random_items(400, 40, dim=16)
    found = verify_against(items, negatives=(1, 9))
    assert float(found[1].mean()) == pytest.approx(1 / 2, abs=0.02)
    assert float(found[9].mean()) == pytest.approx(1 / 10, abs=0.02)
    constant = items._replace(embeddings=torch.ones(400, 16))
    assert float(verify_against(constant, negatives=(1,))[1].sum()) == 0


def test_against_k_negatives_wants_partners_and_enough_negatives():
    items = random_items(6, 2)
    with pytest.raises(UsageError, match="71 negatives"):
        verify_against(items)
    with pytest.raises(BatchError, match="two items"):
        verify_against(items._replace(labels=torch.arange(6)), negatives=(1,))
