"""The API in OpenAPI's words: routes here, the transaction from the bundle's own description."""

import math
from typing import Any

import msgspec

from sentinel.answers import ARROW, JSON, Answer, BatchAnswer
from sentinel.dataset import DatasetDescription, FieldSpec
from sentinel.decision import DECISIONS
from sentinel.fields import MAX_STRING
from serve_app.bodies import MAX_BATCH_BODY, MAX_BODY, MAX_ROWS
from serve_app.keys import SCOPES
from serve_app.labels import LabelAnswer
from serve_app.problems import PROBLEM_JSON

Schema = dict[str, Any]

ANSWER_FIELDS = {
    "transaction_id": "the request's",
    "decision": "what to do with the transaction",
    "fraud_probability": "calibrated probability of fraud, 0 to 1; null if that model was missing",
    "anomaly_score": "how easily the row is told from others, 0 to 1; null if that model was "
    "missing",
    "novelty_p": "share of recent legitimate transactions at least as unusual as this one",
    "reasons": "why it is reviewed or blocked; empty for an approval",
    "model_version": "digest of the bundle that answered",
    "degraded": "true when something the answer rests on was missing",
}


def transaction_schema(description: DatasetDescription) -> Schema:
    """JSON Schema of a request for this description."""
    inputs = description.inputs
    return {
        "type": "object",
        "title": "Transaction",
        "description": f"{description.summary} Other fields are ignored.",
        "properties": {name: _field_schema(spec) for name, spec in inputs.items()},
        "required": [name for name, spec in inputs.items() if not spec.optional],
        "example": example(description),
    }


def example(description: DatasetDescription) -> dict[str, Any]:
    """A made-up transaction that the description accepts."""
    made = {name: _example_value(spec) for name, spec in description.inputs.items()}
    amount = description.fields[description.amount]
    return {
        **made,
        description.id: "t1",
        description.amount: _within(amount, 57.16),
    }


def components(description: DatasetDescription) -> dict[str, Schema]:
    """Every schema that the routes below refer to."""
    _, made = msgspec.json.schema_components(
        [Answer, BatchAnswer, LabelAnswer], ref_template="#/components/schemas/{name}"
    )
    for name, meaning in ANSWER_FIELDS.items():
        made["Answer"]["properties"][name]["description"] = meaning
    made["Answer"]["properties"]["decision"]["enum"] = list(DECISIONS)
    return {**made, "Transaction": transaction_schema(description), "Problem": _PROBLEM}


def introduction(description: DatasetDescription, digest: str) -> str:
    """The text above the routes."""
    return (
        f"Scores card transactions for fraud by the bundle `{digest[:12]}` "
        f"(dataset `{description.name}`)."
    )


def _field_schema(spec: FieldSpec) -> Schema:
    schema: Schema = dict(_TYPES[spec.type])
    if spec.type == "category":
        schema["enum"] = [*(spec.values or ()), *([None] if spec.optional else [])]
    if spec.minimum is not None:
        schema["minimum"] = spec.minimum
    if spec.maximum is not None:
        schema["maximum"] = spec.maximum
    if spec.optional:
        schema["type"] = [schema["type"], "null"]
    unit = f" ({spec.unit})" if spec.unit else ""
    return {**schema, "description": f"{spec.meaning}{unit}"}


_TYPES: dict[str, Schema] = {
    "string": {"type": "string", "minLength": 1, "maxLength": MAX_STRING},
    "timestamp": {"type": "string", "format": "date-time"},
    "number": {"type": "number"},
    "integer": {"type": "integer"},
    "boolean": {"type": "boolean"},
    "category": {"type": "string"},
}


def _example_value(spec: FieldSpec) -> Any:
    match spec.type:
        case "string":
            return "42"
        case "timestamp":
            return "2018-08-01T10:00:00Z"
        case "boolean":
            return False
        case "category":
            return (spec.values or ("",))[0]
        case "integer":
            return math.ceil(_within(spec, 0))
        case _:
            return _within(spec, 0.0)


def _within(spec: FieldSpec, wish: float) -> float:
    """``wish``, or the accepted number nearest to it."""
    low = wish if spec.minimum is None else max(wish, spec.minimum)
    return low if spec.maximum is None else min(low, spec.maximum)


_PROBLEM: Schema = {
    "type": "object",
    "title": "Problem",
    "description": "An RFC 9457 problem.",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "description": "names the kind of problem"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "what is wrong this time"},
        "field": {"type": "string", "description": "422: the first bad field"},
        "value": {"description": "422: what came in it"},
        "expected": {"type": "string", "description": "422: what would have been accepted"},
        "errors": {
            "type": "array",
            "description": "422: every bad field",
            "items": {
                "type": "object",
                "required": ["field", "value", "expected"],
                "properties": {
                    "field": {"type": "string"},
                    "value": {},
                    "expected": {"type": "string"},
                },
            },
        },
    },
}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _problem(meaning: str) -> Schema:
    return {"description": meaning, "content": {PROBLEM_JSON: {"schema": _ref("Problem")}}}


