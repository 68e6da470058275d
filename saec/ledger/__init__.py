"""The ledger: one row an hour, saying how far it came and how it ended, and one lease that lets a single run write.

`rows`: what leaves the ledger, as frozen values. `tables`: what is in the database, how it is opened and brought up to
date. `ledger`: hours and the lease. `backfills`: the open backfill, and the hours it has done aside until they are
swapped in.
"""

from saec.ledger.ledger import Ledger
from saec.ledger.rows import OUTCOMES, Backfill, HourRow, Lease, report_record
from saec.ledger.tables import is_there

__all__ = ["OUTCOMES", "Backfill", "HourRow", "Lease", "Ledger", "is_there", "report_record"]
