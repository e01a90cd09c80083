"""The catalogue: every name leads to something, and wrong names get a suggestion."""

import inspect
import json
from importlib import import_module
from typing import Any

import pytest
import torch

from accord.errors import ResourceError, UnknownNameError, UsageError
from accord.recipes import build_loss, describe_losses, listing
from accord.recipes.catalog.losses import LOSSES
from accord.recipes.named import RECIPES
from conformance import without_shape_checks


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_builds_by_name_and_returns_a_scalar(name: str) -> None:
    loss = build_loss(name, dim=8, classes=4)
    embeddings = torch.randn(8, 8, generator=torch.Generator().manual_seed(0), requires_grad=True)
    value = loss(embeddings, torch.arange(8) % 4)
    value.backward()
    assert value.shape == ()
    assert torch.isfinite(embeddings.grad).all()


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_has_a_docstring_and_lives_where_the_catalogue_says(name: str) -> None:
    module, _, attribute = LOSSES[name].path.rpartition(".")
    found = getattr(import_module(module), attribute)
    assert inspect.getdoc(found)
    assert attribute in import_module(module).__all__


def test_every_public_loss_module_is_in_the_catalogue() -> None:
    losses = import_module("accord.losses")
    modules = {
        name
        for name in losses.__all__
        if inspect.isclass(getattr(losses, name)) and issubclass(getattr(losses, name), torch.nn.Module)
    }
    # these stand around losses
    wrappers = {"CrossBatchMemory", "Foreign", "Mined", "ProxyLoss", "ProxyStore", "ProxyUse", "Related", "RowLoss"}
    assert modules - wrappers == {info.path.rpartition(".")[2] for info in LOSSES.values()}


def test_there_are_at_least_forty_losses_of_every_family() -> None:
    assert len(LOSSES) >= 40
    assert {info.family for info in LOSSES.values()} == {"pair", "list", "proxy", "classification", "regulariser"}


@pytest.mark.parametrize("name", LOSSES)
def test_every_option_has_a_meaning_and_every_meaning_an_option(name: str) -> None:
    described = next(loss for loss in describe_losses() if loss["name"] == name)
    assert all(option["meaning"] for option in described["parameters"])
    assert set(LOSSES[name].options) <= {option["name"] for option in described["parameters"]}


@pytest.mark.parametrize("name", [name for name, info in LOSSES.items() if info.presets])
def test_presets_are_options_that_may_be_changed(name: str) -> None:
    for preset, options in LOSSES[name].presets.items():
        assert build_loss(name, dim=8, classes=4, preset=preset)
        option, value = next(iter(options.items()))
        assert build_loss(name, dim=8, classes=4, preset=preset, **{option: value})


def test_a_wrong_preset_gets_a_suggestion() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'cub'"):
        build_loss("proxy_nca", dim=8, classes=4, preset="cup")
    with pytest.raises(UsageError, match="presets belong to accord's own losses"):
        build_loss("torch.nn:Identity", preset="cub")


def test_another_package_s_loss_is_built_by_its_path() -> None:
    loss = build_loss("pytorch_metric_learning.losses:ProxyAnchorLoss", dim=8, classes=4, margin=0.2)
    embeddings = torch.randn(8, 8, generator=torch.Generator().manual_seed(0), requires_grad=True)
    loss(embeddings, torch.arange(8) % 4).backward()
    assert any(parameter.shape == (4, 8) for parameter in loss.parameters())
    with pytest.raises(UnknownNameError, match="Did you mean 'TripletMarginLoss'"):
        build_loss("pytorch_metric_learning.losses:TripletMarginLos")
    with pytest.raises(ResourceError, match="can't be imported"):
        build_loss("no_such_package.losses:Any")
    with pytest.raises(UsageError, match="unexpected keyword"):
        build_loss("pytorch_metric_learning.losses:ProxyAnchorLoss", dim=8, classes=4, wrong=1)


def test_every_recipe_names_losses_of_the_catalogue() -> None:
    for recipe in RECIPES.values():
        assert {loss["type"] for loss in recipe.config["losses"]} <= set(LOSSES)


def test_wrong_names_get_a_suggestion() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'triplet_margin'"):
        build_loss("triplet_margn")
    with pytest.raises(UnknownNameError, match="Did you mean 'margin'"):
        build_loss("triplet_margin", margi=1.0)
    with pytest.raises(UnknownNameError, match="Did you mean 'losses'"):
        listing("loses")


def test_a_loss_with_proxies_asks_for_dim_and_classes() -> None:
    with pytest.raises(UsageError, match="give dim= and classes="):
        build_loss("proxy_nca")


@pytest.mark.parametrize("kind", ["losses", "miners", "backbones", "data", "recipes", "ensembles", "metrics"])
def test_listings_are_json_with_name_and_summary(kind: str) -> None:
    rows = json.loads(json.dumps(listing(kind)))
    assert rows
    assert all(row["name"] and row["summary"] for row in rows)


def test_a_loss_is_described_with_its_options_and_paper() -> None:
    described = {loss["name"]: loss for loss in describe_losses()}["proxy_nca"]
    assert described["path"] == "accord.losses.ProxyNCA"
    assert described["year"] == 2017
    assert described["needs"] == ["classes"]
    positive = next(option for option in described["parameters"] if option["name"] == "positive")
    assert positive["default"] == "excluded"
    assert positive["meaning"]


WRONG: tuple[tuple[Any, dict[str, Any], str], ...] = (
    (None, {}, "name must be .* not None"),
    (3, {}, "name must be .* not 3"),
    (":X", {}, "':X' must name a module"),
    ("math:", {}, "'math:' must name a module"),
    (".x:Y", {}, "'.x:Y' must name a module"),
    ("math:pi", {}, "math:pi is a float"),
    ("builtins:dict", {}, "builtins:dict makes a dict"),
    ("builtins:int", {"x": "y"}, "builtins:int"),
    ("proxy_nca", {"preset": 3}, "preset of proxy_nca called 3"),
    ("proxy_nca", {"preset": ["cub"]}, r"preset of proxy_nca called \['cub'\]"),
    ("contrastive", {"generator": 3}, "generator must be"),
    ("proxy_nca", {"generator": 3}, "generator must be"),
    ("contrastive", {"hinge": None}, "hinge of contrastive called None"),
    ("recall_at_k", {"ks": 3}, r"recall_at_k can't be made with ks=3: 'int' object is not iterable"),
)


@pytest.mark.parametrize(("name", "options", "message"), WRONG, ids=lambda part: str(part)[:30])
def test_wrong_arguments_are_told_by_name(name: Any, options: dict[str, Any], message: str) -> None:
    with without_shape_checks(), pytest.raises(UsageError, match=message):
        build_loss(name, dim=8, classes=4, **options)


def test_a_module_that_breaks_while_it_is_imported_is_told(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_losses.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ResourceError, match="broken_losses fails with ZeroDivisionError"):
        build_loss("broken_losses:Any")


def test_what_another_package_raises_over_its_options_is_told_with_them() -> None:
    with pytest.raises(UsageError, match=r"made with .*embedding_size='eight'"):
        build_loss("pytorch_metric_learning.losses:ProxyAnchorLoss", classes=4, embedding_size="eight")
