"""The page is one safe, self-contained file; the text says the same in a few lines."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from accord.errors import ArtifactError, DataError, ResourceError
from accord.reports import (
    ReportInputs,
    Thumbnails,
    _write,
    headline,
    make_report,
    render_html,
    render_text,
    write_report,
)
from accord.reports._facts import duration, size, when
from accord.reports._sprite import make_sprite
from accord.types import Labelled


@pytest.fixture(scope="module")
def report(make_inputs):
    return make_report(make_inputs())


@pytest.fixture(scope="module")
def page(report, thumbnails):
    return render_html(report, thumbnails)


def embedded(page: str) -> dict:
    return json.loads(re.search(r'<script type="application/json" id="report">(.*?)</script>', page, re.S)[1])


def test_asks_the_network_for_nothing(page):
    assert "default-src 'none'" in page
    assert not re.findall(r"(?:src|href)=[\"']?(?:https?:)?//", page)
    # the one address that occurs names the SVG element space; it is never fetched
    assert set(re.findall(r"https?://[^\"' )]+", page)) == {"http://www.w3.org/2000/svg"}


def test_has_every_section(page):
    for section in ("recall", "training", "map", "queries", "confused", "classes", "made"):
        assert f'<section id="{section}"' in page
        assert f'href="#{section}"' in page


def test_shows_notes_data_and_configuration(page):
    for words in (
        "Only one seed was run.",
        "ab" * 32,
        "resnet10",
        "rates · trunk",
        "1 min 10 s",
        "900 MB",
        "60 images, 5 classes",
    ):
        assert words in page
    assert "<dt>deterministic</dt><dd>yes</dd>" in page
    assert "<dt>accelerator</dt><dd>–</dd>" in page


def test_embeds_the_data_it_draws(page, report):
    data = embedded(page)
    assert data["queries"] == report["queries"]
    assert set(data["sprite"]["place"]) == set(report["items"])


def test_hostile_names_stay_text(make_inputs, thumbnails, hostile_names):
    inputs = make_inputs(hostile_names, title=hostile_names[0], run=hostile_names[1], notes=hostile_names[:4])
    inputs = replace(
        inputs, configuration={hostile_names[1]: hostile_names[2]}, environment={"<b>": list(hostile_names)}
    )
    page = render_html(make_report(inputs), thumbnails)
    page.encode()  # no lone surrogates are left
    assert page.count("<script") == page.count("</script>") == 2
    assert "<img" not in page
    assert "\u2028" not in page.split('id="report">')[1]
    assert '" onmouseover' not in page.split('id="report">')[0]
    labels = {item["label"] for item in embedded(page)["items"].values()}
    assert labels == {name.replace("\udcff", "\ufffd") for name in hostile_names}


def test_works_without_pictures_and_without_the_optional_parts(make_inputs):
    full = make_inputs()
    page = render_html(make_report(ReportInputs(full.trained, full.test, full.neighbours, full.class_names)))
    assert "sprite" not in embedded(page)
    assert 'class="notes"' not in page
    assert "<h3>Configuration</h3>" not in page
    assert "frozen " not in page.split("<script")[0].split("</style>")[1]


def test_refuses_a_report_of_another_version(report):
    with pytest.raises(ArtifactError, match="schema_version 99"):
        render_html({**report, "schema_version": 99})


def test_a_page_of_900_items_stays_under_4_megabytes(measured, thumbnails):
    generator = torch.Generator().manual_seed(0)
    labels, ids = torch.arange(75).repeat_interleave(12), torch.arange(900)
    x = torch.randn(75, 16, generator=generator)[labels] + torch.randn(900, 16, generator=generator)
    trained, neighbours = measured(x, labels, ids)
    names = [f"class number {i}" for i in range(75)]
    paths = {i: f"some/folder/with/a/name/picture-{i}.jpg" for i in range(900)}
    report = make_report(ReportInputs(trained, Labelled(x, labels, ids), neighbours, names, paths=paths))
    grain = np.random.default_rng(0).integers(
        0, 60, (900, 64, 64, 3), dtype=np.uint8
    )  # compresses worse than photographs
    pixels = thumbnails.array[np.arange(900) % 48] // 2 + grain
    assert len(render_html(report, Thumbnails(ids, pixels)).encode()) < 4_000_000


def test_a_sprite_shrinks_until_it_fits_and_skips_strangers(thumbnails):
    wanted = [105, 100, 105, 7]
    small, large = make_sprite(thumbnails, wanted, budget_bytes=900), make_sprite(thumbnails, wanted)
    assert large.place == {105: 0, 100: 1}
    assert (large.columns, large.rows) == (2, 1)
    assert len(small.address) < len(large.address)
    assert make_sprite(thumbnails, [7]) is None


@pytest.mark.parametrize("side", [24, 64, 130])
def test_thumbnails_of_any_size_are_packed(side):
    pixels = np.full((3, side, side, 3), 200, np.uint8)
    assert make_sprite(Thumbnails([1, 2, 3], pixels), [1, 2, 3]).columns == 2


@pytest.mark.parametrize(
    "pixels",
    [torch.zeros(2, 8, 8, 3), torch.zeros(2, 3, 8, 8, dtype=torch.uint8), torch.zeros(1, 8, 8, 3, dtype=torch.uint8)],
)
def test_refuses_thumbnails_of_another_shape_or_type(pixels):
    with pytest.raises(DataError, match="thumbnails must be"):
        Thumbnails([1, 2], pixels)


def test_the_headline_says_what_happened():
    def say(now, before):
        return headline({"metrics": {"recall@1": now}, "baseline": {} if before is None else {"recall@1": before}})

    start = "Of 100 pictures of classes never seen in training, "
    assert say(0.62, 0.3) == start + "62 now find a picture of their own class first. Before training, 30 did."
    assert say(0.622, 0.618) == start + "62 find a picture of their own class first, as many as before training."
    assert say(0.62, None) == start + "62 find a picture of their own class first."
    assert (
        say(0.001, 0.999)
        == start + "fewer than one now find a picture of their own class first. Before training, more than 99 did."
    )
    assert headline({"metrics": {}, "baseline": {}}) == "This run has no measured recall."


def test_the_text_is_a_table_in_percent(report):
    text = render_text(report)
    assert text.startswith("objects\nOf 100 pictures")
    assert re.search(r"^Recall@1 +\d+\.\d +40\.0 to 60\.0 +\d+\.\d +[+−]\d+\.\d +10\.0$", text, re.M)
    assert re.findall(r"^Recall@(\d)", text, re.M) == ["1", "2", "4", "8"]
    assert text.endswith("! Only one seed was run.\n")


def test_raw_pixels_stand_beside_the_figures_on_page_and_in_text(report):
    beside = {**report, "raw_pixels": {"recall@1": 0.059}, "optimistic": {"map@r": 0.123}}
    assert re.search(r"chance +raw pixels$", render_text(beside), re.M)
    assert re.search(r"^Recall@1 .*10\.0 +5\.9$", render_text(beside), re.M)
    page = render_html(beside)
    assert "Recall@1 of raw pixels</dt><dd>5.9 %" in page
    assert "MAP@R with kind ties</dt><dd>12.3 %" in page
    older = {key: value for key, value in report.items() if key not in ("raw_pixels", "optimistic", "per_class")}
    assert "of raw pixels" not in render_html(older)
    assert "raw pixels" not in render_text(older)


def test_the_text_shows_dashes_without_a_baseline(report):
    assert re.search(r"^MAP@R +\d+\.\d +– +–$", render_text({**report, "baseline": {}, "intervals": {}}), re.M)


def test_a_change_for_the_worse_is_marked_as_such(report):
    worse = {**report, "metrics": {"recall@1": 0.2, "nmi": 0.5}, "baseline": {"recall@1": 0.3, "nmi": 0.5}}
    worse["gain_intervals"] = {}
    page = render_html(worse)
    assert '<p class="change down">▼ −10.0 points</p>' in page
    assert '<p class="change same">+0.0 points</p>' in page
    unsure = {**worse, "gain_intervals": {"recall@1": [-0.21, 0.01]}}
    assert '<p class="change same">▼ −10.0 points</p>' in render_html(unsure), "it may be nothing: no colour says less"


def test_writes_both_files_and_replaces_them(tmp_path, report, thumbnails):
    (tmp_path / "report.json").write_text("old")
    written, page = write_report(tmp_path, report, thumbnails)
    assert json.loads(written.read_text()) == report
    assert page.read_text("utf-8").startswith("<!doctype html>")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "report.json"]


def test_a_full_disk_leaves_the_old_report(tmp_path, report, monkeypatch):
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    write_report(tmp_path, report)
    before = (tmp_path / "report.json").read_text()
    monkeypatch.setattr(_write.os, "fsync", full)
    with pytest.raises(ResourceError, match=r"can't write .*report\.json \([\d,]+ bytes\): No space left"):
        write_report(tmp_path, {**report, "title": "new"})
    assert (tmp_path / "report.json").read_text() == before
    assert len(list(tmp_path.iterdir())) == 2


def test_a_missing_folder_is_named(tmp_path, report):
    with pytest.raises(ResourceError, match="absent"):
        write_report(tmp_path / "absent", report)


def test_says_durations_sizes_and_times_as_people_do():
    assert [duration(s) for s in (8.06, 59.96, 166, 3840)] == ["8.1 s", "1 min 0 s", "2 min 46 s", "1 h 4 min"]
    assert [size(b) for b in (12, 3400, 5_600_000, 1.32e9)] == ["12 bytes", "3.4 kB", "5.6 MB", "1.32 GB"]
    assert when("2026-11-22T00:12:00+00:00") == "22 November 2026, 00:12 UTC"
    assert [when("2026-11-02T07:00:00"), when("yesterday")] == ["2 November 2026, 07:00", "yesterday"]
