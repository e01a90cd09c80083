"""Published data sets whose annotations are MATLAB files: Cars196 in both layouts, and Oxford Flowers-102.

The layouts are those the authors published, written down from memory and from other readers of the same files; none
of the archives was at hand.
"""

from accord.data._benchmark_lists import half
from accord.data._entries import Box, Entry
from accord.data._lines import Annotations
from accord.data._mat import Table, numbers_of, read_mat, table_of, texts_of
from accord.data._names import printable
from accord.errors import DataError

_CARS, _FLOWERS = 196, 102
_CORNERS = ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2")


def read_cars(files: Annotations, base: str, boxes: bool) -> list[Entry]:
    """One table, `cars_annos.mat` with `car_ims/`; or the devkit, `cars_train_annos.mat` and
    `cars_test_annos_withlabels.mat` with `cars_train/` and `cars_test/`.

    Classes are numbered from 1 in both. Classes 1–98 train, 99–196 are the unseen test; the sides of the files belong
    to classification and are pooled. Boxes count pixels from 1 and hold their last row and column.
    """
    single = files.find("cars_annos.mat")
    if single is not None:
        values = read_mat(files.read(single), single, "annotations", "class_names")
        table = table_of(values, "annotations", single)
        names = texts_of(values, "class_names", single) if "class_names" in values else []
        return _cars(table, table.texts("relative_im_path"), names, boxes)
    meta = files.find("cars_meta.mat")
    names = texts_of(read_mat(files.read(meta), meta, "class_names"), "class_names", meta) if meta else []
    entries = []
    for folder, name in (("cars_train", "cars_train_annos.mat"), ("cars_test", "cars_test_annos_withlabels.mat")):
        path = files.path(name)
        table = table_of(read_mat(files.read(path), path, "annotations"), "annotations", path)
        entries += _cars(table, [f"{folder}/{file}" for file in table.texts("fname")], names, boxes)
    return entries


def _cars(table: Table, paths: list[str], names: list[str], boxes: bool) -> list[Entry]:
    kinds = table.numbers("class")
    corners = _boxes(table) if boxes else [None] * len(paths)
    entries = []
    for row, (path, kind, box) in enumerate(zip(paths, kinds, corners, strict=True), start=1):
        where = f"{table.where}, row {row}"
        if not 1 <= kind <= (len(names) or _CARS):
            raise DataError(f"{where}: there are {len(names) or _CARS} classes, and this is number {kind}.")
        label = names[kind - 1] if names else f"class {kind:03d}"
        entries.append(Entry(path, label, where, half(kind, _CARS), box=box))
    return entries


def _boxes(table: Table) -> list[Box | None]:
    found: list[Box | None] = []
    for row, (left, top, right, bottom) in enumerate(zip(*map(table.numbers, _CORNERS), strict=True), start=1):
        if left < 1 or top < 1 or right < left or bottom < top:
            raise DataError(f"{table.where}, row {row}: the box {left} {top} {right} {bottom} holds no pixel.")
        found.append((left - 1, top - 1, right, bottom))
    return found


def read_flowers(files: Annotations, base: str, boxes: bool) -> list[Entry]:
    """`imagelabels.mat` with `jpg/image_00001.jpg` …: the class of each image in order.

    Classes 1–51 train, 52–102 are the unseen test. `setid.mat` belongs to classification; where it is there, its image
    numbers must be those of `imagelabels.mat`.
    """
    path = files.path("imagelabels.mat", base)
    labels = numbers_of(read_mat(files.read(path), path, "labels"), "labels", path)
    entries = []
    for number, kind in enumerate(labels, start=1):
        where = f"{printable(path)}, entry {number}"
        if not 1 <= kind <= _FLOWERS:
            raise DataError(f"{where}: there are {_FLOWERS} classes, and this is number {kind}.")
        entries.append(Entry(f"jpg/image_{number:05d}.jpg", f"{kind:03d}", where, half(kind, _FLOWERS)))
    _check_sets(files, len(labels))
    return entries


def _check_sets(files: Annotations, images: int) -> None:
    path = files.find("setid.mat")
    if path is None:
        return
    values = read_mat(files.read(path), path, "trnid", "valid", "tstid")
    listed = [number for name in ("trnid", "valid", "tstid") for number in numbers_of(values, name, path)]
    if sorted(listed) != list(range(1, images + 1)):
        raise DataError(
            f"{printable(path)}: its {len(listed)} image numbers are not those of the {images} images in "
            "imagelabels.mat.\n  The two files belong to different downloads. Fetch both anew."
        )
