"""Prefect flows: decorators, retries, hours and what the UI shows; the work is in `saec`.

Importing it puts Prefect's settings in place (`flows.settings`); Prefect reads them once, when it is imported.
"""

from flows.settings import apply

apply()
