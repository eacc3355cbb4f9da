"""Made-up transactions of any dataset description, all of which its parsers accept.

Values are drawn column by column. ``random_columns`` leaves out ids and times, for whoever sends a
row and gives it those at that moment; ``random_transactions`` has them.
"""

import math
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sentinel.dataset import ROW_ORDER, DatasetDescription, FieldSpec
from sentinel.errors import SentinelError
from sentinel.fields import category_codes
from sentinel.transactions import Transactions

ENTITY_KEYS = 10_000
"""How many customers, terminals and the like there are: enough that their profiles do not all lie
in a cache, few enough that each comes again during a test."""

MISSING = 0.1
"""Share of the values of an optional field that are missing."""

_LARGEST = float(np.finfo(np.float64).max)
_EXACT = 2.0**53
"""Below this every whole float64 is one integer."""

Columns = dict[str, list[Any]]
"""Values by field, ``None`` where an optional one is missing."""


class CannotMake(SentinelError):
    """A description that no transaction fits; names the field."""


def random_columns(description: DatasetDescription, rows: int, rng: np.random.Generator) -> Columns:
    """``rows`` values for every input field but the id and the time.

    Entity keys are digits; a number is uniform where both bounds are stated, else spread like card
    payments above the minimum (below the maximum, or around zero); an amount has two decimals.

    :raises CannotMake: a field accepts no value at all.
    """
    own = (description.id, description.time)
    return {
        name: _column(description, name, rows, rng)
        for name in description.inputs
        if name not in own
    }


def random_transactions(
    description: DatasetDescription, rows: int, rng: np.random.Generator, now: float
) -> Transactions:
    """``rows`` transactions with ids that no other call gives them, all of the moment ``now``
    (seconds since 1970).

    :raises CannotMake: a field accepts no value at all.
    """
    drawn = random_columns(description, rows, rng)
    run = f"{rng.integers(1 << 62):016x}"
    numbers = [_as_numbers(drawn[name], spec) for name, spec in description.numbers.items()]
    timed = description.time != ROW_ORDER
    return Transactions(
        ids=pa.array([f"{run}-{row}" for row in range(rows)], pa.string()),
        times=np.full(rows, int(now * 1e6), np.int64) if timed else None,
        entities={name: pa.array(drawn[name], pa.string()) for name in description.entities},
        numbers=np.stack(numbers, axis=1),
    )


def _as_numbers(values: list[Any], spec: FieldSpec) -> NDArray[np.float64]:
    if spec.type == "category":
        codes = category_codes(spec)
        values = [None if value is None else codes[value] for value in values]
    return np.array(values, np.float64)  # a missing value becomes NaN


def _column(
    description: DatasetDescription, name: str, rows: int, rng: np.random.Generator
) -> list[Any]:
    spec = description.inputs[name]
    values: list[Any]
    match spec.type:
        case "string":
            values = [str(key) for key in rng.integers(0, ENTITY_KEYS, rows).tolist()]
        case "boolean":
            values = (rng.random(rows) < 0.5).tolist()
        case "category":
            known = spec.values or ()
            values = [known[at] for at in rng.integers(0, len(known), rows).tolist()]
        case "integer":
            if _whole_bounds(spec) is None:
                if spec.optional:
                    return [None] * rows
                raise CannotMake(
                    f"field '{name}' accepts nothing: there is no whole number from "
                    f"{spec.minimum:g} to {spec.maximum:g}"
                )
            values = [int(v) if abs(v) < _EXACT else v for v in _integers(spec, rows, rng).tolist()]
        case _:
            decimals = 2 if name == description.amount else 6
            values = _numbers(spec, rows, rng, decimals).tolist()
    if spec.optional:
        gone = rng.random(rows) < MISSING
        values = [None if out else value for value, out in zip(values, gone.tolist(), strict=True)]
    return values


def _numbers(
    spec: FieldSpec, rows: int, rng: np.random.Generator, decimals: int
) -> NDArray[np.float64]:
    low, high = spec.minimum, spec.maximum
    if low is not None and high is not None:
        part = rng.random(rows)
        values = low * (1 - part) + high * part  # high - low could overflow
    elif low is None and high is None:
        values = rng.normal(0, 3, rows)
    else:
        values = _from_one_bound(low, high, rows, rng)
    with np.errstate(over="ignore"):  # rounding multiplies; what overflows is clipped again
        values = np.round(values, decimals)
    return np.clip(values, -_LARGEST if low is None else low, _LARGEST if high is None else high)


def _integers(spec: FieldSpec, rows: int, rng: np.random.Generator) -> NDArray[np.float64]:
    low, high = _whole_bounds(spec) or (0.0, 0.0)
    if spec.minimum is not None and spec.maximum is not None:
        part = rng.random(rows)
        values = low * (1 - part) + high * part + part  # so that high is as likely as any
    elif spec.minimum is None and spec.maximum is None:
        values = rng.normal(0, 100, rows)
    else:
        first = None if spec.minimum is None else low
        last = None if spec.maximum is None else high
        values = _from_one_bound(first, last, rows, rng)
    return np.clip(np.floor(values), low, high)


def _from_one_bound(
    low: float | None, high: float | None, rows: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Away from the one bound that there is: most within 100 of it, a few in the thousands."""
    distance = rng.lognormal(3, 1.2, rows)
    return low + distance if low is not None else (high or 0.0) - distance


def _whole_bounds(spec: FieldSpec) -> tuple[float, float] | None:
    """The smallest and the largest accepted whole number; ``None`` where there is none."""
    low = -_LARGEST if spec.minimum is None else float(math.ceil(spec.minimum))
    high = _LARGEST if spec.maximum is None else float(math.floor(spec.maximum))
    return (low, high) if low <= high else None
