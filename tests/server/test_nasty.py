"""Whatever is sent, the answer is a small 4xx that names what is wrong, and the server goes on as if nothing was."""

import json

import pytest

from tests.server.nasty import REQUESTS, Nasty
from tests.server.versions import rows


def test_there_are_sixty():
    """As many as the scoreboard counts, each with a name of its own."""
    assert len({nasty.name for nasty in REQUESTS}) == len(REQUESTS) >= 60


@pytest.mark.fault(72)
@pytest.mark.parametrize("nasty", REQUESTS, ids=lambda nasty: nasty.name)
def test_nasty_requests(real, nasty: Nasty):
    """The status it deserves, at most 4 KiB of JSON, and in it what was wrong."""
    answer = real.client.request(nasty.method, nasty.path, content=nasty.body, headers=nasty.headers)
    assert answer.status_code == nasty.status, answer.text
    assert len(answer.content) <= 4096
    assert nasty.said in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "odd",
    [
        {"site": ""},
        {"site": "\x00"},
        {"site": "ü\u202e\U0001f600"},
        {"site": "x" * 60_000},
        {"tags": []},
        {"tags": ["t"] * 5_000},
        {"price": 0},
        {"price": -1e308},
        {"price": 5e-324},
        {"user_id": 2**64 - 1},
        {"user_id": -(2**63)},
        {"slot": 2**63},
        {"age": 2**64 - 1},
        {"time": "0001-01-01T00:00:00+23:59"},
        {"time": "9999-12-31T23:59:59.999999-23:59"},
        {"time": "2026-W47-6T10"},
        {"price": 10**30},
    ],
)
def test_odd_values_are_values(real, odd):
    """What is strange but allowed has a score."""
    answer = real.client.post(
        "/v1/score", content=json.dumps({"rows": [rows(1)[0] | odd]}), headers={"content-type": "application/json"}
    )
    assert answer.status_code == 200, answer.text
    assert 0 <= answer.json()["scores"][0] <= 1


def test_scores_are_those_of_the_library(real):
    """Rows and candidates over HTTP have the very scores that saec.serving gives."""
    model, asked = real.standing.live.model, rows(50, seed=9)
    assert real.client.post("/v1/score", json={"rows": asked}).json()["scores"] == model.score(asked).tolist()
    shared = {name: asked[0][name] for name in ("user_id", "age", "time")}
    candidates = [{name: row[name] for name in row if name not in shared} for row in asked]
    got = real.client.post("/v1/score", json={"user": shared, "candidates": candidates}).json()["scores"]
    assert got == model.score_candidates(shared, candidates).tolist()
