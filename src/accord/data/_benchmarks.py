"""The published data sets of the field: which one lies in a folder, and its images with the published split."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from accord.data._benchmark_lists import read_cub, read_in_shop, read_pets, read_products
from accord.data._benchmark_mats import read_cars, read_flowers
from accord.data._entries import Counts, Entry, counted, present
from accord.data._faces import holds_faces, read_faces
from accord.data._lines import Annotations
from accord.data._names import printable, shown
from accord.data._scan import Progress, hashed
from accord.data._sources import Listing, open_source
from accord.errors import DataError, UnknownNameError, UsageError
from accord.types import Item, Manifest

_DEEPEST = 3  # folders above the annotations


class Benchmark(NamedTuple):
    """How one published data set is recognised and read; `published` are classes and images of a split, role or all."""

    summary: str
    markers: tuple[str, ...]
    read: Callable[[Annotations, str, bool], list[Entry]]
    published: Counts
    boxes: bool = False


BENCHMARKS: Mapping[str, Benchmark] = MappingProxyType(
    {
        "cub": Benchmark(
            "CUB-200-2011: classes 1–100 train, 101–200 test; boxes",
            ("image_class_labels.txt",),
            read_cub,
            {"train": (100, 5864), "test": (100, 5924)},
            boxes=True,
        ),
        "cars": Benchmark(
            "Cars196, cars_annos.mat or the devkit: classes 1–98 train, 99–196 test; boxes",
            ("cars_annos.mat", "cars_train_annos.mat"),
            read_cars,
            {"train": (98, 8054), "test": (98, 8131)},
            boxes=True,
        ),
        "sop": Benchmark(
            "Stanford Online Products: Ebay_train.txt, Ebay_test.txt; group: super-class",
            ("Ebay_train.txt", "Ebay_test.txt"),
            read_products,
            {"train": (11318, 59551), "test": (11316, 60502)},
        ),
        "in_shop": Benchmark(
            "In-Shop Clothes: train, and query and gallery of the same unseen items; group: category; boxes",
            ("list_eval_partition.txt",),
            read_in_shop,
            {"train": (3997, 25882), "query": (3985, 14218), "gallery": (3985, 12612)},
            boxes=True,
        ),
        "lfw": Benchmark(
            "Labelled Faces in the Wild: people; split by peopleDevTrain.txt and peopleDevTest.txt if there; pairs.txt",
            ("pairs.txt", "people.txt", "pairsDevTrain.txt", "pairsDevTest.txt", "peopleDevTrain.txt"),
            read_faces,
            {"all": (5749, 13233)},
        ),
        "flowers": Benchmark(
            "Oxford Flowers-102: classes 1–51 train, 52–102 test",
            ("imagelabels.mat",),
            read_flowers,
            {"all": (102, 8189)},
        ),
        "pets": Benchmark(
            "Oxford-IIIT Pet: the first 19 breeds train, the last 18 test; group: species",
            ("annotations/list.txt",),
            read_pets,
            {"all": (37, 7349)},
        ),
    }
)


def read_benchmark(
    path: Path | str, layout: str = "auto", *, boxes: bool = False, progress: Progress | None = None
) -> Manifest:
    """A published data set in a folder or zip archive, with its published split.

    `layout` is a name of `BENCHMARKS`, or `auto`: told by the names of the annotation files. Splits, roles (In-Shop's
    query and gallery) and groups (super-class, category, species) are the published ones; the split is the one metric
    learning uses, by class. `boxes` keeps the published boxes, so that images are cropped to them. A part of a data
    set is read as far as it is there; the notes say what is missing and whether the counts are the published ones.

    Raises DataError, with the file and the line, for annotations that are not in the published layout.
    """
    root = Path(path).expanduser()
    source = open_source(root)
    listing = source.listing()
    who = f"data: '{printable(str(root))}'"
    if layout == "auto":
        layout = find_benchmark(listing, who) or ""
        if not layout:
            raise DataError(
                f"{who} is none of the data sets accord knows by their annotation files: {', '.join(BENCHMARKS)}.\n"
                "  Give the folder that holds images and annotations, or name the layout."
            )
    if layout not in BENCHMARKS:
        raise UnknownNameError("layout", layout, ["auto", *BENCHMARKS])
    benchmark = BENCHMARKS[layout]
    if boxes and not benchmark.boxes:
        with_boxes = ", ".join(name for name, known in BENCHMARKS.items() if known.boxes)
        raise UsageError(f"data: the layout '{layout}' has no boxes of its objects. These have: {with_boxes}.")
    base = next(iter(_bases(listing, benchmark)), "")
    try:
        named = benchmark.read(Annotations(source, listing, who), base, boxes)
        entries, notes = present(named, listing, base, who)
    except DataError as error:
        raise DataError(f"{error}\n  It was read as {layout}. For plain folders, say data.layout=folders.") from None
    notes = [f"read as {benchmark.summary}", *listing.notes, *notes, *counted(entries, benchmark.published)]
    hashes = hashed(source, [entry.path for entry in entries], progress)
    return Manifest(root.absolute().stem or layout, root.absolute(), items_of(entries, hashes), tuple(notes))


def items_of(entries: list[Entry], hashes: list[str]) -> tuple[Item, ...]:
    """Entries as numbered items."""
    return tuple(
        Item(number, entry.path, entry.label, sha256, entry.split, entry.group, entry.box, entry.role)
        for number, (entry, sha256) in enumerate(zip(entries, hashes, strict=True))
    )


def find_benchmark(listing: Listing, who: str) -> str | None:
    """The data set whose annotation files lie nearest to the root; DataError where there are two."""
    found = {name: bases[0].count("/") for name, known in BENCHMARKS.items() if (bases := _bases(listing, known))}
    nearest = [name for name, depth in found.items() if depth == min(found.values())]
    if len(nearest) > 1:
        raise DataError(
            f"{who} holds annotations of more than one data set: {shown(nearest)}.\n"
            "  Give the folder of one of them, or name its layout (data.layout)."
        )
    return nearest[0] if nearest else None


def _bases(listing: Listing, benchmark: Benchmark) -> list[str]:
    """Folders, as prefixes, that hold annotation files a data set is known by; those nearest to the root come first.

    The names of LFW's lists are common words: they count only where a face bears the name of its folder, too.
    """
    bases = {
        path[: len(path) - len(marker)]
        for marker in benchmark.markers
        for path in listing.files
        if path == marker or (path.endswith(f"/{marker}") and path.count("/") <= _DEEPEST)
    }
    if bases and benchmark.read is read_faces and not holds_faces(listing):
        return []
    return sorted(bases, key=lambda base: (base.count("/"), base))
