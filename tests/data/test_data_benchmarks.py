"""The published data sets are read as published, and every line that is not is named."""

import io
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

import published
from accord.data import LAYOUTS, manifest_from_json, manifest_to_json, read_benchmark, read_images
from accord.data._entries import Entry, counted
from accord.errors import DataError, UnknownNameError, UsageError
from accord.types import Manifest
from published import Files, mat, picture, struct, text, write

TREES: dict[str, Callable[[], Files]] = {
    "cub": published.cub,
    "cars": published.cars,
    "sop": published.products,
    "in_shop": published.in_shop,
    "lfw": published.lfw,
    "flowers": published.flowers,
    "pets": published.pets,
}


def _splits(manifest: Manifest) -> dict[str, set[str]]:
    return {split: {i.label for i in manifest.items if i.split == split} for split in {i.split for i in manifest.items}}


@pytest.mark.parametrize("name", TREES)
def test_is_told_by_its_annotations_and_named_alike(name: str, tmp_path: Path) -> None:
    root = write(tmp_path / "deep", {f"inner/{path}": data for path, data in TREES[name]().items()})
    told = read_benchmark(root)
    assert told == read_benchmark(root, name) == read_images(root)
    assert set(_splits(told)) == {"train", "test"}
    assert not _splits(told)["train"] & _splits(told)["test"]
    assert all((root / item.path).is_file() and len(item.sha256) == 64 for item in told.items)
    assert manifest_from_json(manifest_to_json(told)) == told
    assert any("not all the images that were published" in note for note in told.notes)


@pytest.mark.parametrize("name", TREES)
def test_is_read_in_place_from_a_zip(name: str, tmp_path: Path) -> None:
    files = TREES[name]()
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for path, data in files.items():
            archive.writestr(path, data)
    packed, folder = read_images(tmp_path / "set.zip"), read_images(write(tmp_path / "set", files))
    assert packed.items == folder.items
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["set"]


def test_cub_is_split_by_class_number_and_not_by_train_test_split(tmp_path: Path) -> None:
    manifest = read_benchmark(write(tmp_path, published.cub()))
    train = {f"{n:03d}.Bird_{n}" for n in (1, 2, 3, 4, 99, 100)}
    assert _splits(manifest) == {"train": train, "test": {"101.Bird_101", "102.Bird_102", "200.Bird_200"}}
    assert all(item.path.split("/")[1] == item.label and item.box is None for item in manifest.items)


def test_cub_boxes_are_widened_to_whole_pixels(tmp_path: Path) -> None:
    assert {item.box for item in read_benchmark(write(tmp_path, published.cub()), boxes=True).items} == {(2, 3, 13, 15)}


@pytest.mark.parametrize("devkit", [False, True])
def test_both_layouts_of_cars_say_the_same(devkit: bool, tmp_path: Path) -> None:
    manifest = read_benchmark(write(tmp_path, published.cars(devkit=devkit)), boxes=True)
    names = {split: {f"Make C/V {n}" for n in kinds} for split, kinds in
             {"train": (1, 2, 3, 98), "test": (99, 100, 196)}.items()}  # fmt: skip
    assert _splits(manifest) == names
    assert len(manifest) == 14
    assert {item.box for item in manifest.items} == {(2, 1, 20, 18)}


def test_cars_without_names_are_numbered(tmp_path: Path) -> None:
    files = published.cars(devkit=True)
    del files["devkit/cars_meta.mat"]
    assert read_benchmark(write(tmp_path, files)).classes[0] == "class 001"


def test_cars_test_file_without_labels_is_not_enough(tmp_path: Path) -> None:
    files = published.cars(devkit=True)
    files["cars_test_annos.mat"] = files.pop("cars_test_annos_withlabels.mat")
    with pytest.raises(DataError, match=r"'cars_test_annos_withlabels\.mat' is missing"):
        read_benchmark(write(tmp_path, files))


