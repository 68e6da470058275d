"""Hours in memory: the original and the challenger, as the steps take them from hour to hour."""

import pytest

from saec import steps
from saec.compression.artifact import write_artifact
from saec.compression.challenger import Challenger
from saec.compression.moments import HourPast
from saec.train.original import Original

CUT = 105


class Hourly:
    """Both models from hour to hour, and of the last hour all that its steps hand each other."""

    def __init__(self, config, folder):
        self.config, self.folder = config, folder
        self.original, self.challenger = Original(config), Challenger(config)

    def meet(self, hour, rows, cut=CUT):
        """The original learns the hour; the codes that met it are looked up, and codes taken of the cut."""
        self.rows, self.cut = rows, cut
        prepared = self.original.prepare(hour, rows)
        self.scores_B = self.original.score(prepared)
        self.at_cut = self.original.learn(hour, rows, prepared, cut)
        self.past = HourPast(self.original, hour, rows.keys_BS, cut, self.at_cut)
        self.codes_BS = self.challenger.codes(rows.keys_BS).astype("int16")
        self.candidate = steps._coded(self.challenger, self.past, end=False)

    def measure(self):
        """The hour is measured, and codes taken of its end."""
        self.challenger.measure(self.past, self.codes_BS, self.rows.labels_B, self.scores_B)
        self.version = steps._coded(self.challenger, self.past, end=True)

    def learn(self):
        """The challenger learns the hour and moves on; the version's files become part of it."""
        for part in (slice(0, self.cut), slice(self.cut, None)):
            self.challenger.learn(self.codes_BS[part], self.rows.labels_B[part])
        self.challenger = self.challenger.moved_on(self.version)
        self.challenger.files = self.written(self.challenger, self.version)

    def do(self, hour, rows, cut=CUT):
        """The whole hour."""
        self.meet(hour, rows, cut)
        self.measure()
        self.learn()

    def written(self, challenger, coding):
        """The files of a version, by name."""
        self.folder.mkdir(exist_ok=True)
        sizes = write_artifact(self.folder, challenger, coding.head_keys_H, coding.head_codes_H)
        return {name: (self.folder / name).read_bytes() for name in sizes}


@pytest.fixture
def hourly(click_hours, tmp_path):
    """Makes both models before their first hour; `hourly(config)`, or with so many small hours of clicks done."""

    def make(config, done=0):
        made = Hourly(config, tmp_path / "version")
        for number in range(done):
            made.do(click_hours.first + number, click_hours.rows(click_hours.first + number))
        return made

    return make
