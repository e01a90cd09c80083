"""What a user is told about a data set's folders: left-out files, empty folders, lone images, look-alike names."""

import unicodedata
from collections import Counter
from collections.abc import Sequence

from accord.data._names import EXTENSIONS, bytes_of, extension, printable, shown
from accord.data._sources import Listing

_FORMATS = {".jpeg": ".jpg", ".jpe": ".jpg", ".jfif": ".jpg", ".tiff": ".tif", ".dib": ".bmp"}


def census(listing: Listing) -> str:
    """What a listing holds, for a message that found too little in it."""
    return f"{len(listing.files)} files and {len(listing.folders)} folders" + (
        f" ({'; '.join(listing.notes)})" if listing.notes else ""
    )


def other_files(files: tuple[str, ...]) -> list[str]:
    """Files that are no images by their ending."""
    kinds = Counter(extension(path) or "no ending" for path in files if extension(path) not in EXTENSIONS)
    if not kinds:
        return []
    named = ", ".join(f"{count} {printable(kind)}" for kind, count in sorted(kinds.items()))
    return [f"{sum(kinds.values())} files are no images by their ending and were left out: {named}"]


def odd_endings(images: Sequence[str]) -> list[str]:
    """One image in a hundred, or fewer, of another format than all others: often a result or a copy left behind."""
    kinds = {path: _FORMATS.get(extension(path), extension(path)) for path in images}
    usual = Counter(kinds.values()).most_common(1)[0][0]
    odd = [path for path, kind in kinds.items() if kind != usual]
    if not odd or 100 * len(odd) > len(images):
        return []
    return [f"{len(odd)} images are no {usual} like the other {len(images) - len(odd):,}; do they belong? {shown(odd)}"]


def empty_folders(listing: Listing, images: list[str], base: str, levels: int) -> list[str]:
    """Class folders without an image. Folders inside a class may be empty."""
    parts = [path.split("/") for path in images]
    holding = {"/".join(part[:depth]) for part in parts for depth in range(1, len(part))}
    depths = range(base.count("/"), base.count("/") + levels)
    empty = [
        folder
        for folder in listing.folders
        if folder.startswith(base) and folder.count("/") in depths and folder not in holding
    ]
    return [f"{len(empty)} folders hold no image and were left out: {shown(empty)}"] if empty else []


def small_classes(labels: Sequence[str]) -> list[str]:
    """Classes with one image: nothing in the data set resembles it."""
    sizes = Counter(labels)
    single = sorted((label for label, size in sizes.items() if size == 1), key=bytes_of)
    if not single:
        return []
    return [f"{len(single)} classes have a single image; they are kept but never drawn for training: {shown(single)}"]


def lookalikes(labels: Sequence[str]) -> list[str]:
    """Classes whose names differ only by case, surrounding blanks or Unicode form: often one class typed twice."""
    twins: dict[str, set[str]] = {}
    for label in set(labels):
        folded = unicodedata.normalize("NFC", label).strip().casefold()
        twins.setdefault(folded, set()).add(label)
    alike = sorted((name for names in twins.values() if len(names) > 1 for name in names), key=bytes_of)
    return [f"{len(alike)} class names differ only by case, blanks or Unicode form: {shown(alike)}"] if alike else []
