"""Makes reports: summary, figures, HTML page, tables for terminals and notebooks, an hour's page in Prefect's UI.

Reports use only the ledger's records (one mapping per hour, see `saec.report.records`), so they can be written wherever
the ledger can be read, while hours run, and long after models and data are gone.
"""
