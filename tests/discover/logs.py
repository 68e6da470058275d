"""Logs with obvious contents."""

import csv
import gzip
import json
from datetime import UTC, datetime, timedelta

import numpy as np

START = datetime(2026, 3, 1, tzinfo=UTC)
ROWS, HOURS = 3_000, 4


def clicks(rows=ROWS, hours=HOURS, seed=1):
    """Rows, in an order of their own, of users and items that are clicked as is their way."""
    random = np.random.default_rng(seed)
    user_B, item_B = random.integers(0, 200, rows), random.integers(0, 40, rows)
    liking_U, liking_I = random.normal(0, 1, 200), random.normal(0, 1, 40)
    clicked_B = random.random(rows) < 1 / (1 + np.exp(1.5 - liking_U[user_B] - liking_I[item_B]))
    second_B = random.integers(0, hours * 3600, rows)
    return [
        {
            "event_time": (START + timedelta(seconds=int(second_B[row]))).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "request": f"r{row}",
            "user_id": int(user_B[row]),
            "item": f"item-{item_B[row]}",
            "zip": f"{item_B[row] % 7:05d}",
            "price": round(float(random.gamma(2.0, 2.0)), 2),
            "site": None if row % 5 == 0 else f"site-{user_B[row] % 9}",
            "version": 3,
            "dwell_ms": int(random.integers(1, 9_000)) if clicked_B[row] else None,
            "clicked": int(clicked_B[row]),
        }
        for row in range(rows)
    ]


def write_csv(path, rows, delimiter=","):
    """Rows as delimited text, compressed if the name says so."""
    with (gzip.open if path.suffix == ".gz" else open)(path, "wt", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_jsonl(path, rows):
    """Rows as JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
