"""What a reader is told beside the figures of an evaluation."""

import torch

from accord.evaluation import evaluate
from accord.types import Evaluation, Labelled

LABELS = torch.arange(4).repeat_interleave(3)


def _asked(rows: slice, *, first_id: int, shift: int = 0) -> Evaluation:
    """Some items of the gallery ask it, under other ids, as another class if shifted."""
    embeddings = torch.randn(12, 4, generator=torch.Generator().manual_seed(0))
    gallery = Labelled(embeddings, LABELS, torch.arange(12))
    some = len(LABELS[rows])
    queries = Labelled(embeddings[rows], (LABELS[rows] + shift) % 4, torch.arange(first_id, first_id + some))
    return evaluate(gallery, queries=queries, clusters=False)


def test_tells_of_queries_that_are_in_the_gallery_under_other_ids() -> None:
    told = [note for note in _asked(slice(0, 5), first_id=100).notes if "their own embedding" in note]
    assert len(told) == 1
    assert told[0].startswith("5 queries find their own embedding in the gallery, under another id")


def test_tells_of_the_whole_gallery_once() -> None:
    notes = " ".join(_asked(slice(None), first_id=100).notes)
    assert "The queries are the gallery under other ids" in notes
    assert "their own embedding" not in notes


def test_does_not_tell_of_queries_with_the_ids_of_the_gallery_or_of_other_classes() -> None:
    for found in (_asked(slice(0, 5), first_id=0), _asked(slice(0, 3), first_id=100, shift=1)):
        assert not any("their own embedding" in note for note in found.notes)
