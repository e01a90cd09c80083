"""Published data sets whose annotations are text files: CUB-200-2011, Online Products, In-Shop, Oxford-IIIT Pet.

The layouts are those the authors published, written down from memory and from other readers of the same files; none
of the archives was at hand.
"""

from collections.abc import Iterable

from accord.data._entries import Box, Entry, outward
from accord.data._lines import Annotations, Line
from accord.errors import DataError

IN_SHOP_ROLES = {"train": ("train", ""), "query": ("test", "query"), "gallery": ("test", "gallery")}


def read_cub(files: Annotations, base: str, boxes: bool) -> list[Entry]:
    """`images.txt`, `image_class_labels.txt`, `classes.txt` and, for crops, `bounding_boxes.txt`.

    Classes 1–100 train, 101–200 are the unseen test. `train_test_split.txt` belongs to classification, where both
    sides hold all classes; it is not used.
    """
    names = by_number(files.lines(files.path("classes.txt", base)), "class id", "class name")
    labels = by_number(files.lines(files.path("image_class_labels.txt", base)), "image id", "class id")
    corners = by_number(files.lines(files.path("bounding_boxes.txt", base)), "image id", "box") if boxes else {}
    entries = []
    for number, (line, path) in by_number(files.lines(files.path("images.txt", base)), "image id", "path").items():
        if number not in labels:
            raise line.wrong(f"the image {number} has no class in image_class_labels.txt")
        where, word = labels[number]
        kind = where.whole(word, "class id")
        if kind not in names:
            raise where.wrong(f"the class {kind} is not in classes.txt")
        box = None
        if boxes:
            if number not in corners:
                raise line.wrong(f"the image {number} has no box in bounding_boxes.txt")
            box = _width_and_height(*corners[number])
        entries.append(Entry(f"images/{path}", names[kind][1], line.where, half(kind, 200), box=box))
    return entries


def read_products(files: Annotations, base: str, boxes: bool) -> list[Entry]:
    """`Ebay_train.txt` and `Ebay_test.txt`: image_id class_id super_class_id path. The super-class is the group."""
    entries, sides = [], dict[int, str]()
    for split in ("train", "test"):
        lines = files.lines(files.path(f"Ebay_{split}.txt", base))
        if not lines or lines[0].text.split()[:2] != ["image_id", "class_id"]:
            raise DataError(f"{base}Ebay_{split}.txt: the first line must name image_id class_id super_class_id path.")
        for line in lines[1:]:
            _, kind, above, path = line.fields("image_id", "class_id", "super_class_id", "path")
            number = line.whole(kind, "class_id")
            line.whole(above, "super_class_id")
            if sides.setdefault(number, split) != split:
                raise line.wrong(f"the class {number} is in Ebay_train.txt, too")
            group = path.partition("/")[0].removesuffix("_final")
            entries.append(Entry(path, f"{number:05d}", line.where, split, group))
    return entries


def read_in_shop(files: Annotations, base: str, boxes: bool) -> list[Entry]:
    """`list_eval_partition.txt`: image_name item_id evaluation_status (train, query or gallery).

    Query and gallery hold the same unseen items: their split is `test`, and `role` tells them apart. The group is the
    category (`WOMEN/Dresses`). Boxes come from `list_bbox_inshop.txt`.
    """
    corners = _shop_boxes(files) if boxes else {}
    entries = []
    for line in _counted(files.lines(files.path("list_eval_partition.txt", base)), "image_name"):
        path, item, status = line.fields("image_name", "item_id", "evaluation_status")
        if status not in IN_SHOP_ROLES:
            raise line.wrong(f"the status must be train, query or gallery, not '{status}'")
        if boxes and path not in corners:
            raise line.wrong("the image has no box in list_bbox_inshop.txt")
        split, role = IN_SHOP_ROLES[status]
        group = "/".join(path.split("/")[1:-2])
        entries.append(Entry(path, item, line.where, split, group, corners.get(path), role))
    return entries


def read_pets(files: Annotations, base: str, boxes: bool) -> list[Entry]:
    """`annotations/list.txt`: image class-id species breed-id. The first 19 of 37 breeds train; the group is the
    species. `trainval.txt` and `test.txt` belong to classification and are not used."""
    entries = []
    for line in files.lines(files.path("annotations/list.txt", base)):
        if line.text.startswith("#"):
            continue
        name, kind, species, _ = line.fields("image", "class-id", "species", "breed-id")
        if species not in ("1", "2"):
            raise line.wrong(f"the species must be 1 (cat) or 2 (dog), not '{species}'")
        number = line.whole(kind, "class-id")
        split = "train" if number <= 19 else "test"
        if number > 37:
            raise line.wrong(f"there are 37 breeds, and this is number {number}")
        breed = name.rpartition("_")[0] or name
        entries.append(Entry(f"images/{name}.jpg", breed, line.where, split, "cat" if species == "1" else "dog"))
    return entries


def half(kind: int, classes: int) -> str:
    """The usual split of metric learning: the first half of the numbered classes trains."""
    return "train" if kind <= classes // 2 else "test"


def by_number(lines: Iterable[Line], key: str, value: str) -> dict[int, tuple[Line, str]]:
    """Lines of a number and a text, by number."""
    found: dict[int, tuple[Line, str]] = {}
    for line in lines:
        word, text = line.fields(key, value)
        number = line.whole(word, key)
        if number in found:
            raise line.wrong(f"the {key} {number} is there twice, first in line {found[number][0].number}")
        found[number] = line, text
    return found


def _width_and_height(line: Line, text: str) -> Box:
    """`x y width height` in pixels, counted from 0."""
    words = text.split()
    if len(words) != 4:
        raise line.wrong("a box is x y width height")
    left, top, width, height = (line.number_of(word, "a box") for word in words)
    if left < 0 or top < 0 or width <= 0 or height <= 0:
        raise line.wrong("a box lies inside its image and is not empty")
    return outward(left, top, left + width, top + height)


def _shop_boxes(files: Annotations) -> dict[str, Box]:
    """`image_name clothes_type pose_type x_1 y_1 x_2 y_2` in pixels, by image."""
    corners = {}
    for line in _counted(files.lines(files.path("list_bbox_inshop.txt")), "image_name"):
        path, _, _, *words = line.fields("image_name", "clothes_type", "pose_type", "x_1", "y_1", "x_2", "y_2")
        left, top, right, bottom = (line.whole(word, "a corner of a box", least=0) for word in words)
        if right <= left or bottom <= top:
            raise line.wrong("the box holds no pixel")
        corners[path] = (left, top, right, bottom)
    return corners


def _counted(lines: list[Line], first_column: str) -> list[Line]:
    """The rows of a list that starts with how many there are and with the names of its columns."""
    if len(lines) < 2:
        raise DataError(f"{lines[0].where if lines else 'the list'}: the number of images and the columns are missing.")
    count = lines[0].whole(lines[0].text, "the number of images", least=0)
    if lines[1].text.split()[0] != first_column:
        raise lines[1].wrong(f"the second line names the columns, {first_column} first")
    if count != len(lines) - 2:
        raise lines[0].wrong(f"{count} images are announced, but {len(lines) - 2} are listed: the file is cut short")
    return lines[2:]
