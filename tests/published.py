"""Miniature trees of the data sets of the field, in exactly the published layouts: file contents by path."""

import io
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

Files = dict[str, bytes]


def picture(number: int, kind: str = "JPEG", size: tuple[int, int] = (24, 20)) -> bytes:
    """The bytes of a small noisy picture, another one for each number."""
    pixels = np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def write(root: Path, files: Files) -> Path:
    """Write a tree; returns its root."""
    for path, data in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
    return root


def text(*lines: str) -> bytes:
    """Lines as a text file."""
    return "".join(f"{line}\n" for line in lines).encode()


def mat(**variables: object) -> bytes:
    """A compressed MATLAB 5 file, as the authors' are."""
    buffer = io.BytesIO()
    savemat(buffer, variables, do_compression=True)
    return buffer.getvalue()


def struct(rows: list[dict[str, object]]) -> np.ndarray:
    """A 1 × n struct array."""
    array = np.empty((1, len(rows)), dtype=[(name, object) for name in rows[0]])
    for place, row in enumerate(rows):
        array[0, place] = tuple(row.values())
    return array


def cells(*words: str) -> np.ndarray:
    """A 1 × n cell array of texts."""
    array = np.empty((1, len(words)), dtype=object)
    array[0, :] = words
    return array


def cub(per_class: int = 2) -> Files:
    """CUB_200_2011/: images.txt, image_class_labels.txt, classes.txt, train_test_split.txt, bounding_boxes.txt."""
    kinds = {n: f"{n:03d}.Bird_{n}" for n in (1, 2, 3, 4, 99, 100, 101, 102, 200)}
    images = [(kind, f"{name}/Bird_{kind}_{n:04d}_7.jpg") for kind, name in kinds.items() for n in range(per_class)]
    numbered = list(enumerate(images, start=1))
    files = {
        "images.txt": text(*(f"{n} {path}" for n, (_, path) in numbered)),
        "image_class_labels.txt": text(*(f"{n} {kind}" for n, (kind, _) in numbered)),
        "train_test_split.txt": text(*(f"{n} {n % 2}" for n, _ in numbered)),
        "bounding_boxes.txt": text(*(f"{n} 2.0 3.0 10.5 12.0" for n, _ in numbered)),
        "classes.txt": text(*(f"{n} {n:03d}.Bird_{n}" for n in range(1, 201))),
        "README": b"Caltech-UCSD Birds\n",
    }
    return files | {f"images/{path}": picture(n) for n, (_, path) in numbered}


def cars(*, devkit: bool = False) -> Files:
    """cars_annos.mat with car_ims/, or devkit/ with cars_train/ and cars_test/."""
    kinds = [n for n in (1, 2, 3, 98, 99, 100, 196) for _ in range(2)]
    names = cells(*(f"Make C/V {n}" for n in range(1, 197)))
    boxes = {"bbox_x1": 3, "bbox_y1": 2, "bbox_x2": 20, "bbox_y2": 18}
    if not devkit:
        rows = [
            {"relative_im_path": f"car_ims/{n:06d}.jpg", **boxes, "class": kind, "test": n % 2}
            for n, kind in enumerate(kinds, start=1)
        ]
        images = {f"car_ims/{n:06d}.jpg": picture(n) for n in range(1, len(kinds) + 1)}
        return {"cars_annos.mat": mat(annotations=struct(rows), class_names=names), **images}
    files = {"devkit/cars_meta.mat": mat(class_names=names)}
    for side, name in (("train", "devkit/cars_train_annos.mat"), ("test", "cars_test_annos_withlabels.mat")):
        part = kinds[0::2] if side == "train" else kinds[1::2]
        rows = [{**boxes, "class": kind, "fname": f"{n:05d}.jpg"} for n, kind in enumerate(part, start=1)]
        files[name] = mat(annotations=struct(rows))
        files |= {f"cars_{side}/{n:05d}.jpg": picture(n + 100 * (side == "test")) for n in range(1, len(part) + 1)}
    return files


def products() -> Files:
    """Stanford_Online_Products/: Ebay_train.txt, Ebay_test.txt, Ebay_info.txt and a folder per super-class."""
    header = "image_id class_id super_class_id path"
    files, image = {}, 0
    rows: dict[str, list[str]] = {"train": [], "test": []}
    kinds = [(1, "bicycle", "train"), (1, "bicycle", "train"), (2, "cabinet", "train")]
    kinds += [(1, "bicycle", "test"), (2, "cabinet", "test"), (3, "chair", "test")]
    for kind, (above, name, split) in enumerate(kinds, start=1):
        for view in range(2):
            image += 1
            path = f"{name}_final/1110851{kind:05d}_{view}.JPG"
            rows[split].append(f"{image} {kind} {above} {path}")
            files[path] = picture(image)
    files |= {f"Ebay_{split}.txt": text(header, *lines) for split, lines in rows.items()}
    return {**files, "Ebay_info.txt": text(header, *rows["train"], *rows["test"])}


