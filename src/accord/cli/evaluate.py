"""`accord evaluate`: judges a finished run anew, or the vectors of any model, on classes as they are given."""

from pathlib import Path
from typing import Any

import typer

from accord.cli.show import IMPORTS, print_json, terminal

VECTORS, ASKING, WRITING = "Vectors of any model", "How they are judged", "What is written"


def command(
    run: Path | None = typer.Argument(None, help="Run folder. Leave it out to judge vectors from files."),
    embeddings: str | None = typer.Option(
        None,
        "--embeddings",
        help="Gallery: .npy, .npz, .safetensors, .parquet, .csv or .json.",
        rich_help_panel=VECTORS,
    ),
    labels: str | None = typer.Option(
        None, "--labels", help="Its classes, or a .txt with one per line. FILE:NAME picks.", rich_help_panel=VECTORS
    ),
    ids: str | None = typer.Option(None, "--ids", help="Which item each row is.", rich_help_panel=VECTORS),
    groups: str | None = typer.Option(None, "--groups", help="Its camera, source or vendor.", rich_help_panel=VECTORS),
    query_embeddings: str | None = typer.Option(
        None, "--query-embeddings", help="Who asks, if not each item all others.", rich_help_panel=VECTORS
    ),
    query_labels: str | None = typer.Option(None, "--query-labels", help="Their classes.", rich_help_panel=VECTORS),
    query_ids: str | None = typer.Option(None, "--query-ids", help="Which items they are.", rich_help_panel=VECTORS),
    query_groups: str | None = typer.Option(None, "--query-groups", help="Their groups.", rich_help_panel=VECTORS),
    protocol: str | None = typer.Option(
        None, "--protocol", help="A published one; see `accord ls protocols`.", rich_help_panel=ASKING
    ),
    metrics: str | None = typer.Option(
        None, "--metrics", help="recall@1,map@r …; see `accord ls metrics`.", rich_help_panel=ASKING
    ),
    exclude: str | None = typer.Option(
        None, "--exclude", help="self, same_class_same_group or same_group.", rich_help_panel=ASKING
    ),
    knn: int | None = typer.Option(None, "--knn", help="Neighbours that vote. Default: 3.", rich_help_panel=ASKING),
    clusters: bool | None = typer.Option(
        None,
        "--clusters/--no-clusters",
        help="NMI and kin. Default: unless that takes minutes.",
        rich_help_panel=ASKING,
    ),
    nmi_seeds: int | None = typer.Option(
        None, "--nmi-seeds", help="k-means runs to average. Default: 10.", rich_help_panel=ASKING
    ),
    sample_queries: int | None = typer.Option(
        None, "--sample-queries", help="Let so many random items ask, not all.", rich_help_panel=ASKING
    ),
    seed: int = typer.Option(0, "--seed", help="Seed of the sample and of k-means.", rich_help_panel=ASKING),
    rerank: str | None = typer.Option(
        None,
        "--rerank",
        help="none, query_expansion, database_augmentation or k_reciprocal.",
        rich_help_panel=ASKING,
    ),
    rerank_k: int | None = typer.Option(
        None, "--rerank-k", help="Neighbours it uses. Default: 10; k_reciprocal: 20.", rich_help_panel=ASKING
    ),
    verification: bool = typer.Option(
        False, "--verification", help="Also judge every pair: same or different?", rich_help_panel=ASKING
    ),
    pairs: Path | None = typer.Option(
        None,
        "--pairs",
        help="Also judge this list: LFW's pairs.txt, or .csv with first,second,same[,fold].",
        rich_help_panel=ASKING,
    ),
    space: bool = typer.Option(
        False, "--space", help="Also hubness, uniformity, alignment, spectral decay.", rich_help_panel=ASKING
    ),
    allow_nonfinite: bool = typer.Option(
        False, "--allow-nonfinite", help="Count rows that are not finite as misses.", rich_help_panel=ASKING
    ),
    out: Path | None = typer.Option(None, "--out", "-o", help="Write the JSON here, too.", rich_help_panel=WRITING),
    per_query: Path | None = typer.Option(
        None, "--per-query", help="Write what each query scored: .csv or .safetensors.", rich_help_panel=WRITING
    ),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace these files.", rich_help_panel=WRITING),
    allow_imports: bool = typer.Option(False, "--allow-imports", help=IMPORTS),
    as_json: bool = typer.Option(False, "--json", help="Print the numbers as JSON."),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="Say nothing until the result."),
) -> None:
    """Judge a run on the classes it has never seen, or any model's vectors: --embeddings E.npy --labels L.npy.

    A run alone is judged anew, and its index and report are rewritten. With any option on how, the embeddings in its
    index are judged that way, and nothing in the run changes.
    """
    vectors = {
        "embeddings": embeddings,
        "labels": labels,
        "ids": ids,
        "groups": groups,
        "query_embeddings": query_embeddings,
        "query_labels": query_labels,
        "query_ids": query_ids,
        "query_groups": query_groups,
    }
    asking: dict[str, Any] = {
        "protocol": protocol,
        "metrics": None if metrics is None else [name.strip() for name in metrics.split(",")],
        "exclude": exclude,
        "knn": knn,
        "clusters": clusters,
        "nmi_seeds": nmi_seeds,
        "sample_queries": sample_queries,
        "seed": seed or None,
        "rerank": rerank,
        "rerank_k": rerank_k,
        "verification": verification or None,
        "pairs": pairs,
        "space": space or None,
        "allow_nonfinite": allow_nonfinite or None,
    }
    given = {name: value for name, value in vectors.items() if value is not None}
    asked = {name: value for name, value in asking.items() if value is not None}
    _refuse_both(run, given, allow_imports=allow_imports)
    if run is not None and not asked and out is None and per_query is None:
        _run_anew(run, allow_imports=allow_imports, as_json=as_json, quiet=quiet)
        return
    judged = _judge(run, given, asked, out, per_query, overwrite, allow_imports=allow_imports, quiet=quiet)
    if as_json:
        print_json(judged.report)
    else:
        from accord.cli.show_judgement import show_judgement

        show_judgement(judged.report)


