"""The search of `saec tune`, over losses that are known."""

from types import SimpleNamespace

import pytest

from saec.config import Config
from saec.gate.paired import Interval
from saec.tuning.dials import Dial
from saec.tuning.search import search

DIALS = (Dial("training.table_learning_rate", (0.1, 0.2, 0.4, 0.8)), Dial("training.table_prior", (0.5, 2.0, 8.0)))
DATA = {"source": "", "time_column": "event_time", "label_column": "clicked"}


class Planted:
    """Trials whose losses a function of both dials gives, without any error."""

    config = Config.model_validate(
        {"data": DATA, "fields": [{"name": "user"}], "training": {"table_learning_rate": 0.4, "table_prior": 2.0}}
    )

    def __init__(self, loss):
        """A function of the values of the dials."""
        self.loss = loss

    def gap(self, after, before, _):
        """The difference of the losses."""
        after, before = (
            self.loss(*(changes.get(dial.name, dial.value(self.config)) for dial in DIALS))
            for changes in (after, before)
        )
        return SimpleNamespace(logloss=Interval(after - before, 0.0))


def together(rate, prior):
    """Best at a low prior, and there at a low rate; at the prior that is set a low rate is no better."""
    return {0.5: rate, 2.0: 1 + abs(rate - 0.4), 8.0: 2.0}[prior]


RATE, PRIOR = (dial.name for dial in DIALS)
PATH = [
    (RATE, 0.8, False),
    (RATE, 0.2, False),
    (PRIOR, 8.0, False),
    (PRIOR, 0.5, True),
    (RATE, 0.8, False),
    (RATE, 0.2, True),
    (RATE, 0.1, True),
    (PRIOR, 2.0, False),
]


@pytest.mark.parametrize("most", [24, 8, 7, 5, 1])
def test_dials_come_again_while_any_helps(most):
    """The second round finds what the first could not, and never are more turns tried than asked for."""
    best, turns = search(Planted(together), most, lambda *_: None, DIALS)
    assert [(turn.dial, turn.value, turn.helps) for turn in turns] == PATH[:most]
    if most >= 7:
        assert best == {PRIOR: 0.5, RATE: 0.1}


def test_a_search_ends_when_a_whole_round_finds_nothing():
    """One round over the dials, each tried both ways."""
    best, turns = search(Planted(lambda rate, prior: abs(rate - 0.4) + abs(prior - 2)), 24, lambda *_: None, DIALS)
    assert ([turn.value for turn in turns], best) == ([0.8, 0.2, 8.0, 0.5], {})
