"""What is due and in which order, and doing it: one hour at a time, each once, whoever starts it.

`planner`: which hours, and why. `advance`: what a scheduled run does. `backfill` and `progress`: what a person asked
for. `pipeline`: an hour's row in the ledger around its steps. `lease`: one run at a time. `late`: rows that came when
their hour was done. `retries`: steps tried again.
"""
