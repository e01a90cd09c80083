"""Many losses in accord: one embedding or one head per loss, and the weights between them."""

from accord.ensembles._ensemble import Ensemble, test_weights
from accord.ensembles._fixed import FixedWeights
from accord.ensembles._weighting import Weighting

__all__ = ["Ensemble", "FixedWeights", "Weighting", "test_weights"]
