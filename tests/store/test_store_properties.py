"""In whatever order releases, rollbacks, holds, retention and crashes come, the store is as a small model says."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from saec.errors import LeaseLost, StoreError
from saec.hours import Hour
from saec.store.manifest import version_hour
from saec.store.model_store import open_store
from tests.properties import examples

FIRST = Hour.parse("2017-10-01T03")
HOURS = st.integers(0, 5)
CRASHES = st.sampled_from([("replace", 1), ("replace", 2), ("replace", 2), ("replace", 3), ("link", 1), ("mkdir", 1)])
"""A call, and how many of it a killed process comes to."""


class Killed(BaseException):
    """The process is dying; with-blocks still end, unlike under SIGKILL, which the scoreboard's figures send."""


class StoreMachine(RuleBasedStateMachine):
    """A store, and what it should hold: ids of versions, what is live, what was before, whether it is held."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.store = open_store(self.folder / "store")
        self.versions: set[str] = set()
        self.live: str | None = None
        self.previous: str | None = None
        self.held = False
        self.fence = 1
        self.records = 0

    def teardown(self) -> None:
        shutil.rmtree(self.folder)

    def commit(self, hour: int, content: int) -> str:
        """A version of an hour; the same content is the same version."""
        with self.store.stage() as staged:
            (staged / "codes.bin").write_bytes(bytes([content]) * 10)
            return self.store.commit(staged, FIRST + hour, {"content": content})

    def released(self, version: str | None, *, held: bool) -> None:
        """A record was added to the log."""
        self.records += 1
        if version != self.live:
            self.live, self.previous = version, self.live
        self.held = held

    @rule(hour=HOURS, content=st.integers(0, 2))
    def archive(self, hour, content):
        """A version is kept and not released."""
        self.versions.add(self.commit(hour, content))

    @rule(hour=HOURS, content=st.integers(0, 2))
    def publish(self, hour, content):
        """A version is released, unless the store is held or something newer is live."""
        version = self.commit(hour, content)
        self.versions.add(version)
        older = bool(self.live) and version_hour(version) < version_hour(self.live)
        if version != self.live and (self.held or older):
            with pytest.raises(StoreError) as caught:
                self.store.publish(version, actor="run", reason="passed", fence=self.fence)
            assert caught.value.reason == ("held" if self.held else "superseded")
            return
        self.store.publish(version, actor="run", reason="passed", fence=self.fence)
        if version != self.live:
            self.released(version, held=False)

    @precondition(lambda self: self.versions)
    @rule(place=st.integers(0, 100))
    def roll_back(self, place):
        """Any version that is kept goes live, and is held."""
        version = sorted(self.versions)[place % len(self.versions)]
        self.store.rollback(version, actor="ann", reason="off")
        self.released(version, held=True)

    @rule()
    def hold(self):
        """What is live stays."""
        self.store.hold(actor="ann", reason="launch")
        self.released(self.live, held=True)

    @rule()
    def unhold(self):
        """The hold ends, if there is one."""
        if not self.held:
            with pytest.raises(StoreError, match="nothing is held"):
                self.store.unhold(actor="ann", reason="over")
            return
        self.store.unhold(actor="ann", reason="over")
        self.released(self.live, held=False)

    @rule(keep=st.integers(2, 4))
    def retain(self, keep):
        """Only old versions go, and never the live one or the one before it."""
        removed = set(self.store.retain(keep))
        old = sorted(self.versions)[:-keep]
        assert removed == set(old) - {self.live, self.previous}
        self.versions -= removed

    @rule()
    def take_over(self):
        """Another run takes over; what the old one would release is refused."""
        self.fence += 1
        self.store.fence(actor="run", reason="took over", fence=self.fence)
        self.released(self.live, held=self.held)
        with pytest.raises(LeaseLost):
            self.store.publish(self.commit(0, 9), actor="old run", reason="late", fence=self.fence - 1)
        self.versions.add(self.commit(0, 9))

    @rule(hour=HOURS, content=st.integers(3, 8), call=CRASHES)
    def crash(self, hour, content, call):
        """A run dies while it publishes; the next one removes what it left, and sees all or nothing of its version."""
        name, left = call
        real = getattr(os, name)

        def dying(*args, **kwargs):
            nonlocal left
            left -= 1
            if left <= 0:
                raise Killed
            return real(*args, **kwargs)

        setattr(os, name, dying)
        try:
            version = self.commit(hour, content)
            self.store.publish(version, actor="run", reason="passed", fence=self.fence)
        except (Killed, StoreError):
            pass
        finally:
            setattr(os, name, real)
        self.store.remove_orphans()
        self.versions |= {version for version in self.store.versions() if version_hour(version) == FIRST + hour}
        last = self.store.live()
        if last and last.sequence > self.records:
            self.released(last.version, held=False)

    @invariant()
    def as_the_model_says(self):
        """What is there, live and held is what should be; all of it whole; nothing is left lying about."""
        last = self.store.live()
        assert (last.version if last else None) == self.live
        assert (last.previous if last else None) == self.previous
        assert bool(last and last.held) == self.held
        assert (last.sequence if last else 0) == self.records
        assert self.store.versions() == sorted(self.versions)
        assert [self.store.verify(version) for version in self.versions] == [[]] * len(self.versions)
        assert {name.split("/")[1] for name in self.store.objects.list("versions")} == self.versions
        scratch = self.store.objects.scratch
        assert not scratch.exists() or not list(scratch.iterdir())


@pytest.mark.hypothesis
@pytest.mark.fault(69)
def test_the_store_is_as_a_model_says():
    """Publish, rollback, hold, retention, take-over and crash, in any order."""
    run_state_machine_as_test(
        StoreMachine,
        settings=settings(
            max_examples=examples(35), stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
