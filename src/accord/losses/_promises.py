"""The promises every loss keeps, whatever its formula, by group; each is a function that raises if broken."""

from collections.abc import Callable

from accord.losses import _promises_batches as batches
from accord.losses import _promises_gradient as gradient
from accord.losses import _promises_machine as machine
from accord.losses import _promises_numbers as numbers
from accord.losses import _promises_value as value
from accord.losses._subject import Kept, Subject

Promise = Callable[[Subject], Kept | None]

GROUPS: dict[str, tuple[Promise, ...]] = {
    "gradient": (
        gradient.teaches_embeddings_and_parameters,
        gradient.has_the_gradient_of_its_value,
        gradient.has_a_second_derivative,
        gradient.passes_the_outer_gradient_on,
        gradient.teaches_each_part_alone,
        gradient.has_the_same_value_without_gradients,
        gradient.trains_two_steps,
    ),
    "invariance": (
        value.ignores_the_order_of_the_batch,
        value.ignores_the_names_of_classes,
        value.ignores_scaling_if_declared,
        value.ignores_a_rotation_if_declared,
        value.ignores_a_shift_if_declared,
    ),
    "numbers": (
        numbers.stays_finite_on_any_batch,
        numbers.survives_duplicates,
        numbers.survives_opposite_and_aligned_rows,
        numbers.survives_embeddings_on_their_class_vectors,
        numbers.survives_zero_rows_with_a_bounded_gradient,
        numbers.survives_extreme_scales,
        numbers.survives_extreme_temperatures,
        numbers.takes_every_floating_dtype,
        machine.keeps_its_precision_under_autocast,
    ),
    "batches": (
        batches.stands_a_batch_without_positives,
        batches.stands_a_batch_without_negatives,
        batches.stands_an_empty_batch,
        batches.stands_a_batch_of_one,
        batches.names_the_row_that_is_not_finite,
        batches.leaves_what_it_is_given,
        batches.repeats_itself,
    ),
    "labels": (
        batches.takes_every_integer_label,
        batches.takes_or_refuses_lists_and_arrays,
        batches.refuses_labels_of_another_kind,
        batches.refuses_labels_out_of_range,
    ),
    "machine": (
        machine.never_waits_for_the_device,
        machine.asks_for_no_value,
        machine.returns_from_its_state,
        machine.has_the_gradient_of_plain_autograd,
        machine.does_not_depend_on_block_size,
    ),
}
PROMISES: dict[str, Promise] = {promise.__name__: promise for group in GROUPS.values() for promise in group}
COMPILED: dict[str, Promise] = {"compiles_into_one_graph": machine.compiles_into_one_graph}
DECLARED = ("ignores_scaling_if_declared", "ignores_a_rotation_if_declared", "ignores_a_shift_if_declared")


def group_of(name: str) -> str:
    """The group a promise belongs to."""
    return next((group for group, members in GROUPS.items() if PROMISES.get(name) in members), "machine")