def test_products_keep_their_lists_and_their_super_classes(tmp_path: Path) -> None:
    manifest = read_benchmark(write(tmp_path, published.products()))
    assert _splits(manifest) == {"train": {"00001", "00002", "00003"}, "test": {"00004", "00005", "00006"}}
    assert {item.group for item in manifest.items} == {"bicycle", "cabinet", "chair"}


def test_in_shop_keeps_queries_and_gallery_apart(tmp_path: Path) -> None:
    manifest = read_benchmark(write(tmp_path, published.in_shop()), boxes=True)
    assert Counter((item.split, item.role) for item in manifest.items) == {
        ("train", ""): 12,
        ("test", "query"): 6,
        ("test", "gallery"): 6,
    }
    assert {item.label for item in manifest.items if item.role == "query"} == {f"id_{n:08d}" for n in (4, 5, 6)}
    assert {item.group for item in manifest.items} == {"WOMEN/Dresses", "MEN/Denim"}
    assert {item.box for item in manifest.items} == {(3, 2, 20, 18)}


def test_people_of_the_development_lists_are_the_split(tmp_path: Path) -> None:
    manifest = read_benchmark(write(tmp_path, published.lfw()))
    assert _splits(manifest) == {"train": {"Ann_Lee", "Bo_Ek", "Cy"}, "test": {"Di_O'Neill", "Ed_Ö", "Flo"}}


def test_faces_without_lists_have_no_published_split(tmp_path: Path) -> None:
    root = write(tmp_path / "faces", published.lfw(lists=False))
    assert _splits(read_benchmark(root, "lfw")).keys() == {""}
    assert read_images(root).classes == read_benchmark(root, "lfw").classes
    (root / "pairs.txt").write_bytes(text("1", "x 1 2", "x 1 y 2"))
    assert _splits(read_benchmark(root)).keys() == {""}


def test_lists_of_pairs_without_faces_are_no_lfw(tree: Callable[..., Path]) -> None:
    root = tree("a/1.png", "b/1.png")
    (root / "pairs.txt").write_text("whatever")
    assert read_images(root).classes == ("a", "b")
    with pytest.raises(DataError, match="none of the data sets"):
        read_benchmark(root)


def test_flowers_are_split_by_number(tmp_path: Path) -> None:
    manifest = read_benchmark(write(tmp_path, published.flowers()))
    assert _splits(manifest) == {"train": {"001", "002", "050", "051"}, "test": {"052", "053", "102"}}
    assert [item.label for item in manifest.items[:3]] == ["001", "001", "002"]


def test_the_first_nineteen_breeds_train(tmp_path: Path) -> None:
    manifest = read_benchmark(write(tmp_path, published.pets()))
    assert _splits(manifest) == {
        "train": {"Abyssinian", "american_bulldog", "basset_hound", "havanese"},
        "test": {"japanese_chin", "Russian_Blue", "yorkshire_terrier"},
    }
    assert {i.group for i in manifest.items if i.label in ("Abyssinian", "Russian_Blue")} == {"cat"}


def test_a_part_of_a_data_set_is_read_and_said_so(tmp_path: Path) -> None:
    files = published.cub()
    for path in [path for path in files if "Bird_3_" in path]:
        del files[path]
    files["images/extra.jpg"] = picture(999)
    notes = read_benchmark(write(tmp_path, files)).notes
    assert any(note.startswith("2 of 18 named images are not there: 'images/003.Bird_3/") for note in notes)
    assert any(note.startswith("1 images are not named") and "images/extra.jpg" in note for note in notes)
    assert notes[-1].endswith(
        "expected: train 100 classes and 5864 images, test 100 classes and 5924 images; "
        "got: train 5 and 10, test 3 and 6"
    )


