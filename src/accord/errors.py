"""The errors accord raises on purpose; anything else that escapes is a bug.

AccordError                 exit code 1
├── UsageError              2   a wrong name, option or combination of them
│   └── UnknownNameError    2   with a "did you mean"
├── DataError               3   images, folders, labels, batches, manifests
│   ├── ImageError          3   one image file, named
│   └── BatchError          3   what was handed to a loss, miner, sampler or metric
├── NumericError            4   not finite, or collapsed
├── PromiseError            1   a loss that breaks a promise every loss must keep; carries the certificate
├── ArtifactError           5   a run, checkpoint, index or weight file that can't be trusted or doesn't fit
└── ResourceError           6   disk, memory, a missing package, a locked folder
"""

from collections.abc import Iterable
from difflib import get_close_matches


class AccordError(Exception):
    """Base of all errors a user can cause and mend; the command line prints it without a traceback."""

    exit_code = 1


class UsageError(AccordError, ValueError):
    """A wrong name, option or combination of options."""

    exit_code = 2


class UnknownNameError(UsageError):
    """A name that no catalogue knows; the message suggests the nearest one."""

    def __init__(self, kind: str, name: object, known: Iterable[str]) -> None:
        known = sorted(known)
        near = get_close_matches(name, known, n=1, cutoff=0.5) if isinstance(name, str) else []
        shown = f"'{name}'" if isinstance(name, str) else repr(name)
        hint = f"Did you mean '{near[0]}'?" if near else f"Known: {', '.join(known) or 'none'}."
        super().__init__(f"There is no {kind} called {shown}. {hint}")
        self.kind, self.name, self.known = kind, name, tuple(known)


class DataError(AccordError, ValueError):
    """Images, folders, labels, batches or manifests that can't be used as they are."""

    exit_code = 3


class ImageError(DataError):
    """One image that can't be read, with its path and the reason."""


class BatchError(DataError):
    """What was handed to a loss, miner, sampler or metric does not fit it."""


class NumericError(AccordError, ArithmeticError):
    """A value that is not finite, or an embedding that has collapsed."""

    exit_code = 4


class PromiseError(AccordError):
    """A loss that breaks a promise every loss must keep; `certificate` says which ones it keeps."""

    def __init__(self, message: str, certificate: object = None) -> None:
        super().__init__(message)
        self.certificate = certificate


class ArtifactError(AccordError):
    """A run, checkpoint, index or weight file that can't be trusted or does not fit."""

    exit_code = 5


class ResourceError(AccordError):
    """Disk, memory, a missing package or a locked folder."""

    exit_code = 6
