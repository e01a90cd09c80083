"""What every test shares: one thread, checked shapes, a tiny data set of real images and a run trained on it."""

import os
import tempfile
import zipfile
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from jaxtyping import install_import_hook

STATE = tempfile.TemporaryDirectory(prefix="accord-state-")
os.environ["ACCORD_STATE"] = STATE.name  # no test writes into its user's ledger
os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost"
torch.set_num_threads(1)
settings.register_profile("unhurried", settings(), deadline=None)  # how long an example takes is the machine's affair
settings.load_profile("unhurried")
install_import_hook("accord", "beartype.beartype")

OBJECTS = Path(__file__).parent.parent / "src" / "accord" / "data" / "objects.zip"
TINY = ("model.size=32", "model.dim=16", "training.epochs=2", "training.classes_per_batch=4", "evaluation.nmi_seeds=2")


def pytest_unconfigure() -> None:
    """Leave nothing behind in the temporary folder."""
    STATE.cleanup()


@pytest.fixture(autouse=True)
def _same_draws() -> None:
    """What a test draws doesn't depend on those before it."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """16 classes × 6 images of `objects` as a folder."""
    root = tmp_path_factory.mktemp("tiny") / "things"
    with zipfile.ZipFile(OBJECTS) as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".jpg"))
        for label in sorted({name.split("/")[0] for name in names})[:16]:
            for name in [name for name in names if name.startswith(f"{label}/")][:6]:
                (root / label).mkdir(parents=True, exist_ok=True)
                (root / name).write_bytes(archive.read(name))
    return root


@pytest.fixture(scope="session")
def tiny_run(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of five losses on the tiny folder; read it, don't change it."""
    from accord.recipes import resolve, train_run

    out = tmp_path_factory.mktemp("runs") / "tiny"
    train_run(resolve(recipe="five_losses", file={"data": {"source": str(tiny_folder)}}, settings=TINY), out)
    return out
