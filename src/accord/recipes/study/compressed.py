"""The arms of a study that are made of other arms' finished runs: what they ask for, and how one is made."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from accord.ensembles import STUDENT
from accord.errors import UnknownNameError, UsageError
from accord.recipes.compress.heads import check_heads
from accord.recipes.compress.methods import HEADS, check_names
from accord.recipes.compress.run import compress_run
from accord.recipes.config import RunConfig
from accord.recipes.head_names import TRUNK, used_names
from accord.recipes.students import student_dim
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
            _check_numbers(arm, arms[arm.of])
        except (UnknownNameError, UsageError) as error:
            raise UsageError(f"The arm '{name}' does not fit.\n  {error}") from None
    if compressed and "embedding_size" not in allow:
        raise UsageError(
            "compress: arms that are made of others have other numbers of their own, which the comparison refuses.\n"
            "  Say that you want it so, and it will name it: allow: [embedding_size]"
        )


def _check_numbers(arm: CompressArm, config: RunConfig) -> None:
    """Refuse what has no heads to be made of, or more numbers than there are, as far as no image need be seen."""
    names = used_names(config) if arm.heads is None else list(arm.heads)
    if not names:
        raise UsageError("heads: names no head. Name some, such as [trunk], or leave it out.")
    if arm.fit_weights and len(names) == 1:
        raise UsageError(f"fit_weights: weighs heads against each other, and there is one, {names[0]}. Leave it out.")
    each = student_dim(config) if names == [STUDENT] else config.model.dim
    if TRUNK in names or each is None or arm.dim is None:
        return
    whole = each * len(names)
    if arm.method == HEADS and arm.dim != whole:
        raise UsageError(f"dim: these heads have {whole} numbers, and the method heads makes no fewer. Leave it out.")
    if arm.dim > whole:
        raise UsageError(f"dim: is {arm.dim}, but these heads have {whole} numbers. Give fewer.")


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
