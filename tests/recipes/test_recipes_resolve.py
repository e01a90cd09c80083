"""The configuration: merging, overriding, refusing."""

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from accord.errors import UnknownNameError, UsageError
from accord.recipes import dump, read_yaml, resolve
from accord.recipes.named import RECIPES
from accord.recipes.resolve import changed


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_resolves(name: str) -> None:
    assert resolve(recipe=name).recipe == name


def test_the_default_recipe_trains_three_losses_in_accord_on_the_trunk_and_ends_with_a_metric() -> None:
    assert [(loss.type, loss.sees) for loss in resolve().losses] == [
        ("multi_similarity", "trunk"),
        ("sup_con", "trunk"),
        ("proxy_anchor", "trunk"),
    ]
    assert resolve(settings=["losses.0.weight=2"]).model.metric == "wccn"


def test_losses_of_ones_own_have_nothing_of_the_model_that_was_chosen_for_others() -> None:
    own = [{"type": "contrastive"}]
    for config in (resolve(file={"losses": own}), resolve(settings=["losses=[{type: contrastive}]"])):
        assert (config.model.metric, config.model.trunk_share) == ("none", 0.0)
    assert resolve(recipe="accord", file={"losses": own}).model.metric == "wccn"
    assert resolve(file={"recipe": "five_losses", "losses": own * 2}).model.trunk_share == 0.75


def test_a_file_lies_over_the_recipe_and_a_setting_over_the_file() -> None:
    config = resolve(file={"training": {"seed": 1, "per_class": 6}}, settings=["training.seed=2"])
    assert (config.training.seed, config.training.per_class) == (2, 6)


def test_a_setting_reaches_into_a_list() -> None:
    config = resolve(settings=["losses.1.weight=2.5", "losses.1.options.margin=0.3"])
    assert config.losses[1].weight == 2.5
    assert config.losses[1].options["margin"] == 0.3


def test_numbers_in_scientific_notation_are_numbers() -> None:
    assert resolve(settings=["training.rates.trunk=3e-5"]).training.rates.trunk == 3e-5
    assert read_yaml("a: 1E-3", source="x") == {"a": 1e-3}


def test_what_is_dumped_resolves_to_the_same() -> None:
    config = resolve(recipe="n_pair", settings=["model.size=96"])
    again = resolve(file=read_yaml(dump(config), source="config.yaml"))
    assert again == config


@pytest.mark.parametrize(
    ("setting", "hint"),
    [
        ("training.epoch=3", "training.epoch: There is no option called 'epoch'. Did you mean 'epochs'?"),
        ("trainig.epochs=3", "trainig: There is no option called 'trainig'. Did you mean 'training'?"),
        ("training.rates.trnk=1", "Did you mean 'trunk'?"),
        ("losses.9.weight=1", "number from 0 to 2"),
        ("training.epochs", "section.key=value"),
        ("training.per_class=1", "greater than or equal to 2"),
        ("model.pool=median", "model.pool"),
        ("training.seed.x=1", "training.seed"),
        ("training.epochs='three'", "training.epochs"),
        ("losses.0.typ=x", "Did you mean 'type'?"),
    ],
)
def test_a_wrong_setting_is_named_with_a_way_out(setting: str, hint: str) -> None:
    with pytest.raises(UsageError) as error:
        resolve(settings=[setting])
    assert hint in str(error.value)


def test_a_wrong_recipe_gets_a_suggestion() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'proxy_nca'"):
        resolve(recipe="proxi_nca")


def test_broken_yaml_names_its_source() -> None:
    with pytest.raises(UsageError, match=r"my\.yaml is not valid YAML"):
        read_yaml("a: [1", source="my.yaml")


def test_yaml_cannot_run_code() -> None:
    with pytest.raises(UsageError):
        read_yaml("!!python/object/apply:os.system ['true']", source="evil.yaml")


def test_a_configuration_cannot_be_changed_in_place() -> None:
    config = resolve()
    with pytest.raises(Exception, match="frozen"):
        config.training.seed = 3  # type: ignore[misc]
    assert changed(config, training={"seed": 3}).training.seed == 3
    assert config.training.seed == 0


@settings(max_examples=100, derandomize=True, deadline=None)
@given(st.text(max_size=30))
def test_any_setting_is_applied_or_refused_with_our_error(text: str) -> None:
    try:
        config = resolve(settings=[text])
    except UsageError:
        return
    assert yaml.safe_load(dump(config))


def test_a_weight_without_effect_is_refused() -> None:
    with pytest.raises(UsageError, match=r"losses\.0\.weight"):
        resolve(recipe="triplet", settings=["losses.0.weight=2"])


@pytest.mark.parametrize(
    ("recipe", "setting"),
    [
        ("triplet", "losses.0.weight=2"),
        ("triplet", "ensemble.normalise=false"),
        ("accord", "model.hidden=100"),
    ],
)
def test_an_option_without_effect_is_refused(recipe: str, setting: str) -> None:
    with pytest.raises(UsageError, match=setting.split("=")[0]):
        resolve(recipe=recipe, settings=[setting])


@pytest.mark.parametrize("setting", ["training.hard_pool=20", "training.hard_share=0.2"])
def test_options_of_class_mining_are_refused_without_it(setting: str) -> None:
    with pytest.raises(UsageError, match=r"only used where training\.hard_classes is true"):
        resolve(settings=[setting])
    assert resolve(settings=[setting, "training.hard_classes=true"]).training.hard_classes
