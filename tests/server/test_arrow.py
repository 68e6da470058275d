"""Arrow streams instead of JSON: the same scores, the same refusals, and no harm, whatever a stream contains."""

import json
import random
import struct
import sys

import polars as pl
import pyarrow as pa
import pytest

from saec.server import app
from saec.server.request_log import RequestLog
from saec.serving import Model
from tests.server.conftest import Served, serving
from tests.server.nasty import MAX_BODY, MAX_ROWS
from tests.server.versions import publish, rows

ARROW = "application/vnd.apache.arrow.stream"
TYPES = pa.schema(
    [
        ("user_id", pa.int64()),
        ("site", pa.string()),
        ("tags", pa.list_(pa.string())),
        ("price", pa.float64()),
        ("age", pa.int32()),
        ("mobile", pa.bool_()),
        ("slot", pa.int8()),
        ("time", pa.string()),
    ]
)
USER = ["user_id", "age", "mobile", "time"]


def stream(table: pa.Table, **options) -> bytes:
    """A table as a stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def of_rows(count: int, seed: int = 0) -> pa.Table:
    """Rows as a table."""
    return pa.Table.from_pylist(rows(count, seed), schema=TYPES)


def of(name: str, values) -> bytes:
    """Good rows, one of whose columns is another."""
    table = of_rows(len(values))
    return stream(table.set_column(table.column_names.index(name), name, values))


def ask(served: Served, body: bytes, accept: str = "*/*"):
    """The answer to a body."""
    return served.client.post("/v1/score", content=body, headers={"content-type": ARROW, "accept": accept})


def refusal(served: Served, body: bytes, status: int, said: str) -> None:
    """A body is refused, in few words that say why."""
    answer = ask(served, body)
    assert answer.status_code == status, answer.text
    assert said in answer.json()["error"]["message"]
    assert len(answer.content) <= 4096


def test_rows_and_candidates_score_as_in_json(real):
    """One stream is rows; two are the user's row and the candidates."""
    asked, table = rows(50, 3), of_rows(50, 3)
    assert ask(real, stream(table)).json() == real.client.post("/v1/score", json={"rows": asked}).json()
    user, candidates = table.select(USER)[:1], table.drop_columns(USER)
    in_json = {
        "user": {name: asked[0][name] for name in USER},
        "candidates": [{name: row[name] for name in row if name not in USER} for row in asked],
    }
    got = ask(real, stream(user) + stream(candidates)).json()["scores"]
    assert got == pytest.approx(real.client.post("/v1/score", json=in_json).json()["scores"], abs=1e-12)


def test_scores_come_as_arrow_to_whom_accepts_it(real):
    """A column `score`, the version in the schema and the header; to JSON requests too; refusals are JSON."""
    body, in_json = stream(of_rows(5)), {"rows": rows(5)}
    answer = ask(real, body, ARROW)
    assert answer.headers["content-type"] == ARROW
    table = pa.ipc.open_stream(answer.content).read_all()
    assert table.schema.metadata[b"version"].decode() == answer.headers["saec-version"]
    assert table["score"].to_pylist() == ask(real, body).json()["scores"]
    assert ask(real, body, f"application/json, {ARROW}").headers["content-type"] == "application/json"
    assert ask(real, body, f"{ARROW}, application/json").headers["content-type"] == ARROW
    mixed = real.client.post("/v1/score", json=in_json, headers={"accept": ARROW})
    assert pa.ipc.open_stream(mixed.content).read_all() == table
    assert ask(real, b"x", ARROW).headers["content-type"] == "application/json"


def test_forms_of_one_column_score_alike(real):
    """Dictionaries, views, large texts, several batches, other widths: what a type holds counts, not how."""
    table, wanted = of_rows(20), ask(real, stream(of_rows(20))).json()["scores"]
    for kind in (pa.large_string(), pa.string_view(), pa.dictionary(pa.int16(), pa.string())):
        assert ask(real, of("site", table["site"].cast(kind))).json()["scores"] == wanted
    assert ask(real, of("user_id", table["user_id"].cast(pa.uint16()))).json()["scores"] == wanted
    assert ask(real, of("tags", table["tags"].cast(pa.large_list(pa.large_string())))).json()["scores"] == wanted
    assert ask(real, stream(pa.concat_tables([table[:7], table[7:7], table[7:]]))).json()["scores"] == wanted
    sink = pa.BufferOutputStream()
    pl.from_arrow(table).write_ipc_stream(sink)
    assert ask(real, sink.getvalue().to_pybytes()).json()["scores"] == wanted


