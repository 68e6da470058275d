"""What people look at: summary, figures, HTML page, tables for terminals and notebooks, an hour's page in Prefect's UI.

All of it is made from the ledger's records alone (one mapping an hour, see `saec.report.records`), so a report can be
written anywhere the ledger can be read, while hours run, and after models and data are long gone.
"""
