"""Holds the documentation to the code: generated pages are fresh, examples run, links lead somewhere."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def test_generated_pages_are_fresh() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts/generate_docs.py", "--check"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


TESTS = {
    path: re.findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    for path in (ROOT / "tests").rglob("test_*.py")
}


def _named_tests(page: Path) -> list[str]:
    """What a page names as tests: `file.py::test_name`, `test_name`, `tests/folder/file.py`; … stands for letters."""
    spans = re.findall(r"`([\w./:…]+)`", page.read_text(encoding="utf-8"))
    functions = ("test_weights",)
    return [span for span in spans if re.search(r"test_\w+\.py|^test_|\w…|…\w", span) and span not in functions]


@pytest.mark.parametrize("name", ["ensembles.md", "proxies.md", "n-pairs.md"])
def test_every_test_that_a_page_names_is_there(name: str) -> None:
    named = _named_tests(ROOT / "docs" / name)
    assert len(named) > 20
    for span in named:
        file, _, function = span.rpartition("::") if "::" in span or not span.endswith(".py") else (span, "", "")
        homes = [path for path in TESTS if path.as_posix().endswith(f"/{file}")] if file else list(TESTS)
        assert homes, f"{name} names {file}"
        pattern = re.compile(function.replace("…", r"\w*"))
        assert not function or any(pattern.fullmatch(test) for path in homes for test in TESTS[path]), f"{name}: {span}"


# test_not_n_pair.py runs the one of its name, and reads what it prints
EXAMPLES = [path for path in sorted((ROOT / "examples").glob("*.py")) if path.stem != "not_n_pair"]


@pytest.mark.pretrained
@pytest.mark.slow
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_examples_run(example: Path, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, example, "--quick"], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