def test_no_rows_have_no_scores(real):
    """As in JSON."""
    assert ask(real, stream(of_rows(0))).json()["scores"] == []


@pytest.mark.parametrize(
    ("changed", "status", "said"),
    [
        (lambda t: b"", 400, "empty"),
        (lambda t: b"{}", 400, "no Arrow stream"),
        (lambda t: stream(t)[:-40], 400, "no Arrow stream"),
        (lambda t: stream(t) + b"more", 400, "no Arrow stream"),
        (lambda t: stream(t, compression="zstd"), 400, "compressed"),
        (
            lambda t: stream(t.set_column(1, "site", t["site"].dictionary_encode()), compression="lz4"),
            400,
            "compressed",
        ),
        (lambda t: stream(t.drop_columns(USER)) * 3, 422, "more than two streams"),
        (lambda t: stream(t.select(USER)) + stream(t.drop_columns(USER)), 422, "must hold the user's one row, got 3"),
        (lambda t: stream(t[:1]) + stream(t.select(["user_id"])), 422, "'user_id' is given for all rows"),
        (lambda t: stream(t.append_column("usr_id", t["user_id"])), 422, "'usr_id'; did you mean 'user_id'"),
        (lambda t: stream(t.append_column("user_id", t["user_id"])), 422, "'user_id' is there more than once"),
        (lambda t: stream(t.drop_columns(["price"])), 422, "'price'"),
        (lambda t: of("user_id", pa.array(["1", "2"])), 422, "'user_id' wants int"),
        (lambda t: of("user_id", pa.array([1, None])), 422, "'user_id' has nulls"),
        (lambda t: of("price", pa.array([1.0, float("nan")])), 422, "'price'"),
        (lambda t: of("time", pa.array(["yesterday", "today"])), 422, "'time'"),
        (lambda t: of("site", pa.array([{"a": 1}])), 422, "'site' is of type struct"),
        (lambda t: of("tags", pa.array([[["a"]]])), 422, "'tags' is of type list<"),
        (
            lambda t: of("site", pa.RunEndEncodedArray.from_arrays(pa.array([2], pa.int32()), pa.array(["a"]))),
            422,
            "'site' is of type run_end_encoded",
        ),
        (lambda t: stream(of_rows(MAX_ROWS + 1)), 422, "has 101 rows, at most 100"),
        (lambda t: stream(pa.table({"x": pa.nulls(10**9)})), 422, "has 1,000,000,000 rows"),
        (lambda t: stream(pa.table([], schema=pa.schema([]))), 200, ""),
    ],
)
def test_what_is_refused(real, changed, status, said):
    """Named, with the reasons of JSON where JSON has them."""
    if status == 200:
        assert ask(real, changed(of_rows(3))).status_code == 200
    else:
        refusal(real, changed(of_rows(3)), status, said)


@pytest.mark.parametrize(
    "values",
    [
        pa.DictionaryArray.from_arrays(pa.array([0] * 100, pa.int8()), pa.array(["x" * 5_000])),
        pa.array(["y" * 5_000] * 100, pa.string_view()),
        pa.DictionaryArray.from_arrays(pa.array([0] * 100, pa.int8()), pa.array(["x" * 5_000], pa.string_view())),
    ],
    ids=["dictionary", "views", "both"],
)
def test_values_count_as_what_they_are(real, values):
    """A long text that many rows point to counts for each; so few bytes cannot take much memory."""
    body = of("site", values)
    if len(body) > MAX_BODY:  # pyarrow writes equal views out
        views = pa.Array.from_buffers(
            pa.string_view(),
            100,
            [None, pa.py_buffer(struct.pack("<i4sii", 5_000, b"yyyy", 0, 0) * 100), pa.py_buffer(b"y" * 5_000)],
        )
        body = of("site", views)
    assert len(body) < MAX_BODY
    refusal(real, body, 413, "larger than the 65,536 bytes")


def test_lists_of_nothing_are_counted(real):
    """A list of a thousand million nulls takes no bytes in a stream, and is refused before it takes any here."""
    lists = pa.FixedSizeListArray.from_arrays(pa.nulls(2 * 10**9), 10**9)
    refusal(real, of("tags", lists), 413, "larger than")


