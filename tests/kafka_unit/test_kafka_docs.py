"""The page about Kafka says what is so."""

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from kafka_ingest.connection import RESERVED
from kafka_ingest.settings import WorkerSettings
from kafka_ingest.topics import NewTopics, TopicNames

PAGE = (Path(__file__).parents[2] / "docs" / "kafka.md").read_text()


@pytest.mark.parametrize("model", [TopicNames, NewTopics, WorkerSettings])
def test_the_settings_are_the_documented_ones(model: type[BaseModel]) -> None:
    documented = re.findall(r"^\| `(\w+)` \| (\S+) \| (.*) \|$", PAGE, re.MULTILINE)
    for name, field in model.model_fields.items():
        default = field.default if isinstance(field.default, str) else f"{field.default:g}"
        assert (name, default, field.description) in documented


def test_every_setting_that_is_refused_is_documented_with_its_reason() -> None:
    documented = dict(re.findall(r"^\| `([a-z.]+\.[a-z.]+|acks)` \| (.*) \|$", PAGE, re.MULTILINE))
    assert documented == RESERVED
