"""`accord calibrate`, and the answer "unknown" that `accord search` gives from then on."""

import json
import shutil
from pathlib import Path

import pytest

pytestmark = [pytest.mark.pretrained, pytest.mark.slow]


@pytest.fixture
def run(tiny_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_run, tmp_path / "run"))


def test_calibrate_tells_what_the_threshold_does_and_search_uses_it(accord, run: Path, tiny_folder: Path) -> None:
    image = sorted(tiny_folder.rglob("*.jpg"))[0]
    before = json.loads(accord("search", run, image, "--json").out)
    assert (before["known"], before["threshold"], before["far"]) == (None, None, None)

    told = accord("calibrate", run, "--far", "0.2", "--frr", "0.1", "-q")
    assert told.code == 0
    assert "asking 48 images of 8 classes" in told.said
    assert "strangers taken for something known" in told.said
    assert '"different" below' in told.said
    found = json.loads(accord("calibrate", run, "--far", "0.2", "--json").out)
    assert found["pairs"]["different_below"] is None

    after = json.loads(accord("search", run, image, "--json").out)
    assert (after["known"], after["threshold"], after["far"]) == (True, found["search"]["same_above"], 0.2)
    assert after["neighbours"] == before["neighbours"]
    table = accord("search", run, image)
    assert "yes" in table.out
    assert "unknown: nothing" not in table.out


def test_a_search_below_the_threshold_still_shows_its_hits(
    accord, run: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    image = sorted(tiny_folder.rglob("*.jpg"))[0]
    other = tmp_path / "other"
    shutil.copytree(image.parent.parent / sorted(p.name for p in tiny_folder.iterdir())[-1], other / "only")
    options = ("--gallery", other, "--threshold", "0.999")
    answer = json.loads(accord("search", run, image, *options, "--json").out)
    assert answer["known"] is False
    assert len(answer["neighbours"]) == 5
    said = accord("search", run, image, *options).said
    assert "unknown: nothing scores 0.9990 or more" in said
    accord("calibrate", run, "--far", "0.2", "-q")
    assert json.loads(accord("search", run, image, "--threshold", "none", "--json").out)["known"] is None


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (("calibrate", "RUN", "--far", "0"), 2, "far must be more than 0"),
        (("calibrate", "RUN", "--far", "0.001"), 3, "takes at least 1,999 images of held-out classes"),
        (("calibrate", "no-run"), 5, "no-run"),
        (("search", "RUN", "x.jpg", "--threshold", "2"), 2, "from -1 to 1, or none"),
    ],
)
def test_mistakes_end_with_a_message_and_an_exit_code(accord, run: Path, words, code: int, text: str) -> None:
    ended = accord(*(run if word == "RUN" else word for word in words))
    assert ended.code == code
    assert text in ended.said
