"""The one Serve config fits Ray's schema, the code, and a small machine."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError
from ray.serve.schema import ServeDeploySchema

from deployments import lane_server
from deployments.autoscaling import INTERVAL
from deployments.profile_settings import PROFILES, ProfileSettings
from serve_app import serve_config
from serve_app.app import build
from serve_app.args import AppArgs, RouterSettings
from serve_app.local_serve import LocalServe
from serve_app.serve_config import (
    IMPORT_PATH,
    ROUTER,
    SCALING_POLICY,
    CannotServe,
    Overlay,
    read_config,
)
from serve_app.signals import Signals

CONFIG = Path(__file__).parents[2] / "serve_app" / "config.yaml"
DOCS = Path(__file__).parents[2] / "docs" / "serving.md"
DIGEST = "0" * 64
APPLICATION = ("applications", 0)
XGBOOST = (*APPLICATION, "deployments", 1)


@pytest.fixture
def config() -> dict[str, Any]:
    return yaml.safe_load(CONFIG.read_text())


@pytest.fixture
def application(config: dict[str, Any]) -> dict[str, Any]:
    (application,) = config["applications"]
    return application


def written(folder: Path, text: str) -> Path:
    file = folder / "c.yaml"
    file.write_text(text)
    return file


def ours(**keys: Any) -> str:
    return yaml.safe_dump({"applications": [{"import_path": IMPORT_PATH, **keys}]})


def policy(**settings: Any) -> dict[str, Any]:
    return {"policy_function": SCALING_POLICY, "policy_kwargs": settings}


def test_serve_accepts_the_config(config: dict[str, Any]) -> None:
    schema = ServeDeploySchema.model_validate(config)
    assert schema.http_options.host == "127.0.0.1"
    assert schema.http_options.port == 8000


def test_it_names_the_builder(application: dict[str, Any]) -> None:
    assert application["name"] == "sentinel"
    assert application["route_prefix"] == "/"
    assert application["import_path"] == f"{build.__module__}:{build.__name__}" == IMPORT_PATH
    assert AppArgs.model_validate(application["args"]) == AppArgs()


def test_it_names_the_deployments_of_the_code(application: dict[str, Any]) -> None:
    names = [deployment["name"] for deployment in application["deployments"]]
    assert names == [ROUTER, PROFILES, *lane_server.DEPLOYMENTS.values()]
    assert tuple(names) == serve_config.DEPLOYMENTS


def test_the_bundle_is_one_for_all_deployments(application: dict[str, Any]) -> None:
    for deployment in application["deployments"]:
        assert deployment["user_config"] == lane_server.DEFAULT_BUNDLE
    assert lane_server.DEFAULT_BUNDLE == {"bundle": serve_config.DEFAULT_BUNDLE}


def test_every_deployment_states_its_size(application: dict[str, Any]) -> None:
    for deployment in application["deployments"]:
        assert deployment["graceful_shutdown_timeout_s"] > 0
        if deployment["name"] == PROFILES:  # one truth
            assert deployment["num_replicas"] == 1
            continue
        bounds = deployment["autoscaling_config"]
        assert 1 <= bounds["min_replicas"] <= bounds["max_replicas"]
        # The policy alone says when; and it is told often enough to know.
        assert bounds["upscale_delay_s"] == bounds["downscale_delay_s"] == 0
        assert bounds["metrics_interval_s"] == INTERVAL
        assert bounds["look_back_period_s"] >= 4 * INTERVAL


def test_serve_never_queues_before_the_router_refuses(application: dict[str, Any]) -> None:
    router, *lanes = application["deployments"]
    settings = RouterSettings()
    assert router["max_ongoing_requests"] > 4_096, "as many as HAProxy has connections"
    assert settings.waiting_requests < router["max_ongoing_requests"]
    for lane in lanes:
        assert (
            lane["max_ongoing_requests"]
            >= settings.flights * (router["autoscaling_config"]["max_replicas"])
        )


def test_one_of_each_fits_on_one_core_and_all_of_them_on_two(application: dict[str, Any]) -> None:
    def cores(bound: str) -> float:
        return sum(
            d["ray_actor_options"]["num_cpus"] * d.get("autoscaling_config", {}).get(bound, 1)
            for d in application["deployments"]
        )

    assert cores("min_replicas") <= 1
    assert cores("max_replicas") <= 2


def test_serve_can_convert_the_builders_arguments() -> None:
    # It looks at the annotation itself: a string, as postponed annotations leave, is passed over.
    assert build.__annotations__["args"] is AppArgs


def test_unknown_arguments_are_refused() -> None:
    with pytest.raises(ValidationError, match="bundle"):
        AppArgs.model_validate({"bundle": "x"})
    with pytest.raises(ValidationError, match="flight_row"):
        AppArgs.model_validate({"router": {"flight_row": 1}})


def test_every_argument_is_documented_with_its_default() -> None:
    docs = DOCS.read_text() + DOCS.with_name("profiles.md").read_text()
    for model in (AppArgs, RouterSettings, ProfileSettings):
        for name, field in model.model_fields.items():
            if name in ("router", "profiles"):
                continue
            words = {"None": "null", "False": "false", "True": "true", "separate": "separate"}
            default = words.get(str(field.default)) or f"{field.default:,}"
            assert f"| `{name}` | {default} |" in docs, (name, default)


def test_what_a_place_may_lay_over_it_is_laid_over(tmp_path: Path) -> None:
    overlay = Overlay(
        bundle=str(tmp_path / "b"), host="0.0.0.0", port=9000, api_keys="k", allow_anonymous=True
    )
    read = read_config(CONFIG, overlay)
    assert (read.bundle.bundle, read.port, read.host) == (str(tmp_path / "b"), 9000, "0.0.0.0")
    assert read.args == AppArgs(api_keys=str(Path("k").absolute()), allow_anonymous=True)
    schema = ServeDeploySchema.model_validate(read.content)
    assert (schema.http_options.host, schema.http_options.port) == ("0.0.0.0", 9000)
    for deployment in schema.applications[0].deployments:
        assert deployment.user_config == {"bundle": str(tmp_path / "b")}


def test_nothing_else_of_the_config_is_changed(config: dict[str, Any]) -> None:
    read = dict(read_config(CONFIG).content)
    for deployment in read["applications"][0]["deployments"]:
        deployment["user_config"] = lane_server.DEFAULT_BUNDLE
    assert read == config


def test_the_digest_is_pinned_for_every_deployment(tmp_path: Path) -> None:
    read = read_config(CONFIG, Overlay(bundle="s3://models/b")).with_digest(DIGEST)
    for deployment in read.content["applications"][0]["deployments"]:
        assert deployment["user_config"] == {"bundle": "s3://models/b", "digest": DIGEST}


def test_a_digest_that_the_config_pins_is_kept_unless_another_bundle_is_named(
    tmp_path: Path,
) -> None:
    pinned = {"bundle": "/b", "digest": DIGEST}
    deployments = [{"name": name, "user_config": pinned} for name in serve_config.DEPLOYMENTS]
    file = written(tmp_path, ours(deployments=deployments))
    read = read_config(file)
    assert (read.bundle.bundle, read.bundle.digest) == ("/b", DIGEST)
    for deployment in read.content["applications"][0]["deployments"]:
        assert deployment["user_config"] == pinned
    assert read_config(file, Overlay(bundle="/other")).bundle.digest is None


def test_a_place_lays_over_nothing_else(tmp_path: Path, config: dict[str, Any]) -> None:
    names = set(Overlay.__dataclass_fields__)
    assert names == {
        "bundle", "host", "port", "api_keys", "allow_anonymous", "profiles", "history",
        "placement",
    }  # fmt: skip
    overlay = Overlay(
        bundle="/b", host="::1", port=1, api_keys="/k", allow_anonymous=True, profiles="/p",
        history="/h", placement="separate",
    )  # fmt: skip
    read = dict(read_config(CONFIG, overlay).content)
    application = read["applications"][0]
    application["args"] = config["applications"][0]["args"]
    for deployment in application["deployments"]:
        deployment["user_config"] = lane_server.DEFAULT_BUNDLE
    read["http_options"] = config["http_options"]
    assert read == config


def test_a_router_that_has_the_models_itself_has_no_deployments_of_them(tmp_path: Path) -> None:
    apart = [{"name": "Other"}, {"name": "XGBoost", "max_ongoing_requests": 16}]
    file = written(tmp_path, ours(args={"placement": "together"}, deployments=apart))
    for read in (read_config(file), read_config(CONFIG, Overlay(placement="together"))):
        schema = ServeDeploySchema.model_validate(read.with_digest(DIGEST).content)
        names = [deployment.name for deployment in schema.applications[0].deployments]
        assert [name for name in names if name != "Other"] == [ROUTER, PROFILES]
        assert read.args.placement == "together"
    shipped = read_config(CONFIG, Overlay(placement="together")).content["applications"][0]
    assert shipped["autoscaling_policy"]["policy_function"] == SCALING_POLICY
    sized = [d["name"] for d in shipped["deployments"] if "autoscaling_config" in d]
    assert sized == [ROUTER]  # the one that the policy gets to see
    assert "Other" in [
        d["name"] for d in read_config(file).content["applications"][0]["deployments"]
    ]


def test_a_relative_bundle_is_made_absolute_and_a_uri_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert read_config(CONFIG, Overlay(bundle="b")).bundle.bundle == str(tmp_path / "b")
    assert read_config(CONFIG, Overlay(bundle="s3://bucket/b")).bundle.bundle == "s3://bucket/b"


def test_a_config_that_names_little_gets_the_rest(tmp_path: Path) -> None:
    read = read_config(written(tmp_path, ours(deployments=[{"name": "XGBoost"}])))
    assert (read.host, read.port) == ("127.0.0.1", 8000)
    schema = ServeDeploySchema.model_validate(read.content)
    assert schema.http_options.host == "127.0.0.1"
    found = {d.name: d.user_config for d in schema.applications[0].deployments}
    assert found.keys() == set(serve_config.DEPLOYMENTS)
    assert all(config == {"bundle": read.bundle.bundle} for config in found.values())


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("a: [", "c.yaml"),
        ("[]", "no application"),
        ("applications: [{import_path: other.app}]", "no application"),
        (ours(args={"bundle": "x"}), "args.bundle: unknown"),
        (ours(args={"router": {"flights": 0}}), "args.router.flights"),
        (ours(args=["x"]), "args is"),
        (ours(deployments=["x"]), "deployments is"),
        (
            ours(deployments=[{"name": "XGBoost", "user_config": {"bundle": "other"}}]),
            "one for all deployments",
        ),
        (
            ours(deployments=[{"name": "XGBoost", "user_config": {"bundel": "other"}}]),
            "XGBoost.user_config.bundel",
        ),
        (
            ours(deployments=[{"name": "XGBoost", "user_config": {"bundle": 7}}]),
            "XGBoost.user_config.bundle",
        ),
        (
            ours(autoscaling_policy=policy(objective=5)),
            "policy_kwargs.objective: unknown setting; docs/autoscaling.md lists them",
        ),
        (
            ours(autoscaling_policy=policy(objective_ms=0)),
            "policy_kwargs.objective_ms: Input should be greater than 0",
        ),
        (f"http_options: {{port: 0}}\n{ours()}", "port is 0"),
        (f"http_options: {{host: 7}}\n{ours()}", "host is 7"),
    ],
)
def test_a_config_that_cannot_be_used_is_one_line(
    tmp_path: Path, text: str, complaint: str
) -> None:
    with pytest.raises(CannotServe, match=complaint) as refused:
        read_config(written(tmp_path, text))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("path", "key", "hint"),
    [
        ((), "http_option", "http_options"),
        (("http_options",), "hosts", "host"),
        (("applications", 0), "arg", "args"),
        (("applications", 0, "deployments", 2), "max_ongoing_request", "max_ongoing_requests"),
        (
            ("applications", 0, "deployments", 2, "autoscaling_config"),
            "min_replica",
            "min_replicas",
        ),
        (("applications", 0, "deployments", 2, "ray_actor_options"), "num_cpu", "num_cpus"),
        (("applications", 0, "autoscaling_policy"), "policy_kwarg", "policy_kwargs"),
    ],
)
def test_a_key_that_serve_would_pass_over_in_silence_is_refused(
    tmp_path: Path, config: dict[str, Any], path: tuple[Any, ...], key: str, hint: str
) -> None:
    place: Any = config
    for step in path:
        place = place[step]
    place[key] = 1
    read = read_config(written(tmp_path, yaml.safe_dump(config)))
    with pytest.raises(CannotServe, match=f"{key}: unknown key; did you mean {hint}"):
        LocalServe(read, Signals())


def test_the_shipped_config_has_no_such_key() -> None:
    LocalServe(read_config(CONFIG), Signals())
