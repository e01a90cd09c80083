"""HTTP service and page over a run and its index; computes nothing of its own and refuses whatever it can't trust."""

from accord.types import Hit
from accord.web._app import create_app
from accord.web._limits import Limits
from accord.web._serve import Running, serve
from accord.web._service import SearchService

__all__ = ["Hit", "Limits", "Running", "SearchService", "create_app", "serve"]
