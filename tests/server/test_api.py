"""The rules of the HTTP API: what may be asked, within which limits, by whom, and what is said of it."""

import asyncio
import json
import threading

import pytest

from saec.errors import ConfigError
from saec.server import app, asked, guard
from saec.server.app import Api, build_app
from saec.server.options import ServerOptions
from saec.server.refusals import LIMIT
from saec.server.request_log import RequestLog
from saec.server.serve import read_key
from tests.server.conftest import serving

KEY = "a-key-of-some-length"


@pytest.fixture
def live(served):
    """A server with a version that scores everything 0.5."""
    served.version = served.publish(0.5)
    served.follower.look()
    return served


def refusal(answer, status: int, reason: str) -> str:
    """The message of a refusal, which is of that status and reason and small."""
    assert (answer.status_code, answer.json()["error"]["reason"]) == (status, reason), answer.text
    assert answer.json()["error"]["status"] == status
    assert len(answer.content) <= LIMIT
    return answer.json()["error"]["message"]


def test_one_user_with_candidates_is_rows_that_share_columns(live):
    """Both forms of asking give the same scores."""
    ranked = live.client.post("/v1/score", json={"user": {"user_id": 7}, "candidates": [{"site": "a"}, {"site": None}]})
    plain = live.client.post("/v1/score", json={"rows": [{"user_id": 7, "site": "a"}, {"user_id": 7}]})
    assert ranked.json() == plain.json() == {"version": live.version, "scores": [0.5, 0.5]}


@pytest.mark.parametrize("nothing", [{"rows": []}, {"user": {"user_id": 1}, "candidates": []}])
def test_no_rows_have_no_scores(live, nothing):
    """A caller whose candidates were all filtered out is answered like any other."""
    assert live.client.post("/v1/score", json=nothing).json() == {"version": live.version, "scores": []}


def test_many_rows_are_scored_in_a_thread(live, monkeypatch):
    """Beyond some rows the event loop is left free; the answer is the same."""
    threads = []
    monkeypatch.setattr(app, "THREAD_ROWS", 3)
    scores = app._scores
    monkeypatch.setattr(app, "_scores", lambda *args: threads.append(threading.current_thread()) or scores(*args))
    for rows in (2, 3):
        answer = live.client.post("/v1/score", json={"rows": [{"user_id": 1}] * rows})
        assert answer.json()["scores"] == [0.5] * rows
    assert [thread is threading.main_thread() for thread in threads] == [True, False]


@pytest.mark.parametrize(("given", "kept"), [("abc-1.2:3_x", True), ("", False), ("a b", False), ("x" * 65, False)])
def test_a_request_has_a_name(live, given, kept):
    """The caller's is kept where it is sound, else the server gives one; it is in the answer's header."""
    answer = live.client.post("/v1/score", json={"rows": []}, headers={"x-request-id": given})
    assert (answer.headers["x-request-id"] == given) is kept
    assert answer.headers["x-request-id"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/score", 405),
        ("POST", "/v1/model", 405),
        ("DELETE", "/metrics", 405),
        ("PATCH", "/openapi.json", 405),
        ("GET", "/", 404),
        ("POST", "/v1/score/", 404),
        ("GET", "/v1/../etc/passwd", 404),
        ("GET", "/docs", 404),
    ],
)
def test_other_methods_and_paths(live, method, path, status):
    """405 and 404, as JSON, small."""
    refusal(live.client.request(method, path), status, "method-not-allowed" if status == 405 else "not-found")


def ask_raw(application, headers: dict[str, str], parts: list[bytes | None], *, more: bool = False):
    """Ask in parts, as they come off the network (None: it hangs up); status, body, parts read, and headers.

    With `more`, further parts are promised that never come.
    """
    sent, read = [], 0

    async def receive():
        nonlocal read
        read += 1
        if read > len(parts):
            await asyncio.Event().wait()
        if parts[read - 1] is None:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": parts[read - 1], "more_body": more or read < len(parts)}

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "path": "/v1/score",
        "raw_path": b"/v1/score",
        "query_string": b"",
        "root_path": "",
        "scheme": "http",
        "server": ("s", 80),
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }
    asyncio.run(application(scope, receive, send))
    head = dict(sent[0]["headers"])
    return sent[0]["status"], json.loads(b"".join(part.get("body", b"") for part in sent[1:])), read, head


JSON = {"content-type": "application/json"}


@pytest.fixture
def application(live):
    """The application itself, whose bodies may be 2,000 bytes long."""
    return build_app(Api(live.standing, ServerOptions(max_body_bytes=2_000)))


