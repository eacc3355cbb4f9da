"""The one Serve config fits Ray's schema, the code, and a small machine."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError
from ray.serve.schema import ServeDeploySchema

from deployments.lane_server import DEPLOYMENTS
from serve_app.app import ROUTER, build
from serve_app.args import DEFAULT_BUNDLE, AppArgs
from serve_app.serve_config import IMPORT_PATH, CannotServe, read_config

CONFIG = Path(__file__).parents[2] / "serve_app" / "config.yaml"


@pytest.fixture
def config() -> dict[str, Any]:
    return yaml.safe_load(CONFIG.read_text())


@pytest.fixture
def application(config: dict[str, Any]) -> dict[str, Any]:
    (application,) = config["applications"]
    return application


def test_serve_accepts_the_config(config: dict[str, Any]) -> None:
    schema = ServeDeploySchema.model_validate(config)
    assert schema.http_options.host == "127.0.0.1"
    assert schema.http_options.port == 8000


def test_it_names_the_builder_and_its_default_bundle(application: dict[str, Any]) -> None:
    assert application["name"] == "sentinel"
    assert application["route_prefix"] == "/"
    assert application["import_path"] == f"{build.__module__}:{build.__name__}" == IMPORT_PATH
    assert application["args"] == {"bundle": DEFAULT_BUNDLE}


def test_it_names_the_deployments_of_the_code(application: dict[str, Any]) -> None:
    names = [deployment["name"] for deployment in application["deployments"]]
    assert sorted(names) == sorted([ROUTER, *DEPLOYMENTS.values()])


def test_every_deployment_states_its_size(application: dict[str, Any]) -> None:
    for deployment in application["deployments"]:
        assert deployment["num_replicas"] == 1
        assert deployment["max_ongoing_requests"] > 5, "Ray's default of 5 is no decision"


def test_all_of_it_fits_on_one_core(application: dict[str, Any]) -> None:
    cores = sum(d["ray_actor_options"]["num_cpus"] for d in application["deployments"])
    assert cores <= 1


def test_serve_can_convert_the_builders_arguments() -> None:
    # It looks at the annotation itself: a string, as postponed annotations leave, is passed over.
    assert build.__annotations__["args"] is AppArgs


def test_unknown_arguments_are_refused() -> None:
    with pytest.raises(ValidationError, match="bundel"):
        AppArgs.model_validate({"bundel": "x"})


def test_a_relative_bundle_is_made_absolute_and_a_uri_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert AppArgs(bundle="bundles/b").bundle_uri == str(tmp_path / "bundles" / "b")
    assert AppArgs(bundle="s3://bucket/b").bundle_uri == "s3://bucket/b"


def test_bundle_and_port_are_laid_over_the_config(tmp_path: Path) -> None:
    read = read_config(CONFIG, bundle=str(tmp_path / "b"), port=9000)
    assert (read.bundle_uri, read.port, read.host) == (str(tmp_path / "b"), 9000, "127.0.0.1")
    schema = ServeDeploySchema.model_validate(read.content)
    assert schema.http_options.port == 9000
    assert schema.applications[0].args == {"bundle": str(tmp_path / "b")}


def test_nothing_else_of_the_config_is_changed(config: dict[str, Any]) -> None:
    read = dict(read_config(CONFIG).content)
    read["applications"][0]["args"] = config["applications"][0]["args"]
    assert read == config


def test_a_config_that_names_no_host_listens_on_loopback(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(yaml.safe_dump({"applications": [{"import_path": IMPORT_PATH}]}))
    read = read_config(file)
    assert read.host == "127.0.0.1"
    assert ServeDeploySchema.model_validate(read.content).http_options.host == "127.0.0.1"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("a: [", "c.yaml"),
        ("[]", "no application"),
        ("applications: [{import_path: other.app}]", "no application"),
        (f"applications: [{{import_path: {IMPORT_PATH}, args: {{bundel: x}}}}]", "args.bundel"),
        (f"applications: [{{import_path: {IMPORT_PATH}, args: {{bundle: ''}}}}]", "args.bundle"),
    ],
)
def test_a_config_that_cannot_be_used_is_one_line(
    tmp_path: Path, text: str, complaint: str
) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(text)
    with pytest.raises(CannotServe, match=complaint) as refused:
        read_config(file)
    assert "\n" not in str(refused.value)
