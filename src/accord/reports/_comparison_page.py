"""Renders a comparison as one self-contained page without any script: plots of intervals, tables and conditions."""

from string import Template

from accord.reports._comparison_text import by_mean, comparison_headline, configuration_rows, footing, span
from accord.reports._escape import escape
from accord.reports._facts import duration, when
from accord.reports._forest import Row, forest
from accord.reports._html import page_file
from accord.reports._text import metric_name, percent, points
from accord.types import Json

_KINDS = {"better": "up", "worse": "down", "no difference shown": "same"}


def comparison_html(document: Json) -> str:
    """Render a comparison as one HTML file that opens offline, asks for nothing and runs no script."""
    results, settings = document["results"], document["settings"]
    metric = metric_name(settings["metric"])
    runs, failed = len(document["raw"]["runs"]), len(document["raw"]["failed"])
    lede = [metric, f"{runs} runs", f"{failed} failed" if failed else "", f"{settings['draws']:,} draws"]
    return Template(page_file("comparison.html")).substitute(
        css=page_file("page.css") + page_file("comparison.css"),
        version=escape(document["accord_version"]),
        created=escape(document["created"]),
        created_words=escape(when(document["created"])),
        sentence=escape(comparison_headline(document)),
        lede="".join(f"<span>{escape(part)}</span>" for part in lede if part),
        notes=_notes(document["notes"]),
        galleries="".join(_gallery(gallery, document) for gallery in results["galleries"]),
        ranks=_ranks(results["ranks"]),
        options=_options(document),
        footing=escape(footing(document)),
        runs=_runs(document),
    )


def _notes(notes: list[str]) -> str:
    lines = "".join(f"<li>{escape(note)}</li>" for note in notes)
    return f'<aside class="notes" aria-label="Warnings"><ul>{lines}</ul></aside>' if notes else ""


def _gallery(gallery: Json, document: Json) -> str:
    """One section per gallery: scores, then differences."""
    metric = metric_name(document["settings"]["metric"])
    about = f"{gallery['queries']:,} queries of {gallery['classes']:,} classes never seen in training."
    if gallery["baseline"] is not None:
        about += f" The frozen backbone scores {percent(gallery['baseline'])}."
    scores = forest([_score(row, gallery["few_classes"]) for row in by_mean(gallery)], unit="%")
    how = "A ring is a seed, the bar their mean, the line where the mean lies with other seeds and classes (95 %)."
    parts = [f'<h3>{escape(metric)}</h3><p class="quiet">{how}</p>{scores}']
    if gallery["differences"]:
        rows = [_difference(pair, gallery["few_classes"]) for pair in gallery["differences"]]
        plot = forest(rows, unit="points", zero=True, bar=document["settings"]["bar_points"] / 100)
        bar = f"{document['settings']['bar_points']:g}"
        parts.append(
            f'<h3>Differences</h3><p class="quiet">A line that crosses zero shows no difference; within the band '
            f"(±{bar} points) it would not matter.</p>{plot}"
        )
    panels = "".join(f'<div class="panel">{part}</div>' for part in parts)
    return (
        f'<section><h2 class="name">{escape(gallery["name"])}</h2><p class="about">{about} '
        f'<span class="hash">{escape(gallery["fingerprint"][:12])}</span></p>{panels}</section>'
    )


def _score(row: Json, few: bool) -> Row:
    failed = f", {len(row['failed'])} failed" if row["failed"] else ""
    count = len(row["seeds"])
    t = f"<small>by t {span(row['t_interval'])}</small>" if few and row["t_interval"] else ""
    words = (
        f"<b>{percent(row['mean'])}</b> {span(row['interval'])}{t}"
        f"<small>{count} seed{'' if count == 1 else 's'}{failed}</small>"
    )
    return Row(row["method"], row["mean"], row["interval"], [entry["score"] for entry in row["seeds"]], words)


def _difference(pair: Json, few: bool) -> Row:
    t = f"<small>by t {span(pair['t_interval'], signed=True)}</small>" if few and pair["t_interval"] else ""
    words = (
        f"<b>{points(pair['difference'], 0.0)}</b> {span(pair['interval'], signed=True)}{t}"
        f"<small>p = {pair['p_holm']:.4f} · {escape(pair['verdict'])}</small>"
    )
    name = f"{pair['first']} − {pair['second']}"
    return Row(name, pair["difference"], pair["interval"], (), words, _KINDS[pair["word"]])


def _ranks(ranks: Json | None) -> str:
    if not ranks:
        return ""
    rows = sorted(ranks["methods"].items(), key=lambda item: item[1])
    cells = [(method, f"{rank:.2f}") for method, rank in rows]
    about = (
        f"The mean place over {ranks['galleries']} galleries, 1 the best; percentages of different galleries don't add."
    )
    return (
        f'<section><h2>Average ranks</h2><p class="about">{about}</p>{_table([("method", "rank"), *cells])}</section>'
    )


def _options(document: Json) -> str:
    rows = configuration_rows(document)
    unlike = [
        (row["name"], "; ".join(f"{method}: {', '.join(map(str, values))}" for method, values in row["values"].items()))
        for row in document["not_comparable"]
    ]
    warning = f"<h3>Not comparable</h3>{_table([('what', 'methods'), *unlike])}" if unlike else ""
    options = f"<h3>Options</h3>{_table(rows)}" if len(rows) > 1 else ""
    if not warning and not options:
        return ""
    return f'<section><h2>How the methods differ</h2><div class="panel">{warning}{options}</div></section>'


def _runs(document: Json) -> str:
    rows = [
        (
            run["method"],
            str(run["seed"]),
            run["run"],
            _training(run["facts"]),
            run["facts"]["model"][:12],
        )
        for run in document["raw"]["runs"]
    ]
    rows += [(run["method"], "–", run["run"], run["why"], "–") for run in document["raw"]["failed"]]
    return _table([("method", "seed", "run", "training", "model"), *rows])


def _training(facts: Json) -> str:
    seconds = "" if facts["training_seconds"] is None else f", {duration(facts['training_seconds'])}"
    return f"{facts['epochs']:g} epochs, {facts['steps']} steps{seconds}"


def _table(rows: list[tuple[str, ...]]) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in rows[0])
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows[1:])
    return f'<div class="scroll"><table class="sheet"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
