"""The HTTP API as a FastAPI app, made for one bundle: its fields are the API's schema."""

from typing import Protocol

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from sentinel.errors import InvalidTransactions, MalformedInput
from sentinel.manifest import Manifest
from sentinel.scoring import Decisions, Judge
from sentinel.transactions import Transactions
from serve_app import openapi, problems
from serve_app.bodies import ARROW, JSON, MAX_BATCH_BODY, MAX_BODY, media_type, read_body
from serve_app.predict import Predictor
from serve_app.problems import Problem


class Scorer(Protocol):
    """What the API stands in front of."""

    judge: Judge
    manifest: Manifest

    async def score(self, transactions: Transactions) -> Decisions:
        """The decisions on n >= 0 transactions."""

    async def missing(self) -> dict[str, str]:
        """What keeps it from answering, with the reason; empty when it is ready."""


def create_api(scorer: Scorer) -> FastAPI:
    """The app that answers for this scorer."""
    app = FastAPI(title="SentinelStream", version=scorer.judge.digest[:12], redoc_url=None)
    _add_predict(app, scorer)
    _add_state(app, scorer)
    _add_problems(app)
    _describe(app, scorer)
    return app


def _add_predict(app: FastAPI, scorer: Scorer) -> None:
    predictor = Predictor(scorer.judge.description, scorer.score)

    @app.post("/predict", **openapi.PREDICT)
    async def predict(request: Request) -> Response:
        """Score one transaction."""
        media_type(request, JSON)
        body = await read_body(request, MAX_BODY)
        try:
            return Response(await predictor.one(body), media_type=JSON)
        except InvalidTransactions as error:
            raise problems.invalid(error, single=True) from error

    @app.post("/predict/batch", **openapi.PREDICT_BATCH)
    async def predict_batch(request: Request) -> Response:
        """Score many transactions, as a JSON list or an Arrow stream; the answer comes likewise."""
        kind = media_type(request, JSON, ARROW)
        body = await read_body(request, MAX_BATCH_BODY)
        answer = predictor.many_arrow if kind == ARROW else predictor.many_json
        try:
            return Response(await answer(body), media_type=kind)
        except InvalidTransactions as error:
            # Bad rows are reported inside the answer: here the whole body is at fault.
            raise problems.invalid(error, single=kind == JSON) from error


def _add_state(app: FastAPI, scorer: Scorer) -> None:
    digest = scorer.judge.digest
    manifest = msgspec.json.decode(scorer.manifest.to_bytes())
    model = msgspec.json.encode({"model_version": digest, **manifest})

    @app.get("/health", **openapi.HEALTH)
    async def health() -> Response:
        """Whether this process is alive; nothing else is asked."""
        return Response(b'{"status":"alive"}', media_type=JSON)

    @app.get("/ready", **openapi.READY)
    async def ready() -> Response:
        """Whether a transaction sent now gets a whole answer: both lanes hold the bundle."""
        missing = await scorer.missing()
        if missing:
            detail = "; ".join(f"{name}: {why}" for name, why in missing.items())
            members = {"missing": missing}
            raise Problem(503, "not-ready", detail, members=members, headers={"retry-after": "1"})
        answer = msgspec.json.encode({"status": "ready", "model_version": digest})
        return Response(answer, media_type=JSON)

    @app.get("/model", **openapi.MODEL)
    async def served_model() -> Response:
        """The manifest of the bundle that answers, and its digest as ``model_version``."""
        return Response(model, media_type=JSON)


def _add_problems(app: FastAPI) -> None:
    """Turns every error into a problem, also those of the framework."""

    @app.exception_handler(Problem)
    async def refused(_: Request, error: Problem) -> Response:
        return error.response()

    @app.exception_handler(MalformedInput)
    async def malformed(_: Request, error: MalformedInput) -> Response:
        return problems.malformed(error).response()

    @app.exception_handler(HTTPException)
    async def framework(_: Request, error: HTTPException) -> Response:
        return problems.without_type(error.status_code, error.detail, error.headers)

    @app.exception_handler(Exception)
    async def failed(_: Request, _error: Exception) -> Response:
        # What failed goes to the log, with its trace; the client learns only that it was not him.
        return Problem(500, "internal-error", "the error has been logged").response()


def _describe(app: FastAPI, scorer: Scorer) -> None:
    """Makes ``/openapi.json`` name the fields of this bundle."""
    description = scorer.judge.description
    components = openapi.components(description)

    def document() -> dict[str, object]:
        if app.openapi_schema is None:
            made = get_openapi(
                title=app.title,
                version=app.version,
                routes=app.routes,
                description=openapi.introduction(description, scorer.judge.digest),
            )
            made.setdefault("components", {}).setdefault("schemas", {}).update(components)
            app.openapi_schema = made
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]
