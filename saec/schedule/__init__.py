"""Plans and does hours: decides what is due and does it one hour at a time, each once, whoever starts it.

`planner`: which hours, and why. `advance`: what a scheduled run does. `backfill` and `progress`: ranges on request.
`pipeline`: the ledger's row of an hour around its steps. `lease`: one run at a time. `late`: late data. `retries`:
retrying steps.
"""
