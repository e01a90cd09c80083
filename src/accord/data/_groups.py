"""Where an image comes from (a camera, a vendor, a typeface), read from its path."""

import re
from collections.abc import Callable

from accord.data._names import shown
from accord.errors import DataError, UsageError
from accord.types import Manifest


def with_groups(manifest: Manifest, rule: str) -> Manifest:
    """The manifest with the group of every item read from its path.

    `rule` is `stem` (the file's name without its ending), `parent` (the folder the file lies in), a regular expression
    with one capture group that is searched for in the path (`"_c(\\d+)s"` for cameras), or empty, which keeps the
    groups that came with the data. Raises DataError if a path holds no group, UsageError for another expression.
    """
    if not rule:
        return manifest
    find = _finder(rule)
    groups = [find(item.path) for item in manifest.items]
    without = [item.path for item, group in zip(manifest.items, groups, strict=True) if not group]
    if without:
        raise DataError(
            f"data.group: '{rule}' finds no group in {len(without)} of {len(groups)} paths, such as\n"
            f"  {shown(without, 3)}.\n  Every image needs one: stem, parent, or an expression that fits all paths."
        )
    items = tuple(item._replace(group=group) for item, group in zip(manifest.items, groups, strict=True))
    note = f"{len(set(groups))} groups were read from the paths ({rule}): {shown(sorted(set(groups)))}"
    return Manifest(manifest.name, manifest.root, items, (*manifest.notes, note))


def _finder(rule: str) -> Callable[[str], str]:
    if rule == "stem":
        return lambda path: path.rpartition("/")[2].rpartition(".")[0]
    if rule == "parent":
        return lambda path: path.rpartition("/")[0].rpartition("/")[2]
    try:
        pattern = re.compile(rule)
    except re.error as error:
        raise UsageError(f"data.group: '{rule}' is no regular expression: {error}.") from None
    if pattern.groups != 1:
        raise UsageError(
            f"data.group: '{rule}' has {pattern.groups} capture groups; one is needed, as in '_(c[0-9]+)_'.\n"
            "  Or say stem (the file's name) or parent (its folder's)."
        )
    return lambda path: (found[1] or "") if (found := pattern.search(path)) else ""
