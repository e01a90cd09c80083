"""Statements on Proxy-NCA that no formula's test states: one promise each."""

from math import exp, log, sqrt

import pytest
import torch

from accord.losses import proxy_nca
from slow import mean, squared, units


@pytest.mark.parametrize("positive", ["excluded", "included"])
@pytest.mark.parametrize(("of_items", "of_proxies"), [(3.0, 3.0), (1.0, 3.0), (1.0, 8.0)])
def test_two_lengths_are_the_scale_whose_square_is_their_product(
    positive: str, of_items: float, of_proxies: float
) -> None:
    generator = torch.Generator().manual_seed(0)
    embeddings, proxies = (torch.randn(count, 4, generator=generator, dtype=torch.float64) for count in (9, 5))
    labels = torch.arange(9) % 5
    x = [[of_items * v for v in row] for row in units(embeddings)]
    p = [[of_proxies * v for v in row] for row in units(proxies)]
    costs = []
    for row, label in zip(x, labels.tolist(), strict=True):
        terms = [exp(-squared(row, proxy)) for proxy in p]
        others = sum(term for place, term in enumerate(terms) if place != label or positive == "included")
        costs.append(-log(terms[label] / others))
    found = proxy_nca(embeddings, labels, proxies, scale=sqrt(of_items * of_proxies), positive=positive)
    assert found.item() == pytest.approx(mean(costs), rel=1e-9)
