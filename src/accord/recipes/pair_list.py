"""Reads a list of pairs, same or different, and judges by it: verification as on Labeled Faces in the Wild."""

import csv
import hashlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from accord.data import names_a_face, printable, read_pairs
from accord.errors import DataError, UnknownNameError, UsageError
from accord.evaluation import pair_scores, verify_pairs
from accord.geometry import places
from accord.recipes.columns import number_names
from accord.types import Item, Json, Labelled, Manifest, Pairs

NEEDED, COLUMNS = ("first", "second", "same"), ("first", "second", "same", "fold")
WORDS = {"1": True, "true": True, "same": True, "0": False, "false": False, "different": False}


class PairList(NamedTuple):
    """Pairs of items by id, whether both are of one class, and the fold of each (None: no folds, or a single one).

    `facts` say which file they are from, `notes` what was left out and why.
    """

    first: Tensor
    second: Tensor
    same: Tensor
    fold: Tensor | None
    facts: Json
    notes: tuple[str, ...] = ()


def pairs_of_run(file: Path, manifest: Manifest) -> PairList:
    """The pairs of a list that show unseen classes only: LFW's `pairs.txt`, or a table that names images by path.

    Pairs with an image that the run was trained or validated on are left out, and a note says how many.
    """
    if file.suffix.lower() == ".csv":
        found = read_pair_table(file, {item.path: item.id for item in manifest.items}, "images of the run")
    else:
        found = _published(file, manifest)
    return _unseen(found, {item.id for item in manifest.items if item.split == "test"})


def pairs_of_vectors(file: Path, ids: Mapping[str, int]) -> PairList:
    """The pairs of a list for vectors: a table of their ids, or LFW's `pairs.txt` where ids are its images' paths."""
    if file.suffix.lower() == ".csv" or not any(map(names_a_face, ids)):
        return read_pair_table(file, ids, "ids")
    items = tuple(Item(number, path, "") for path, number in ids.items())
    return _published(file, Manifest("vectors", Path(), items))


def read_pair_table(file: Path, ids: Mapping[str, int], items: str) -> PairList:
    """A .csv with the columns `first`, `second`, `same` (1 or 0) and perhaps `fold`; `ids` say what an item is called.

    Raises DataError that names the line.
    """
    if file.suffix.lower() != ".csv":
        raise UsageError(
            f"--pairs {printable(str(file))}: give a .csv with the columns {', '.join(COLUMNS)}.\n"
            "  LFW's pairs.txt is read where --ids are the paths of its images: Name/Name_0001.jpg"
        )
    rows = _rows(file)
    if not rows:
        raise DataError(f"pairs: {printable(file.name)} holds no pairs below its first line.")
    places = [[_item(where, cells[side], ids, items) for where, cells in rows] for side in ("first", "second")]
    for (where, cells), one, other in zip(rows, *places, strict=True):
        if one == other:
            raise DataError(f"{where}: '{printable(cells['first'])}' is paired with itself; a pair is of two items.")
    same = torch.tensor([_same(where, cells["same"]) for where, cells in rows])
    first, second = map(torch.tensor, places)
    return PairList(first, second, same, _folds(_fold_numbers(rows)), {**_facts(file), "pairs": len(rows)})


def judge_pairs(labelled: Labelled, pairs: PairList) -> Json:
    """What a threshold on the cosine makes of the pairs: accuracy over folds with its standard error, auc, eer, tar."""
    scores = pair_scores(labelled, Pairs(pairs.first, pairs.second), by="id")
    found = verify_pairs(scores, pairs.same, folds=pairs.fold)
    same = int(pairs.same.sum())
    told: Json = {**pairs.facts, "judged": len(scores), "same": same, "different": len(scores) - same}
    if found.fold_accuracy is not None:
        told |= {"accuracy": found.accuracy, "standard_error": found.standard_error}
        told["fold_accuracy"] = found.fold_accuracy.tolist()
    notes = [*pairs.notes, *found.notes]
    if found.fold_accuracy is None:
        notes.append("Without two folds there is no accuracy whose threshold was chosen on other pairs.")
    if wrong := _against_labels(labelled, pairs):
        notes.append(f"Pairs that say something else than the labels of their items: {wrong:,}.")
    return told | {
        **{name: value for name, value in found.metrics.items() if name != "accuracy"},
        "eer_threshold": found.eer_threshold,
        "thresholds": {f"far={far:g}": point.threshold for far, point in found.tar.items()},
        "best_accuracy": found.best_accuracy,
        "best_threshold": found.best_threshold,
        "notes": notes,
    }