@pytest.mark.fault(72)
def test_a_large_body_is_not_read(application):
    """413 for its length alone; without one, reading ends where the limit is passed, and so does the connection."""
    status, body, read, head = ask_raw(application, JSON | {"content-length": "2001"}, [b"x" * 2001])
    assert (status, body["error"]["reason"], read) == (413, "too-large", 0)
    status, _, read, head = ask_raw(application, JSON, [b" " * 500] * 1000)
    assert (status, read) == (413, 5)
    assert head[b"connection"] == b"close"
    exact = b'{"rows": []}'.ljust(2000)
    assert ask_raw(application, JSON | {"content-length": "2000"}, [exact])[0] == 200
    assert ask_raw(application, JSON | {"content-length": "9" * 5000}, [exact])[0] == 413
    assert ask_raw(application, JSON | {"content-length": "-1"}, [exact])[0] == 413


@pytest.mark.fault(72)
def test_a_body_that_does_not_come_is_not_waited_for(application, monkeypatch):
    """408 after some seconds; a caller that hangs up in the middle is no fault of the server's."""
    monkeypatch.setattr(asked, "BODY_SECONDS", 0.05)
    status, body, *_ = ask_raw(application, JSON | {"content-length": "99"}, [b"{"], more=True)
    assert (status, body["error"]["reason"]) == (408, "slow")
    status, body, *_ = ask_raw(application, JSON | {"content-length": "99"}, [b"{", None])
    assert (status, body["error"]["reason"]) == (400, "gone")


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("application/json", 200),
        ("application/json; charset=utf-8", 200),
        ("Application/JSON", 200),
        ("text/json", 415),
        ("application/x-www-form-urlencoded", 415),
        ("multipart/form-data; boundary=x", 415),
        ("", 415),
        ("é" * 999, 415),
    ],
)
def test_only_json_is_read(application, kind, status):
    """The type is judged before the body is read."""
    assert ask_raw(application, {"content-type": kind}, [b'{"rows": []}'])[::2] == (status, int(status == 200))


def test_no_more_rows_than_allowed(live):
    """One row too many is refused, and the message says how many there may be."""
    api = Api(live.standing, ServerOptions(max_rows=3))
    for name in ("rows", "candidates"):
        asks = {name: [{}] * 4} | ({"user": {}} if name == "candidates" else {})
        status, body, *_ = ask_raw(build_app(api), JSON, [json.dumps(asks).encode()])
        assert (status, body["error"]["reason"]) == (422, "too-many")
        assert f"'{name}' has 4 rows, at most 3" in body["error"]["message"]


@pytest.mark.parametrize(
    ("asks", "said"),
    [
        ([], "the body must be an object, got a list"),
        ({}, "the body has no 'rows'"),
        ({"row": []}, "the body has 'row'; did you mean 'rows'?"),
        ({"rows": [], "user": {}}, "the body has 'rows'"),
        ({"user": {}}, "the body has no 'candidates'"),
        ({"user": [], "candidates": []}, "'user' must be an object of columns, got a list"),
        ({"user": {}, "candidates": {}}, "'candidates' must be a list of objects, got an object"),
        ({"rows": "x"}, "'rows' must be a list of objects, got a string"),
        ({"rows": None}, "'rows' must be a list of objects, got null"),
        ({"rows": [{"user_id": 1}, 3]}, "rows[1] must be an object of columns, got an integer"),
        ({"rows": [{"user_id": "x"}]}, "column 'user_id' wants int"),
        ({"rows": [{"user_id": 1, "usr": 2}]}, "no field reads column 'usr'"),
    ],
)
def test_what_asks_for_no_scores_is_told_why(live, asks, said):
    """422, naming what is wrong and where."""
    assert said in refusal(live.client.post("/v1/score", json=asks), 422, "dtype" if "wants int" in said else "schema")


def test_a_key_is_asked_for(tmp_path):
    """Without the key only probes and metrics answer; a wrong key is like none."""
    with serving(tmp_path, key=KEY) as served:
        served.publish(0.5)
        served.follower.look()
        for given in ({}, {"authorization": f"Bearer {KEY}x"}, {"authorization": KEY}, {"authorization": "Bearer é"}):
            for method, path in (("POST", "/v1/score"), ("GET", "/v1/model"), ("GET", "/openapi.json"), ("GET", "/x")):
                answer = served.client.request(method, path, headers={n: v.encode() for n, v in given.items()})
                assert KEY not in refusal(answer, 401, "key")
                assert answer.headers["www-authenticate"] == "Bearer"
        for path in ("/healthz", "/readyz", "/metrics"):
            assert served.client.get(path).status_code == 200
        right = {"authorization": f"Bearer {KEY}"}
        assert served.client.post("/v1/score", json={"rows": []}, headers=right).status_code == 200
        assert served.client.get("/v1/model", headers=right).status_code == 200