def test_a_part_whose_first_images_are_gone_is_found_all_the_same(tmp_path: Path) -> None:
    files = published.cub(per_class=60)
    kept = [path for path in sorted(files) if path.startswith("images/")][-1]
    files = {path: data for path, data in files.items() if not path.startswith("images/") or path == kept}
    files[f"elsewhere/{kept}"] = files.pop(kept)
    manifest = read_benchmark(write(tmp_path, files))
    assert [item.path for item in manifest.items] == [f"elsewhere/{kept}"]


def test_whole_sets_need_no_note() -> None:
    entries = [Entry("1", "a", "", "train"), Entry("2", "b", "", "test"), Entry("3", "b", "", "test")]
    assert counted(entries, {"train": (1, 1), "test": (1, 2)}) == counted(entries, {"all": (2, 3)}) == []


@pytest.mark.parametrize("name", TREES)
def test_without_images_or_lists_it_is_no_data_set(name: str, tmp_path: Path) -> None:
    files = {path: data for path, data in TREES[name]().items() if not path.lower().endswith(".jpg")}
    with pytest.raises(DataError, match="none of the" if name != "lfw" else "none of the data sets"):
        read_benchmark(write(tmp_path, files))


def test_two_data_sets_in_one_folder_must_be_told_apart(tmp_path: Path) -> None:
    root = write(tmp_path, published.cub() | published.flowers())
    with pytest.raises(DataError, match="more than one data set: 'cub', 'flowers'"):
        read_images(root)
    assert len(read_images(root, layout="flowers")) == 14


def test_wrong_names_and_options_are_refused(tmp_path: Path) -> None:
    root = write(tmp_path, published.flowers())
    with pytest.raises(UnknownNameError, match="Did you mean 'flowers'"):
        read_benchmark(root, "flower")
    with pytest.raises(UsageError, match="'flowers' has no boxes"):
        read_images(root, boxes=True)
    assert set(TREES) < set(LAYOUTS)


def _replaced(name: str, path: str, change: Callable[[bytes], bytes]) -> Files:
    files = TREES[name]()
    files[path] = change(files[path])
    return files


def _line(number: int, new: str) -> Callable[[bytes], bytes]:
    """Replace one line of a text file, or add it at the end."""

    def change(data: bytes) -> bytes:
        lines = data.decode().splitlines()
        lines[number - 1 : number] = [new]
        return text(*lines)

    return change


