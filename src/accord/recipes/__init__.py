"""What accord is used for, one recipe a file: catalogue, configuration, and the jobs behind the commands."""

from accord.recipes.artifacts import load
from accord.recipes.catalog.listing import listing
from accord.recipes.catalog.losses import build_loss, describe_losses
from accord.recipes.certify import certify
from accord.recipes.compare import compare_runs, group_runs, verify_comparison
from accord.recipes.compress.heads import read_heads
from accord.recipes.compress.run import compress_run
from accord.recipes.config import RunConfig
from accord.recipes.doctor import examine
from accord.recipes.embed import embed_source
from accord.recipes.evaluate import evaluate_run, read_report, report_html, summary
from accord.recipes.judge import Judgement, judge_vectors
from accord.recipes.judge_run import judge_run, refuse_to_write, write_judgement
from accord.recipes.measure import Judging
from accord.recipes.resolve import dump, read_config, read_yaml, resolve
from accord.recipes.search import Search, draw_hits, open_search, read_token
from accord.recipes.study.run import plan_study, run_study, study_status
from accord.recipes.threshold import calibrate_run, realised
from accord.recipes.train import resume_run, train_run
from accord.recipes.tune import Tuning, tune
from accord.recipes.validate import validate_source
from accord.recipes.watch import Silence, Watch

__all__ = [
    "Judgement",
    "Judging",
    "RunConfig",
    "Search",
    "Silence",
    "Tuning",
    "Watch",
    "build_loss",
    "calibrate_run",
    "certify",
    "compare_runs",
    "compress_run",
    "describe_losses",
    "draw_hits",
    "dump",
    "embed_source",
    "evaluate_run",
    "examine",
    "group_runs",
    "judge_run",
    "judge_vectors",
    "listing",
    "load",
    "open_search",
    "plan_study",
    "read_config",
    "read_heads",
    "read_report",
    "read_token",
    "read_yaml",
    "realised",
    "refuse_to_write",
    "report_html",
    "resolve",
    "resume_run",
    "run_study",
    "study_status",
    "summary",
    "train_run",
    "tune",
    "validate_source",
    "verify_comparison",
    "write_judgement",
]
