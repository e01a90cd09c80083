"""The loop refuses an optimiser that would leave the objective's own parameters as they are."""

from typing import Any

import pytest
import torch

from accord.errors import BatchError, UsageError
from accord.losses import TripletMargin
from accord.training import train


def test_refuses_an_optimiser_that_lacks_a_parameter_of_the_objective(build: Any, batches: Any) -> None:
    parts = build()
    model_only = torch.optim.SGD(parts.model.parameters(), lr=0.1)
    with pytest.raises(UsageError, match=r"objective's parameter proxies, loss_weights(.|\n)*parameter_groups"):
        train(parts.model, parts.objective, batches, model_only, steps=1, steps_per_epoch=1)


def test_lets_frozen_parameters_of_the_objective_be(build: Any, batches: Any) -> None:
    parts = build()
    parts.objective.requires_grad_(False)
    model_only = torch.optim.SGD(parts.model.parameters(), lr=0.1)
    steps = list(train(parts.model, parts.objective, batches, model_only, steps=1, steps_per_epoch=1))
    assert len(steps) == 1


def test_takes_an_objective_that_learns_nothing(build: Any, batches: Any) -> None:
    parts = build()

    def spread(embeddings: Any, labels: Any) -> Any:
        return embeddings["pairs"].square().mean()

    assert len(list(train(parts.model, spread, batches, parts.optimizer, steps=1, steps_per_epoch=1))) == 1


def test_refuses_a_batch_without_positives_that_gives_no_gradient(build: Any, batches: Any) -> None:
    parts = build()
    triplets = TripletMargin()

    def objective(embeddings: Any, labels: Any) -> Any:
        return triplets(embeddings["pairs"], labels)

    def lonely(step: int) -> Any:
        return batches(step)._replace(labels=torch.arange(8))

    def run(source: Any, **options: Any) -> list[Any]:
        return list(train(parts.model, objective, source, parts.optimizer, steps=1, steps_per_epoch=1, **options))

    with pytest.raises(BatchError, match=r"no class has two items(.|\n)*at least 2 items per class"):
        run(lonely)
    assert len(run(lonely, on_empty="skip")) == 1
    assert len(run(batches)) == 1
