"""Prefect flows: decorators, retries, hours and what the UI shows; the work is in `saec`.

Importing this package sets Prefect's settings (`flows.settings`), which Prefect reads once, when it is imported. It
also starts saec's log (`saec.logs`), so that every process that serves a flow writes it.
"""

from flows.settings import apply
from saec.logs import start as start_log

apply()
start_log()
