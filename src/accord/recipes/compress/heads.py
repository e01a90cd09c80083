"""Which heads of a run are made one: all that count, or those a user names, each with a share of its own."""

from collections.abc import Collection, Mapping

from accord.checks import check_range
from accord.errors import UnknownNameError, UsageError
from accord.models import Embedder, TrunkHead
from accord.recipes.head_names import TRUNK


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
    check_heads(named, embedder.dims)
    total = sum(embedder.weights.values())
    own = {name: weight / total for name, weight in embedder.weights.items()}
    usual = own if len(named) > 1 else dict.fromkeys(named, 1.0)
    shares = {name: usual[name] if share is None else share for name, share in named.items()}
    for name, share in shares.items():
        if not share > 0:
            raise UsageError(f"compress: head '{name}' counts for nothing; give it a share above 0, or leave it out.")
    every = {TRUNK: TrunkHead(embedder.width), **embedder.heads}
    kept = {name: every[name] for name in shares}
    return Embedder(embedder.backbone, embedder.pool, kept, preprocessing=embedder.preprocessing, weights=shares)


def check_heads(named: Mapping[str, float | None] | None, heads: Collection[str]) -> None:
    """Refuse heads that a run does not have, `heads` being its own, and a share that nothing says."""
    for name, share in (named or {}).items():
        if name not in heads and name != TRUNK:
            raise UnknownNameError("head", name, dict.fromkeys([*heads, TRUNK]))
        if share is not None:
            check_range("compress", f"the share of head '{name}'", share, low=0)
        elif name not in heads and len(named or ()) > 1:
            raise UsageError(
                f"compress: '{name}' has no share in this run; say how much it counts, such as {name}=0.5."
            )
