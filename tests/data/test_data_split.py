"""No class is on two sides of a split, the standard split is the published one, and leaks are found."""

import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accord.data import builtin, check_leaks, default_folds, fold_classes, scan, split_classes
from accord.errors import DataError, UsageError
from accord.types import Item, Manifest


def _manifest(classes: int, images: int = 2) -> Manifest:
    paths = [f"c{number:03}/{image}.png" for number in range(classes) for image in range(images)]
    return Manifest("m", Path(), tuple(Item(i, path, path[:4], f"sha{i}") for i, path in enumerate(paths)))


def _sides(manifest: Manifest) -> dict[str, set[str]]:
    sides: dict[str, set[str]] = {}
    for item in manifest.items:
        sides.setdefault(item.split, set()).add(item.label)
    return sides


def test_objects_get_the_standard_split() -> None:
    manifest = split_classes(builtin("objects"))
    classes = sorted(manifest.classes)
    random.Random(0).shuffle(classes)
    sides = _sides(manifest)
    assert sides["test"] == set(classes[74:])
    assert sides["validation"] == set(classes[66:74])
    assert sides["train"] == set(classes[:66])


@given(st.integers(4, 60), st.integers(0, 5), st.sampled_from([0.0, 0.1, 0.3, 1.0]))
def test_every_class_is_on_one_side_and_each_side_can_be_used(classes: int, seed: int, validation: float) -> None:
    manifest = split_classes(_manifest(classes), seed=seed, validation=validation)
    sides = _sides(manifest)
    assert sum(len(names) for names in sides.values()) == classes
    assert len(sides["test"]) == classes - classes // 2
    assert len(sides["train"]) >= min(4, classes // 2)
    assert len(sides.get("validation", {1, 2})) >= 2
    assert manifest == split_classes(_manifest(classes), seed=seed, validation=validation)


def test_another_seed_gives_another_split() -> None:
    assert _sides(split_classes(_manifest(40), seed=1)) != _sides(split_classes(_manifest(40), seed=0))


def test_keeps_few_training_classes_together() -> None:
    assert "validation" not in _sides(split_classes(_manifest(10)))
    assert len(_sides(split_classes(_manifest(12)))["validation"]) == 2


@pytest.mark.parametrize(("share", "side"), [(0.0, "train"), (1.0, "test")])
def test_all_may_go_to_one_side(share: float, side: str) -> None:
    assert set(_sides(split_classes(_manifest(5), test=share, validation=0.0))) == {side}


def test_keeps_a_split_that_came_with_the_data_and_draws_only_validation() -> None:
    given_split = tuple(i._replace(split="train" if i.label < "c012" else "test") for i in _manifest(16).items)
    manifest = split_classes(Manifest("m", Path(), given_split))
    sides = _sides(manifest)
    assert sides["test"] == {"c012", "c013", "c014", "c015"}
    assert len(sides["validation"]) == 2
    assert split_classes(manifest, seed=7) == manifest
    assert any("split that came with the data was kept" in note for note in manifest.notes)
    assert _sides(split_classes(manifest, seed=7, fresh=True)) == _sides(split_classes(_manifest(16), seed=7))


def test_refuses_a_class_on_two_sides() -> None:
    items = [i._replace(split="train") for i in _manifest(6).items]
    items[0] = items[0]._replace(split="test")
    with pytest.raises(DataError, match="'c000' is in more than one split"):
        split_classes(Manifest("m", Path(), tuple(items)))


@pytest.mark.parametrize(("classes", "test"), [(2, 0.5), (3, 0.5), (10, 0.05), (10, 0.9)])
def test_refuses_a_side_of_one_class(classes: int, test: float) -> None:
    with pytest.raises(DataError, match=f"{classes} classes divide into"):
        split_classes(_manifest(classes), test=test)


@pytest.mark.parametrize("options", [{"test": 1.5}, {"validation": -0.1}, {"test": float("nan")}])
def test_refuses_shares_that_are_none(options: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="must be a share between 0 and 1"):
        split_classes(_manifest(10), **options)


def test_finds_copies_across_and_within_splits(tree: Callable[..., Path]) -> None:
    root = tree(*(f"c{number}/{image}.png" for number in range(4) for image in range(3)))
    (root / "c0" / "copy.png").write_bytes((root / "c0" / "0.png").read_bytes())
    (root / "c1" / "copy.png").write_bytes((root / "c0" / "0.png").read_bytes())
    (root / "c3" / "copy.png").write_bytes((root / "c2" / "1.png").read_bytes())
    manifest = scan(root)
    sides = {"c0": "train", "c1": "train", "c2": "train", "c3": "test"}
    leaks = check_leaks(Manifest("m", root, tuple(i._replace(split=sides[i.label]) for i in manifest.items)))
    assert [[item["path"] for item in group["items"]] for group in leaks["across"]] == [["c2/1.png", "c3/copy.png"]]
    assert [len(group["items"]) for group in leaks["conflicts"]] == [3, 2]
    assert leaks["within"] == {"test": 0, "train": 2}
    assert leaks["duplicates"] == 3


def test_files_without_a_hash_are_no_copies_of_each_other() -> None:
    items = tuple(item._replace(sha256="") for item in _manifest(4).items)
    assert check_leaks(Manifest("m", Path(), items))["duplicates"] == 0


def test_the_standard_split_of_objects_has_no_leak() -> None:
    manifest = split_classes(builtin("objects"))
    assert check_leaks(manifest)["across"] == []
    assert Counter(item.split for item in manifest.items) == {"train": 792, "validation": 96, "test": 888}


@given(st.integers(8, 60), st.integers(0, 5), st.sampled_from([None, 2, 3, 4]))
def test_every_training_class_is_in_exactly_one_fold(classes: int, seed: int, folds: int | None) -> None:
    manifest = split_classes(_manifest(classes), seed=seed)
    pool = {item.label for item in manifest.items if item.split != "test"}
    count = folds or default_folds(len(pool))
    if len(pool) < 2 * count:
        with pytest.raises(DataError, match=r"can't be divided into \d folds"):
            fold_classes(manifest, fold=0, folds=folds, seed=seed)
        return
    parts = [fold_classes(manifest, fold=fold, folds=folds, seed=seed) for fold in range(count)]
    held_out = [_sides(part)["validation"] for part in parts]
    assert sorted(name for names in held_out for name in names) == sorted(pool)
    assert max(map(len, held_out)) - min(map(len, held_out)) <= 1
    for part, names in zip(parts, held_out, strict=True):
        assert _sides(part)["train"] == pool - names
        assert _sides(part)["test"] == _sides(manifest)["test"]


def test_folds_do_not_depend_on_the_order_of_files_or_on_the_validation_share() -> None:
    manifest = split_classes(_manifest(40))
    mixed = list(manifest.items)
    random.Random(1).shuffle(mixed)
    again = fold_classes(Manifest("m", Path(), tuple(mixed)), fold=1)
    other = fold_classes(split_classes(_manifest(40), validation=0.4), fold=1)
    assert _sides(again) == _sides(fold_classes(manifest, fold=1)) == _sides(other)
    assert _sides(fold_classes(manifest, fold=1, seed=1)) != _sides(again)
    assert "fold 1 (counted from 0) of 4 folds" in again.notes[-1]


def test_four_folds_and_two_where_classes_are_few() -> None:
    assert [default_folds(classes) for classes in (8, 19, 20, 100)] == [2, 2, 4, 4]
    assert len(_sides(fold_classes(split_classes(_manifest(24)), fold=1))["validation"]) == 6


def test_a_fold_by_hand() -> None:
    manifest = split_classes(_manifest(16))
    pool = sorted(_sides(manifest)["train"] | _sides(manifest)["validation"])
    random.Random(0).shuffle(pool)
    assert _sides(fold_classes(manifest, fold=2, folds=3))["validation"] == {pool[2], pool[5]}


@pytest.mark.parametrize(("fold", "folds"), [(4, None), (-1, 4), (2, 2), (0, 1), (0, 0)])
def test_refuses_a_fold_that_there_is_not(fold: int, folds: int | None) -> None:
    with pytest.raises(UsageError, match=f"there is no fold {fold} among"):
        fold_classes(split_classes(_manifest(60)), fold=fold, folds=folds)


def test_refuses_to_fold_what_has_no_split() -> None:
    with pytest.raises(DataError, match="no split yet"):
        fold_classes(_manifest(20), fold=0)
