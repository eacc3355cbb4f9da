"""The package itself."""

import subprocess
import sys


def test_the_commands_are_quick_to_name() -> None:
    """``sentinel --help`` must not wait for the Kafka client or Ray."""
    code = "import sys, kafka_ingest.commands; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert not {"confluent_kafka", "ray"} & set(run.stdout.split())
