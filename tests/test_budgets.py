"""Holds the sizes of design.md: modules, functions, imports; prints the ten largest of each."""

import ast
import os
import resource
import statistics
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).parent.parent / "src" / "accord"
FILES = sorted(SOURCE.rglob("*.py"))


def _lengths() -> tuple[dict[str, int], dict[str, int]]:
    modules, functions = {}, {}
    for path in FILES:
        text = path.read_text()
        modules[str(path.relative_to(SOURCE))] = len(text.splitlines())
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                functions[f"{path.relative_to(SOURCE)}:{node.name}"] = _code_lines(node)
    return modules, functions


def _code_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its docstring: prose is not complexity."""
    total = node.end_lineno - node.lineno + 1
    if ast.get_docstring(node, clean=False) is not None:
        total -= node.body[0].end_lineno - node.body[0].lineno + 1
    return total


def _largest(sizes: dict[str, int]) -> str:
    return "\n".join(f"{size:5d}  {name}" for name, size in sorted(sizes.items(), key=lambda pair: -pair[1])[:10])


def test_modules_and_functions_stay_small() -> None:
    modules, functions = _lengths()
    print("largest modules\n" + _largest(modules) + "\nlargest functions\n" + _largest(functions))
    assert statistics.median(modules.values()) <= 150
    assert max(modules.values()) <= 400
    assert statistics.quantiles(functions.values(), n=10)[-1] <= 30


def test_every_file_says_on_its_first_line_what_it_is_for() -> None:
    silent = [str(path) for path in FILES if not path.read_text().startswith('"""')]
    assert not silent


def test_quiet_rooms_touch_no_paths() -> None:
    rooms = ("mining", "losses", "ensembles", "evaluation")
    files = [path for path in FILES if path.relative_to(SOURCE).parts[0] in (*rooms, "geometry.py", "checks.py")]
    loud = [str(path) for path in files if "pathlib" in path.read_text() or " Path" in path.read_text()]
    assert not loud


def test_importing_accord_loads_no_heavy_package() -> None:
    code = "import accord, sys; print(sorted({'torch', 'torchvision', 'sklearn', 'faiss', 'numpy'} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"


def test_losses_and_evaluation_load_neither_sklearn_nor_faiss_nor_torchvision() -> None:
    code = (
        "import accord.recipes, sys; print(sorted({'torchvision', 'sklearn', 'faiss', 'fastapi'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"


def test_help_needs_no_torch() -> None:
    code = "import sys, accord.cli.main; print('torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "False"


def test_help_is_quick() -> None:
    # The processor's time, which other jobs of a shared machine add little to; best of five; the figure is printed.
    best = min(_processor_seconds_of_help() for _ in range(5))
    print(f"accord --help: {best:.2f} s")
    assert best < 1.0


def _processor_seconds_of_help() -> float:
    uncounted = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "accord", "--help"], capture_output=True, check=True, env=uncounted)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
