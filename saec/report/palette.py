"""The colours by role, for light and dark pages; figures are drawn in the light ones.

Decisions: Okabe and Ito's colours, which remain apart for colour-blind readers; no meaning rests on colour alone
(lines carry their names, outcomes their letters and marks). Every role has a hexadecimal value of its own, so that an
SVG drawn by matplotlib can be handed to the page's style sheet by replacing values with variables.
"""

from __future__ import annotations

LIGHT = {
    "ink": "#1f2328",
    "muted": "#656d76",
    "grid": "#dfe3e8",
    "original": "#0072b2",
    "compressed": "#d55e00",
    "champion": "#7a7f87",
    "published": "#00805f",
    "held": "#b07a00",
    "quarantined": "#8a4fa0",
    "failed": "#c1272d",
    "part0": "#e69f00",
    "part1": "#56b4e9",
    "part2": "#009e73",
    "part3": "#cc79a7",
    "part4": "#0a6fa8",
    "part5": "#d9630a",
    "part6": "#999999",
}
DARK = {
    "ink": "#e6edf3",
    "muted": "#9da7b3",
    "grid": "#30363d",
    "original": "#58b4ee",
    "compressed": "#ff8f45",
    "champion": "#a2a9b3",
    "published": "#2fbf95",
    "held": "#e3ab2e",
    "quarantined": "#c797db",
    "failed": "#ff7b72",
    "part0": "#e8a91c",
    "part1": "#6bbdec",
    "part2": "#1fb389",
    "part3": "#d58fb5",
    "part4": "#3f92cc",
    "part5": "#ee7d2a",
    "part6": "#a6a6a6",
}
PART_ROLES = tuple(role for role in LIGHT if role.startswith("part"))
OUTCOME_MARKS = {"HELD": "s", "QUARANTINED": "^", "FAILED": "X"}
"""matplotlib's markers of the hours that published nothing."""


def outcome_role(outcome: object) -> str:
    """The colour role of an outcome; unknown outcomes are muted."""
    role = str(outcome).lower()
    return role if role in ("published", "held", "quarantined", "failed") else "muted"


def part_colour(index: int) -> str:
    """The light colour of the part of a stack at a position; the last colour serves all further ones."""
    return LIGHT[PART_ROLES[min(index, len(PART_ROLES) - 1)]]