def _refusals(limits: str) -> dict[str, Schema]:
    return {
        "400": _problem("Malformed bytes: not JSON, not UTF-8, not Arrow, nested too deeply"),
        "401": _problem("No API key, or an unknown one"),
        "403": _problem("The API key lacks the scope"),
        "408": _problem("The body stopped coming"),
        "413": _problem(f"Too large: {limits}"),
        "415": _problem("A media type that cannot be read here"),
        "422": _problem("Well-formed, but not what the fields accept"),
        "503": _problem("No room now: send the same request again after `Retry-After` seconds"),
    }


_ARROW_ROWS: Schema = {"type": "string", "format": "binary"}

_KEY: list[dict[str, list[str]]] = [{"key": []}, {}]
"""A key is asked for where the service was started with a file of them."""

SECURITY_SCHEMES: dict[str, Schema] = {
    "key": {
        "type": "http",
        "scheme": "bearer",
        "description": "An API key, where the service was started with some. Scopes: "
        + "; ".join(f"`{scope}` opens {what}" for scope, what in SCOPES.items()),
    }
}

PREDICT_PATHS: dict[str, Schema] = {
    "/predict": {
        "post": {
            "summary": "Score one transaction",
            "operationId": "predict",
            "security": _KEY,
            "requestBody": {"required": True, "content": {JSON: {"schema": _ref("Transaction")}}},
            "responses": {
                "200": {"description": "The answer", "content": {JSON: {"schema": _ref("Answer")}}},
                "409": _problem("This `transaction_id` was used with other fields"),
                **_refusals(f"over {MAX_BODY:,} bytes"),
            },
        }
    },
    "/predict/batch": {
        "post": {
            "summary": "Score many transactions",
            "description": "A JSON list or an Arrow stream; the answer comes likewise.",
            "operationId": "predict_batch",
            "security": _KEY,
            "requestBody": {
                "required": True,
                "content": {
                    JSON: {"schema": {"type": "array", "items": _ref("Transaction")}},
                    ARROW: {
                        "schema": {
                            **_ARROW_ROWS,
                            "description": "An Arrow IPC stream whose columns are named as the "
                            "fields",
                        }
                    },
                },
            },
            "responses": {
                "200": {
                    "description": "The answers, in the format of the request. In JSON `results` "
                    "holds the good rows in order and `errors` an entry for each bad one; the "
                    "Arrow stream has a row per input row and a nullable column `error`.",
                    "content": {
                        JSON: {"schema": _ref("BatchAnswer")},
                        ARROW: {"schema": _ARROW_ROWS},
                    },
                },
                **_refusals(f"over {MAX_BATCH_BODY:,} bytes or {MAX_ROWS:,} rows"),
            },
        }
    },
}
"""The predict routes in OpenAPI's own words: FastAPI does not see them."""


def _object(meaning: str) -> dict[int | str, Schema]:
    return {200: {"description": meaning, "content": {JSON: {"schema": {"type": "object"}}}}}


_LABEL: Schema = {
    "type": "object",
    "required": ["transaction_id", "is_fraud", "timestamp"],
    "properties": {
        "transaction_id": {"type": "string", "description": "the transaction's own"},
        "is_fraud": {"type": "boolean", "description": "what it turned out to be"},
        "timestamp": {
            "type": "string",
            "format": "date-time",
            "description": "when that was established: of two labels the later one counts",
        },
    },
    "example": {"transaction_id": "t1", "is_fraud": True, "timestamp": "2018-08-03T09:00:00Z"},
}

LABELS: dict[str, Any] = {
    "responses": {
        200: {
            "description": "What became of each good label, in order: `applied`, `repeated` (known "
            "already), `superseded` (a later label was known), `unknown` (no such transaction is "
            "remembered) or `unused` (this bundle's features need no labels); and an error for "
            "each bad one",
            "content": {JSON: {"schema": _ref("LabelAnswer")}},
        },
        **{int(code): problem for code, problem in _refusals(f"{MAX_BATCH_BODY:,} bytes").items()},
    },
    "openapi_extra": {
        "security": _KEY,
        "requestBody": {
            "required": True,
            "content": {JSON: {"schema": {"type": "array", "items": _LABEL}}},
        },
    },
}
"""``POST /labels``."""

HEALTH: dict[str, Any] = {"responses": _object("Alive")}
READY: dict[str, Any] = {
    "responses": {
        **_object("Ready"),
        503: _problem("Not ready; `missing` names each lane that is not, with the reason"),
    }
}
MODEL: dict[str, Any] = {"responses": _object("The manifest"), "openapi_extra": {"security": _KEY}}
METRICS: dict[str, Any] = {
    "responses": {
        200: {"description": "The metrics", "content": {"text/plain": {}}},
        503: _problem("Ray's metrics agent does not answer"),
    },
    "openapi_extra": {"security": _KEY},
}
