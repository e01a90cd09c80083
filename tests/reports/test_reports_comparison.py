"""A comparison as text and as a page: everything is said, nothing is script, and names are harmless."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from accord.errors import ResourceError
from accord.recipes import compare_runs
from accord.reports import comparison_headline, comparison_html, render_comparison, write_comparison
from accord.reports._forest import Row, forest
from made_runs import make_methods, make_run, scores


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> Any:
    root = tmp_path_factory.mktemp("runs")
    given = make_methods(root, {"triplet": 0.5, "proxy_nca": 0.56})
    given["triplet"].append(make_run(root / "died", scores(0, 0.5), seed=8, finished=False))
    return compare_runs(given, draws=200)


def _with(document: Any, **pair: Any) -> Any:
    changed = json.loads(json.dumps(document))
    changed["results"]["galleries"][0]["differences"][0].update(pair)
    return changed


def test_the_headline_gives_the_verdict(document: Any) -> None:
    assert re.fullmatch(
        r"triplet is worse than proxy_nca by \d\.\d points \(−\d\.\d to −\d\.\d\)\.", comparison_headline(document)
    )
    same = _with(document, word="no difference shown")
    assert comparison_headline(same).startswith("No difference shown between triplet and proxy_nca (−")
    assert "one class" in comparison_headline(_with(document, word="no difference shown", interval=None))
    unlike = {**document, "not_comparable": [{"name": "steps"}]}
    assert comparison_headline(unlike).startswith("Not comparable. triplet is worse")
    two = json.loads(json.dumps(document))
    two["results"]["galleries"] *= 2
    assert comparison_headline(two) == "2 of 2 pairs show a difference."
    two["results"]["galleries"] = []
    assert comparison_headline(two).startswith("No two of these methods")


def test_the_text_lists_every_seed_failure_and_verdict(document: Any) -> None:
    text = render_comparison(document)
    assert "! 1 of 11 runs failed" in text
    assert "MAP@R in percent, 240 queries of 30 classes; frozen backbone 25.0" in text
    assert re.search(r"triplet +\S+ +\S+ to \S+ +0: \S+  1: \S+  2: \S+  3: \S+  4: \S+  1 failed", text)
    assert re.search(r"triplet − proxy_nca +−\S+ +−\S+ to −\S+ +0\.\d{4}  worse", text)
    assert re.search(r"losses\.0\.type +triplet_margin +proxy_nca", text)
    assert "200 draws over seeds and classes (seed 0)" in text
    assert "the bar is 0.5 points" in text


def test_the_best_method_comes_first(document: Any) -> None:
    text = render_comparison(document)
    assert text.index("\n  proxy_nca") < text.index("\n  triplet")


def test_few_classes_ranks_and_missing_figures_are_shown(document: Any) -> None:
    changed = json.loads(json.dumps(document))
    found = changed["results"]["galleries"][0]
    found.update({"few_classes": True, "baseline": None})
    for row in [*found["methods"], *found["differences"]]:
        row["t_interval"] = [0.123, 0.456]
    found["methods"].append(
        {"method": "lost", "mean": None, "interval": None, "t_interval": None, "seeds": [], "failed": ["x"]}
    )
    changed["results"]["ranks"] = {"galleries": 3, "methods": {"triplet": 1.75, "proxy_nca": 1.25}}
    text, page = render_comparison(changed), comparison_html(changed)
    assert "12.3 to 45.6" in text
    assert "+12.3 to +45.6" in text
    assert "frozen" not in text
    assert re.search(r"lost +– +–", text)
    assert re.search(r"average rank over 3 galleries\n  proxy_nca  1\.25\n  triplet    1\.75", text)
    assert "by t 12.3 to 45.6" in page
    assert "Average ranks" in page


def test_equal_configurations_have_no_table(document: Any) -> None:
    alike = {**document, "configurations": {}}
    assert "options differ" not in render_comparison(alike)
    assert "How the methods differ" not in comparison_html(alike)


def test_without_differences_there_is_no_plot_of_them(document: Any) -> None:
    changed = json.loads(json.dumps(document))
    changed["results"]["galleries"][0]["differences"] = []
    assert "Differences" not in comparison_html(changed)
    assert "differences" not in render_comparison(changed)


def test_what_is_not_comparable_is_said_on_the_page(document: Any) -> None:
    row = {"name": "steps", "gallery": None, "values": {"triplet": [100], "proxy_nca": [50, 60]}}
    page = comparison_html({**document, "not_comparable": [row], "notes": ["not comparable: steps."]})
    assert "<h3>Not comparable</h3>" in page
    assert "triplet: 100; proxy_nca: 50, 60" in page
    assert "<li>not comparable: steps.</li>" in page


def test_the_page_runs_no_script_and_asks_for_nothing(document: Any) -> None:
    page = comparison_html(document)
    assert "<script" not in page
    assert "default-src 'none'" in page
    assert not re.search(r"""(src|href)=["'](?!#|data:)""", page)
    assert page.count('class="seed"') == 10
    assert page.count('class="forest-row') == 3
    assert "accord compare --verify" in page
    assert page.count("4 epochs, 100 steps, 12.5 s") == 10
    unknown = json.loads(json.dumps(document).replace('"training_seconds": 12.5', '"training_seconds": null'))
    assert comparison_html(unknown).count("4 epochs, 100 steps<") == 10


def test_names_of_a_user_are_harmless(document: Any) -> None:
    nasty = json.loads(json.dumps(document).replace("proxy_nca", "<script>alert(1)</script>"))
    assert "<script" not in comparison_html(nasty)
    control = json.loads(json.dumps(document).replace("proxy_nca", "a\\u001b[31mb"))
    assert "\x1b" not in render_comparison(control)


def test_files_are_written_as_asked(document: Any, tmp_path: Path) -> None:
    written = write_comparison(document, json_file=tmp_path / "c.json", html_file=tmp_path / "c.html")
    assert written == [tmp_path / "c.json", tmp_path / "c.html"]
    assert json.loads(written[0].read_text()) == document
    assert written[1].read_text() == comparison_html(document)
    assert write_comparison(document) == []
    with pytest.raises(ResourceError, match="can't write"):
        write_comparison(document, json_file=tmp_path / "none" / "c.json")


def test_intervals_lie_where_the_numbers_say() -> None:
    drawn = forest([Row("a", 0.01, (0.0, 0.02), [0.005])], unit="points", zero=True, bar=0.005)
    places = {
        name: float(place) for name, place in re.findall(r'class="(reach|seed|tick zero)" style="left:([\d.]+)%', drawn)
    }
    mean = float(re.search(r'<b style="left:([\d.]+)%', drawn)[1])
    width = float(re.search(r'class="reach" style="left:[\d.]+%;width:([\d.]+)%', drawn)[1])
    assert places["reach"] == places["tick zero"]
    assert mean == pytest.approx(places["reach"] + width / 2, abs=0.01)
    assert places["seed"] == pytest.approx(places["reach"] + width / 4, abs=0.01)


def test_ticks_are_round_and_signed_where_zero_is_meant() -> None:
    assert re.findall(r"%\">([−+]?[\d.]+)</span>", forest([Row("a", 0.0, (-0.02, 0.04))], unit="", zero=True)) == [
        "−2", "0", "+2", "+4",
    ]  # fmt: skip
    assert "forest-row" not in forest([], unit="%")
