"""What each head of an ensemble contributes, as a section of the page: a table, and how far each two agree."""

from collections.abc import Callable, Mapping

from accord.reports._escape import escape
from accord.reports._text import HEADS_METRICS as METRICS
from accord.reports._text import heads_counted as _counted
from accord.reports._text import metric_name, percent, points
from accord.types import Json

_DARKEST = 0.4  # how much of the colour a cell of value 1 gets; the number on it stays easy to read
_MATRICES = {
    "same_neighbour": ("Same nearest neighbour", "Queries whose nearest image is the same in both, in percent."),
    "one_right": ("Exactly one is right", "Queries for which only one of the two finds the class, in percent."),
    "cka": ("CKA", "1 where one head is a rotation of the other. Wide heads come closer to 1 by themselves."),
}


def heads_section(report: Json) -> str:
    """The section of the page; nothing where a run has one head, or is older than this measurement."""
    told = report.get("heads") or {}
    if not told:
        return ""
    return (
        '<section id="heads" aria-labelledby="heads-title">\n<h2 id="heads-title">What each head contributes</h2>\n'
        f'<p class="about">{_about(told)}</p>\n{_tables(told)}</section>'
    )


def _about(told: Json) -> str:
    if told.get("left_out"):
        return escape(told["left_out"])
    drawn = f" (drawn from {told['of_images']:,} images)" if told["of_images"] > told["images"] else ""
    trunk = " The trunk is the feature that all heads are made from." if any(map(_is_trunk, told["heads"])) else ""
    silent = f" Not counted, for their share is 0: {', '.join(told['silent'])}." if told["silent"] else ""
    return escape(
        f"Measured on {_counted(told)}{drawn} that were held out of training for validation, and not on the unseen "
        "classes above, so the figures differ from those. What a head is worth is what is lost without it (below it "
        "the 95 % interval over classes; grey where that holds zero): two heads that agree on everything can stand in "
        f"for each other. Figures are in percent, but for CKA.{trunk}{silent}"
    )


def _is_trunk(head: Json) -> bool:
    return bool(head["name"] == "trunk")


def _wrapped(name: str) -> str:
    """A name that may be broken behind its underscores."""
    return escape(name).replace("_", "_<wbr>")


def _tables(told: Json) -> str:
    if told.get("left_out"):
        return ""
    matrices = "".join(
        f'<div class="panel"><h3>{title}</h3><p class="quiet">{what}</p>{_matrix(told, key)}</div>'
        for key, (title, what) in _MATRICES.items()
    )
    return f'<div class="panel scroll">{_contributions(told)}</div>\n<div class="heats">{matrices}</div>\n'


def _contributions(told: Json) -> str:
    number = '<th scope="col" class="number">'
    names = [metric_name(key) for key in METRICS]
    groups = "".join(
        f'<th colspan="2" scope="colgroup" class="number">{words}</th>'
        for words in ("alone", "all heads without it", "lost without it, points")
    )
    columns = "".join(f"{number}{name}</th>" for name in names * 3)
    joined = "".join(f'<td class="number">{percent(told["metrics"][key])}</td>' for key in METRICS)
    all_heads = (
        f'<tr><th scope="row" colspan="2">all heads joined</th><td class="number">100.0</td>{joined}'
        f"{'<td></td>' * 4}</tr>"
    )
    rows = "".join(_row(place, head) for place, head in enumerate(told["heads"], start=1))
    return (
        '<table class="sheet"><caption class="heard">Each head alone, and the embedding without it</caption>'
        f'<thead><tr><th colspan="2" rowspan="2" scope="col">head</th>'
        f'<th rowspan="2" scope="col" class="number">share</th>{groups}</tr><tr>{columns}</tr></thead>'
        f"<tbody>{all_heads}{rows}</tbody></table>"
    )


def _row(place: int, head: Json) -> str:
    cells = [percent(head["share"]), *(percent(head[part][key]) for part in ("alone", "without") for key in METRICS)]
    lost = "".join(_lost(head["lost"][key], head["lost_intervals"].get(key)) for key in METRICS)
    return (
        f'<tr><td class="number">{place}</td><th scope="row" class="name">{_wrapped(head["name"])}</th>'
        + "".join(f'<td class="number">{cell}</td>' for cell in cells)
        + f"{lost}</tr>"
    )


def _lost(value: float, interval: list[float] | None) -> str:
    """What is lost, with its interval; coloured only where the interval leaves out zero."""
    kind, beside = "same", ""
    if interval:
        low, high = interval
        kind = "up" if low > 0 else "down" if high < 0 else "same"
        beside = f"<small>{points(low, 0.0)} to {points(high, 0.0)}</small>"
    return f'<td class="number lost"><b class="{kind}">{points(value, 0.0)}</b>{beside}</td>'


def _matrix(told: Json, key: str) -> str:
    """A table of every two heads; the columns go by the numbers of the rows."""
    names = [head["name"] for head in told["heads"]]
    values = {frozenset((pair["first"], pair["second"])): pair[key] for pair in told["agreement"]}
    shown: Callable[[float], str] = (lambda value: f"{value:.2f}") if key == "cka" else percent
    head = "".join(
        f'<th scope="col" title="{escape(name)}">{place}<span class="heard"> {escape(name)}</span></th>'
        for place, name in enumerate(names, start=1)
    )
    rows = "".join(
        f'<tr><td class="place">{place}</td><th scope="row" class="name">{_wrapped(name)}</th>'
        f"{''.join(_cell(values, name, other, shown) for other in names)}</tr>"
        for place, name in enumerate(names, start=1)
    )
    return (
        f'<div class="scroll"><table class="heat"><thead><tr><td></td><td></td>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _cell(values: Mapping[frozenset[str], float], one: str, other: str, shown: Callable[[float], str]) -> str:
    if one == other:
        return "<td>·</td>"
    value = values[frozenset((one, other))]
    return f'<td><i style="opacity:{_DARKEST * value:.3f}"></i><span>{shown(value)}</span></td>'