def _published(file: Path, faces: Manifest) -> PairList:
    """LFW's list of pairs, as ids of its images."""
    listed = read_pairs(faces, file)
    return PairList(*listed[:3], _folds(listed.fold), {**_facts(file), "pairs": len(listed.same)})


def _unseen(pairs: PairList, unseen: Collection[int]) -> PairList:
    kept = torch.tensor(
        [
            one in unseen and other in unseen
            for one, other in zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)
        ]
    )
    seen = int((~kept).sum())
    if not seen:
        return pairs
    if not kept.any():
        raise DataError(
            "pairs: every pair shows a class the run was trained or validated on; nothing is left to judge.\n"
            "  Train with them held out: peopleDevTrain.txt and peopleDevTest.txt beside the images, or a split."
        )
    fold = None if pairs.fold is None else _folds(pairs.fold[kept])
    note = (
        f"{seen:,} of {len(kept):,} pairs show classes the run was trained or validated on and were left out: this is "
        "not the figure of the whole list."
    )
    facts = {**pairs.facts, "left_out": seen}
    return PairList(pairs.first[kept], pairs.second[kept], pairs.same[kept], fold, facts, (*pairs.notes, note))


def _rows(file: Path) -> list[tuple[str, dict[str, str]]]:
    """Where each line stands, and its cells by column."""
    name = printable(file.name)
    try:
        with file.expanduser().open(newline="", encoding="utf-8-sig", errors="surrogateescape") as text:
            lines = csv.reader(text, strict=True)
            header = _checked(next(lines, []), name)
            rows = [(f"pairs: {name}, line {lines.line_num}", cells) for cells in lines if cells]
    except OSError as error:
        raise DataError(f"pairs: '{printable(str(file))}' can't be read ({error.strerror}). Give the list.") from None
    except csv.Error as error:
        raise DataError(f"pairs: {name} can't be read ({error}). Look at its quotes.") from None
    for where, cells in rows:
        if len(cells) != len(header):
            raise DataError(f"{where}: {len(cells)} cells, but the first line names {len(header)} columns.")
    return [(where, dict(zip(header, cells, strict=True))) for where, cells in rows]


def _checked(header: list[str], name: str) -> list[str]:
    header = [column.strip().lower() for column in header]
    for column in header:
        if column not in COLUMNS:
            raise DataError(f"pairs: {name}: {UnknownNameError('column', printable(column[:80]), COLUMNS)}")
    if len(set(header)) < len(header) or not set(NEEDED) <= set(header):
        raise DataError(
            f"pairs: the first line of {name} must name the columns {', '.join(NEEDED)}, and may name fold, each once."
        )
    return header


def _item(where: str, name: str, ids: Mapping[str, int], items: str) -> int:
    if name not in ids:
        raise DataError(f"{where}: '{printable(name)}' is not among the {len(ids):,} {items}.")
    return ids[name]


def _same(where: str, word: str) -> bool:
    if word.strip().lower() not in WORDS:
        raise DataError(f"{where}: same must be one of {', '.join(WORDS)}, not '{printable(word)}'.")
    return WORDS[word.strip().lower()]


def _fold_numbers(rows: list[tuple[str, dict[str, str]]]) -> Tensor | None:
    if "fold" not in rows[0][1]:
        return None
    for where, cells in rows:
        if not cells["fold"].strip():
            raise DataError(f"{where}: the fold is missing. Give every pair one, or leave the column out.")
    return number_names([cells["fold"].strip() for _, cells in rows])[1]


def _folds(numbers: Tensor | None) -> Tensor | None:
    """The folds of pairs; None where there is just one, which leaves no others to choose a threshold on."""
    return None if numbers is None or len(torch.unique(numbers)) < 2 else numbers


def _against_labels(labelled: Labelled, pairs: PairList) -> int:
    first, second = (labelled.labels[places(side, labelled.ids)] for side in (pairs.first, pairs.second))
    return int(((first == second) != pairs.same).sum())


def _facts(file: Path) -> Json:
    with file.expanduser().open("rb") as opened:
        return {"file": file.name, "sha256": hashlib.file_digest(opened, "sha256").hexdigest()}
