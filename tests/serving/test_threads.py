"""How many threads numpy multiplies matrices on."""

import pytest

from saec.serving import threads


def test_the_library_that_numpy_brings_is_told():
    """What is asked for is what OpenBLAS says it will do."""
    threadpoolctl = pytest.importorskip("threadpoolctl")

    def numbers() -> set[int]:
        """Threads of the library that came with numpy; others may be loaded too, with limits of their own."""
        return {found["num_threads"] for found in threadpoolctl.threadpool_info()
                if found["internal_api"] == "openblas" and "numpy" in found["filepath"]}

    if not numbers():
        pytest.skip("this numpy multiplies with another library")
    try:
        for count in (2, 1):
            assert threads.limit_threads(count)
            assert numbers() == {count}
    finally:
        threads.limit_threads(1)


def test_without_it_nothing_happens(monkeypatch):
    """Another library, or another system, is left as it is."""
    monkeypatch.setattr(threads, "_loaded", set)
    assert not threads.limit_threads(1)
