"""Every loss, in every configuration worth a row."""

import loss_cases_classes
import loss_cases_lists
import loss_cases_pairs
import loss_cases_proxies
import loss_cases_regularisers
import loss_cases_tuples
import loss_cases_weighted

CASES = (
    *loss_cases_pairs.CASES,
    *loss_cases_tuples.CASES,
    *loss_cases_weighted.CASES,
    *loss_cases_lists.CASES,
    *loss_cases_proxies.CASES,
    *loss_cases_classes.CASES,
    *loss_cases_regularisers.CASES,
)