CUB_1 = "001.Bird_1/Bird_1_0000_7.jpg"
BAD_LINES = [
    ("cub", "images.txt", _line(4, "4"), r"images\.txt, line 4: 2 fields are expected \(image id path\), not 1"),
    ("cub", "images.txt", _line(4, f"x {CUB_1}"), r"images\.txt, line 4: image id must be a whole number .* not 'x'"),
    ("cub", "images.txt", _line(4, f"0 {CUB_1}"), r"line 4: image id must be a whole number of at least 1, not '0'"),
    ("cub", "images.txt", _line(4, "3 a/b.jpg"), r"line 4: the image id 3 is there twice, first in line 3"),
    (
        "cub",
        "images.txt",
        _line(4, f"4 {CUB_1}"),
        r"images\.txt, line 4 names 'images/001.*again, after images\.txt, line 1",
    ),
    ("cub", "images.txt", _line(4, "99 a/b.jpg"), r"line 4: the image 99 has no class in image_class_labels"),
    (
        "cub",
        "images.txt",
        _line(4, "4 ../../b.jpg"),
        r"images\.txt, line 4: the path 'images/\.\./\.\./b\.jpg' could lead outside",
    ),
    ("cub", "images.txt", lambda data: data + b"\0", r"images\.txt: this is no text: it holds NUL"),
    ("cub", "image_class_labels.txt", _line(2, "2 201"), r"image_class_labels\.txt, line 2: the class 201 is not in"),
    ("cub", "image_class_labels.txt", _line(2, "2 " + "9" * 30), r"line 2: class id must be a whole number"),
    ("cub", "bounding_boxes.txt", _line(3, "3 1 2 3"), r"bounding_boxes\.txt, line 3: a box is x y width height"),
    ("cub", "bounding_boxes.txt", _line(3, "3 1 2 nan 4"), r"line 3: a box must be a number, not 'nan'"),
    ("cub", "bounding_boxes.txt", _line(3, "3 1 2 x 4"), r"line 3: a box must be a number, not 'x'"),
    ("cub", "bounding_boxes.txt", _line(3, "3 1 2 0 4"), r"line 3: a box lies inside its image"),
    ("cub", "bounding_boxes.txt", _line(3, "300 1 2 3 4"), r"images\.txt, line 3: the image 3 has no box"),
    ("sop", "Ebay_train.txt", _line(1, "1 1 1 bicycle_final/x.JPG"), r"Ebay_train\.txt: the first line must name"),
    ("sop", "Ebay_test.txt", _line(2, "7 4 1"), r"Ebay_test\.txt, line 2: 4 fields are expected"),
    ("sop", "Ebay_test.txt", _line(2, "7 4 x a/b.JPG"), r"line 2: super_class_id must be a whole number"),
    (
        "sop",
        "Ebay_test.txt",
        _line(2, "7 1 1 a/b.JPG"),
        r"Ebay_test\.txt, line 2: the class 1 is in Ebay_train\.txt, too",
    ),
    ("in_shop", "Eval/list_eval_partition.txt", _line(1, "25"), r"line 1: 25 images are announced, but 24 are listed"),
    ("in_shop", "Eval/list_eval_partition.txt", _line(1, "many"), r"line 1: the number of images must be a whole"),
    ("in_shop", "Eval/list_eval_partition.txt", _line(2, "path item"), r"line 2: the second line names the columns"),
    ("in_shop", "Eval/list_eval_partition.txt", _line(3, "a b test"), r"line 3: the status must be train, query or"),
    ("in_shop", "Eval/list_eval_partition.txt", _line(3, "img/a b train"), r"line 3: the image has no box in"),
    ("in_shop", "Eval/list_eval_partition.txt", lambda _: b"", r"the list: the number of images and the columns"),
    ("in_shop", "Anno/list_bbox_inshop.txt", _line(3, "a 1 1 5 5 5 9"), r"inshop\.txt, line 3: the box holds no pixel"),
    ("lfw", "peopleDevTest.txt", _line(1, "4"), r"peopleDevTest\.txt, line 1: 4 people are announced, but 3"),
    ("lfw", "peopleDevTest.txt", _line(2, "Cy\t2"), r"peopleDevTest\.txt, line 2: 'Cy' is in peopleDevTrain\.txt, too"),
    ("lfw", "peopleDevTest.txt", lambda _: b"\n", r"Di_O.*shows nobody of peopleDevTrain\.txt and peopleDevTest\.txt"),
    (
        "pets",
        "annotations/list.txt",
        _line(4, "Abyssinian_1 1 3 1"),
        r"list\.txt, line 4: the species must be 1 \(cat\)",
    ),
    ("pets", "annotations/list.txt", _line(4, "Abyssinian_1 38 1 1"), r"line 4: there are 37 breeds"),
    ("pets", "annotations/list.txt", _line(4, "Abyssinian_1 1 1"), r"line 4: 4 fields are expected"),
    (
        "flowers",
        "imagelabels.mat",
        lambda _: mat(labels=[[1, 103]]),
        r"imagelabels\.mat, entry 2: there are 102 classes",
    ),
    (
        "flowers",
        "imagelabels.mat",
        lambda _: mat(labels=[[1, 1.5]]),
        r"entry 2: 'labels' must be a whole number, not '1\.5'",
    ),
    ("flowers", "imagelabels.mat", lambda _: mat(other=1), r"holds nothing called 'labels'"),
    (
        "flowers",
        "setid.mat",
        lambda _: mat(trnid=[1], valid=[2], tstid=[2]),
        r"setid\.mat: its 3 image numbers are not",
    ),
]


