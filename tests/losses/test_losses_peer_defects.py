"""Faults seen in pytorch-metric-learning 2.9.0, each shown on the installed one, and ours shown to be right."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import accord.losses
from conformance import without_shape_checks

peer = pytest.importorskip("pytorch_metric_learning.losses")


def ours(name: str, *needs: Any, **options: Any) -> nn.Module:
    """A loss of ours by its class; skips, loudly, while there is none."""
    if not hasattr(accord.losses, name):
        pytest.skip(f"accord.losses has no {name} yet")
    made: nn.Module = getattr(accord.losses, name)(*needs, **options)
    return made.double()


def shows(fault: bool) -> None:
    """The peer's fault; where a later release has mended it there is nothing left to show."""
    if not fault:
        pytest.skip("the installed pytorch-metric-learning has mended this")


def batch(seed: int = 0, items: int = 12, dim: int = 6) -> Tensor:
    return torch.randn(items, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def ends_finite(loss: Callable[[Tensor, Tensor], Tensor], embeddings: Tensor, labels: Tensor) -> bool:
    embeddings = embeddings.detach().clone().requires_grad_()
    value = loss(embeddings, labels)
    value.backward()
    return bool(value.isfinite() and embeddings.grad.isfinite().all())


def raises(call: Callable[[], object], *kinds: type[Exception]) -> bool:
    try:
        call()
    except kinds:
        return True
    return False


def smooth_ap(embeddings: Tensor, labels: list[int], tau: float = 0.01) -> float:
    """1 less the mean over queries of smoothed average precision, by loops over everything."""
    unit = torch.nn.functional.normalize(embeddings, dim=1).tolist()
    scores = [[sum(a * b for a, b in zip(q, k, strict=True)) for k in unit] for q in unit]

    def step(x: float) -> float:
        return 1 / (1 + math.exp(-max(-500.0, min(500.0, x / tau))))

    precisions = []
    for q, row in enumerate(scores):
        others = [k for k in range(len(row)) if k != q]
        own = [k for k in others if labels[k] == labels[q]]
        if not own:
            continue
        terms = []
        for i in own:
            among = 1 + sum(step(row[j] - row[i]) for j in own if j != i)
            terms.append(among / (among + sum(step(row[j] - row[i]) for j in others if labels[j] != labels[q])))
        precisions.append(sum(terms) / len(terms))
    return 1 - sum(precisions) / len(precisions)


SHAPES = ((3, 4), (4, 3), (8, 4))


def _grouped(classes: int, each: int) -> tuple[Tensor, Tensor]:
    labels = torch.arange(classes).repeat_interleave(each)
    return batch(1, classes * each) + 2 * batch(2, classes)[labels], labels


@pytest.mark.parametrize(("classes", "each"), SHAPES)
def test_peer_smooth_ap_is_wrong_unless_classes_equal_items_of_each(classes: int, each: int) -> None:
    embeddings, labels = _grouped(classes, each)
    value = peer.SmoothAPLoss()(embeddings, labels).item()
    shows(abs(value - smooth_ap(embeddings, labels.tolist())) > 0.01)


@pytest.mark.parametrize(("classes", "each"), SHAPES)
def test_our_smooth_ap_is_right_for_any_batch_in_any_order(classes: int, each: int) -> None:
    embeddings, labels = _grouped(classes, each)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    loss, slow = ours("SmoothAP", tau=0.01), smooth_ap(embeddings, labels.tolist())
    assert loss(embeddings, labels).item() == pytest.approx(slow, rel=1e-9)
    assert loss(embeddings[order], labels[order]).item() == pytest.approx(slow, rel=1e-9)


def test_peer_smooth_ap_depends_on_the_order_of_the_batch() -> None:
    embeddings, labels = _grouped(4, 4)
    order = torch.randperm(16, generator=torch.Generator().manual_seed(0))
    loss = peer.SmoothAPLoss()
    shows(abs(loss(embeddings, labels) - loss(embeddings[order], labels[order])).item() > 0.01)


def _two_steps(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    embeddings, labels = batch().requires_grad_(), torch.arange(12) % 4
    for _ in range(2):
        loss(embeddings, labels).backward()


def test_peer_dynamic_soft_margin_cannot_be_trained_two_steps() -> None:
    shows(raises(lambda: _two_steps(peer.DynamicSoftMarginLoss()), RuntimeError))


def test_our_dynamic_soft_margin_takes_two_steps() -> None:
    _two_steps(ours("DynamicSoftMargin"))


def test_peer_threshold_consistent_margin_ignores_its_references() -> None:
    loss, labels = peer.ThresholdConsistentMarginLoss(), torch.arange(12) % 4
    values = [loss(batch(), labels, ref_emb=batch(seed), ref_labels=labels) for seed in (1, 2)]
    shows(torch.equal(*values))


def test_peer_angular_depends_on_the_length_of_negatives() -> None:
    loss, labels = peer.AngularLoss(), torch.arange(12) % 4
    unit = torch.nn.functional.normalize(batch(), dim=1)
    shows(abs(loss(unit, labels) - loss(3 * unit, labels)).item() > 0.1)


def test_our_angular_ignores_the_length_of_embeddings() -> None:
    loss, labels = ours("Angular"), torch.arange(12) % 4
    torch.testing.assert_close(loss(3 * batch(), labels), loss(batch(), labels), rtol=1e-9, atol=0)


def test_peer_says_nothing_of_a_single_positive_and_a_single_negative_pair() -> None:
    pairs = (torch.tensor([0]), torch.tensor([1]), torch.tensor([0]), torch.tensor([2]))
    value = peer.NTXentLoss(temperature=1.0)(batch(3, 3, 2), torch.tensor([0, 0, 1]), pairs)
    shows(value.item() == 0)


@pytest.mark.parametrize("name", ["Contrastive", "NTXent", "SupCon", "BinomialDeviance"])
def test_ours_counts_the_only_pairs_there_are(name: str) -> None:
    loss = ours(name)
    assert loss(batch(3, 3, 2)[:2], torch.tensor([0, 0])).item() >= 0
    assert loss(batch(3, 3, 2), torch.tensor([0, 0, 1])).item() > 0


def _resumed(loss: nn.Module, other: nn.Module) -> tuple[Tensor, Tensor]:
    for seed in range(3):
        loss(batch(seed), torch.arange(12) % 4)
    other.load_state_dict(loss.state_dict())
    probe = batch(7), torch.arange(12) % 4
    return loss(*probe).detach(), other(*probe).detach()


def test_peer_cross_batch_memory_does_not_return_from_its_state() -> None:
    first, second = (peer.CrossBatchMemory(peer.ContrastiveLoss(), 6, memory_size=30).double() for _ in range(2))
    shows(not torch.equal(*_resumed(first, second)))


def test_our_cross_batch_memory_returns_from_its_state() -> None:
    losses = [ours("CrossBatchMemory", accord.losses.Contrastive(), dim=6, size=30) for _ in range(2)]
    assert torch.equal(*_resumed(*losses))


def test_peer_arc_face_has_no_gradient_on_its_class_vector() -> None:
    loss = peer.ArcFaceLoss(5, 6)
    aligned = [loss.W.detach().T[torch.arange(5)] * scale for scale in (1.0, 0.3, 2.7, 3.1)]
    shows(not all(ends_finite(loss, rows, torch.arange(5)) for rows in aligned))


@pytest.mark.parametrize("name", ["ArcFace", "CosFace", "SubCentreArcFace", "SphereFace"])
def test_our_angular_margins_are_finite_on_and_opposite_class_vectors(name: str) -> None:
    loss = ours(name, 6, 5).float()
    labels = torch.arange(5)
    for parameter in loss.parameters():
        rows = parameter.detach().reshape(5, -1, 6)[:, 0]
        assert all(ends_finite(loss, sign * rows, labels) for sign in (1.0, -1.0, 0.3, 2.7))


def _twins() -> tuple[Tensor, Tensor]:
    rows = batch(4, 6)
    return rows[[0, 0, 1, 1, 2, 3]], torch.tensor([0, 0, 1, 1, 2, 2])


def test_peer_tuplet_margin_breaks_on_duplicates() -> None:
    shows(not all(ends_finite(peer.TupletMarginLoss(), _twins()[0] * scale, _twins()[1]) for scale in (1, 0.7, 3.3)))


def test_our_tuplet_margin_stands_duplicates() -> None:
    for scale in (1, 0.7, 3.3):
        assert ends_finite(ours("TupletMargin"), _twins()[0] * scale, _twins()[1])


def _hot(seed: int) -> tuple[Tensor, Tensor]:
    return batch(seed).float(), torch.arange(12) % 4


def test_peer_nca_breaks_at_a_large_scale() -> None:
    shows(not all(ends_finite(peer.NCALoss(softmax_scale=200), *_hot(seed)) for seed in range(10)))


def test_our_nca_stands_a_large_scale() -> None:
    assert all(ends_finite(ours("NCA", scale=200.0).float(), *_hot(seed)) for seed in range(10))


def test_peer_pnp_breaks_in_half_precision() -> None:
    shows(raises(lambda: _must_be_finite(peer.PNPLoss(), batch().half(), torch.arange(12) % 4), Exception))


def test_our_pnp_is_finite_in_half_precision() -> None:
    _must_be_finite(ours("PNP").float(), batch().half(), torch.arange(12) % 4)


def _must_be_finite(loss: Callable[[Tensor, Tensor], Tensor], embeddings: Tensor, labels: Tensor) -> None:
    assert ends_finite(loss, embeddings, labels)


def test_peer_n_pairs_takes_the_first_pair_of_a_class_and_normalises() -> None:
    labels = torch.arange(12) % 4
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    loss = peer.NPairsLoss()
    moved = abs(loss(batch(), labels) - loss(batch()[order], labels[order])).item() > 1e-3
    shows(moved and torch.isclose(loss(2 * batch(), labels), loss(batch(), labels)).item())


def test_our_n_pair_follows_the_paper_in_lengths_and_has_a_form_for_any_order() -> None:
    labels = torch.arange(12) % 4
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    assert not torch.isclose(ours("NPair")(2 * batch(), labels), ours("NPair")(batch(), labels))
    tuplet = ours("Tuplet")
    torch.testing.assert_close(tuplet(batch()[order], labels[order]), tuplet(batch(), labels))


def test_peer_proxy_nca_says_nothing_of_a_class_without_proxy() -> None:
    labels = torch.tensor([0, 1, 7, 2])
    shows(not raises(lambda: peer.ProxyNCALoss(5, 6)(batch(0, 4).float(), labels), Exception))


@pytest.mark.parametrize("name", ["ProxyNCA", "ProxyAnchor", "SoftTriple", "ArcFace", "NormalisedSoftmax"])
def test_ours_names_a_class_it_has_no_vector_for(name: str) -> None:
    with pytest.raises(accord.errors.BatchError, match="must lie in 0 … 4, but 1 of 4 do not: 7"):
        ours(name, 6, 5)(batch(0, 4), torch.tensor([0, 1, 7, 2]))


def test_peer_sub_centre_arc_face_takes_no_positional_numbers() -> None:
    shows(raises(lambda: peer.SubCenterArcFaceLoss(4, 16), KeyError))


def test_our_sub_centre_arc_face_takes_positional_numbers() -> None:
    assert ours("SubCentreArcFace", 6, 5)(batch(), torch.arange(12) % 4).isfinite()


def _proxy_nca(embeddings: Tensor, labels: Tensor, proxies: Tensor, *, included: bool) -> Tensor:
    q, p = (torch.nn.functional.normalize(rows, dim=1) for rows in (embeddings, proxies))
    scores = -(q[:, None] - p).square().sum(dim=2)
    own = torch.nn.functional.one_hot(labels, len(proxies)).bool()
    rivals = scores if included else scores.masked_fill(own, -torch.inf)
    return (rivals.logsumexp(dim=1) - scores[own]).mean()


def test_peer_proxy_nca_keeps_the_own_proxy_in_the_denominator() -> None:
    loss, labels = peer.ProxyNCALoss(5, 6).double(), torch.arange(12) % 4
    slow = [_proxy_nca(batch(), labels, loss.proxies.detach(), included=included) for included in (True, False)]
    found = loss(batch(), labels)
    shows(bool(torch.isclose(found, slow[0]) and not torch.isclose(found, slow[1])))


def test_our_proxy_nca_leaves_the_own_proxy_out_as_published() -> None:
    loss, labels = ours("ProxyNCA", 6, 5, scale=1.0), torch.arange(12) % 4
    slow = _proxy_nca(batch(), labels, loss.proxies.detach(), included=False)
    torch.testing.assert_close(loss(batch(), labels), slow, rtol=1e-9, atol=0)


def _reduced_by_anchor() -> Tensor:
    from pytorch_metric_learning.reducers import PerAnchorReducer

    loss = peer.ContrastiveLoss(reducer=PerAnchorReducer())
    return loss(batch(0, 4), torch.arange(4), ref_emb=batch(1, 12), ref_labels=torch.arange(12) % 4)


def test_peer_reduces_by_anchor_only_without_references() -> None:
    shows(raises(_reduced_by_anchor, IndexError))


@pytest.mark.parametrize("name", ["NTXent", "SupCon"])
def test_ours_by_anchor_stands_a_memory_larger_than_the_batch(name: str) -> None:
    memory = ours("CrossBatchMemory", getattr(accord.losses, name)(), dim=6, size=40)
    for seed in range(3):
        assert ends_finite(memory, batch(seed), torch.arange(12) % 4)


def test_ours_refuses_what_no_row_can_be() -> None:
    embeddings = batch()
    embeddings[3, 1] = torch.nan
    with without_shape_checks(), pytest.raises(accord.errors.NumericError, match="1 of 12 rows are not: 3"):
        ours("Contrastive")(embeddings, torch.arange(12) % 4)
