"""What is measured by is the shipped config, with what a place may lay over it."""

from pathlib import Path

import pytest
import yaml

from loadtest.contenders import Recipe, apart, together
from loadtest.serve_configs import CONFIG, fixed, shipped, sized
from sentinel.errors import SentinelError
from serve_app.serve_config import LANES, ROUTER, read_config


def test_a_fixed_config_differs_from_the_shipped_one_in_bounds_alone(tmp_path: Path) -> None:
    content = yaml.safe_load(fixed(tmp_path, 2).read_text())
    deployments = sized(content)
    assert [each["name"] for each in deployments] == [ROUTER, *LANES]
    for each, usual in zip(deployments, sized(shipped()), strict=True):
        bounds = each["autoscaling_config"]
        assert (bounds["min_replicas"], bounds["max_replicas"]) == (2, 2)
        each["autoscaling_config"] = usual["autoscaling_config"]
    assert content == yaml.safe_load(CONFIG.read_text())


@pytest.mark.parametrize("recipe", [apart, together])
def test_the_service_is_measured_with_one_replica_of_each(recipe: Recipe, tmp_path: Path) -> None:
    contender = recipe("bundle", tmp_path)
    (file,) = (word for word in contender.command if word.endswith(".yaml"))
    for each in sized(dict(read_config(Path(file)).content)):
        bounds = each["autoscaling_config"]
        assert (bounds["min_replicas"], bounds["max_replicas"]) == (1, 1)


def test_a_config_in_which_nothing_follows_the_load_is_an_error() -> None:
    with pytest.raises(SentinelError, match="no deployment with an autoscaling_config"):
        sized({"applications": [{"deployments": [{"name": "XGBoost", "num_replicas": 1}]}]})