def test_row_ids_are_logged(tmp_path):
    """Ids beside the columns, of integers or texts, of the user or the candidates; a null is none."""
    log = RequestLog(tmp_path / "log")
    with log, serving(tmp_path, row_ids=("impression_id", "user_id"), request_log=log, open_model=Model.open) as served:
        publish(served.store, 1)
        served.follower.look()
        table = of_rows(3)
        with_ids = table.drop_columns(USER).append_column("impression_id", pa.array([1, None, 3]))
        assert ask(served, stream(table.select(USER)[:1]) + stream(with_ids)).status_code == 200
        texts = table.append_column("impression_id", pa.array(["a", "b", None]))
        assert ask(served, stream(texts)).status_code == 200
        for wrong in (pa.array([1.5] * 3), pa.array([[1]] * 3), pa.array([b"x"] * 3), pa.array(["x" * 300] * 3)):
            answer = ask(served, stream(table.append_column("impression_id", wrong)))
            assert (answer.status_code, answer.json()["error"]["reason"]) == (422, "schema")
    (path,) = (tmp_path / "log").iterdir()
    user = rows(3)[0]["user_id"]
    assert [json.loads(line)["id"] for line in path.read_text().splitlines()] == [
        {"user_id": user, "impression_id": 1},
        {"user_id": user, "impression_id": 3},
        {"user_id": rows(3)[0]["user_id"], "impression_id": "a"},
        {"user_id": rows(3)[1]["user_id"], "impression_id": "b"},
    ]


def test_what_a_null_hides_is_not_looked_at(real):
    """A view at a null's place may hold anything, and pyarrow 26 follows it into nowhere when it casts."""
    views = struct.pack("<i12s", 1, b"a") + struct.pack("<iiii", -65536, 32767, 7, 1 << 30)
    hidden = pa.Array.from_buffers(pa.string_view(), 2, [pa.py_buffer(b"\1"), pa.py_buffer(views), pa.py_buffer(b"")])
    hidden.validate(full=True)
    table = of_rows(2)
    wanted = ask(real, of("site", pa.array(["a", None]))).json()["scores"]
    assert ask(real, of("site", hidden)).json()["scores"] == wanted
    codes = pa.DictionaryArray.from_arrays(pa.array([0, 1], pa.int8()), hidden)
    assert ask(real, of("site", codes)).json()["scores"] == wanted
    lists = pa.ListArray.from_arrays(pa.array([0, 1, 1]), hidden)
    same = of("tags", pa.array([["a"], []]))
    assert ask(real, of("tags", lists)).json()["scores"] == ask(real, same).json()["scores"]
    assert ask(real, of("tags", table["tags"].cast(pa.list_(pa.string_view())))).status_code == 200


@pytest.mark.fault(72)
@pytest.mark.parametrize("count", [200, pytest.param(600, marks=pytest.mark.slow)])
def test_damaged_streams_never_crash(real, count):
    """Bytes changed, cut out and put in, in streams of every form: an answer or a refusal, and the next is answered."""
    draw, table = random.Random(7), of_rows(8)
    good = [
        stream(table),
        stream(table.select(USER)[:1]) + stream(table.drop_columns(USER)),
        of("site", table["site"].cast(pa.dictionary(pa.int8(), pa.string()))),
        of("site", table["site"].cast(pa.string_view())),
        stream(table, compression="zstd"),
    ]
    seen = set()
    for number in range(count):
        body = bytearray(good[number % len(good)])
        for _ in range(draw.choice((1, 1, 2, 8))):
            place = draw.randrange(len(body))
            piece = draw.choice((b"", b"\x00", b"\xff", b"\xff\xff\xff\x7f", draw.randbytes(4)))
            body[place : place + draw.choice((len(piece), 4))] = piece
        answer = ask(real, bytes(body))
        assert answer.status_code in (200, 400, 413, 422), (bytes(body), answer.text)
        assert answer.status_code == 200 or answer.json()["error"]["message"]
        seen.add(answer.status_code)
    assert seen >= ({200, 400, 422} if count == 600 else {200, 400})
    assert ask(real, good[0]).status_code == 200


def test_without_pyarrow_json_is_asked_for(real, monkeypatch):
    """415, naming what would take it; JSON is answered as ever."""
    monkeypatch.delitem(sys.modules, "saec.server.arrow_body")
    monkeypatch.setattr(app.importlib, "import_module", lambda name: (_ for _ in ()).throw(ModuleNotFoundError(name)))
    refusal(real, stream(of_rows(1)), 415, "saec[arrow]")
    answer = real.client.post("/v1/score", json={"rows": rows(1)}, headers={"accept": ARROW})
    assert answer.headers["content-type"] == "application/json"
