"""Answers held against offline scoring before they are timed."""

import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any

from sentinel.answers import Answer
from sentinel.errors import SentinelError

TOLERANCE = 1e-5
"""Largest difference of a probability: the contenders round to float32 in different places."""


class WrongAnswer(SentinelError):
    """A contender answered something else than offline scoring: its speed means nothing."""


def check_near(name: str, got: Sequence[Mapping[str, Any]], expected: Sequence[Answer]) -> None:
    """:raises WrongAnswer: contender ``name`` did not answer what was expected, in that order."""
    if len(got) != len(expected):
        raise WrongAnswer(f"{name} gives {len(got)} answers to {len(expected)} transactions")
    for answer, wanted in zip(got, expected, strict=True):
        near = all(
            answer[field] is not None and abs(answer[field] - getattr(wanted, field)) <= TOLERANCE
            for field in ("fraud_probability", "anomaly_score")
        )
        same = answer["transaction_id"] == wanted.transaction_id
        if not near or not same or answer["decision"] != wanted.decision:
            raise WrongAnswer(f"{name} answers {answer}, offline scoring says {wanted}")


def post(url: str, path: str, kind: str, body: bytes) -> bytes:
    """The answer to one request.

    :raises WrongAnswer: there is none, or it is an error.
    """
    request = urllib.request.Request(url + path, body, {"content-type": kind})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            content: bytes = answer.read()
    except OSError as error:
        raise WrongAnswer(f"{url}{path} has no answer: {error}") from error
    return content
