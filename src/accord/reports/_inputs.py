"""What a report is made of, checked once at the doorway."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from accord.errors import DataError
from accord.types import Evaluation, Json, Labelled, Neighbours

Number = float | int
Interval = tuple[Number, Number]


@dataclass(frozen=True)
class ReportInputs:
    """Everything `make_report` reads. Only the first four are needed; a report leaves out what it is not given.

    test: the embeddings of the unseen classes, as evaluated. `labels` index `class_names`.
    neighbours: the nearest items of each row of `test`, best first, the item itself left out; -1 marks an absent one.
    paths: item id → file name, as shown to people.
    recall: `{"trained": {k: recall@k}, "baseline": {…}}` for the curve; the evaluations' own recall@k where not given.
    raw_pixels: the same images judged by their pixels alone.
    heads: what each head contributes on the validation classes, as `heads.json` in the run folder says it.
    protocol: how the engine was asked: `{"queries", "score", "exclude", "re_ranking", "knn", "nmi_seeds", …}`.
    history: the rows of `log.jsonl`, in order: `{"step", "epoch", "loss", "terms", "weights", "rates", "seconds"}` and
        `{"validation": {"step", "recall@1", "map@r"}}`.
    intervals, gain_intervals: metric → (low, high) of the trained value, and of the difference to the baseline.
    data: `{"name", "sha256", "split": {"train": {"classes", "images"}, …}, "notes": […]}`.
    seconds: phase → seconds, in the order in which the phases ran.
    notes: warnings a reader must see before the numbers.
    created: ISO 8601 time; now, where empty.
    seed: of the two-dimensional map.
    tsne: whether the map may take the seconds of a t-SNE; otherwise it shows principal components.
    """

    trained: Evaluation
    test: Labelled
    neighbours: Neighbours
    class_names: Sequence[str]
    run: str = "run"
    title: str = ""
    baseline: Evaluation | None = None
    raw_pixels: Evaluation | None = None
    protocol: Json = field(default_factory=dict)
    heads: Json = field(default_factory=dict)
    paths: Mapping[int, str] = field(default_factory=dict)
    recall: Mapping[str, Mapping[int, Number]] = field(default_factory=dict)
    history: Sequence[Json] = ()
    intervals: Mapping[str, Interval] = field(default_factory=dict)
    gain_intervals: Mapping[str, Interval] = field(default_factory=dict)
    configuration: Json = field(default_factory=dict)
    data: Json = field(default_factory=dict)
    environment: Json = field(default_factory=dict)
    seconds: Mapping[str, Number] = field(default_factory=dict)
    peak_memory_bytes: int | None = None
    notes: Sequence[str] = ()
    created: str = ""
    seed: int = 0
    tsne: bool = True

    def __post_init__(self) -> None:
        items, ids = len(self.test.ids), self.neighbours.ids
        if not items:
            raise DataError("report: there is nothing to report on: `test` holds no items.")
        if len(ids) != items or self.neighbours.scores.shape != ids.shape:
            raise DataError(
                "report: neighbours must have one row per item of `test`.\n"
                f"  test:       {items} items\n"
                f"  neighbours: ids {tuple(ids.shape)}, scores {tuple(self.neighbours.scores.shape)}"
            )
        if int(self.test.labels.max()) >= len(self.class_names):
            raise DataError(
                f"report: label {int(self.test.labels.max())} has no name: "
                f"class_names has {len(self.class_names)} entries."
            )
        unknown = sorted(set(ids[ids >= 0].tolist()) - set(self.test.ids.tolist()))
        if unknown:
            raise DataError(f"report: neighbours that are not in `test`: ids {unknown[:5]}. Search the same items.")


@dataclass(frozen=True)
class Thumbnails:
    """Small square pictures of the items: `pixels` is uint8 (item, side, side, 3), parallel to `ids`."""

    ids: Sequence[int] | Tensor
    pixels: Tensor | np.ndarray

    def __post_init__(self) -> None:
        shape = tuple(self.pixels.shape)
        if len(shape) != 4 or shape[-1] != 3 or shape[1] != shape[2] or len(self.ids) != shape[0]:
            raise DataError(
                "report: thumbnails must be (item, side, side, 3), one per id.\n"
                f"  pixels: {shape}\n  ids:    {len(self.ids)}"
            )
        if self.pixels.dtype not in (torch.uint8, np.uint8):
            raise DataError(f"report: thumbnails must be uint8, not {self.pixels.dtype}.")

    @property
    def rows(self) -> dict[int, int]:
        """Item id → row of `pixels`."""
        return {int(item): row for row, item in enumerate(self.ids)}

    @property
    def array(self) -> "np.ndarray":
        """The pixels as a numpy array on the CPU."""
        return self.pixels.cpu().numpy() if isinstance(self.pixels, Tensor) else self.pixels
