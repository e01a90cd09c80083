"""Identification, closed and open set: ranks, CMC, DIR@FAR and the area of the whole curve, by counting and by hand."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from accord.errors import BatchError, NumericError, UsageError
from accord.evaluation import best_matches, identify, identify_draws, open_set_split
from accord.evaluation._scores import TIE
from accord.types import Labelled
from conformance import without_shape_checks


def items_of(labels, *, dim=4, seed=0, first_id=0, codes=False):
    rows = torch.randn(len(labels), dim, generator=torch.Generator().manual_seed(seed))
    return Labelled(rows.sign() if codes else rows, torch.tensor(labels), first_id + torch.arange(len(labels)))


def slow_matches(queries, gallery):
    """Best own score, best other score and rank of the own class, one query and one item at a time."""
    q = torch.nn.functional.normalize(queries.embeddings.double())
    k = torch.nn.functional.normalize(gallery.embeddings.double())
    rows = []
    for query, label, id in zip(q, queries.labels.tolist(), queries.ids.tolist(), strict=True):
        best = {}
        for item, name, other in zip(k, gallery.labels.tolist(), gallery.ids.tolist(), strict=True):
            if other != id:
                best[name] = max(best.get(name, -math.inf), float(query @ item))
        own = best.pop(label, -math.inf)
        ahead = sum(score >= own - TIE for score in best.values())
        rows.append((own, max(best.values(), default=-math.inf), ahead + 1 if own > -math.inf else 0))
    return rows


@pytest.mark.parametrize("budget", [1, 1500, 2**26])
@pytest.mark.parametrize("codes", [False, True])
def test_matches_are_what_a_loop_finds(codes, budget):
    queries = items_of([0, 0, 1, 2, 3, 9, 4, 4], codes=codes)
    gallery = items_of([0, 1, 1, 2, 4, 5, 5, 6, 0], seed=1, first_id=6, codes=codes)
    found = best_matches(queries, gallery, budget_bytes=budget)
    wanted = slow_matches(queries, gallery)
    assert found.own.tolist() == pytest.approx([row[0] for row in wanted], abs=1e-13)
    assert found.other.tolist() == pytest.approx([row[1] for row in wanted], abs=1e-13)
    assert found.place.tolist() == [row[2] for row in wanted]
    assert found.known.tolist() == [row[0] > -math.inf for row in wanted]
    assert torch.equal(found.best, torch.maximum(found.own, found.other))


def test_the_size_of_a_tile_changes_no_bit():
    queries, gallery = items_of([0, 1, 2] * 20), items_of(list(range(30)) * 2, seed=1, first_id=50)
    whole = best_matches(queries, gallery)
    for budget in (1, 10_000, 200_000):
        parts = best_matches(queries, gallery, budget_bytes=budget)
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(parts, whole, strict=True))


def test_an_item_never_finds_itself_in_the_gallery():
    items = items_of([0, 0, 1, 1, 2])
    found = best_matches(items, items)
    assert float(found.own.max()) < 1
    # alone in its class: with itself left out its class is not there
    assert found.place[4] == 0


def unit(*degrees):
    angles = torch.tensor(degrees, dtype=torch.float64).deg2rad()
    return torch.stack([angles.cos(), angles.sin()], dim=1)


def test_figures_worked_by_hand():
    gallery = Labelled(unit(0, 90, 180), torch.tensor([0, 1, 2]), torch.arange(3))
    # known: at 10° and 60° (right, 10° and 30° off), at 50° (90° is nearer: 0 is second); unknown: at 265° and 215°
    probes = Labelled(unit(10, 60, 50, 265, 215), torch.tensor([0, 1, 0, 7, 8]), torch.arange(10, 15))
    found = identify(probes, gallery, ranks=(1, 2, 3), fars=(0.5, 0.1))
    assert found.place.tolist() == [1, 1, 2]
    assert found.probe_ids.tolist() == [10, 11, 12]
    assert found.cmc.tolist() == pytest.approx([2 / 3, 1, 1])
    assert found.ranks == {1: pytest.approx(2 / 3), 2: 1, 3: 1}
    opened = found.open
    # best scores of the unknown: cos 85° = .087 and cos 35° = .819; right ones: cos 10° = .985 and cos 30° = .866
    assert (opened.known, opened.unknown) == (3, 2)
    assert opened.dir[0.1].true_rate == pytest.approx(2 / 3)
    assert opened.dir[0.1].threshold == pytest.approx(math.cos(math.radians(30)))
    assert not opened.dir[0.1].supported
    assert opened.dir[0.5].supported
    # both right ones beat both unknown: 4 of 6; the wrong one's best, cos 40° = .766, beats one of two
    assert opened.oscr == pytest.approx(4 / 6)
    assert opened.auroc == pytest.approx(5 / 6)
    assert list(found.metrics) == ["rank-1", "rank-2", "rank-3", "dir@far=0.5", "dir@far=0.1", "auroc", "oscr"]
    assert any("rank-3 can't miss" in note for note in found.notes)
    assert any("at least 10 probes" in note for note in found.notes)


@st.composite
def searches(draw):
    """Probes and a gallery of few directions, so that much ties; at least one known and one unknown probe."""
    labels = [0, *draw(st.lists(st.integers(0, 5), min_size=1, max_size=9))]
    probes = [0, 9, *draw(st.lists(st.integers(0, 9), max_size=8))]
    return labels, probes, draw(st.integers(0, 99))


@given(searches())
def test_dir_is_what_trying_every_threshold_gives(search):
    labels, probes, seed = search
    gallery = items_of(labels, dim=3, seed=seed, codes=True)
    asking = items_of(probes, dim=3, seed=seed + 1000, first_id=100, codes=True)
    found = identify(asking, gallery, fars=(0.5, 0.2))
    matches = best_matches(asking, gallery)
    known, best = matches.known.tolist(), matches.best.tolist()
    rows = list(zip(matches.own.tolist(), matches.place.tolist(), best, known, strict=True))
    for far, point in found.open.dir.items():
        shares = [0.0]
        for threshold in sorted(set(best)):
            alarms = sum(top >= threshold for _, _, top, yes in rows if not yes) / known.count(False)
            right = sum(own >= threshold and place == 1 for own, place, _, yes in rows if yes) / known.count(True)
            shares += [right] if alarms <= far else []
        assert point.true_rate == pytest.approx(max(shares))
        assert point.false_rate <= far
    pairs = [(own if place == 1 else -9.0, alarm) for own, place, _, yes in rows if yes for alarm in alarms_of(rows)]
    assert found.open.oscr == pytest.approx(sum((a > b) + (a == b) / 2 for a, b in pairs) / len(pairs))
    assert found.open.auroc == pytest.approx(roc_auc_score(known, best))


def alarms_of(rows):
    return [top for _, _, top, yes in rows if not yes]


def test_the_cmc_rises_to_one():
    items = items_of([0, 1, 2, 3, 4, 5] * 5)
    found = identify(items, items, ranks=(1, 5))
    assert found.open is None
    assert len(found.cmc) == found.classes == 6
    assert bool((found.cmc.diff() >= 0).all())
    assert found.cmc[-1] == 1
    assert found.metrics == {"rank-1": float(found.cmc[0]), "rank-5": float(found.cmc[4])}
    assert found.notes == ()


def test_constant_embeddings_find_nobody():
    gallery = Labelled(torch.ones(4, 3), torch.arange(4), torch.arange(4))
    probes = Labelled(torch.ones(3, 3), torch.tensor([0, 1, 9]), torch.arange(10, 13))
    found = identify(probes, gallery, ranks=(1,))
    assert found.metrics == {"rank-1": 0, "dir@far=0.1": 0, "dir@far=0.01": 0, "auroc": 0.5, "oscr": 0}


def test_a_gallery_of_strangers_and_other_mistakes_are_refused():
    probes, gallery = items_of([0, 1, 2]), items_of([5, 6], first_id=9)
    with pytest.raises(BatchError, match="number their labels alike"):
        identify(probes, gallery)
    with pytest.raises(UsageError, match="less than 1"):
        identify(probes, gallery, fars=(1.5,))
    with pytest.raises(UsageError, match="each rank"):
        identify(probes, gallery, ranks=(0,))
    with pytest.raises(BatchError, match="Embed both with one model"):
        identify(probes, items_of([0, 1], dim=7))
    with pytest.raises(NumericError, match=r"gallery: .* 1 of 2 items have one: id 10"):
        best_matches(probes, gallery._replace(embeddings=torch.tensor([[1.0, 0, 0, 0], [0, 0, 0, 0]])))
    probes.embeddings[1] = torch.nan
    with pytest.raises(NumericError, match=r"queries.*id 1"):
        best_matches(probes, gallery)
    with without_shape_checks(), pytest.raises(BatchError, match="one entry per embedding"):
        identify(gallery, gallery._replace(ids=torch.arange(3)))


def test_a_split_is_disjoint_by_class_and_complete():
    labels = torch.tensor([0] * 5 + [1] * 5 + [2] * 5 + [3] * 5 + [4] + [5])
    split = open_set_split(labels, gallery_images=2, generator=torch.Generator().manual_seed(0))
    assert torch.equal(torch.cat(split).sort().values, torch.arange(22))
    gallery, known, unknown = (labels[rows] for rows in split)
    assert torch.equal(gallery.unique(return_counts=True)[1], torch.tensor([2, 2]))
    assert set(known.tolist()) == set(gallery.tolist())
    assert not set(unknown.tolist()) & set(gallery.tolist())
    assert {4, 5} <= set(unknown.tolist())
    again = open_set_split(labels, gallery_images=2, generator=torch.Generator().manual_seed(0))
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(split, again, strict=True))


def test_a_split_leaves_one_class_unknown_and_takes_one_known():
    labels = torch.tensor([0, 0, 1, 1])
    for known in (0.01, 0.99):
        split = open_set_split(labels, known=known, generator=torch.Generator().manual_seed(1))
        assert (len(split.gallery), len(split.known), len(split.unknown)) == (1, 1, 2)
    with pytest.raises(UsageError, match="between 0 and 1"):
        open_set_split(labels, known=1.0, generator=torch.Generator())
    for few in ([0, 0], [0, 1, 2]):
        with pytest.raises(BatchError, match="lower gallery_images"):
            open_set_split(torch.tensor(few), generator=torch.Generator())


def test_draws_are_averaged():
    items = items_of(list(range(8)) * 6, dim=8)
    found = identify_draws(items, draws=4, fars=(0.1,), generator=torch.Generator().manual_seed(0))
    assert len(found.each) == 4
    for name, mean in found.means.items():
        values = torch.tensor([one[name] for one in found.each], dtype=torch.float64)
        assert mean == pytest.approx(float(values.mean()))
        assert found.deviations[name] == pytest.approx(float(values.std()))
    assert any("rests on" in note for note in found.notes)
    once = identify_draws(items, draws=1, generator=torch.Generator().manual_seed(0))
    assert all(math.isnan(spread) for spread in once.deviations.values())
