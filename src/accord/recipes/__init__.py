"""What accord is used for, one recipe a file: catalogue, configuration, and the jobs behind the commands."""

from accord.recipes.artifacts import load
from accord.recipes.catalog import build_loss, describe_losses, listing
from accord.recipes.certify import certify
from accord.recipes.config import RunConfig
from accord.recipes.doctor import examine
from accord.recipes.embed import embed_source
from accord.recipes.evaluate import evaluate_run, read_report, report_html, summary
from accord.recipes.resolve import dump, read_config, read_yaml, resolve
from accord.recipes.search import Search, draw_hits, open_search, read_token
from accord.recipes.train import resume_run, train_run
from accord.recipes.tune import Tuning, tune
from accord.recipes.validate import validate_source
from accord.recipes.watch import Silence, Watch

__all__ = [
    "RunConfig",
    "Search",
    "Silence",
    "Tuning",
    "Watch",
    "build_loss",
    "certify",
    "describe_losses",
    "draw_hits",
    "dump",
    "embed_source",
    "evaluate_run",
    "examine",
    "listing",
    "load",
    "open_search",
    "read_config",
    "read_report",
    "read_token",
    "read_yaml",
    "report_html",
    "resolve",
    "resume_run",
    "summary",
    "train_run",
    "tune",
    "validate_source",
]