@pytest.mark.parametrize(
    ("name", "path", "change", "reason"), BAD_LINES, ids=[f"{c[0]}-{n}" for n, c in enumerate(BAD_LINES)]
)
def test_a_wrong_line_is_named(
    name: str, path: str, change: Callable[[bytes], bytes], reason: str, tmp_path: Path
) -> None:
    root = write(tmp_path, _replaced(name, path, change))
    with pytest.raises(DataError, match=reason) as caught:
        read_benchmark(root, name, boxes=name in ("cub", "in_shop"))
    assert "data.layout=folders" in str(caught.value)


def _cars(row: dict[str, object], **more: object) -> bytes:
    whole = {"relative_im_path": "car_ims/1.jpg", "bbox_x1": 1, "bbox_y1": 1, "bbox_x2": 5, "bbox_y2": 5, "class": 1}
    return mat(annotations=struct([{**whole, **row}]), **more)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (_cars({"class": 197}), r"row 1: there are 196 classes, and this is number 197"),
        (_cars({"class": "one"}), r"cars_annos\.mat: annotations, row 1: 'class' must be a whole number, not 'one'"),
        (_cars({"class": np.zeros((3, 50))}), r"row 1: 'class' must be a whole number, not a ndarray"),
        (_cars({"relative_im_path": 3}), r"row 1: 'relative_im_path' must be a text, not '3'"),
        (_cars({"bbox_x2": 0}), r"row 1: the box 1 1 0 5 holds no pixel"),
        (_cars({}, class_names=[[1, 2]]), r"entry 1: 'class_names' must be a text"),
        (mat(annotations=struct([{"fname": "x"}])), r"the field 'relative_im_path' is missing. It holds: fname"),
        (mat(annotations=[[1, 2]]), r"holds no table called 'annotations'"),
        (mat(other=1), r"holds no table called 'annotations'"),
        (b"", r"no MATLAB 5 file"),
        (b"<!DOCTYPE html>" * 40, r"no MATLAB 5 file"),
        (_cars({})[:-9], r"is damaged"),
        (_cars({})[:140] + b"\xff" * 50 + _cars({})[190:], r"is damaged"),
        (mat(annotations=np.zeros((200, 2**17))), r"unpacks to more than 134217728 bytes"),
    ],
    ids=range(14),
)
def test_a_wrong_table_is_named(data: bytes, reason: str, tmp_path: Path) -> None:
    root = write(tmp_path, {"cars_annos.mat": data, "car_ims/1.jpg": picture(1)})
    with pytest.raises(DataError, match=reason):
        read_benchmark(root, boxes=True)


def test_flowers_need_no_sets_and_cars_no_compression(tmp_path: Path) -> None:
    files = published.flowers()
    del files["setid.mat"]
    buffer = io.BytesIO()
    savemat(buffer, {"labels": np.array([[1, 1, 2, 2, 60, 60, 61, 61]])}, do_compression=False)
    files["imagelabels.mat"] = buffer.getvalue()
    assert read_benchmark(write(tmp_path, files)).classes == ("001", "002", "060", "061")


def test_an_unreadable_list_is_named(tmp_path: Path) -> None:
    files = published.cub()
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for path, data in files.items():
            archive.writestr(path, data)
    damaged = (tmp_path / "set.zip").read_bytes().replace(b"200 200.Bird_200", b"200 200.Bird_201")
    (tmp_path / "set.zip").write_bytes(damaged)
    with pytest.raises(DataError, match=r"classes\.txt: it is damaged inside the archive"):
        read_benchmark(tmp_path / "set.zip")
    root = write(tmp_path / "set", files)
    (root / "classes.txt").unlink()
    with pytest.raises(DataError, match=r"'classes\.txt' is missing"):
        read_benchmark(root)


def test_nothing_at_all_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is nothing at"):
        read_images(tmp_path / "none")
