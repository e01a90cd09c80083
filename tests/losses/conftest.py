"""Lets the tests of losses import the shared promises in tests/conformance.py."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
