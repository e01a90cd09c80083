"""The arms of a study that are made of other arms' finished runs: what they ask for, and how one is made."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from accord.errors import UnknownNameError, UsageError
from accord.recipes.compress.heads import check_heads
from accord.recipes.compress.methods import check_names
from accord.recipes.compress.run import compress_run
from accord.recipes.config import RunConfig
from accord.recipes.head_names import used_names
from accord.recipes.study.config import CompressArm
from accord.recipes.watch import Watch


def check_compressed(
    compressed: Mapping[str, CompressArm], arms: Mapping[str, RunConfig], allow: Sequence[str]
) -> None:
    """Refuse now what would fail after hours of training; a mistake names the arm. `arms` are those trained."""
    for name, arm in compressed.items():
        if name in arms:
            raise UsageError(
                f"compress: '{name}' is an arm that is trained, too. Give what is made of it another name."
            )
        if arm.of not in arms:
            raise UnknownNameError(f"arm that '{name}' is made of", arm.of, arms)
        try:
            check_names(arm.method, arm.scale)
            check_heads(arm.heads, used_names(arms[arm.of]))
        except (UnknownNameError, UsageError) as error:
            raise UsageError(f"The arm '{name}' does not fit.\n  {error}") from None
    if compressed and "embedding_size" not in allow:
        raise UsageError(
            "compress: arms that are made of others have other numbers of their own, which the comparison refuses.\n"
            "  Say that you want it so, and it will name it: allow: [embedding_size]"
        )


def compress_arm(arm: CompressArm, run: Path, out: Path, *, seed: int, watch: Watch) -> None:
    """Make one run of such an arm; what a stop left of it is made anew."""
    compress_run(
        run,
        dim=arm.dim,
        method=arm.method,
        scale=arm.scale,
        fit_weights=arm.fit_weights,
        heads=arm.heads,
        out=out,
        overwrite=out.exists(),
        seed=seed,
        watch=watch,
        allow_imports=True,  # the study's file names the code, and whoever runs the study has read it
    )
