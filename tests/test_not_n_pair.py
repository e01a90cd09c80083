"""What docs/n-pairs.md shows of the look-alike is what its script prints, and the script computes what it says."""

import math
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).parent.parent
SCRIPT = ROOT / "examples" / "not_n_pair.py"
PAGE = (ROOT / "docs" / "n-pairs.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def script() -> dict[str, Any]:
    return runpy.run_path(str(SCRIPT))


@pytest.mark.parametrize("part", ["worked_batch", "negatives", "margin_met", "cost"])
def test_the_page_shows_what_the_script_prints(part: str, script: dict[str, Any], capsys) -> None:
    script[part]()
    printed = capsys.readouterr().out
    assert len(printed.splitlines()) >= 4
    assert printed in PAGE


def test_the_look_alike_is_the_hinge_of_the_page(script: dict[str, Any]) -> None:
    generator = torch.Generator().manual_seed(0)
    sides = [torch.randn(40, 5, generator=generator) for _ in range(3)]
    costs = [
        max(0.0, math.dist(a, p) - math.dist(a, n) + 0.1)
        for a, p, n in zip(*map(torch.Tensor.tolist, sides), strict=True)
    ]
    assert 0 < sum(cost == 0 for cost in costs) < 40
    assert script["look_alike"](*sides).item() == pytest.approx(sum(costs) / 40, abs=1e-5)


def test_the_worked_batch_by_pen_and_paper() -> None:
    rows = [
        math.log1p(math.exp(-2) + math.exp(-6)),
        math.log1p(math.exp(-1) + math.exp(-3)),
        math.log1p(math.e + 1 / math.e),
    ]
    assert f"N-pair-mc   value {sum(rows) / 3:.4f}" in PAGE
    assert f"look-alike  value {(math.sqrt(5) - 2 + 0.1) / 3:.4f}" in PAGE, "the other two hinges are met"


@pytest.mark.pretrained
@pytest.mark.slow
def test_run_as_a_whole_n_pair_teaches_more_than_the_look_alike(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, SCRIPT, "--quick"], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    first, taught = done.stdout.split("\n5. ")
    assert first in PAGE
    assert "frozen features, 1280-d: cosine 30.6" in taught
    recalls = {name: float(score) for name, score in re.findall(r"^  (.+): rate .*, cosine ([\d.]+),", taught, re.M)}
    assert recalls["N-pair-mc"] > recalls["look-alike"] > 10
    assert all(line.split(":")[0] in PAGE for line in taught.splitlines()[1:])
