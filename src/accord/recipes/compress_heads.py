"""Which heads of a run are made one: all that count, or those a user names, each with a share of its own."""

from collections.abc import Mapping

from accord.checks import check_range
from accord.errors import UnknownNameError, UsageError
from accord.models import Embedder, TrunkHead
from accord.recipes.build import TRUNK


def read_heads(text: str) -> dict[str, float | None]:
    """`trunk=0.75,n_pair` as a mapping: a head's share of the embedding, None for the one it has in the run."""
    found: dict[str, float | None] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, given, share = part.partition("=")
        if name in found:
            raise UsageError(f"--heads names '{name}' twice. Name each head once.")
        try:
            found[name] = float(share) if given else None
        except ValueError:
            raise UsageError(f"--heads: the share of '{name}' must be a number, not '{share}'.") from None
    if not found:
        raise UsageError("--heads names no head. Name some, such as --heads trunk, or leave it out.")
    return found


def pick_heads(embedder: Embedder, named: Mapping[str, float | None] | None) -> Embedder:
    """The same trunk with the named heads alone; all of them, as they are, where nothing is named."""
    if named is None:
        return embedder
    heads = dict(embedder.heads.items())
    shares = {name: embedder.weights[name] / sum(embedder.weights.values()) for name in heads}
    heads.setdefault(TRUNK, TrunkHead(embedder.width))
    for name in named:
        if name not in heads:
            raise UnknownNameError("head", name, heads)
    chosen = {name: _share(name, share, shares, alone=len(named) == 1) for name, share in named.items()}
    for name, share in chosen.items():
        if not share > 0:
            raise UsageError(f"compress: head '{name}' counts for nothing; give it a share above 0, or leave it out.")
    kept = {name: heads[name] for name in chosen}
    parts = embedder.backbone, embedder.pool, kept
    return Embedder(*parts, preprocessing=embedder.preprocessing, weights=chosen)


def _share(name: str, share: float | None, own: Mapping[str, float], *, alone: bool) -> float:
    if share is not None:
        check_range("compress", f"the share of head '{name}'", share, low=0)
        return share
    if alone:
        return 1.0
    if name not in own:
        raise UsageError(f"compress: '{name}' has no share in this run; say how much it counts, such as {name}=0.5.")
    return own[name]
