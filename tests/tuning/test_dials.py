"""The dials of `saec tune`, and how results get into a settings file."""

import pytest

from saec.config import Config
from saec.errors import ConfigError
from saec.tuning.dials import DIALS, Dial, turned
from saec.tuning.lines import as_yaml, write_into


def test_ladders_go_both_ways():
    """From a rung or from between two, up and down, to the ends; no bound is the largest bound."""
    dial = Dial("training.table_learning_rate", (0.1, 0.2, 0.4))
    assert [dial.beyond(0.2, up=up) for up in (True, False)] == [0.4, 0.1]
    assert [dial.beyond(0.3, up=up) for up in (True, False)] == [0.4, 0.2]
    assert dial.beyond(0.4, up=True) is None
    cap = next(dial for dial in DIALS if dial.name == "model.logit_cap")
    assert cap.beyond(0.0, up=True) is None
    assert cap.beyond(0.0, up=False) == 4.5
    assert cap.beyond(4.5, up=True) == 0.0


def test_every_dial_is_a_setting():
    """Each rung is a value that the settings allow."""
    data = {"source": "", "time_column": "event_time", "label_column": "clicked"}
    config = Config.model_validate({"data": data, "fields": [{"name": "user"}]})
    for dial in DIALS:
        assert list(dial.ladder) == sorted(dial.ladder, key=dial._rank)
        for rung in dial.ladder:
            with_it = turned(config, {dial.name: rung})
            assert dial.value(Config.model_validate(with_it.model_dump())) == rung


SETTINGS = """\
# a shop
data:
  source: x   # where
training:   # slow
    # the table
    table_learning_rate: 0.2   # as before
    dense_learning_rate: 0.0002
gate:
  rollback: true
"""


def test_lines_are_put_into_a_file_as_it_is(tmp_path):
    """Values change in place with their comments, knobs join their section, sections the end; the rest stays."""
    path = tmp_path / "saec.yaml"
    path.write_text(SETTINGS)
    changes = {"training.table_learning_rate": 0.4, "training.table_prior": 8.0, "model.logit_cap": 2.0}
    write_into(path, changes)
    text = path.read_text()
    assert "    table_learning_rate: 0.4   # as before\n" in text
    assert text.startswith("# a shop\ndata:\n  source: x   # where\ntraining:   # slow\n    table_prior: 8.0\n")
    assert text.endswith("gate:\n  rollback: true\nmodel:\n  logit_cap: 2.0\n")
    assert as_yaml(changes) == "training:\n  table_learning_rate: 0.4\n  table_prior: 8.0\nmodel:\n  logit_cap: 2.0\n"


@pytest.mark.parametrize("text", ["training: {table_prior: 0.1}\n", "training:\n  table_prior: &w 0.1\ngate: *w\n"])
def test_a_layout_that_is_not_understood_is_left_alone(tmp_path, text):
    """A flow mapping or an anchor is not edited; the message has the lines."""
    path = tmp_path / "saec.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"by hand\ntraining:\n  table_prior: 1.0"):
        write_into(path, {"training.table_prior": 1.0})
    assert path.read_text() == text
