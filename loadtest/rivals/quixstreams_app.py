"""The same two models in a Quix Streams pipeline, exactly once.

``python -m loadtest.rivals.quixstreams_app BROKERS FROM TO GROUP``, the bundle in the environment;
two processes share the partitions, one a core. A record is decoded and judged by itself, which is
what its functions get; no profiles, no validation. It reads and writes bytes, and msgspec is the
JSON: its own way is slower. A commit a second; with ten a second it was no faster.
"""

import os
import sys

import msgspec
from quixstreams import Application

from loadtest.bare_judge import BUNDLE, FIELDS, BareJudge

COMMIT_SECONDS = 1.0


def main() -> None:
    """Works until it is killed."""
    brokers, source, target, group = sys.argv[1:5]
    judge = BareJudge(os.environ[BUNDLE])
    decode, encode = msgspec.json.Decoder().decode, msgspec.json.Encoder().encode

    def judged(value: bytes) -> bytes:
        transaction = decode(value)
        numbers = [transaction[name] for name in FIELDS]
        return encode(judge.one(transaction["transaction_id"], numbers))

    app = Application(
        broker_address=brokers,
        consumer_group=group,
        processing_guarantee="exactly-once",
        commit_interval=COMMIT_SECONDS,
        auto_offset_reset="earliest",
        auto_create_topics=False,
        use_changelog_topics=False,
        loglevel="WARNING",
        producer_extra_config={"linger.ms": 5, "compression.type": "lz4"},
    )
    stream = app.dataframe(app.topic(source, value_deserializer="bytes"))
    stream = stream.apply(judged)
    stream.to_topic(app.topic(target, value_serializer="bytes"))
    app.run()


if __name__ == "__main__":
    main()
