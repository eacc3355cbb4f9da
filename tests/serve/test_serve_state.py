"""What the service says of itself: its health, its model, its schema."""

import re
from typing import Any

import msgspec
import pytest

from sentinel.bundle import open_bundle
from sentinel.dataset import load_description, parse_description, shipped_datasets
from sentinel.parse_json import JsonParser
from serve_app.openapi import ANSWER_FIELDS, example, transaction_schema
from tests.serve.serving import Served


@pytest.fixture
def document(served: Served) -> dict[str, Any]:
    return served.client.get("/openapi.json").json()


def test_it_is_alive_and_ready(served: Served) -> None:
    assert served.client.get("/health").status_code == 200
    ready = served.client.get("/ready")
    assert ready.status_code == 200
    assert ready.json()["model_version"] == open_bundle(served.bundle).digest


def test_the_model_is_the_manifest_and_the_version_that_answers_carry(served: Served) -> None:
    opened = open_bundle(served.bundle)
    content = served.client.get("/model").json()
    assert content.pop("model_version") == opened.digest
    assert content["features"] == list(opened.manifest.features)
    assert content["files"].keys() == opened.manifest.files.keys()


def test_the_openapi_document_describes_the_fields_of_the_bundle(document: dict[str, Any]) -> None:
    body = document["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]
    assert body["schema"] == {"$ref": "#/components/schemas/Transaction"}
    schema = document["components"]["schemas"]["Transaction"]
    fields = load_description("transactions").inputs
    assert schema["properties"].keys() == fields.keys()
    assert set(schema["required"]) == fields.keys()
    amount = schema["properties"]["amount"]
    assert (amount["type"], amount["minimum"]) == ("number", 0)
    assert amount["description"] == "what was paid (EUR)"
    assert schema["properties"]["timestamp"]["format"] == "date-time"


def test_the_openapi_document_describes_the_answer(document: dict[str, Any]) -> None:
    answers = document["paths"]["/predict"]["post"]["responses"]["200"]["content"]
    assert answers["application/json"]["schema"] == {"$ref": "#/components/schemas/Answer"}
    answer = document["components"]["schemas"]["Answer"]["properties"]
    assert answer.keys() == ANSWER_FIELDS.keys()
    assert answer["decision"]["enum"] == ["approve", "review", "block"]
    assert all(field["description"] for field in answer.values())


def test_every_reference_in_the_openapi_document_leads_somewhere(document: dict[str, Any]) -> None:
    def references(node: Any) -> list[str]:
        if isinstance(node, dict):
            own = [node["$ref"]] if "$ref" in node else []
            return own + [ref for value in node.values() for ref in references(value)]
        return (
            [ref for value in node for ref in references(value)] if isinstance(node, list) else []
        )

    known = document["components"]["schemas"]
    found = {ref.removeprefix("#/components/schemas/") for ref in references(document)}
    assert found <= known.keys()
    assert {"Transaction", "Answer", "BatchAnswer", "Problem"} <= found


def test_the_example_of_the_documents_is_answered(served: Served, document: dict[str, Any]) -> None:
    answer = served.predict(document["components"]["schemas"]["Transaction"]["example"])
    assert answer["transaction_id"] == "t1"


def test_the_docs_page_shows_that_document(served: Served) -> None:
    page = served.client.get("/docs")
    assert page.status_code == 200
    assert "/openapi.json" in page.text


def test_the_docs_page_needs_nothing_from_elsewhere(served: Served) -> None:
    page = served.client.get("/docs").text
    assert "https://" not in page
    wanted = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert any(name.endswith(".js") for name in wanted)
    for name in wanted:
        assert served.client.get(name).status_code == 200, name


@pytest.mark.parametrize("name", shipped_datasets())
def test_the_example_of_a_shipped_dataset_is_one_it_accepts(name: str) -> None:
    description = load_description(name)
    made = example(description)
    assert made.keys() == description.inputs.keys()
    parsed = JsonParser(description).many(_json([made]))
    assert parsed.errors == ()


def test_every_kind_of_field_is_described_by_its_own_rules() -> None:
    description = parse_description(
        """
        name: all-kinds
        summary: One field of each kind.
        id: id
        time: row_order
        label: fraud
        amount: amount
        fields:
          id: {type: string, meaning: its name}
          amount: {type: number, meaning: paid, unit: EUR, minimum: 100}
          age: {type: integer, meaning: age, minimum: 0.5, maximum: 120, optional: true}
          present: {type: boolean, meaning: card was there}
          channel: {type: category, meaning: how, values: [web, shop], optional: true}
          fraud: {type: label, meaning: it was}
        features: [amount, age, present, channel]
        """,
        "a test",
    )
    schema = transaction_schema(description)
    properties = schema["properties"]
    assert schema["required"] == ["id", "amount", "present"]
    assert properties["age"]["type"] == ["integer", "null"]
    assert (properties["age"]["minimum"], properties["age"]["maximum"]) == (0.5, 120)
    assert properties["present"]["type"] == "boolean"
    assert properties["channel"]["enum"] == ["web", "shop", None]
    made = example(description)
    assert (made["amount"], made["age"], made["channel"]) == (100, 1, "web")
    assert JsonParser(description).many(_json([made])).errors == ()


def _json(rows: list[dict[str, Any]]) -> bytes:
    return msgspec.json.encode(rows)
