"""``sentinel ingest --demo``: the stream without a server."""

from pathlib import Path

import pytest

from kafka_ingest.demo_command import demo
from tests.kafka.commands import sentinel


def test_what_is_sent_comes_out_decided_or_as_a_dead_letter(plain_bundle: str) -> None:
    found = demo(plain_bundle, count=500, rate=500.0)
    assert found["decisions"] == 500
    assert found["dead_letters"] == 5
    assert found["records"] == 505
    assert found["approve"] + found["review"] + found["block"] == 500
    assert found["commits"] > 0


def test_it_is_seen_from_the_command_line_and_says_what_it_is(plain_bundle: str) -> None:
    done = sentinel("ingest", "--demo", "--bundle", plain_bundle)
    assert "Kafka is librdkafka's mock cluster" in done.stderr
    assert "keeps no offsets of transactions" in done.stderr
    assert "decisions: 10,000" in done.stderr


@pytest.mark.parametrize("options", [("--demo",), ("--bundle", "somewhere")])
def test_it_needs_a_bundle_and_a_bundle_it(options: tuple[str, ...]) -> None:
    assert "--demo and --bundle URI go together" in sentinel("ingest", *options, ok=False).stderr


def test_a_bundle_that_is_not_there_is_named(tmp_path: Path) -> None:
    missing = str(tmp_path / "none")
    assert missing in sentinel("ingest", "--demo", "--bundle", missing, ok=False).stderr
