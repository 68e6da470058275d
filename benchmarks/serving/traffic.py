"""Makes requests: one user with some candidates, over as many values as there are features."""

from __future__ import annotations

from typing import Any

import numpy as np

Request = tuple[dict[str, Any], list[dict[str, Any]]]
"""What is said once of the user, and each candidate's own values."""
SMALL = {
    "environment": 4,
    "device_group": 5,
    "os": 20,
    "country": 60,
    "region": 300,
    "referrer_type": 7,
    "position": 50,
    "hour_of_day": 24,
}
"""Values of the fields that do not grow."""
SHARES = {
    "user_id": 0.28,
    "article_id": 0.02,
    "previous_article_id": 0.02,
    "article_id&region": 0.2,
    "article_id&os": 0.03,
    "previous_article_id&article_id": 0.2,
    "user_id&hour_of_day": 0.25,
}
"""Share of all features that each field has which does grow."""
USER = ("user_id", "previous_article_id", "environment", "device_group", "os", "country", "region", "referrer_type")


def sizes(features: int) -> dict[str, int]:
    """Values of each field that is no cross."""
    return SMALL | {name: int(share * features) for name, share in SHARES.items() if "&" not in name}


def requests(features: int, count: int, candidates: int, seed: int) -> list[Request]:
    """Some requests, skewed: the most popular tenth of a field's values gets almost half of the traffic."""
    draw = np.random.default_rng([seed, candidates])
    value_of = sizes(features)

    def values(name: str, number: int) -> list[int]:
        return (value_of[name] * draw.random(number) ** 3).astype(np.int64).tolist()

    users = {name: values(name, count) for name in USER} | {
        "event_time": [f"2026-01-01T{hour:02}:30:00Z" for hour in draw.integers(0, 24, count)]
    }
    articles, positions = values("article_id", count * candidates), values("position", count * candidates)
    return [
        (
            {name: of_request[number] for name, of_request in users.items()},
            [
                {"article_id": articles[place], "position": positions[place]}
                for place in range(number * candidates, (number + 1) * candidates)
            ],
        )
        for number in range(count)
    ]
