"""Writes a version's card as a Markdown page, for people who decide whether to use it.

Decisions: what speaks against the version comes before what speaks for it. An unknown figure is a dash. Text from
outside (reasons, values of slices) is escaped. The page ends with the commands to go back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from saec.report import text
from saec.report.headline import METRICS, TOLD
from saec.report.markdown import escape, markdown_table

Facts = Mapping[str, Any]
"""What `saec.report.card.card` gathers."""
_INTERVAL = "95% interval"


def card_markdown(facts: Facts) -> str:
    """The page.

    Args:
        facts: from `saec.report.card.card`.
    """
    blocks = [
        f"# Version `{facts['version']}`",
        _what(facts),
        _section("What speaks against it", [_bullets(facts["unfavourable"]) or "Nothing that was measured."]),
        _section("Served figures", _met(facts)),
        _section("What the gate saw", _gate(facts)),
        _section("What it learnt", _learnt(facts)),
        _section("How large it is", _sizes(facts)),
        _section("What it is for", _uses(facts)),
        _section("How to go back", _back(facts)),
    ]
    return "\n\n".join(blocks) + "\n"


def _section(heading: str, blocks: Sequence[str]) -> str:
    return "\n\n".join([f"## {heading}", *(block for block in blocks if block)])


def _bullets(lines: Sequence[str]) -> str:
    return "\n".join(f"- {escape(line)}" for line in lines)


def _what(facts: Facts) -> str:
    """What it is, and its state now."""
    schema, live = facts["schema"], facts["live"]
    state = "It is live, and publishing is held." if live and facts["held"] else "It is live."
    return (
        f"A click model ({schema['network']}, vectors of {schema['width']} numbers) whose embeddings are compressed. "
        f"{_ensemble(facts['share_of_original'])}Made from hour {facts['hour']} UTC to answer for the hours after it. "
        f"{state if live else 'It is not live.'}"
    )


def _ensemble(share: float | None) -> str:
    """Whose logits it averages, of an ensemble."""
    if not share:
        return ""
    return (
        f"It is an ensemble over the same codes: {text.percent(share)} of its logit is that of the quantised original, "
        "the rest that of the retrained model. "
    )


def _met(facts: Facts) -> list[str]:
    """The version beside the original and others, on rows that it had not learnt."""
    rows = []
    for said, met in (("hour after its own", facts["hour_after"]), ("hours while live", facts["while_live"])):
        for name, pair in met["pairs"].items():
            first, second = name.split("-")
            for metric, told in METRICS.items():
                keys = (first, second, "difference", "lower", "upper")
                own, other, difference, lower, upper = (pair[f"{metric}_{key}"] for key in keys)
                between = (text.signed(lower), text.signed(upper))
                rows.append(
                    [
                        f"{said}: {told} beside {TOLD[second]}",
                        text.count(pair["hours"]),
                        text.count(pair["rows"]),
                        text.decimal(own),
                        text.decimal(other),
                        text.signed(difference),
                        text.DASH if text.DASH in between else " to ".join(between),
                    ]
                )
    head = ["rows that it had not learnt", "hours", "rows", "version", "other", "difference", _INTERVAL]
    known = markdown_table(head, rows)
    return [known or "It has not scored an hour yet: the hours after its own will show.", _slices(facts)]


def _slices(facts: Facts) -> str:
    """What was live beside the original, slice by slice."""
    rows = [
        [
            escape(f"{item['column']} = {item['value']}"),
            text.count(item["rows"]),
            text.signed(item["auc_difference"]),
            text.signed(item["logloss_difference"]),
            item["standing"],
        ]
        for item in facts["slices"]
    ]
    return markdown_table(["slice, while live", "rows", "AUC difference", "log loss difference", "it is"], rows)


def _gate(facts: Facts) -> list[str]:
    """Verdict, levels and bounds."""
    gate, verdict = facts["gate"], facts["gate"]["verdict"]
    levels = [
        [name, *(text.decimal(gate["metrics"].get(f"{metric}_{key}")) for metric in METRICS)]
        for key, name in (("compressed", "candidate"), ("original", "original"), ("champion", "champion"))
    ]
    keys = ("auc_difference", "auc_bound", "logloss_difference", "logloss_bound")
    bounds = [
        [item["reference"], text.count(item["rows"]), *(text.signed(item[key]) for key in keys)]
        for item in gate["comparisons"]
    ]
    return [
        f"{verdict.get('status', '')}: {text.plain(verdict.get('text', ''))}",
        markdown_table(["gate rows", *METRICS.values()], levels),
        markdown_table(["against", "rows", "AUC difference", "bound", "log loss difference", "bound"], bounds),
    ]


def _learnt(facts: Facts) -> list[str]:
    """Which hours, which rows, by which settings."""
    learnt, made = facts["learnt"], facts["made_from"]
    rows, parents = learnt["rows"], made.get("parents") or {}
    left_out = f", {learnt['left_out']:,} of that stretch left out" if learnt["left_out"] else ""
    hours = (
        f"{text.plural(learnt['hours'], 'hour')} from {learnt['first']} to {learnt['last']} UTC, in turn{left_out}."
        if learnt["known"]
        else f"Hour {learnt['last']} last; the ledger no longer tells of those before."
    )
    return [
        hours,
        markdown_table(
            ["of the last hour", "is"],
            [
                [
                    "rows before the cut / gate rows",
                    f"{text.count(rows.get('train'))} / {text.count(rows.get('gate'))}",
                ],
                ["sha256 of its data", f"`{str(made.get('data', ''))[:16]}`"],
                ["digest of the settings", f"`{str(made.get('config', ''))[:16]}`"],
                *([[name, f"`{parent}`"] for name, parent in sorted(parents.items()) if parent]),
            ],
        ),
    ]


def _sizes(facts: Facts) -> list[str]:
    """Bytes by file, and how they compare."""
    of = facts["compression"]
    files = [[f"`{name}`", text.size(size)] for name, size in facts["files"].items()]
    ratios = [
        ["vectors", f"{text.vectors(of)} ({text.times(of.get('ratio_vectors'))})"],
        ["rows and keys", f"{text.stored(of)} ({text.times(of.get('ratio_total'))})"],
        ["vectors alone, keys not counted", text.times(of.get("ratio_embedding"))],
        ["all files, network included", text.times(of.get("ratio_version"))],
    ]
    return [
        markdown_table(["file", "size"], [*files, ["all", text.size(facts["bytes"])]]),
        markdown_table(["original → version", "times smaller"], ratios),
    ]


def _uses(facts: Facts) -> list[str]:
    """What it predicts and from what, and its limits."""
    schema = facts["schema"]
    columns = [[f"`{name}`", escape(wanted)] for name, wanted in schema["columns"].items()]
    crosses = f" Crosses: {', '.join(f'`{cross}`' for cross in schema['crosses'])}." if schema["crosses"] else ""
    said = (
        f"It gives the probability that `{schema['label']}` is 1, for rows like those that it learnt, in the "
        f"hours after {facts['hour']}.{crosses}"
    )
    return [
        said,
        markdown_table(["column", "wanted"], columns),
        "\n".join(f"- {line}" for line in _limits(schema)),
    ]


def _limits(schema: Facts) -> Iterator[str]:
    yield "It ages: it was judged on the hours right after its own, and should be replaced every hour."
    yield (
        "Rare and unknown values of a field all get the same default vector; "
        "a few unknown values are mistaken for a known one."
    )
    yield (
        "It has learnt only what was shown and clicked: it cannot judge rows unlike those in the log, does not explain "
        "why people click, and must not be used to make decisions about people."
    )
    if any(kind == "categorical" for kind in schema["fields"].values()):
        yield "Differences between groups were measured only where slices are shown above."


def _back(facts: Facts) -> list[str]:
    """The commands, and the releases that it had."""
    lines = []
    if facts["back_to"]:
        away = "from it" if facts["live"] else "to the one before it"
        lines.append(f'saec rollback {facts["back_to"]} --reason "..."   # {away}; holds until saec unhold')
    if not facts["live"]:
        lines.append(f'saec rollback {facts["version"]} --reason "..."   # to this one; holds until saec unhold')
    releases = [
        [release["at"], release["action"], escape(release["actor"]), escape(release["reason"][:200])]
        for release in facts["releases"]
    ]
    return [
        "```bash\n" + "\n".join([*lines, f"saec verify {facts['version']}"]) + "\n```",
        markdown_table(["release (UTC)", "what", "by", "why"], releases) or "It was never released.",
    ]
