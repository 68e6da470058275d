"""Real hours with mirrors: reported as they run, and not disturbed by mirrors that fail."""

import logging

import pytest

from saec.config import MirrorsConfig
from saec.mirrors.registry import LIVE
from saec.tuning.judged import Replay
from tests.mirrors.test_registry import URL, mirrored

pytest.importorskip("openlineage", reason="hours are told by the extra mirrors")


def test_trials_of_other_settings_are_told_to_nobody(settings, tmp_path):
    """What `saec tune` replays makes versions that are never live: no registry and no receiver hears of them."""
    config = settings(mlflow=URL, openlineage=URL)
    assert Replay.of(config, [], 0, tmp_path).config.mirrors == MirrorsConfig()


def test_hours_go_on_whatever_their_mirrors_do(site, registry, receiver, caplog):
    """All releases of before are caught up with the first hour; the second is published though both mirrors fail."""
    config = site.config(mirrors={"mlflow": URL, "openlineage": receiver.url})
    [row] = site.advance(site.hours[5], config=config)
    assert [event["eventType"] for event in receiver.events] == ["START", "COMPLETE"]
    released = [release.version for release in site.store.releases()]
    assert (mirrored(registry), registry.aliases) == (released, {LIVE: row.version})
    registry.down, receiver.answer = 0, 500
    with caplog.at_level(logging.WARNING):
        [row] = site.advance(site.hours[6], config=config)
    assert (row.state, site.live) == ("PUBLISHED", row.version)
    assert "telling OpenLineage" in caplog.text
    assert "mirroring releases to MLflow was not possible" in caplog.text
