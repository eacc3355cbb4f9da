"""The pool as the second application of the Serve config, on a real broker."""

import os
import signal
from pathlib import Path

import pytest
import yaml

from kafka_ingest.app import SUPERVISOR
from kafka_ingest.topics import TopicNames
from tests.kafka.account import account
from tests.kafka.brokers import Brokers
from tests.kafka.commands import wait_until
from tests.kafka.faults import fault
from tests.kafka.in_process import names_of
from tests.kafka.test_ingest import workers_of
from tests.kafka.test_worker import payments, send
from tests.serve.serving import sentinel_serve

CONFIG = Path(__file__).parents[2] / "serve_app" / "config.yaml"
ROWS = 6_000


def config_with_pool(file: Path, brokers: Brokers, group: str, names: TopicNames) -> str:
    """The shipped config, with the entry of docs/kafka.md."""
    config = yaml.safe_load(CONFIG.read_text())
    pool = {
        "name": "ingest",
        "route_prefix": None,
        "import_path": "kafka_ingest.app:build",
        "args": {
            "bootstrap_servers": brokers.bootstrap,
            "topics": names.model_dump(),
            "worker": {"group": group},
        },
    }
    config["applications"].append(pool)
    file.write_text(yaml.safe_dump(config))
    return str(file)


@pytest.mark.timeout(600)
def test_it_scores_what_comes_and_goes_on_when_its_supervisor_is_killed(
    kafka: Brokers, prefix: str, transactions_bundle: str, tmp_path: Path
) -> None:
    names = names_of(prefix)
    kafka.create(names.input, 6)
    rows = payments(ROWS)

    def committed() -> int:
        return sum(kafka.committed(prefix, names.input).values())

    send(kafka, names.input, rows[: ROWS // 2])
    config = config_with_pool(tmp_path / "both.yaml", kafka, prefix, names)
    arguments = (config, "--bundle", transactions_bundle)
    with sentinel_serve(transactions_bundle, tmp_path, *arguments) as served:
        wait_until(lambda: committed() >= ROWS // 2, "all that there was")
        (supervisor,) = served.replicas(SUPERVISOR, "ingest")
        first = set(workers_of(served))
        os.kill(supervisor, signal.SIGKILL)
        wait_until(lambda: not first & set(workers_of(served)), "workers to end with who made them")
        send(kafka, names.input, rows[ROWS // 2 :])
        wait_until(lambda: committed() >= ROWS, "the rest, by another supervisor's workers")
        assert workers_of(served)
        assert served.replicas(SUPERVISOR, "ingest") != [supervisor]
        assert served.stop(signal.SIGINT) == set()
    fault("the supervisor of the second application killed", account(kafka, names))
