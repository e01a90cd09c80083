"""What a loss tells the row engine: the cost of each row of a block, and, where it pays, the gradient by hand."""

from collections.abc import Callable
from typing import NamedTuple, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from accord.mining import Measure


class Tally(NamedTuple):
    """Costs of a block's rows. The loss is the sum of all costs by the sum of all counts, or, without counts, the sum.

    Counts carry no gradient and may depend on values (how many triplets cost something). All zero: the loss is zero.
    """

    costs: Float[Tensor, " row"]
    counts: Float[Tensor, " row"] | None


class Pull(NamedTuple):
    """A tally with the derivatives of its costs: by positives, by negatives and by each learned tensor.

    What stands where a positive is not kept, or where a column is no negative, is ignored: it may be NaN.
    """

    tally: Tally
    positives: Float[Tensor, "row slot"]
    negatives: Float[Tensor, "row column"]
    learned: tuple[Tensor, ...] = ()


@runtime_checkable
class Rule(Protocol):
    """A loss as a sum over rows, made of operations that autograd can follow; a frozen dataclass of its options.

    `name` complains in messages, `measure` says what a block's values are, `unit` whether vectors are normalised
    first. `costs(block, *learned)` gives the tally of a block. A rule that makes row × slot × column tables says
    `tables = 1`, and gets smaller blocks; one whose cost grows with the slots says `slotted = True`, and labels are
    sorted however few they are, so that there are few slots. One that is a sum over pairs in which both items play the
    same part says `mutual = True`, and is shown each pair once, for half the work.
    """

    @property
    def name(self) -> str: ...
    @property
    def measure(self) -> Measure: ...
    @property
    def unit(self) -> bool: ...
    @property
    def costs(self) -> Callable[..., Tally]: ...


@runtime_checkable
class HandRule(Rule, Protocol):
    """A rule that also knows its derivatives, `pull(block, *learned)`: saves the engine autograd's passes."""

    @property
    def pull(self) -> Callable[..., Pull]: ...


@runtime_checkable
class SurveyRule(Protocol):
    """A loss that must see all rows before it can say what one costs: numbers per row first, then a scalar of them.

    `read(block, *learned)` gives each row of a block the same number of statistics, (row, statistic);
    `finish(statistics, own)` turns those of all rows into the loss, where `own` says which columns their positives are
    if the rule says `pairs = True`, and is None else.
    Costs a second product of the embeddings for the gradient.
    """

    @property
    def name(self) -> str: ...
    @property
    def measure(self) -> Measure: ...
    @property
    def unit(self) -> bool: ...
    @property
    def read(self) -> Callable[..., Tensor]: ...
    @property
    def finish(self) -> Callable[..., Tensor]: ...


@runtime_checkable
class HandSurvey(SurveyRule, Protocol):
    """A survey rule without learned tensors that also knows its derivatives.

    `unread(block, by_statistics)` gives those of Σ statistics · `by_statistics` by positives and by negatives.
    """

    @property
    def unread(self) -> Callable[..., tuple[Tensor, Tensor]]: ...
