"""The pages that servers are compared by, and what is said of them."""

from types import SimpleNamespace

from benchmarks import http_path
from benchmarks.record import Figures
from benchmarks.serving.traffic import requests
from saec.server import arrow_body, asked


def test_a_page_is_the_same_in_both_forms():
    """What is asked as Arrow is what is asked as JSON."""
    (request,) = requests(1000, 1, 5, seed=1)
    in_arrow = arrow_body.parse(http_path.in_arrow(request), 10, 1 << 20)
    in_json = asked.parse(http_path.in_json(request), 10)
    assert (in_arrow.user.to_pylist(), in_arrow.rows.to_pylist()) == ([in_json.user], in_json.rows)


def test_the_aims_are_held_against_cpu_time(tmp_path):
    """Twice the requests a CPU second of before; two workers that cost a fifth more a request miss theirs."""
    names = {http_path.BEFORE_NUMPY: 3.0, http_path.NOW: 1.0, http_path.ONE: 1.0, http_path.TWO: 1.2}
    servers = {
        name: SimpleNamespace(spent=[spent] * 3, taken=[spent] * 3, rates=[1 / spent] * 3, memory=lambda: 1.0)
        for name, spent in names.items()
    }
    figures = Figures("http_path", results=tmp_path)
    http_path.report(figures, servers, 100)
    held = {figure["name"]: figure["holds"] for figure in figures.record()["figures"] if figure["target"]}
    assert list(held.values()) == [True, False]
