"""Joins clicks that arrive as separate rows in later hours with their impressions, so that none is learnt twice.

With a `data.click_delay` of some hours, an hour is done that much later, when the click rows of the following hours are
there. A row with one of their ids is learnt with a click. The hour's own click rows for impressions of earlier hours
are left out, because they were learnt there. Decisions: a click that comes still later is learnt as a row of its own
hour. Of the neighbouring hours only ids, labels and times are read. An hour that cannot be read joins nothing, and the
log says so.

Shapes: N rows of the neighbouring hours.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from saec.data.arrow_types import as_wanted
from saec.data.distinct import distinct
from saec.data.partitions import read_partition
from saec.data.request_log import row_ids
from saec.data.types import column_wants
from saec.errors import HourAbsent, InputError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from saec.config import Config
    from saec.data.hashing import Keys
    from saec.hours import Hour

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ClickWindow:
    """Ids and clicks from the neighbouring hours."""

    shown_N: Keys
    """Ids of rows of the hours before it."""
    clicked_N: Keys
    """Ids of rows with label 1 of the hours after it."""
    read: dict[str, str]
    """Digest of the delivery of each hour that was read, by hour."""


def click_window(config: Config, hour: Hour) -> ClickWindow | None:
    """The window of an hour; None without `data.click_delay`."""
    delay = config.data.click_delay
    if not delay:
        return None
    read: dict[str, str] = {}
    shown = [ids for ids, _ in _ids(config, (hour - back for back in range(1, delay + 1)), read)]
    after = _ids(config, (hour + ahead for ahead in range(1, delay + 1)), read)
    clicked = [ids[clicked_B] for ids, clicked_B in after]
    none = np.empty(0, np.uint64)
    return ClickWindow(distinct(np.concatenate([none, *shown])), distinct(np.concatenate([none, *clicked])), read)


def _ids(
    config: Config, hours: Iterable[Hour], read: dict[str, str]
) -> list[tuple[Keys, np.ndarray[tuple[int], np.dtype[np.bool_]]]]:
    """Ids of the rows of hours, and which have label 1."""
    found = []
    bare = config.model_copy(update={"fields": []})
    wants = column_wants(bare)
    for hour in hours:
        try:
            partition = read_partition(bare, hour)
            table = pa.table(
                {
                    name: as_wanted(name, partition.table[name], wants[name], settings=True)
                    for name in (*config.data.row_id_columns, config.data.label_column)
                }
            ).drop_null()
        except HourAbsent:
            continue
        except (InputError, KeyError) as error:
            log.warning("hour %s cannot be read for clicks that belong to other hours: %s", hour, error)
            continue
        read[str(hour)] = partition.sha256
        labels = pc.equal(table[config.data.label_column].cast(pa.float64(), safe=False), 1)
        found.append((row_ids(table, config.data), np.array(labels.to_numpy(), bool)))
    return found
