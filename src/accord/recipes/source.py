"""Turns the `data` section of a configuration into a checked manifest with a class-disjoint split."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

from accord.data import (
    BUILTIN,
    builtin,
    check_leaks,
    fold_classes,
    loose_images,
    printable,
    read_images,
    read_related,
    readable,
    split_classes,
    split_related,
    with_groups,
    with_relations,
)
from accord.errors import DataError, UnknownNameError, UsageError
from accord.recipes.config import DataConfig
from accord.recipes.watch import Watch
from accord.types import Json, Manifest


def open_source(config: DataConfig, watch: Watch) -> Manifest:
    """Find the images, drop what can't be read (named), and split the classes."""
    found = find_source(config, watch) if config.relations is None else _find_related(config, watch)
    manifest = _readable(found, config.source, watch)
    split = _divided(manifest, config) if config.relations is None else _divided_groups(manifest, found, config)
    _refuse_no_test(split)
    split = _without_leaks(split, config.copies, watch)
    if config.relations is not None:
        split = with_relations(split, found.relations)
    for note in split.notes:
        watch.say(note)
    return split


def _divided(manifest: Manifest, config: DataConfig) -> Manifest:
    split = split_classes(manifest, test=config.test, validation=config.validation, seed=config.split_seed)
    if config.fold is None:
        return split
    return fold_classes(split, fold=config.fold, folds=config.folds, seed=config.split_seed)


def _divided_groups(manifest: Manifest, found: Manifest, config: DataConfig) -> Manifest:
    """As classes are, with the relations that the unreadable images leave."""
    ids = {item.id for item in manifest.items}
    left = tuple(relation for relation in found.relations if ids.issuperset(relation))
    return split_related(replace(manifest, relations=left), lambda groups: _divided(groups, config))


def open_images(source: str, watch: Watch) -> Manifest:
    """Images to embed and not to learn from: one image, loose images or classes, be it only one; what can't be read
    is dropped and named."""
    loose = None if source in BUILTIN else loose_images(Path(source).expanduser())
    found = find_source(DataConfig(source=source), watch, fewest_classes=1) if loose is None else loose
    return _readable(found, source, watch, fewest_classes=1)


def _readable(manifest: Manifest, source: str, watch: Watch, *, fewest_classes: int = 2) -> Manifest:
    manifest, problems = readable(
        manifest,
        progress=lambda done, total: watch.progress("checking images", done, total),
        fewest_classes=fewest_classes,
    )
    for problem in problems[:5]:
        watch.warn(f"left out {printable(problem.path)}: {problem.reason}")
    if len(problems) > 5:
        watch.warn(f"left out {len(problems) - 5} more unreadable images; `accord validate {source}` lists them")
    return manifest


def find_source(config: DataConfig, watch: Watch, *, fewest_classes: int = 2) -> Manifest:
    """The images that the `data` section names, as they are: nothing is split, and nothing looked into."""
    source = config.source
    if source in BUILTIN:
        for key in ("root", "boxes", "sha256"):
            if getattr(config, key):
                raise UsageError(f"data.{key} has no meaning for the built-in data set '{source}'.")
        if config.layout not in ("auto", "folders"):
            raise UsageError(f"data.layout: the built-in data set '{source}' is made of folders, not {config.layout}.")
        return with_groups(builtin(source), config.group)
    path = Path(source).expanduser()
    if not path.exists():
        if "/" in source or "." in source:
            raise DataError(f"There is no folder, archive or table at {source}.")
        raise UnknownNameError("folder or built-in data set", source, BUILTIN)
    return read_images(
        path,
        layout=config.layout,
        root=config.root,
        boxes=config.boxes,
        group=config.group,
        sha256=config.sha256,
        told=watch.progress,
        fewest_classes=fewest_classes,
    )


def _find_related(config: DataConfig, watch: Watch) -> Manifest:
    """The images that a table of pairs or triplets names; their classes are the groups that it links."""
    for key in ("root", "boxes"):
        if getattr(config, key):
            raise UsageError(f"data.{key} has no meaning beside data.relations, whose paths start at the source.")
    if config.layout != "auto":
        raise UsageError("data.layout tells classes from folders or lists; beside data.relations leave it out.")
    source, sha256 = config.source, config.sha256
    if source in BUILTIN and sha256:
        raise UsageError(f"data.sha256 has no meaning for the built-in data set '{source}'.")
    if source not in BUILTIN and not Path(source).expanduser().exists():
        raise DataError(f"There is no folder or archive at {source}.")
    assert config.relations is not None
    return with_groups(read_related(source, config.relations, sha256=sha256, told=watch.progress), config.group)


def _refuse_no_test(manifest: Manifest) -> None:
    """Refuse now what could only be told after training: that there is nothing to judge the model on."""
    counts = Counter(item.label for item in manifest.only("test").items)
    if len(counts) == 1:
        raise DataError(
            "There is nothing to judge the model by: there is only one unseen class, so that every answer is right.\n"
            "  Put a second class beside it, or draw the split from all classes."
        )
    if not any(count > 1 for count in counts.values()):
        raise DataError(
            f"There is nothing to judge the model on: of {len(counts)} unseen classes none has two images.\n"
            "  Add images, or choose another data.test or data.split_seed, so that one has."
        )


def _without_leaks(manifest: Manifest, copies: str, watch: Watch) -> Manifest:
    """Images that lie on two sides of the split, byte for byte: the copies nearer to training go, or the run stops."""
    across = check_leaks(manifest)["across"]
    if not across or copies == "keep":
        return manifest
    pairs = [" = ".join(item["path"] for item in group["items"]) for group in across[:5]]
    shown = "\n".join(f"  {pair}" for pair in pairs)
    if copies == "stop":
        raise DataError(
            f"{len(across)} images lie in more than one split, byte for byte; scores would be too good.\n{shown}\n"
            "  Remove the copies, put them into one class, or let training do without them: --set data.copies=drop"
        )
    dropped = {item["id"] for group in across for item in _nearer_to_training(group["items"])}
    watch.warn(f"left out {len(dropped)} training images that are also in the test, byte for byte, such as\n{shown}")
    note = f"{len(dropped)} training images were left out: they are also in the test, byte for byte"
    kept = tuple(item for item in manifest.items if item.id not in dropped)
    return Manifest(manifest.name, manifest.root, kept, (*manifest.notes, note))


def _nearer_to_training(items: list[Json]) -> list[Json]:
    """All copies but those on the side that is furthest from training."""
    distance = {"train": 0, "validation": 1, "test": 2}
    furthest = max(distance[item["split"]] for item in items)
    return [item for item in items if distance[item["split"]] < furthest]
