"""No class is on two sides of a split, the standard split is the published one, and leaks are found."""

import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accord.data import builtin, check_leaks, scan, split_classes
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
