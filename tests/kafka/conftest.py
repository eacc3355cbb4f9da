"""Kafka brokers for the tests, ended with them. A test has topics of its own in shared brokers."""

from collections.abc import Iterator
from uuid import uuid4

import pytest

from tests.kafka.brokers import Brokers


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Brokers]:
    """One broker for the whole run; nobody harms it."""
    yield from _running(Brokers(tmp_path_factory.mktemp("kafka")))


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Brokers]:
    """Three brokers, of which one may die."""
    yield from _running(Brokers(tmp_path_factory.mktemp("kafka-three"), 3))


@pytest.fixture
def fragile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Brokers]:
    """A broker of the test's own, to kill."""
    yield from _running(Brokers(tmp_path_factory.mktemp("kafka-fragile")))


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Brokers]:
    """A broker that wants TLS and SCRAM."""
    yield from _running(Brokers(tmp_path_factory.mktemp("kafka-secure"), secure=True))


@pytest.fixture
def prefix() -> str:
    """What the names of a test's topics and groups begin with."""
    return f"t{uuid4().hex[:8]}"


def _running(brokers: Brokers) -> Iterator[Brokers]:
    try:
        yield brokers.start()
    finally:
        brokers.end()
