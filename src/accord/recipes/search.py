"""Finds the nearest neighbours of an image in a run's gallery; serves command line and web page."""

import math
from collections import OrderedDict
from pathlib import Path
from threading import Lock

import torch

from accord.data import ImageTable, encode_jpeg, load_image, printable
from accord.errors import DataError, UsageError
from accord.index import ExactIndex
from accord.models import Embedder
from accord.recipes.artifacts import embed_items, load_config, load_data, load_embedder, load_index
from accord.recipes.device import device_at_hand
from accord.recipes.source import open_images
from accord.recipes.threshold import load_threshold, threshold_for
from accord.recipes.watch import Silence, Watch
from accord.reports import contact_sheet, terminal_picture
from accord.runs import RunFolder
from accord.types import Hit, Item, Manifest, Neighbours, Preprocessing

LARGEST_PIXELS = 50_000_000
KEPT_THUMBNAILS = 4096
QUERY = "the query image"
STORED, NONE = "stored", "none"


class Search:
    """A trained Embedder, a gallery of items and an exact index over them.

    With a `threshold`, a best score below it means that the gallery does not know the query; `far` is the share of
    strangers for which it was set, None if somebody gave another threshold.
    """

    threshold: float | None = None
    far: float | None = None

    def __init__(self, title: str, model: str, embedder: Embedder, index: ExactIndex, manifest: Manifest) -> None:
        self.title, self.model = title, model
        self.embedder, self.index, self.manifest = embedder.eval(), index, manifest
        self.size, self.classes, self.dim = len(manifest), len(manifest.classes), embedder.dim
        self._items = {item.id: item for item in manifest.items}
        self._places = {id: place for place, id in enumerate(index.labelled.ids.tolist())}
        self._rows = {item.id: row for row, item in enumerate(manifest.items)}
        self._table = ImageTable(manifest, Preprocessing(160, "pad"), budget_bytes=0)
        self._pictures: OrderedDict[tuple[int, int], bytes] = OrderedDict()
        self._tidying = Lock()
        self.limit_pixels = LARGEST_PIXELS  # of an uploaded image; the page sets its own

    def read(self, path: Path) -> bytes:
        """The bytes of an image file."""
        try:
            return path.read_bytes()
        except OSError as error:
            raise DataError(f"{path}: {error.strerror}.") from None

    def by_image(self, data: bytes, k: int, *, name: str = QUERY) -> list[Hit]:
        """The k nearest items of an encoded image, best first; `name` is what a message calls it."""
        image = load_image(data, self.embedder.preprocessing, name=name, limit_pixels=self.limit_pixels)
        device = next(self.embedder.parameters()).device
        with torch.inference_mode():
            query = self.embedder(image[None].to(device)).cpu()
        return self._hits(self.index.search(query, min(k, self.size)))

    def by_id(self, id: int, k: int) -> list[Hit]:
        """The k nearest items of an item, best first, the item itself left out."""
        self._known(id)
        query = self.index.labelled.embeddings[self._places[id]][None]
        return self._hits(self.index.search(query, min(k, self.size), exclude=torch.tensor([id])))

    def knows(self, hits: list[Hit]) -> bool | None:
        """Whether the best hit is good enough to be an answer; None without a threshold."""
        return None if self.threshold is None else bool(hits) and hits[0].score >= self.threshold

    def thumbnail(self, id: int, size: int) -> bytes:
        """A JPEG of an item, at most `size` pixels wide and high."""
        self._known(id)
        key = (id, size)
        picture = self._pictures.get(key)
        if picture is None:
            picture = encode_jpeg(self._table.thumbnails([self._rows[id]], size)[0])
            with self._tidying:  # the page asks from two threads
                self._pictures[key] = picture
                while len(self._pictures) > KEPT_THUMBNAILS:
                    self._pictures.popitem(last=False)
        return picture

    def preview(self, data: bytes, size: int) -> bytes:
        """A JPEG of an encoded image, at most `size` pixels wide and high."""
        return encode_jpeg(load_image(data, Preprocessing(size, "pad"), name=QUERY, limit_pixels=self.limit_pixels))

    def sample(self, n: int) -> list[int]:
        """Ids of items of as many different classes as possible, always the same ones."""
        first: dict[str, int] = {}
        for item in self.manifest.items:
            first.setdefault(item.label, item.id)
        ids = list(first.values())
        return ids[:: max(1, len(ids) // n)][:n]

    def label_of(self, id: int) -> str:
        """The label of an item."""
        return self._known(id).label

    def draw_in_terminal(self, data: bytes, hits: list[Hit]) -> None:
        """Draw the query and its neighbours with coloured half blocks, where the terminal has colours."""
        pictures = [self.preview(data, 32), *(self.thumbnail(hit.id, 32) for hit in hits)]
        terminal_picture(pictures, ["query", *(printable(hit.label) for hit in hits)])

    def _known(self, id: int) -> Item:
        if id not in self._items:
            raise LookupError(f"There is no item {id} in this gallery.")
        return self._items[id]

    def _hits(self, found: Neighbours) -> list[Hit]:
        pairs = zip(found.ids[0].tolist(), found.scores[0].tolist(), strict=True)
        return [Hit(id, self._items[id].label, score, self._items[id].path) for id, score in pairs if id >= 0]


def open_search(
    run_path: Path,
    *,
    gallery: str | None = None,
    threshold: float | str = STORED,
    watch: Watch | None = None,
    allow_imports: bool = False,
) -> Search:
    """Open a run for searching; `gallery` names another folder to search in, embedded now.

    `threshold` is the one that `accord calibrate` left in the run (`stored`: none if it left none), a score, or `none`.
    """
    watch = watch or Silence()
    given = _given(threshold)
    run = RunFolder.open(run_path)
    config, embedder = load_config(run), load_embedder(run, allow_imports=allow_imports)
    device = device_at_hand(config.training.device, watch)
    embedder = embedder.to(device)
    model = config.model.backbone
    if gallery is None:
        search = Search(run.path.name, model, embedder, load_index(run, embedder), load_data(run))
        return _with_threshold(search, run, given, watch)
    manifest = open_images(gallery, watch)
    labelled = embed_items(
        embedder, manifest, device=device, progress=lambda done, total: watch.progress("embedding", done, total)
    )
    search = Search(manifest.name, model, embedder, ExactIndex(labelled), manifest)
    return _with_threshold(search, run, given, watch)


def _given(threshold: float | str) -> float | str:
    """A score, or one of the two words."""
    if threshold in (STORED, NONE):
        return threshold
    try:
        score = float(threshold)
    except ValueError:
        score = math.nan
    if not -1 <= score <= 1:
        raise UsageError(f"--threshold {threshold}: give a score from -1 to 1, or none.")
    return score


def _with_threshold(search: Search, run: RunFolder, given: float | str, watch: Watch) -> Search:
    if isinstance(given, float):
        search.threshold = given
    document = load_threshold(run, search.embedder) if given == STORED else None
    if document is None:
        return search
    (search.threshold, supported), search.far = threshold_for(document, search.size), document["far"]
    if not supported:
        watch.warn(
            f"the threshold {search.threshold:.4f} is the strictest that {document['search']['queries']} calibration "
            f"images can support; with {search.size} images to be found more strangers than {search.far:.1%} may pass"
        )
    return search


def draw_hits(search: Search, data: bytes, hits: list[Hit], out: Path) -> None:
    """Write the query and its neighbours side by side as one PNG picture."""
    if out.suffix.lower() != ".png":
        raise UsageError(f"--picture {out}: give a file name that ends in .png.")
    pictures = [search.preview(data, 160), *(search.thumbnail(hit.id, 160) for hit in hits)]
    query = "query: unknown" if search.knows(hits) is False else "query"
    captions = [query, *(f"{hit.label}\n{hit.score:.3f}" for hit in hits)]
    contact_sheet(pictures, captions, out)


def read_token(path: Path | None) -> str | None:
    """The secret in a token file; a file that others can read is refused."""
    if path is None:
        return None
    try:
        mode, text = path.stat().st_mode, path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--token-file {path}: {getattr(error, 'strerror', None) or 'not a text file'}.") from None
    if mode & 0o077:
        raise UsageError(f"--token-file {path} can be read by others. Make it private: chmod 600 {path}")
    return text
