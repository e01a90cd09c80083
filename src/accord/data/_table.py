"""Images by row number as one uint8 tensor: decoded once, kept within a budget, the same bits in any order."""

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from math import ceil

import torch
from jaxtyping import Int
from torch import Tensor

from accord.data._decode import load_image
from accord.data._manifest import ClassMap
from accord.data._names import printable
from accord.data._scan import WORKERS
from accord.data._sources import open_source
from accord.errors import BatchError, DataError, ImageError, UsageError
from accord.types import Batch, Images, Item, Manifest, Preprocessing

Rows = Int[Tensor, " row"] | Sequence[int]
_FEW = 4  # images that are decoded faster than threads are started


class ImageTable:
    """The images of a manifest as uint8 tensors of one size, addressed by row (their place in `manifest.items`).

    A row is decoded at first use and kept; rows that do not fit into `budget_bytes` are decoded each time they are
    asked for. With `oversize` the pictures are larger than `preprocessing.size` by that factor, so that augmentation
    has something to cut from. A file that changed or vanished since it was scanned raises ImageError when it is
    decoded.
    """

    def __init__(
        self,
        manifest: Manifest,
        preprocessing: Preprocessing,
        *,
        oversize: float = 1.0,
        budget_bytes: int = 512 * 2**20,
        classes: ClassMap | None = None,
    ) -> None:
        if not manifest.items:
            raise DataError(f"images: the data set '{printable(manifest.name)}' holds no image to load.")
        if not 1.0 <= oversize <= 4.0:
            raise UsageError(f"images: oversize must lie between 1 and 4, not {oversize}.")
        self.manifest, self.preprocessing = manifest, preprocessing
        self.size = round(preprocessing.size * oversize)
        self.classes = classes or ClassMap(manifest.classes)
        self.labels = self.classes.numbers(manifest)
        self.ids = torch.tensor([item.id for item in manifest.items], dtype=torch.int64)
        self._source = open_source(manifest.root)
        self._kept = min(len(manifest), max(0, budget_bytes) // (3 * self.size * self.size))
        self._pixels: Tensor | None = None
        self._filled = torch.zeros(self._kept, dtype=torch.bool)

    def __len__(self) -> int:
        return len(self.manifest)

    def images(self, rows: Rows) -> Images:
        """The pictures of `rows`, (row, 3, size, size), in that order; rows may repeat."""
        rows = self._checked(rows)
        new = torch.unique(rows[rows < self._kept])
        new = new[~self._filled[new]]
        if len(new):
            if self._pixels is None:
                self._pixels = torch.empty((self._kept, 3, self.size, self.size), dtype=torch.uint8)
            self._pixels[new] = self._load(new, self.size)
            self._filled[new] = True
        outside = torch.unique(rows[rows >= self._kept])
        if self._pixels is not None and not len(outside):
            return self._pixels[rows]
        result = torch.empty((len(rows), 3, self.size, self.size), dtype=torch.uint8)
        if self._pixels is not None:
            result[rows < self._kept] = self._pixels[rows[rows < self._kept]]
        if len(outside):
            places = torch.searchsorted(outside, rows[rows >= self._kept])
            result[rows >= self._kept] = self._load(outside, self.size)[places]
        return result

    def thumbnails(self, rows: Rows, size: int) -> Images:
        """The pictures of `rows` at another size, decoded anew and not kept."""
        return self._load(self._checked(rows), size)

    def batches(self, per_batch: int = 64, rows: Rows | None = None) -> Iterator[Batch]:
        """All pictures (or those of `rows`) in order and unchanged, as needed for embedding them."""
        rows = self._checked(range(len(self)) if rows is None else rows)
        for part in torch.split(rows, per_batch):
            yield Batch(self.images(part), self.labels[part], self.ids[part])

    def _checked(self, rows: Rows) -> Int[Tensor, " row"]:
        rows = torch.as_tensor(rows, dtype=torch.int64)
        if len(rows) and (int(rows.min()) < 0 or int(rows.max()) >= len(self)):
            raise BatchError(
                f"images: rows must lie between 0 and {len(self) - 1}.\n"
                f"  came: {int(rows.min())} to {int(rows.max())}. Rows are places in the manifest, not item ids."
            )
        return rows

    def _load(self, rows: Int[Tensor, " row"], size: int) -> Images:
        items = [self.manifest.items[row] for row in rows.tolist()]
        if not items:
            return torch.empty((0, 3, size, size), dtype=torch.uint8)
        preprocessing = self.preprocessing._replace(size=size)
        if len(items) <= _FEW:
            return torch.stack([self._one(item, preprocessing) for item in items])
        with ThreadPoolExecutor(min(WORKERS, ceil(len(items) / _FEW))) as pool:
            return torch.stack(list(pool.map(lambda item: self._one(item, preprocessing), items)))

    def _one(self, item: Item, preprocessing: Preprocessing) -> Tensor:
        data = self._source.read(item.path)
        if item.sha256 and hashlib.sha256(data).hexdigest() != item.sha256:
            raise ImageError(
                f"{printable(item.path)}: the file has changed since it was scanned. Scan the images again."
            )
        return load_image(data, preprocessing, name=item.path, box=item.box)
