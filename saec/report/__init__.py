"""What people look at: summary, figures, HTML page, terminal tables and the Prefect UI's page of one hour.

All of it is made from the ledger's records alone (one mapping an hour, see `saec.report.records`), so a report can be
written anywhere the ledger can be read, while hours run, and after models and data are long gone.
"""
