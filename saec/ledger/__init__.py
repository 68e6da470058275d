"""The ledger: a database with one row per hour (state and outcome) and one lease that lets a single run write.

`rows`: the frozen values that the ledger returns. `tables`: the database tables, opening and upgrading them. `ledger`:
hours and the lease. `backfills`: the open backfill, and the hours it has done aside until they are swapped in.
"""

from saec.ledger.ledger import Ledger
from saec.ledger.rows import OUTCOMES, Backfill, HourRow, Lease, report_record
from saec.ledger.tables import is_there

__all__ = ["OUTCOMES", "Backfill", "HourRow", "Lease", "Ledger", "is_there", "report_record"]
