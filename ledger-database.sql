-- Run once, when PostgreSQL makes its folder: the ledger's database beside Prefect's.
CREATE DATABASE ledger;
