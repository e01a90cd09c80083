"""Judges any model's vectors: arrays or files in, the same figures as in a run's report out."""

import hashlib
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from accord.errors import UsageError
from accord.recipes.arrays import Source
from accord.recipes.evaluate import environment, peak_memory_bytes
from accord.recipes.intervals import class_intervals, few_classes, t_intervals
from accord.recipes.measure import Judging, measure
from accord.recipes.n_pair_table import measure_n_pair
from accord.recipes.pair_list import pairs_of_vectors
from accord.recipes.protocols import Protocol, find_protocol
from accord.recipes.vectors import Judged, Sources, read_vectors
from accord.recipes.watch import Silence, Watch
from accord.reports import make_judgement
from accord.types import Evaluation, Json


class Judgement(NamedTuple):
    """What was found: `report` is plain JSON with fractions in [0, 1], `evaluation` holds the value of every query.

    `class_names` name `evaluation.query_labels`; `item_names` say what an id was called where ids were text.
    """

    report: Json
    evaluation: Evaluation
    class_names: tuple[str, ...]
    item_names: Mapping[int, str]


def judge_vectors(
    embeddings: Source,
    labels: Source,
    *,
    ids: Source | None = None,
    groups: Source | None = None,
    query_embeddings: Source | None = None,
    query_labels: Source | None = None,
    query_ids: Source | None = None,
    query_groups: Source | None = None,
    how: Judging | None = None,
    title: str = "",
    watch: Watch | None = None,
) -> Judgement:
    """Judge embeddings by whether items of one class find each other; without queries each item asks all others.

    Every source is an array, a tensor, a list or a file (.npy, .npz, .safetensors, .parquet, .csv, .json, and .txt for
    labels; `FILE:NAME` picks one of several arrays or columns). A .npy file is mapped into memory, so that a gallery
    may be larger than that. Nothing is unpickled. Labels and groups may be whole numbers or text; ids, too, and say
    which items are the same, so that none finds itself; `how.pairs`, a .csv with the columns first, second, same and
    perhaps fold, names items by them.

        judge_vectors("E.npy", "L.npy", how=Judging(metrics=["recall@1", "map@r"])).report["metrics"]
    """
    queries = _queries(query_embeddings, query_labels, query_ids, query_groups)
    watch = watch or Silence()
    watch.say("reading the vectors")
    judged = read_vectors(Sources(embeddings, labels, ids, groups), queries)
    facts = {"vectors": _facts(judged, embeddings, query_embeddings)}
    how = how or Judging()
    if how.pairs is not None:
        judged = judged._replace(pairs=pairs_of_vectors(Path(how.pairs), _ids_by_name(judged)))
    return judge(judged, how, title=title or _title(embeddings), facts=facts, watch=watch)


def judge(judged: Judged, how: Judging, *, title: str, facts: Json, watch: Watch) -> Judgement:
    """Judge what was read, by the rules of `how` or of the protocol it names."""
    started = time.perf_counter()
    how, protocol = by_protocol(how, judged)
    measured = (measure_n_pair if protocol and protocol.table == "n_pair" else measure)(judged, how, watch)
    evaluation = measured.evaluation
    figures = evaluation.per_query, evaluation.query_labels
    report = make_judgement(
        evaluation,
        class_names=judged.class_names,
        title=title,
        intervals=class_intervals(*figures),
        t_intervals=t_intervals(*figures),
        notes=[
            *judged.notes,
            *measured.notes,
            *(protocol.deviations if protocol else ()),
            *few_classes(evaluation.query_labels),
        ],
        protocol={**measured.protocol, "preset": protocol.as_json() if protocol else None},
        facts={
            **facts,
            **measured.facts,
            "environment": environment(),
            "seconds": {"evaluation": round(time.perf_counter() - started, 3)},
            "peak_memory_bytes": peak_memory_bytes(),
        },
    )
    return Judgement(report, evaluation, judged.class_names, judged.item_names)


def by_protocol(how: Judging, judged: Judged) -> tuple[Judging, Protocol | None]:
    """The rules with those of the protocol in them; what a protocol rules may not be given beside it."""
    if how.clusters is False and how.nmi_seeds is not None:
        raise UsageError("nmi_seeds are runs of k-means, and clusters are left out; leave out one of the two.")
    if how.protocol is None:
        return how, None
    protocol = find_protocol(how.protocol)
    ruled = {name: getattr(how, name) for name in ("metrics", "exclude", "knn", "nmi_seeds", "clusters")}
    given = [name for name, value in ruled.items() if value is not None]
    if given or how.rerank != "none":
        raise UsageError(
            f"The protocol {protocol.name} rules {', '.join(given) or 're-ranking'}; leave that out, or the protocol."
        )
    if (protocol.asks == "query/gallery") != (judged.queries is not None):
        wish = "needs queries beside the gallery" if judged.queries is None else "asks every item, without queries"
        raise UsageError(f"The protocol {protocol.name} {wish}: {protocol.split}.")
    rules = replace(how, metrics=protocol.metrics, exclude=protocol.exclude, knn=protocol.knn)
    return replace(rules, nmi_seeds=protocol.nmi_seeds, clusters=bool(protocol.clusters)), protocol


def _queries(
    embeddings: Source | None, labels: Source | None, ids: Source | None, groups: Source | None
) -> Sources | None:
    if embeddings is not None and labels is not None:
        return Sources(embeddings, labels, ids, groups)
    given = {"query_embeddings": embeddings, "query_labels": labels, "query_ids": ids, "query_groups": groups}
    named = [name for name, source in given.items() if source is not None]
    if named:
        raise UsageError(f"Queries need embeddings and labels of their own, but only {', '.join(named)} came.")
    return None


def _ids_by_name(judged: Judged) -> dict[str, int]:
    """What each item of the gallery is called in a list of pairs: its id, as it was given."""
    ids = judged.gallery.labelled.ids.tolist()
    return {judged.item_names.get(item, str(item)): item for item in ids}


def _title(embeddings: Source) -> str:
    return Path(embeddings).name if isinstance(embeddings, str | Path) else "vectors"


def _facts(judged: Judged, embeddings: Source, query_embeddings: Source | None) -> Json:
    """What was judged: files with their SHA-256, sizes and kinds of numbers."""
    found: Json = {}
    for name, side, source in (
        ("gallery", judged.gallery, embeddings),
        ("queries", judged.queries, query_embeddings),
    ):
        if side is None:
            continue
        items, dim = side.labelled.embeddings.shape
        found[name] = {"items": items, "dim": dim, "dtype": str(side.labelled.embeddings.dtype).removeprefix("torch.")}
        path = Path(source).expanduser() if isinstance(source, str | Path) else None
        if path is not None and path.is_file():
            with path.open("rb") as file:
                found[name] |= {"file": path.name, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
    found["classes"] = len(judged.class_names)
    found["groups"] = list(judged.group_names[:100])
    return found
