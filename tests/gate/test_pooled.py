"""What the running test says of itself."""

import pytest

from saec.gate.comparison import Comparison, Difference
from saec.gate.pooled import Test


def beside(reference: str, bound: float, rows: int = 1000) -> Comparison:
    """A challenger as good as its reference, known to within a bound; the margin is 0.02."""
    gaps = [Difference(metric, 0.7, 0.7, 0.0, bound / 2, -bound, bound, 0.02) for metric in ("auc", "logloss")]
    return Comparison(reference, rows, rows // 2, *gaps, 1.0, 1.0, 0.9, 0.9)


@pytest.mark.parametrize(
    ("bound", "rows_to_decide", "state", "over"),
    [
        (0.05, 500, "open", True),
        (0.05, 501, "open", False),
        (0.05, None, "open", False),
        (0.05, 500, "too-few", False),
        (0.01, 500, "open", False),
    ],
)
def test_an_open_test_ends_on_twice_the_rows_that_it_wanted(bound, rows_to_decide, state, over):
    """Only while a check against a model is unclear, and only if the rows tell how many are wanted."""
    test = Test(state, (beside("original", bound), beside("base-rate", 0.01)), rows_to_decide=rows_to_decide)
    assert test.exhausted == over
