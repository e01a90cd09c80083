"""Divides the classes of a data set into train, validation and test, and finds images that are on both sides."""

import math
import random
from collections import defaultdict

from accord.data._names import bytes_of, printable
from accord.errors import DataError, UsageError
from accord.types import Item, Json, Manifest

_SMALLEST = 2  # classes; with one alone, every neighbour is right
_TEACHING = 4  # classes that must stay for training before any is set aside for validation
_KEPT = "the split that came with the data was kept; shares and seed were not used to draw the test classes"
_FOLDS, _FEW_FOLDS, _FEW_CLASSES = 4, 2, 20


def split_classes(
    manifest: Manifest, *, test: float = 0.5, validation: float = 0.1, seed: int = 0, fresh: bool = False
) -> Manifest:
    """Give every item a split, so that no class is on two sides.

    Classes are sorted by their bytes and shuffled by `random.Random(seed)`; the first 1 − `test` of them train, the
    rest are the unseen test. Of the training classes the last share `validation` (rounded up, at least 2) is set
    aside to choose by while training, provided that at least 4 remain. `test` may be 0 (all train) or 1 (all test).

    Splits that came with the data are kept, and only a missing validation split is drawn from the training classes;
    the notes say so, and `fresh=True` draws everything anew. Raises DataError if a side would have fewer than two
    classes.
    """
    for name, value in (("test", test), ("validation", validation)):
        if not 0 <= value <= 1:
            raise UsageError(f"split_classes: {name} must be a share between 0 and 1, not {value}.")
    given = any(item.split for item in manifest.items) and not fresh
    if given:
        sides = _given(manifest)
        train = [name for name in manifest.classes if sides[name] == "train"]
        random.Random(seed).shuffle(train)  # noqa: S311 - a reproducible order, no secret
    else:
        classes = list(manifest.classes)
        random.Random(seed).shuffle(classes)  # noqa: S311
        cut = int(len(classes) * (1 - test) + 1e-9)
        train = classes[:cut]
        sides = {name: "train" if place < cut else "test" for place, name in enumerate(classes)}
        _check_sides(manifest, len(train), len(classes) - cut)
    if "validation" not in sides.values():
        sides.update(dict.fromkeys(_set_aside(train, validation), "validation"))
    notes = manifest.notes
    if given and _KEPT not in notes:
        notes = (*notes, _KEPT)
    items = tuple(item._replace(split=sides[item.label]) for item in manifest.items)
    return Manifest(manifest.name, manifest.root, items, notes)


def _given(manifest: Manifest) -> dict[str, str]:
    """The side of each class as the data came; DataError if a class is on two."""
    sides: dict[str, str] = {}
    for item in manifest.items:
        if sides.setdefault(item.label, item.split) != item.split or not item.split:
            raise DataError(
                f"split_classes: the class '{printable(item.label)}' is in more than one split, or in none.\n"
                "  Give each class one split, or draw the split anew (fresh=True)."
            )
    return sides


def _check_sides(manifest: Manifest, train: int, test: int) -> None:
    if 0 < train < _SMALLEST or 0 < test < _SMALLEST:
        raise DataError(
            f"split_classes: {train + test} classes divide into {train} for training and {test} for the test; "
            f"each side needs {_SMALLEST}.\n"
            + (
                f"  At least {2 * _SMALLEST} classes are needed."
                if train + test < 2 * _SMALLEST
                else "  Add classes, or choose another share for the test (data.test)."
            )
        )


def _set_aside(train: list[str], share: float) -> list[str]:
    count = max(_SMALLEST, math.ceil(share * len(train) - 1e-9)) if share else 0
    return train[-count:] if count and len(train) - count >= _TEACHING else []


def default_folds(classes: int) -> int:
    """How many folds so many training classes are divided into: 4, and 2 if there are less than 20."""
    return _FOLDS if classes >= _FEW_CLASSES else _FEW_FOLDS


def fold_classes(manifest: Manifest, *, fold: int, folds: int | None = None, seed: int = 0) -> Manifest:
    """Make one fold of the training classes the validation classes; the other folds train, the test stays untouched.

    The classes that are not test, training and validation alike, are sorted by their bytes, shuffled by
    `random.Random(seed)` and dealt out like cards: each is in exactly one of the `folds` folds, whose sizes differ by
    one class at most, and the order of the files has no say. Without `folds` there are 4, and 2 for less than 20
    classes. Choosing by the mean over all folds is the protocol of Musgrave, Belongie, Lim, ECCV 2020, section 4.

    Raises UsageError for a fold that there is not, DataError for a manifest without splits, or if a fold, or what it
    leaves to train on, would have fewer than two classes.
    """
    if any(not item.split for item in manifest.items):
        raise DataError("fold_classes: the items have no split yet. Call split_classes first.")
    classes = list(Manifest("", manifest.root, tuple(i for i in manifest.items if i.split != "test")).classes)
    folds = default_folds(len(classes)) if folds is None else folds
    if folds < 2 or not 0 <= fold < folds:
        raise UsageError(
            f"fold_classes: there is no fold {fold} among {folds}. Folds count from 0, and there are at least 2."
        )
    if len(classes) < _SMALLEST * folds:
        raise DataError(
            f"fold_classes: {len(classes)} training classes can't be divided into {folds} folds of at least "
            f"{_SMALLEST} classes.\n  Choose fewer folds (data.folds), or a smaller share for the test (data.test)."
        )
    random.Random(seed).shuffle(classes)  # noqa: S311 - a reproducible order, no secret
    held_out = set(classes[fold::folds])
    sides = {name: "validation" if name in held_out else "train" for name in classes}
    items = tuple(item._replace(split=sides.get(item.label, item.split)) for item in manifest.items)
    note = f"the validation classes are fold {fold} (counted from 0) of {folds} folds of the training classes"
    return Manifest(manifest.name, manifest.root, items, (*manifest.notes, note))


def check_leaks(manifest: Manifest) -> Json:
    """Find images that are there twice, byte for byte.

    Returns `across`: one entry per content that lies in more than one split, each with its items (a test that has been
    seen in training); `conflicts`: the same for one content under several classes; `within`: for each split, how
    many items repeat an earlier one of that split; `duplicates`: how many repeat an earlier one anywhere.
    """
    groups: dict[str, list[Item]] = defaultdict(list)
    for item in manifest.items:
        if item.sha256:
            groups[item.sha256].append(item)
    twins = [group for group in groups.values() if len(group) > 1]
    splits = sorted({item.split for item in manifest.items}, key=bytes_of)
    return {
        "across": [_described(group) for group in twins if len({item.split for item in group}) > 1],
        "conflicts": [_described(group) for group in twins if len({item.label for item in group}) > 1],
        "within": {
            split: sum(max(0, sum(item.split == split for item in group) - 1) for group in twins) for split in splits
        },
        "duplicates": sum(len(group) - 1 for group in twins),
    }


def _described(group: list[Item]) -> Json:
    return {
        "sha256": group[0].sha256,
        "items": [{"id": i.id, "path": i.path, "label": i.label, "split": i.split} for i in group],
    }