def _refuse_both(run: Path | None, given: dict[str, Any], *, allow_imports: bool) -> None:
    from accord.errors import UsageError

    if run is None and not {"embeddings", "labels"} <= set(given):
        raise UsageError("Say what to judge: a run folder, or --embeddings E.npy and --labels L.npy.")
    if run is not None and given:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise UsageError(f"Judge a run or vectors from files, not both: leave out the run folder, or {names}.")
    if run is None and allow_imports:
        raise UsageError("--allow-imports is for runs; vectors from files bring no code.")


def _run_anew(run: Path, *, allow_imports: bool, as_json: bool, quiet: bool) -> None:
    from accord.recipes import evaluate_run, summary

    with terminal(quiet=quiet) as watch:
        report = evaluate_run(run, watch=watch, allow_imports=allow_imports)
    if as_json:
        print_json({"run": str(run), **{key: report[key] for key in ("metrics", "baseline", "counts", "chance")}})
    else:
        typer.echo(summary(report))


def _judge(
    run: Path | None,
    given: dict[str, Any],
    asked: dict[str, Any],
    out: Path | None,
    per_query: Path | None,
    overwrite: bool,
    *,
    allow_imports: bool,
    quiet: bool,
) -> Any:
    from accord.recipes import Judging, judge_run, judge_vectors, refuse_to_write, write_judgement

    refuse_to_write(out, per_query, overwrite=overwrite)
    how = Judging(**asked)
    with terminal(quiet=quiet) as watch:
        if run is not None:
            judged = judge_run(run, how=how, watch=watch, allow_imports=allow_imports)
        else:
            judged = judge_vectors(**given, how=how, watch=watch)
    write_judgement(judged, out=out, per_query=per_query)
    return judged
