"""Notices a member of the ensemble that costs nothing any more, and so teaches nothing."""

from accord.ensembles import DIVERSITY
from accord.types import Step

PATIENCE = 100  # steps in a row; a batch without a violation is no news


class IdleMembers:
    """Counts for each loss the steps in a row in which it was exactly 0, and names it once.

    A term for diversity is left out: it may have got all it wants. Steps that were skipped do not count.
    """

    def __init__(self, *, patience: int = PATIENCE) -> None:
        self.patience = patience
        self.steps: dict[str, int] = {}
        self.named: set[str] = {DIVERSITY}

    def look(self, step: Step) -> list[str]:
        """A sentence for every loss that has just been 0 for too long."""
        if step.skipped:
            return []
        warnings = []
        for name, value in step.terms.items():
            self.steps[name] = self.steps.get(name, 0) + 1 if float(value) == 0 else 0
            if self.steps[name] == self.patience and name not in self.named:
                self.named.add(name)
                warnings.append(self._warning(name))
        return warnings

    def _warning(self, name: str) -> str:
        who = "the loss" if name == "loss" else name
        return (
            f"{who} has been exactly 0 for {self.patience} steps in a row: it finds nothing to learn.\n"
            "  A wider margin, another mining, or more images per class may help; or leave this loss out."
        )