def test_where_the_key_comes_from(tmp_path, monkeypatch):
    """The environment goes before the file; a short key and an unreadable file are refused, without showing a key."""
    file = tmp_path / "key"
    monkeypatch.delenv("SAEC_API_KEY", raising=False)
    assert read_key(None) is None
    file.write_text(f"{KEY}\nsecond line\n")
    assert read_key(file) == KEY
    monkeypatch.setenv("SAEC_API_KEY", KEY[::-1])
    assert read_key(file) == KEY[::-1]
    monkeypatch.setenv("SAEC_API_KEY", "")
    for unfit in ("", "short", "ü" * 20):
        file.write_text(unfit)
        with pytest.raises(ConfigError, match="at least 16 printable") as caught:
            read_key(file)
        assert "short" not in str(caught.value)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_key(tmp_path / "absent")


def test_too_many_at_once_are_told_to_come_back(live, monkeypatch):
    """429 with Retry-After beyond the bound; probes are answered all the same."""
    monkeypatch.setattr(guard, "AT_WORK", 0)
    answer = live.score()
    refusal(answer, 429, "busy")
    assert answer.headers["retry-after"] == "1"
    assert live.client.get("/healthz").status_code == 200
    monkeypatch.setattr(guard, "AT_WORK", 1)
    assert [live.score().status_code for _ in range(3)] == [200] * 3


def test_a_fault_of_the_server_is_told_in_few_words(live):
    """What should never happen is a small 500 that shows nothing of the inside, and is counted."""
    live.publish(0.25, broken="score")
    live.follower.look()
    assert "ZeroDivision" not in refusal(live.score(user_id=13), 500, "bug")
    assert live.metric('saec_server_requests_total{path="/v1/score",status="500"}') == 1


def test_an_answer_is_of_one_version_whenever_the_swap_comes(live):
    """The version is taken once, after the body is there: what comes later changes nothing of the answer."""

    def swapped_after(part):
        if part:
            live.publish(0.75)
            live.follower.look()
        return part

    class Parts(list):
        def __getitem__(self, place):
            return swapped_after(super().__getitem__(place))

    status, body, *_ = ask_raw(
        build_app(Api(live.standing, ServerOptions())), JSON, Parts([b"", b'{"rows": [{"user_id": 1}]}'])
    )
    assert (status, body) == (200, {"version": live.standing.live.model.version, "scores": [0.75]})


def test_metrics_tell_what_was_asked(live):
    """Requests by path and status, rows and latency; whatever paths are tried, there are few series."""
    live.score()
    live.score(user_id="x")
    for number in range(20):
        live.client.get(f"/{number}")
    assert live.metric('saec_server_requests_total{path="/v1/score",status="200"}') == 1
    assert live.metric('saec_server_requests_total{path="/v1/score",status="422"}') == 1
    assert live.metric('saec_server_requests_total{path="other",status="404"}') == 20
    assert live.metric("saec_server_scored_rows_total") == 1
    assert live.metric("saec_server_score_seconds_count") == 1
    assert live.metric("saec_server_requests_at_work") == 1  # the question itself
    assert live.metric(f'saec_server_live_version_info{{version="{live.version}"}}') == 1
    assert live.metric("saec_server_live_version_age_seconds") > 0
    assert live.metric("saec_server_last_poll_timestamp_seconds") > 0


def test_scored_rows_are_logged_with_what_identifies_them(tmp_path):
    """Row ids beside the columns are taken out for the log; a row without them is scored and not logged."""
    log = RequestLog(tmp_path / "log")
    with log, serving(tmp_path, row_ids=("impression_id", "user_id"), request_log=log) as served:
        version = served.publish(0.5)
        served.follower.look()
        served.client.post(
            "/v1/score",
            headers={"x-request-id": "ranked"},
            json={"user": {"user_id": 7}, "candidates": [{"impression_id": 1}, {"impression_id": "b"}, {"site": "x"}]},
        )
        served.client.post(
            "/v1/score",
            headers={"x-request-id": "rows"},
            json={"rows": [{"impression_id": 3, "user_id": 8}, {"impression_id": None, "user_id": 8}]},
        )
        wrong = served.score(impression_id={"nested": 1})
        assert "rows[0].impression_id identifies the row" in refusal(wrong, 422, "schema")
    (path,) = (tmp_path / "log").iterdir()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(line["request"], line["version"], line["id"], line["score"]) for line in lines] == [
        ("ranked", version, {"impression_id": 1, "user_id": 7}, 0.5),
        ("ranked", version, {"impression_id": "b", "user_id": 7}, 0.5),
        ("rows", version, {"impression_id": 3, "user_id": 8}, 0.5),
    ]


def test_who_identifies_rows_without_a_log_may(tmp_path):
    """Row ids are taken out whether or not they are logged, so that a log can be switched on without the callers."""
    with serving(tmp_path, row_ids=("impression_id",)) as served:
        served.publish(0.5)
        served.follower.look()
        assert served.score(impression_id=3).status_code == 200
