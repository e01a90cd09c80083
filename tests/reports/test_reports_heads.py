"""What each head contributes, on the page and in the text; left out where it was not measured."""

import re
from collections.abc import Callable

import pytest

from accord.reports import ReportInputs, make_report, render_html, render_text
from accord.types import Json


@pytest.fixture(scope="module")
def made(make_inputs: Callable[..., ReportInputs]) -> Callable[[Json], Json]:
    return lambda told: make_report(make_inputs(heads=told))


def _section(page: str) -> str:
    found = re.search(r'<section id="heads".*?</section>', page, re.S)
    assert found is not None
    return found[0]


def test_each_head_has_a_row_and_each_two_a_cell(made: Callable[[Json], Json], told: Callable[..., Json]) -> None:
    section = _section(render_html(made(told("pairs", "proxies", "tuples", "trunk"))))
    assert "24 images of 6 classes that were held out of training for validation" in section
    assert "The trunk is the feature that all heads are made from." in section
    rows = re.findall(r"<tr>.*?</tr>", section.split("<tbody>")[1].split("</tbody>")[0], re.S)
    assert len(rows) == 5
    assert re.sub("<.*?>", " ", rows[0]).split() == ["all", "heads", "joined", "100.0", "60.0", "30.0"]
    wanted = "1 pairs 25.0 50.0 25.0 40.0 20.0 +20.0 +10.0 to +30.0 +10.0 +10.0 to +30.0"
    assert re.sub("<.*?>", " ", rows[1]).split() == wanted.split()
    assert section.count('<table class="heat">') == 3
    assert section.count("<td>·</td>") == 3 * 4
    cka = section.split("<h3>CKA</h3>")[1]
    first = re.findall(r"<span>([\d.]+)</span>", cka)
    assert first == ["0.10", "0.20", "0.30", "0.10", "0.40", "0.50", "0.20", "0.40", "0.60", "0.30", "0.50", "0.60"]
    assert re.findall(r"opacity:([\d.]+)", cka)[:3] == ["0.040", "0.080", "0.120"]
    assert section.split("<h3>CKA</h3>")[0].count("<span>25.0</span>") == 12
    assert section.count("<span>12.5</span>") == 12


def test_colour_says_only_what_the_interval_says(made: Callable[[Json], Json], told: Callable[..., Json]) -> None:
    section = _section(render_html(made(told("pairs", "proxies", "tuples", "trunk"))))
    assert re.findall(r'lost"><b class="(\w+)">([^<]+)', section) == [
        *[("up", "+20.0"), ("up", "+10.0")],
        *[("down", "−10.0"), ("down", "−5.0")],
        *[("same", "+0.0"), ("same", "+0.0")],
        *[("same", "+5.0"), ("same", "+2.5")],
    ]


def test_the_menu_leads_to_it_where_it_is(made: Callable[[Json], Json], told: Callable[..., Json]) -> None:
    assert 'href="#heads"' in render_html(made(told("pairs", "proxies")))
    page = render_html(made({}))
    assert 'id="heads"' not in page
    assert 'href="#heads"' not in page


def test_a_report_that_is_older_is_still_drawn(made: Callable[[Json], Json], told: Callable[..., Json]) -> None:
    report = made({})
    del report["heads"]
    assert 'id="heads"' not in render_html(report)
    assert "What each head contributes" not in render_text(report)


def test_why_it_is_left_out_is_said(made: Callable[[Json], Json], told: Callable[..., Json]) -> None:
    report = made({"left_out": "This run has no validation classes on which it could be measured."})
    section = _section(render_html(report))
    assert "no validation classes" in section
    assert "<table" not in section
    assert "What each head contributes" not in render_text(report)


def test_what_was_drawn_and_what_counts_for_nothing_is_said(
    made: Callable[[Json], Json], told: Callable[..., Json]
) -> None:
    section = _section(render_html(made(told("a", "b", of_images=9000, silent=["proxy_nca", "n_pair"]))))
    assert "24 images of 6 classes (drawn from 9,000 images) that were held out" in section
    assert "Not counted, for their share is 0: proxy_nca, n_pair." in section
    assert "The trunk" not in section


def test_names_stay_text(made: Callable[[Json], Json], told: Callable[..., Json], hostile_names: list[str]) -> None:
    names = list(dict.fromkeys(hostile_names))[:4]
    report = made(told(*names, silent=list(hostile_names)))
    section = _section(render_html(report))
    for name in hostile_names:
        if "<" in name:
            assert name not in section
    assert "<script" not in section
    assert "\x1b" not in render_text(report)


def test_the_text_has_a_line_for_each_head(made: Callable[[Json], Json], told: Callable[..., Json]) -> None:
    lines = render_text(made(told("pairs", "trunk"))).splitlines()
    start = lines.index("What each head contributes, on 24 images of 6 classes held out for validation:")
    assert lines[start - 1] == ""
    header, joined, first, second = lines[start + 1 : start + 5]
    assert header.split("  ")[-1] == "MAP@R lost without"
    assert joined.split() == ["all", "heads", "100.0", "60.0", "30.0"]
    assert first.split() == ["pairs", "50.0", "50.0", "25.0", "+20.0", "+10.0"]
    assert second.split() == ["trunk", "50.0", "50.0", "25.0", "−10.0", "−5.0"]
    assert lines[start + 5].startswith("! ")
