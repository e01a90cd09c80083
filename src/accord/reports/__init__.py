"""Turns what a run measured into one report: JSON for programs, a page for the browser, a few lines for the terminal.

Everything goes through one JSON value, so the three can never disagree:

    report = make_report(ReportInputs(trained=…, test=…, neighbours=…, class_names=…, …))   # Evaluations in, JSON out
    page = render_html(report, Thumbnails(ids, pixels))    # one self-contained file, opens offline
    print(render_text(report))                             # the headline as plain text
    write_report(folder, report, Thumbnails(ids, pixels))  # report.json and report.html, atomically

`render_html` needs nothing but the JSON and the thumbnails, so a page can be drawn again from a run folder. Without
thumbnails it shows names instead of pictures. All figures in the JSON are fractions in [0, 1]; only the page and the
text multiply by a hundred. Names that came from a user are escaped, or only ever set as text.
"""

from accord.reports._comparison import write_comparison
from accord.reports._comparison_page import comparison_html
from accord.reports._comparison_text import comparison_headline, render_comparison
from accord.reports._html import render_html
from accord.reports._inputs import ReportInputs, Thumbnails
from accord.reports._judgement import judgement_rows, make_judgement
from accord.reports._judgement_files import write_json, write_per_query
from accord.reports._projection import Projection, project_2d
from accord.reports._report import SCHEMA_VERSION, make_report
from accord.reports._sheet import contact_sheet, terminal_picture
from accord.reports._text import headline, metric_name, percent, render_text
from accord.reports._vectors import write_embeddings
from accord.reports._write import write_report

__all__ = [
    "SCHEMA_VERSION",
    "Projection",
    "ReportInputs",
    "Thumbnails",
    "comparison_headline",
    "comparison_html",
    "contact_sheet",
    "headline",
    "judgement_rows",
    "make_judgement",
    "make_report",
    "metric_name",
    "percent",
    "project_2d",
    "render_comparison",
    "render_html",
    "render_text",
    "terminal_picture",
    "write_comparison",
    "write_embeddings",
    "write_json",
    "write_per_query",
    "write_report",
]
