"""How a Kafka cluster is reached: librdkafka's own settings, from an option and a file.

Every way in that librdkafka knows (SASL, OAUTHBEARER, client certificates) is a matter of its
settings, which are passed on as they stand. A value in the file may be ``${env:NAME}`` or
``${file:PATH}``, so that no secret need lie in it; none is ever shown.
"""

import logging
import os
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, ClusterMetadata

from sentinel.errors import SentinelError, UsageError

RESERVED = {
    "acks": "everything is written with acks=all",
    "auto.offset.reset": "a new group starts at the earliest offset",
    "enable.auto.commit": "offsets are committed with what was made of their records",
    "enable.auto.offset.store": "offsets are committed with what was made of their records",
    "enable.idempotence": "everything is written once",
    "group.id": "--group says it",
    "isolation.level": "only what was committed is read",
    "transactional.id": "each worker has its own",
}
"""Settings that a file may not hold, and why: a promise rests on each."""

Answer = TypeVar("Answer")

_INDIRECT = re.compile(r"\$\{(env|file):([^}]+)\}")
_LOG = logging.getLogger("sentinel.kafka")


class KafkaFailed(SentinelError):
    """Kafka cannot be reached, or refused; says where and what it answered."""


class Connection:
    """The settings that every client of one cluster shares; its text shows no secret."""

    def __init__(self, settings: Mapping[str, str]) -> None:
        """``settings`` by librdkafka's names, ``bootstrap.servers`` among them."""
        self._settings = dict(settings)

    @classmethod
    def of(cls, bootstrap_servers: str | None, config: Path | None = None) -> "Connection":
        """The connection that ``--bootstrap-servers`` and ``--config`` name; the option wins.

        :raises UsageError: the file cannot be read or holds what it may not, or nothing says where
            the cluster is.
        """
        settings = {} if config is None else read_properties(config)
        if bootstrap_servers is not None:
            settings["bootstrap.servers"] = bootstrap_servers
        if not settings.get("bootstrap.servers"):
            raise UsageError(
                "--bootstrap-servers: missing; expected HOST:PORT, several separated by commas, or "
                "bootstrap.servers in the file of --config"
            )
        return cls(settings)

    def __repr__(self) -> str:
        protocol = self._settings.get("security.protocol", "PLAINTEXT")
        return f"Connection({self.servers!r}, {protocol})"

    @property
    def servers(self) -> str:
        """Where it is, for people."""
        return self._settings["bootstrap.servers"]

    def client(self, more: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The config of a client, with ``more`` of its own; what librdkafka logs goes to the
        logger ``sentinel.kafka``."""
        return {"logger": _LOG, **self._settings, **(more or {})}

    def admin(self) -> AdminClient:
        """A client to ask about topics; its answers come only while it lives.

        :raises UsageError: librdkafka does not know a setting, or not such a value.
        """
        return self.open(AdminClient)

    def open(self, kind: Any, more: Mapping[str, Any] | None = None) -> Any:
        """A ``Producer``, ``Consumer`` or ``AdminClient``.

        :raises UsageError: librdkafka does not know a setting, or not such a value.
        """
        try:
            return kind(self.client(more))
        except KafkaException as error:
            raise UsageError(f"--config: {error.args[0].str()}") from error

    def reach(self, timeout: float = 10.0) -> ClusterMetadata:
        """What the cluster says of itself and its topics, in at most ``timeout`` seconds.

        :raises KafkaFailed: it does not answer, or does not let us in.
        """
        said: list[KafkaError] = []
        admin = self.open(AdminClient, {"error_cb": said.append})
        deadline = time.monotonic() + timeout
        while True:
            admin.poll(0)  # hands over what went wrong on the way
            if refused := next((one for one in said if one.code() in _REFUSALS), None):
                raise KafkaFailed(f"{self.servers}: {refused.str()}")
            try:
                return admin.list_topics(timeout=1.0)
            except KafkaException as error:
                if time.monotonic() >= deadline:
                    admin.poll(0)
                    why = said[0].str() if said else error.args[0].str()
                    problem = f"{self.servers}: no answer in {timeout:g} s"
                    raise KafkaFailed(f"{problem}; expected a Kafka broker: {why}") from error


def patiently(call: Callable[[], Answer], patience: float = 60.0) -> Answer:
    """The answer to a question that a cluster may not be ready for yet: after a start it takes it a
    while to say who keeps a group's offsets.

    :raises KafkaException: what went wrong is of another kind, or lasts.
    """
    deadline = time.monotonic() + patience
    while True:
        try:
            return call()
        except KafkaException as error:
            passing = error.args[0].retriable() or error.args[0].code() in _PASSING
            if not passing or time.monotonic() > deadline:
                raise
            time.sleep(0.2)


_PASSING = (
    KafkaError.NOT_COORDINATOR,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError._TIMED_OUT,
    KafkaError._TRANSPORT,
)
_REFUSALS = (KafkaError._AUTHENTICATION, KafkaError._SSL)


def read_properties(file: Path) -> dict[str, str]:
    """The settings in a file: ``name=value`` a line, ``#`` or ``!`` before a remark. A value is
    what stands there, without escapes, but for ``${env:NAME}`` and ``${file:PATH}``, which stand
    for the variable and for the content of the file (less the newline at its end).

    :raises UsageError: with the line and the name, never the value.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--config: {file}: {getattr(error, 'strerror', 'not UTF-8')}") from error
    settings: dict[str, str] = {}
    for number, line in enumerate(map(str.strip, lines), 1):
        if not line or line[0] in "#!":
            continue
        name, separator, value = line.partition("=")
        name, place = name.strip(), f"--config: {file}: line {number}"
        if not separator or not name:
            raise UsageError(f"{place}: expected name=value")
        if name in RESERVED:
            raise UsageError(f"{place}: {name} cannot be set: {RESERVED[name]}")
        if name in settings:
            raise UsageError(f"{place}: {name} is given twice")
        settings[name] = _resolved(value.strip(), f"{place}: {name}")
    return settings


def _resolved(value: str, place: str) -> str:
    def stands_for(match: re.Match[str]) -> str:
        kind, name = match.groups()
        if kind == "env":
            if name not in os.environ:
                raise UsageError(f"{place}: there is no environment variable {name}")
            return os.environ[name]
        try:
            return Path(name).read_text(encoding="utf-8").removesuffix("\n")
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", "not UTF-8")
            raise UsageError(f"{place}: file {name}: {why}") from error

    return _INDIRECT.sub(stands_for, value)
