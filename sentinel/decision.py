"""Approve, review or block: the cheapest decision in expectation, for this amount.

With a calibrated probability p and amount A, each decision has an expected cost; see ``Policy``
for where the figures come from:

- approve: ``p * missed(A)``
- review:  ``review_cost + p * (1 - catch_rate) * missed(A)``
- block:   ``(1 - p) * false_block(A)``

The novelty lane may only raise approve to review: it knows that a row is unusual, not that it is
fraud.
"""

from math import isnan

import numpy as np
from numpy.typing import NDArray

from sentinel.dataset import AmountCost, Policy

APPROVE, REVIEW, BLOCK = 0, 1, 2
DECISIONS = ("approve", "review", "block")
"""The name of each decision code."""


def decide(
    policy: Policy,
    amount: NDArray[np.float64],
    probability: NDArray[np.float64] | None,
    novelty_p: NDArray[np.float64] | None,
) -> NDArray[np.int8]:
    """(n,) decision codes. ``probability`` or ``novelty_p`` is ``None`` where that lane is out.

    Equal costs go to the milder decision. Without a probability every row gets the policy's stated
    fallback (which novelty may raise, as it may any approval).
    """
    if probability is None:
        decision = np.full(len(amount), DECISIONS.index(policy.fallback), dtype=np.int8)
    else:
        costs = expected_costs(policy, amount, probability)
        decision = np.argmin(costs, axis=0).astype(np.int8)
    if novelty_p is not None:
        raised = (decision == APPROVE) & (novelty_p < policy.novelty_review_below)
        decision[raised] = REVIEW
    return decision


def reasons(
    policy: Policy,
    decision: NDArray[np.int8],
    probability: NDArray[np.float64],
    novelty_p: NDArray[np.float64],
) -> NDArray[np.object_]:
    """(n,) tuples of why each row is reviewed or blocked; empty for an approval.

    They name what the decision rests on, by the policy's own rule. ``probability`` and
    ``novelty_p`` are NaN where that lane was missing.
    """
    found = np.empty(len(decision), np.object_)
    found.fill(())
    flagged = np.flatnonzero(decision != APPROVE)
    # As Python's own numbers: taking a row's out of the arrays one by one takes twice the time.
    for row, p, novelty in zip(
        flagged.tolist(), probability[flagged].tolist(), novelty_p[flagged].tolist(), strict=True
    ):
        why = [
            f"no fraud probability could be had; the policy says {policy.fallback}"
            if isnan(p)
            else f"fraud probability {p:.3g}"
        ]
        if novelty < policy.novelty_review_below:  # which NaN, a missing lane, never is
            why.append(
                f"unlike recent legitimate transactions: novelty p-value {novelty:.2g}, "
                f"below {policy.novelty_review_below:g}"
            )
        found[row] = tuple(why)
    return found


def expected_costs(
    policy: Policy, amount: NDArray[np.float64], probability: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(3, n) expected cost of approve, review and block, in the amount's unit."""
    missed = _cost(policy.missed_fraud, amount)
    false_block = _cost(policy.false_block, amount)
    return np.stack(
        [
            probability * missed,
            policy.review_cost + probability * (1 - policy.review_catch_rate) * missed,
            (1 - probability) * false_block,
        ]
    )


def regret(
    policy: Policy,
    amount: NDArray[np.float64],
    decision: NDArray[np.int8],
    label: NDArray[np.int8],
) -> NDArray[np.float64]:
    """(n,) cost of each decision above that of perfect ones (block frauds, approve the rest).

    It is the expected cost at the probability that hindsight gives, 0 or 1: perfect decisions cost
    nothing.
    """
    costs = expected_costs(policy, amount, label.astype(np.float64))
    return costs[decision, np.arange(len(decision))]


def _cost(cost: AmountCost, amount: NDArray[np.float64]) -> NDArray[np.float64]:
    # The largest accepted amount times a factor overflows: infinity minus infinity would be NaN.
    with np.errstate(over="ignore"):
        return np.minimum(cost.fixed + cost.per_amount * amount, 1e300)