def in_shop() -> Files:
    """Eval/list_eval_partition.txt, Anno/list_bbox_inshop.txt and img/WOMEN/Dresses/id_…/ pictures."""
    rows, boxes, files = [], [], {}
    for item in range(1, 7):
        kind = "WOMEN/Dresses" if item % 2 else "MEN/Denim"
        for view in range(4):
            path = f"img/{kind}/id_{item:08d}/0{view + 1}_1_front.jpg"
            status = "train" if item <= 3 else "query" if view < 2 else "gallery"
            rows.append(f"{path:<70} id_{item:08d} {status}")
            boxes.append(f"{path:<70} 1 2 003 002 020 018")
            files[path] = picture(10 * item + view)
    files["Eval/list_eval_partition.txt"] = text(str(len(rows)), "image_name item_id evaluation_status", *rows)
    header = "image_name clothes_type pose_type x_1 y_1 x_2 y_2"
    files["Anno/list_bbox_inshop.txt"] = text(str(len(boxes)), header, *boxes)
    return files


def lfw(*, lists: bool = True) -> Files:
    """lfw/Name/Name_0001.jpg with pairs.txt (2 folds of 2 + 2 pairs) and the development lists beside it."""
    people = {"Ann_Lee": 3, "Bo_Ek": 2, "Cy": 2, "Di_O'Neill": 3, "Ed_Ö": 2, "Flo": 1}
    files = {
        f"lfw/{name}/{name}_{n:04d}.jpg": picture(50 * place + n)
        for place, (name, count) in enumerate(people.items())
        for n in range(1, count + 1)
    }
    if not lists:
        return files
    files["pairs.txt"] = text(
        "2\t2",
        *("Ann_Lee\t1\t2", "Bo_Ek\t1\t2", "Ann_Lee\t1\tCy\t2", "Bo_Ek\t2\tFlo\t1"),
        *("Di_O'Neill\t1\t3", "Ed_Ö\t1\t2", "Ed_Ö\t1\tFlo\t1", "Di_O'Neill\t2\tCy\t1"),
    )
    files["pairsDevTest.txt"] = text("1", "Ed_Ö\t2\t1", "Ed_Ö\t2\tFlo\t1")
    files["peopleDevTrain.txt"] = text("3", *(f"{name}\t{people[name]}" for name in ("Ann_Lee", "Bo_Ek", "Cy")))
    files["peopleDevTest.txt"] = text("3", *(f"{name}\t{people[name]}" for name in ("Di_O'Neill", "Ed_Ö", "Flo")))
    return files


def lfw_ten_folds() -> Files:
    """The same with a pairs.txt of ten folds of 2 + 2 pairs; two pairs of the last one show trained people."""
    train, test = ([f"{side}_{name}" for name in "ABCDEFGHIJ"] for side in ("Known", "New"))
    files = {
        f"lfw/{name}/{name}_{n:04d}.jpg": picture(50 * place + n)
        for place, name in enumerate([*train, *test])
        for n in range(1, 5)
    }
    lines = []
    for fold in range(10):
        one, other = test[fold], test[(fold + 3) % 10]
        lines += [f"{one}\t1\t2", f"{one}\t3\t4" if fold < 9 else f"{train[0]}\t1\t2"]
        lines += [f"{one}\t1\t{other}\t3", f"{one}\t2\t{other if fold < 9 else train[1]}\t4"]
    files["pairs.txt"] = text("10\t2", *lines)
    files["peopleDevTrain.txt"] = text("10", *(f"{name}\t4" for name in train))
    files["peopleDevTest.txt"] = text("10", *(f"{name}\t4" for name in test))
    return files


def flowers() -> Files:
    """jpg/image_00001.jpg …, imagelabels.mat and setid.mat."""
    labels = [kind for kind in (1, 2, 50, 51, 52, 53, 102) for _ in range(2)]
    numbers = np.arange(1, len(labels) + 1)
    return {
        "imagelabels.mat": mat(labels=np.array([labels], dtype=np.uint8)),
        "setid.mat": mat(trnid=numbers[None, :5], valid=numbers[None, 5:8], tstid=numbers[None, 8:]),
        **{f"jpg/image_{n:05d}.jpg": picture(n) for n in numbers},
    }


def pets() -> Files:
    """images/Abyssinian_1.jpg … and annotations/list.txt, trainval.txt, test.txt."""
    breeds = [
        ("Abyssinian", 1, 1, 1),
        ("american_bulldog", 2, 2, 1),
        ("basset_hound", 4, 2, 3),
        ("havanese", 19, 2, 11),
    ]
    breeds += [("japanese_chin", 20, 2, 12), ("Russian_Blue", 28, 1, 10), ("yorkshire_terrier", 37, 2, 25)]
    rows = [f"{name}_{n} {kind} {species} {breed}" for name, kind, species, breed in breeds for n in (1, 12)]
    comments = ["#Image CLASS-ID SPECIES BREED ID", "#ID: 1:37 Class ids", "#SPECIES: 1:Cat 2:Dog"]
    files = {
        "annotations/list.txt": text(*comments, *rows),
        "annotations/trainval.txt": text(*rows[::2]),
        "annotations/test.txt": text(*rows[1::2]),
    }
    return files | {f"images/{row.split()[0]}.jpg": picture(n) for n, row in enumerate(rows)}
