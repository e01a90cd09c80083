"""Writes a judgement: the report as JSON, and what each query scored as .csv or .safetensors."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import save

from accord.reports._plain import text
from accord.reports._write import replace_file
from accord.types import Evaluation, Json


def write_json(out: Path, report: Json) -> None:
    """Write a report as one JSON document, replacing the file as a whole."""
    replace_file(out, (json.dumps(report, allow_nan=False, indent=1) + "\n").encode())


def write_per_query(
    out: Path, evaluation: Evaluation, class_names: Sequence[str], item_names: Mapping[int, str] | None = None
) -> None:
    """Write one row per query: id, class, and its value of each metric. `item_names` names ids that were text."""
    names = item_names or {}
    if out.suffix == ".csv":
        replace_file(out, _csv(evaluation, class_names, names).encode("utf-8", "surrogateescape"))
        return
    tensors = {"ids": evaluation.query_ids, "labels": evaluation.query_labels, **evaluation.per_query}
    about = {
        "class_names": json.dumps([text(name) for name in class_names]),
        "item_names": json.dumps({str(item): text(names[item]) for item in evaluation.query_ids.tolist() if names}),
    }
    columns = {name: values.contiguous().clone() for name, values in tensors.items()}
    replace_file(out, save(columns, about))


def _csv(evaluation: Evaluation, class_names: Sequence[str], item_names: Mapping[int, str]) -> str:
    sheet = io.StringIO()
    writer = csv.writer(sheet)
    writer.writerow(["id", "label", *evaluation.per_query])
    values = torch.stack([column.double() for column in evaluation.per_query.values()], dim=1).tolist()
    rows = zip(evaluation.query_ids.tolist(), evaluation.query_labels.tolist(), values, strict=True)
    for item, label, row in rows:
        writer.writerow([item_names.get(item, item), class_names[label], *row])
    return sheet.getvalue()
