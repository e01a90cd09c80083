"""`accord evaluate --protocol n_pair`: a person reads the table, a program the same figures."""

import json

import numpy as np

from n_pair_by_hand import vectors


def test_a_person_reads_the_table_and_a_program_the_same_figures(accord) -> None:
    embeddings, labels = vectors(24, 5)
    np.save("E.npy", embeddings.numpy())
    np.save("L.npy", labels.numpy())
    words = ("evaluate", "--embeddings", "E.npy", "--labels", "L.npy", "--protocol", "n_pair")
    done = accord(*words)
    figures = json.loads(accord(*words, "--json").out)["n_pair"]["figures"]
    assert done.code == 0
    lines = [" ".join(line.split()) for line in done.out.splitlines()]
    for figure in figures.values():
        value, error = 100 * figure["value"], figure["standard_error"]
        shown = [f"{figure['words']} {value:.1f} %", *([] if error is None else [f"{100 * error:.2f}"]), figure["over"]]
        assert " ".join(shown) in lines
    assert "! The paper holds a partner against 71 negatives, here it is 23: the number of other classes." in lines
