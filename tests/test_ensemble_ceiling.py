"""The benchmark of networks trained apart: what it says of networks that are one and the same, and of mistakes."""

import shutil
import sys
from importlib import import_module
from pathlib import Path

import pytest

from accord.errors import UsageError

sys.path.append(str(Path(__file__).parent.parent / "benchmarks"))
ceiling = import_module("ensemble_ceiling")


@pytest.mark.pretrained
@pytest.mark.slow
def test_a_network_joined_or_averaged_with_itself_is_itself(tiny_run: Path, tmp_path: Path) -> None:
    for arm in ("a", "b"):
        shutil.copytree(tiny_run, tmp_path / arm / "seed-0")
    for line in ceiling.ceiling(tmp_path, ("a", "b"), "test"):
        assert line["seeds"] == 1
        assert line["means"]["joined"] == line["means"]["a"] == line["means"]["b"] > 0
        assert line["joined"]["difference"] == 0
        assert line["means"]["averaged"] == pytest.approx(line["means"]["a"], abs=0.01)
    with pytest.raises(UsageError, match="no arm 'c'; it has a, b"):
        ceiling.ceiling(tmp_path, ("a", "c"), "test")
    with pytest.raises(UsageError, match="one alone is no ensemble"):
        ceiling.ceiling(tmp_path, ("a",), "test")
