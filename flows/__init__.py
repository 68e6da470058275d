"""Prefect flows: decorators, retries, hours and what the UI shows; the work is in `saec`.

Importing it puts Prefect's settings in place (`flows.settings`), which Prefect reads once, when it is imported; and
starts saec's log (`saec.logs`), so that a flow served by whatever process writes it too.
"""

from flows.settings import apply
from saec.logs import start as start_log

apply()
start_log()
