"""Judges the embeddings in a run's index another way than its report does; nothing in the run changes."""

from pathlib import Path

from accord.errors import ResourceError, UsageError
from accord.recipes.artifacts import fingerprint, load_config, load_data, load_embedder, load_index
from accord.recipes.asked import asked_of
from accord.recipes.judge import Judgement, judge
from accord.recipes.ledger import open_test_set
from accord.recipes.measure import Judging
from accord.recipes.pair_list import pairs_of_run
from accord.recipes.per_query import config_fingerprint, test_set
from accord.recipes.watch import Silence, Watch
from accord.reports import write_json, write_per_query
from accord.runs import RunFolder
from accord.types import Json

PER_QUERY = (".csv", ".safetensors")


def judge_run(
    path: Path | str, *, how: Judging | None = None, watch: Watch | None = None, allow_imports: bool = False
) -> Judgement:
    """Judge a finished run's unseen classes by other rules or by a published protocol, from its index.

    This opens the test set like any other evaluation, and its ledger is told. A list of pairs (`how.pairs`) is LFW's
    `pairs.txt` or a .csv that names images by their path in the data set; pairs with trained classes are left out.
    """
    watch, how = watch or Silence(), how or Judging()
    run = RunFolder.open(Path(path))
    config, manifest = load_config(run), load_data(run)
    pairs = None if how.pairs is None else pairs_of_run(Path(how.pairs), manifest)
    embedder = load_embedder(run, allow_imports=allow_imports)
    labelled = load_index(run, embedder).labelled
    judged = asked_of(labelled, manifest)
    size = f"{config.model.size} pixels, {config.model.fit}"
    facts: Json = {
        "run": run.path.name,
        "images": {"size": size, "embedding": embedder.dim, "backbone": config.model.backbone},
    }
    found = judge(
        judged._replace(pairs=pairs), how, title=f"{run.path.name} on {manifest.name}", facts=facts, watch=watch
    )
    opening = open_test_set(  # here and not before: a question that is refused has shown nobody anything
        test_set(manifest)["gallery"]["fingerprint"],
        model=fingerprint(embedder),
        config=config_fingerprint(config),
        run=run.path.name,
    )
    watch.say(f"the test set has been opened {opening.words}")
    notes = [*found.report["notes"], *opening.notes]
    return found._replace(report={**found.report, "test_set": opening.as_json(), "notes": notes})


def write_judgement(judged: Judgement, *, out: Path | None = None, per_query: Path | None = None) -> None:
    """Write the report as JSON, and what each query scored, where a file is given."""
    if out is not None:
        write_json(out, judged.report)
    if per_query is not None:
        write_per_query(per_query, judged.evaluation, judged.class_names, judged.item_names)


def refuse_to_write(out: Path | None, per_query: Path | None, *, overwrite: bool) -> None:
    """What would only be found out after everything was computed, or would cost somebody a file."""
    if out is not None and out.suffix != ".json":
        raise UsageError(f"--out {out}: give a file name that ends in .json.")
    if per_query is not None and per_query.suffix not in PER_QUERY:
        raise UsageError(f"--per-query {per_query}: give a file name that ends in {' or '.join(PER_QUERY)}.")
    for file in filter(None, (out, per_query)):
        if file.is_dir() or (file.exists() and not overwrite):
            raise UsageError(f"{file} exists already. Give another name{'' if file.is_dir() else ', or --overwrite'}.")
        if not file.parent.is_dir():
            raise ResourceError(f"There is no folder {file.parent}. Make it, or give another.")
