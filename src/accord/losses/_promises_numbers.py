"""Promises about hostile numbers: every dtype, duplicates, zeros, extreme lengths and temperatures stay finite."""

from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch

from accord.losses._generated import count_finite
from accord.losses._subject import (
    DTYPES,
    ITEMS,
    Broken,
    Kept,
    NotApplicable,
    Objective,
    Subject,
    close,
    dtype_name,
    headline,
    need,
    parameters,
    run,
)

TEMPERATURES = ("temperature", "scale", "tau", "softmax_scale")


def survives_duplicates(subject: Subject) -> None:
    """Equal rows, in one class and across classes, in every dtype."""
    for dtype in subject.dtypes:
        embeddings, labels = subject.batch(dtype=dtype)
        twins = embeddings.detach().clone()
        twins[5], twins[1] = twins[0], twins[2]  # row 5 has the class of row 0, row 1 not that of row 2
        run(subject, twins, labels)
        run(subject, twins[:1].repeat(ITEMS, 1), labels)


def survives_opposite_and_aligned_rows(subject: Subject) -> None:
    """Cosines of exactly 1 and -1, in every dtype."""
    for dtype in subject.dtypes:
        embeddings, labels = subject.batch(dtype=dtype)
        signs = torch.tensor([1, -1, 1 + 1e-6], dtype=dtype).repeat(ITEMS // 3)[:, None]
        run(subject, signs * embeddings.detach()[:1], labels)


def survives_embeddings_on_their_class_vectors(subject: Subject) -> None:
    """An embedding equal or opposite to its class's learned vector, in every dtype."""
    table = subject.class_vectors(subject.fresh())
    if table is None:
        raise NotApplicable("it learns no table of class vectors")
    labels = torch.arange(min(subject.classes, len(table))).repeat(2)
    for dtype in subject.dtypes:
        for parameter in parameters(subject.fresh(dtype)).values():
            rows = subject.as_table(parameter)
            if rows is not None and len(rows) >= len(labels) // 2:
                run(subject, rows.to(dtype)[labels], labels)
                run(subject, -rows.to(dtype)[labels], labels)


def survives_zero_rows_with_a_bounded_gradient(subject: Subject) -> None:
    """A zero row, only zero rows and lengths of 1e-20 give at most 10⁶ times the usual gradient, in every dtype."""
    for dtype in subject.dtypes:
        embeddings, labels = subject.batch(dtype=dtype)
        usual = run(subject, embeddings, labels).gradient.abs().max().clamp_min(1e-3)
        one, tiny = embeddings.detach().clone(), embeddings.detach() * 1e-20
        one[0] = 0
        for what, hard in (("one zero row", one), ("only zero rows", torch.zeros_like(one)), ("length 1e-20", tiny)):
            try:
                largest = run(subject, hard, labels).gradient.abs().max()
            except Broken as broken:
                raise Broken(f"{what} in {dtype_name(dtype)}: {broken}") from broken
            need(bool(largest <= 1e6 * usual), f"{what} in {dtype_name(dtype)}: a gradient of {largest.item():.1g}")


def survives_extreme_scales(subject: Subject) -> None:
    """Embeddings × 1e-8 … 1e8 give in float32 what they give in float64, within 1e-3."""
    embeddings, labels = subject.batch()
    for scale in (1e-8, 1e-4, 1e4, 1e8):
        single = (embeddings.detach() * scale).float()
        exact = run(subject, single.double(), labels).value
        close(run(subject, single, labels).value, exact, f"value at scale {scale:g} in float32", 1e-3)


def survives_extreme_temperatures(subject: Subject) -> Kept:
    """A temperature or scale from 0.01 to 1000, where there is one to set, leaves everything finite."""
    tried = 0
    for extreme in (0.01, 1.0, 200.0, 1000.0):
        for dtype in subject.dtypes:
            if extreme >= 1000 and dtype == torch.float16:  # can't hold such a gradient
                continue
            objective, (embeddings, labels) = subject.fresh(dtype), subject.batch(dtype=dtype)
            names = _heat(objective, extreme)
            if names is None:  # the option refuses this value
                continue
            if not names:
                raise NotApplicable("it has no temperature or scale to set")
            tried += 1
            try:
                run(subject, embeddings, labels, objective)
            except Broken as broken:
                raise Broken(f"{', '.join(names)} {extreme:g} in {dtype_name(dtype)}: {broken}") from broken
    return Kept(f"{tried} settings")


def _heat(objective: Objective, value: float) -> list[str] | None:
    """Set every temperature of an objective, or of its rule; their names, or None if that is refused."""
    rule = getattr(objective, "rule", None)
    if is_dataclass(rule) and not isinstance(rule, type):
        options: dict[str, Any] = {field.name: getattr(rule, field.name) for field in fields(rule)}
    else:
        options = dict(getattr(objective, "__dict__", {}))
    names = [name for name in TEMPERATURES if type(options.get(name)) in (int, float)]
    try:
        if rule is not None:
            rule = replace(rule, **dict.fromkeys(names, value))
    except ValueError:
        return None
    for name in names:
        if rule is None:
            setattr(objective, name, value)
    if rule is not None and names:
        setattr(objective, "rule", rule)  # noqa: B010
    return names


def takes_every_floating_dtype(subject: Subject) -> Kept:
    """float64, float32, bfloat16 and float16 give one value; the gradient has the dtype of the embeddings."""
    good, faults = [], []
    for dtype in DTYPES:
        embeddings, labels = subject.batch(dtype=dtype)
        half = 1e-4 if subject.ours else 3e-2
        tolerance = {torch.float64: 1e-9, torch.float32: 1e-4}.get(dtype, half)
        try:
            exact = run(subject, embeddings.double(), labels).value
            found = run(subject, embeddings, labels)
            close(found.value, exact, "value", tolerance)
            need(found.gradient.dtype == dtype, f"the gradient is {dtype_name(found.gradient.dtype)}")
            wide = found.value.dtype in (torch.float32, torch.float64)
            need(wide or not subject.ours, f"the value is {dtype_name(found.value.dtype)}")
        except Exception as error:
            faults.append(f"{dtype_name(dtype)}: {headline(error)}")
        else:
            good.append(dtype_name(dtype))
    facts = {"dtypes": good}
    if faults:
        raise Broken("; ".join(faults), facts)
    return Kept(facts=facts)


def stays_finite_on_any_batch(subject: Subject) -> Kept:
    """Every generated batch of hostile rows and labels gives a finite value and gradient."""
    finite, refused, fault = count_finite(subject)
    share = f"{finite}/{subject.generated - refused}"
    words = f"{share} finite" + (f", {refused} without a positive pair refused" if refused else "")
    facts = {"finite cases": share}
    if fault is not None:
        raise Broken(f"{words}; the first fault: {fault}", facts)
    return Kept(words, facts)
