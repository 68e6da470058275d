"""The OpenAPI document is valid, tells the columns of the live version, and its examples are answered."""

import copy
import json
from types import SimpleNamespace

import jsonschema_rs
import pytest
import schemathesis

from saec.server.openapi import candidate_columns
from saec.serving import Model
from tests.server.conftest import serving
from tests.server.versions import publish, rows


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """A server with a real version, whose rows may bear an id."""
    with serving(tmp_path_factory.mktemp("real"), open_model=Model.open, row_ids=("impression_id",)) as served:
        publish(served.store, 1)
        served.follower.look()
        yield served


@pytest.fixture(scope="module")
def document(real) -> dict:
    """The document."""
    return real.client.get("/openapi.json").json()


def test_it_is_valid(document):
    """By the schema of OpenAPI 3.1, and every operation is there."""
    schemathesis.openapi.from_dict(copy.deepcopy(document)).validate()
    assert document["openapi"] == "3.1.0"
    assert document["paths"].keys() == {"/v1/score", "/v1/model", "/openapi.json", "/healthz", "/readyz", "/metrics"}


def test_its_examples_are_answered(real, document):
    """Each example request has scores, and the answer is as the document says."""
    operation = document["paths"]["/v1/score"]["post"]
    scores = document["components"]["schemas"]["Scores"]
    for example in operation["requestBody"]["content"]["application/json"]["examples"].values():
        answer = real.client.post("/v1/score", json=example["value"])
        assert answer.status_code == 200, answer.text
        jsonschema_rs.validate(scores, answer.json())
    jsonschema_rs.validate(scores, operation["responses"]["200"]["content"]["application/json"]["example"])


def test_its_example_is_a_page(document):
    """User and page are said once; a candidate has the few columns that tell it apart."""
    content = document["paths"]["/v1/score"]["post"]["requestBody"]["content"]["application/json"]
    page = content["examples"]["candidates"]["value"]
    assert page["user"].keys() == {"user_id", "site", "age", "mobile", "time"}
    assert [candidate.keys() for candidate in page["candidates"]] == [{"tags", "price", "slot"}] * 3


@pytest.mark.parametrize(
    ("columns", "own"),
    [
        (["user_id", "article_id", "position"], ["article_id", "position"]),
        (["C1", "C2", "C3", "C4", "C5"], ["C5"]),
        (["x"], ["x"]),
        (["item_id", "adId"], ["item_id"]),
        (["advert", "reader", "itemId"], ["itemId"]),
    ],
)
def test_candidates_are_told_by_their_names(columns, own):
    """By whole words; where that says nothing, the last columns are theirs."""
    readers = dict.fromkeys(columns, object()) | {"time": None}
    assert candidate_columns(SimpleNamespace(schema=SimpleNamespace(readers=readers))) == own


def test_a_row_is_as_the_version_wants_it(document):
    """Good rows, ids or none, fit; a row with a missing, unknown or unfit column does not."""
    schema = document["components"]["schemas"]["Row"]
    good = rows(1)[0]
    for fit in (*rows(20), good | {"impression_id": 3}, {key: good[key] for key in good if key != "site"}):
        jsonschema_rs.validate(schema, fit)
    for unfit in (
        good | {"user_id": "x"},
        good | {"unknown": 1},
        good | {"price": None},
        good | {"user_id": 2**64},
        {key: good[key] for key in good if key != "user_id"},
    ):
        assert not jsonschema_rs.is_valid(schema, unfit), unfit


def test_refusals_are_as_it_says(real, document):
    """Every status that a nasty request gets is in the document, with that body."""
    refusal = document["components"]["schemas"]["Refusal"]
    answer = real.client.post("/v1/score", json={"rows": [{}]})
    assert str(answer.status_code) in document["paths"]["/v1/score"]["post"]["responses"]
    validator = jsonschema_rs.validator_for(refusal | {"components": document["components"]})
    assert validator.is_valid(answer.json())


def test_the_next_version_brings_its_own(real):
    """After a swap the document names the new version."""
    version = publish(real.store, 2)
    real.follower.look()
    assert version in json.loads(real.client.get("/openapi.json").content)["info"]["description"]
