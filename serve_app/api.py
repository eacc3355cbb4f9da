"""The HTTP API but for the predict routes, as a FastAPI app made for one bundle.

Its fields are the API's schema, so another bundle has an app of its own.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from sentinel.answers import JSON
from sentinel.errors import InvalidTransactions, MalformedInput, Overloaded
from sentinel.profile_store import Label
from serve_app import openapi, problems
from serve_app.home import home_page
from serve_app.labels import LabelReader, answer_labels
from serve_app.problems import Problem
from serve_app.served import ServedBundle

EXPOSITION = "text/plain; version=0.0.4; charset=utf-8"
"""The media type of Prometheus' text format."""


class RefusedBundle(msgspec.Struct, frozen=True):
    """A bundle that should be served and is not: who refused it, and why."""

    deployment: str
    bundle: str
    reason: str


class Router(Protocol):
    """What the API asks the router for."""

    async def missing(self) -> dict[str, str]:
        """What keeps it from whole answers, with the reason; empty when it is ready."""

    async def refused(self) -> Sequence[RefusedBundle]:
        """The bundles that were refused; empty when what should be served is."""

    async def profiles(self) -> str:
        """Where the profiles come from (see ``FraudRouter.profiles``)."""

    async def label(self, labels: Sequence[Label]) -> list[str]:
        """What became of each label, in order."""

    async def metrics(self) -> bytes:
        """The metrics of this node's replicas of the application, in Prometheus' text format."""


def create_api(router: Router, served: ServedBundle, labels: LabelReader) -> FastAPI:
    """The app for this bundle."""
    # With its scripts from here: a payment network has no way out to fetch them.
    app = FastAPIOffline(
        title="SentinelStream",
        version=served.digest[:12],
        redoc_url=None,
        static_url="/docs/static",
    )
    _add_state(app, router, served)
    _add_labels(app, router, labels)
    _add_pages(app, router, served)
    _add_problems(app)
    _describe(app, served)
    return app


def _add_state(app: FastAPI, router: Router, served: ServedBundle) -> None:
    digest = served.digest
    manifest = msgspec.json.decode(served.manifest.to_bytes())

    @app.head("/health", include_in_schema=False)
    @app.get("/health", **openapi.HEALTH)
    async def health() -> Response:
        """Whether this process is alive; nothing else is asked."""
        return Response(b'{"status":"alive"}', media_type=JSON)

    @app.head("/ready", include_in_schema=False)
    @app.get("/ready", **openapi.READY)
    async def ready() -> Response:
        """Whether a transaction sent now gets a whole answer: both lanes hold the bundle.

        `refused` lists the bundles that should be served and could not be loaded.
        """
        missing = await router.missing()
        if missing:
            detail = "; ".join(f"{name}: {why}" for name, why in missing.items())
            members = {"missing": missing}
            raise Problem(503, "not-ready", detail, members=members, headers={"retry-after": "1"})
        content = {
            "status": "ready",
            "model_version": digest,
            "profiles": await router.profiles(),
            "refused": await router.refused(),
        }
        return _json(content)

    @app.get("/model", **openapi.MODEL)
    async def served_model() -> Response:
        """The manifest of the bundle that answers, and its digest as `model_version`."""
        own = {
            "model_version": digest,
            "profiles": await router.profiles(),
            "refused": await router.refused(),
        }
        return _json({**manifest, **own, "snapshot": manifest["profiles"]})


def _add_labels(app: FastAPI, router: Router, labels: LabelReader) -> None:
    @app.post("/labels", **openapi.LABELS)
    async def label(request: Request) -> Response:
        """What transactions turned out to be: confirmed frauds and all-clears.

        Each counts in the risk of its customer and terminal from the label delay after its
        transaction on.
        """
        found, errors = await labels.read(dict(request.scope["headers"]), request.receive)
        outcomes = await router.label(found) if found else []
        return Response(answer_labels(found, outcomes, errors), media_type=JSON)


def _add_pages(app: FastAPI, router: Router, served: ServedBundle) -> None:
    page = home_page(served)

    @app.get("/metrics", **openapi.METRICS)
    async def metrics() -> Response:
        """The metrics of this node's replicas, all of them, in Prometheus' text format."""
        return Response(await router.metrics(), media_type=EXPOSITION)

    @app.get("/", include_in_schema=False)
    async def home() -> Response:
        return HTMLResponse(page)


def _json(content: Any) -> Response:
    return Response(msgspec.json.encode(content), media_type=JSON)


def _add_problems(app: FastAPI) -> None:
    """Turns every error into a problem, also those of the framework."""

    @app.exception_handler(Problem)
    async def refused(_: Request, error: Problem) -> Response:
        return error.response()

    @app.exception_handler(MalformedInput)
    async def malformed(_: Request, error: MalformedInput) -> Response:
        return problems.malformed(error).response()

    @app.exception_handler(InvalidTransactions)
    async def invalid(_: Request, error: InvalidTransactions) -> Response:
        return problems.invalid(error).response()

    @app.exception_handler(Overloaded)
    async def overloaded(_: Request, error: Overloaded) -> Response:
        return problems.overloaded(error).response()

    @app.exception_handler(HTTPException)
    async def framework(_: Request, error: HTTPException) -> Response:
        return problems.without_type(error.status_code, error.detail, error.headers)

    @app.exception_handler(Exception)
    async def failed(_: Request, _error: Exception) -> Response:
        return problems.internal().response()


def _describe(app: FastAPI, served: ServedBundle) -> None:
    """Makes ``/openapi.json`` name the fields of this bundle, and the predict routes."""
    description = served.judge.description
    components = openapi.components(description)

    def document() -> dict[str, object]:
        if app.openapi_schema is None:
            made = get_openapi(
                title=app.title,
                version=app.version,
                routes=app.routes,
                description=openapi.introduction(description, served.digest),
            )
            made["paths"] = {**openapi.PREDICT_PATHS, **made["paths"]}
            made.setdefault("components", {}).setdefault("schemas", {}).update(components)
            made["components"]["securitySchemes"] = openapi.SECURITY_SCHEMES
            app.openapi_schema = made
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]
