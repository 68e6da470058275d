"""benchmarks.deltas: what it says of a store's versions is what is there."""

from benchmarks.deltas import report, step
from benchmarks.record import Figures
from saec.store.delta import make_delta


def test_bytes_of_a_delta_by_file(done, tmp_path):
    """Whole and carried bytes are those of files and delta, the result is compared, and medians are reported."""
    *_, base, new = sorted((done.folder / "workspace" / "store" / "versions").iterdir())
    one = step(base, new)
    assert one.whole == {path.name: path.stat().st_size for path in new.iterdir()}
    assert one.exact
    assert sum(one.carried.values()) < one.total == len(make_delta(base, new))
    assert one.carried["schema.json"] == 0
    assert all(one.packed[name] > 0 for name in one.whole)
    figures = Figures("deltas", results=tmp_path)
    report(figures, [one])
    found = {figure["name"]: figure["value"] for figure in figures.record()["figures"]}
    assert found["delta, median"] == one.total
    assert found["whole version, median"] == sum(one.whole.values())
    assert found["base and delta give the full version to the byte"] == 1
    assert all(figure["holds"] in (None, True) for figure in figures.record()["figures"])
