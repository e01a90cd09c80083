"""The catalogue of miners: every name builds, every option is known and explained."""

import pytest

from accord.errors import UnknownNameError, UsageError
from accord.mining import Miner, MultiSimilarityPairs
from accord.recipes.catalog.miners import MINERS, build_miner
from conformance import without_shape_checks


def test_the_catalogue_builds_every_miner_and_knows_its_options() -> None:
    for name, info in MINERS.items():
        miner = build_miner(name, **({"positives": 2} if name == "per_row_cap" else {}))
        assert isinstance(miner, Miner)
        assert set(info.options) == set(getattr(miner, "__dataclass_fields__", {}))
    assert build_miner("multi_similarity", epsilon=0.3) == MultiSimilarityPairs(epsilon=0.3)
    with pytest.raises(UnknownNameError, match="Did you mean 'semi_hard'"):
        build_miner("semihard")
    with pytest.raises(UnknownNameError, match="Did you mean 'epsilon'"):
        build_miner("multi_similarity", epsilom=0.1)


def test_what_is_no_name_and_no_option_is_told() -> None:
    with without_shape_checks():
        for name in (None, 3, ["hard"]):
            with pytest.raises(UnknownNameError, match="no miner called"):
                build_miner(name)  # type: ignore[arg-type]
        with pytest.raises(UsageError, match="choice of PerRowCap called None"):
            build_miner("per_row_cap", positives=2, choice=None)
