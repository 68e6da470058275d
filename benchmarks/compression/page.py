"""Writes docs/results.md: first the real log's figure and one table, then the method and all tables.

Decisions: the page starts with where Saec is not shown to be better than a peer. The table on top has a row for each
peer and a column for each size; the tables below have a row for each method, with its bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.compression.judged import Gap, gap, mean_of, saec_no_larger
from benchmarks.compression.runs import Kept, chosen

METHODS = {
    "saec": "Saec",
    "int8": "original, int8 rows",
    "product-quantised": "product quantisation",
    "filtered": "frequency filter",
    "hashing": "hashing trick",
    "quotient-remainder": "quotient-remainder",
    "cafe": "CAFE",
    "robe": "ROBE-Z",
    "cce": "CCE",
    "mpe": "MPE",
    "trained-pq": "trained product quantisation",
    "int4": "4-bit rows",
    "int2": "2-bit rows",
    "ftrl": "hashed FTRL",
}
"""Titles of the methods, in the order of the table."""
INTRODUCTION = """\
# Results: AUC and log loss at equal bytes

Written by `python -m benchmarks.compression`, with its figures; do not edit.

Each whole hour is scored by the version made from all hours before it, as users would be served, and then learnt. Saec
and every peer learn the same rows in the same order, with the same network, in the same passes. Sizes are bytes on disk
of what replaces the original's rows and keys, with keys counted for all methods, as a share of the original's.
Differences are paired on the same rows, with 95% intervals.
"""
HOW = """\
## How it is measured

There is one pass, hour by hour. Bytes are the mean over the scored hours; the network, which all methods have, is not
counted, but the second one of a Saec that is an ensemble is. The original is the one that Saec is compared with every
hour, with rows of admitted features only. Its size, 4 bytes a number and 8 a key, is the 1 of all ratios. Peers are
counted without file headers, Saec with them.

AUC differences use DeLong's variance. Over seeds, the interval combines the variance of the rows with that of the
seeds, divided by their number. "Saec over it" compares with the largest Saec that takes no more bytes than the peer, so
a difference in size is always in the peer's favour.

Methods:

- **Saec**: scored from the files that it would publish: keyless index, codebooks, headers; where a version is an
  ensemble, the codebooks of both models and the network of the second. "Ratio without keys" is that of fp32 rows to
  codebooks plus one byte a code.
- **original, int8 rows**: the rows at the hour's end, with one half-precision scale per row, found through a keyless
  index (8 bits of fingerprint and the row's number), which is smaller than 8-byte keys.
- **product quantisation** (faiss): each field's admitted rows at the hour's end, weighted equally, at `parts x bits`;
  codes in a keyless index with 8 bits of fingerprint, `1x4` with 4; codebooks as int8. Every admitted feature has a
  code, so there is no size smaller than those shown.
- **frequency filter**: int8 rows for features above a frequency that fits the size, in a keyless index as above; the
  others use their field's default row.
- **hashing trick**: int8 rows; the key's hash selects the row; no keys.
- **quotient-remainder** (Shi et al. 2020): two int8 rows per key, added or multiplied by element; no keys.
- **CAFE** (Zhang et al., SIGMOD 2024): features with the largest gradients own an int8 row, found through a keyless
  index; all others share rows by hash. Its sketch of the stream is training state and is not counted.
- **ROBE-Z** (Desai et al., MLSys 2022): blocks of Z numbers at hashed offsets of one int8 array; no keys.
- **CCE** (Tsang and Ahle, NeurIPS 2023): columns of a clustered table and a helper table, int8; pointers in a keyless
  index, for as many of the most frequent features as fit.
- **MPE** (2024, arXiv 2409.20305): 0 to 6 learnt bits per number by frequency group; rows are the values of a keyless
  index for each width.
- **trained product quantisation**: DPQ (Chen et al. 2020), with MGQE's shorter codes for the tail and MEC's fit by
  frequency as options; trained end to end with the network; codes in a keyless index.
- **4-bit and 2-bit rows**: trained as stored, with learnt steps (Esser et al. 2020); rows are the values of a keyless
  index, for as many of the most frequent features as fit.
- **hashed FTRL** (McMahan et al. 2013): a linear model, fields and crosses hashed to float16 weights: the baseline.

The peers from CAFE on use 6 bits of fingerprint, like Saec; MPE uses 8. If features have rows or codes of their own,
class rows by frequency and age are stored with them, as in the original; unknown features get their field's.

What scores the original and Saec is the network's average over its last steps. A peer is scored by that and by its
last step, and what is better for it on these very rows is shown: the average may lag behind codes that are fitted anew.

All methods were tuned over a few choices on an earlier stretch, one choice at a time, by AUC minus log loss; in rounds
until none changed, though in one round only for the original and the peers of the real log and for the table of
before. With 20 million features the choices are those of the log with ten times the users and items. The best choices
at 1/30 are used above 1/100, those at 1/100 down to 1/1000, those at 1/300 below; in the table of before those at 1/30
are used down to 1/300. `rate` is a factor on `training.table_learning_rate`; for FTRL, on its own rate. `start` is
`model.first_order`, `prior` is `training.table_prior`. The original chose for itself and for what is made from its
table, Saec for itself and for an original of its own beneath it, so that each is as good as it can be.

Up to commit 39b8294 numpy, which scores Saec here, took as many threads as there are cores, and threads that wait count
as CPU time: Saec's microseconds a row are up to five times too many. `python -m benchmarks.serving` compares scoring.
"""


@dataclass(frozen=True)
class Page:
    """The page over some data sets: by title, the name of the results and what was kept."""

    data: dict[str, tuple[str, Kept]]

    def text(self) -> str:
        """The page."""
        title = next(iter(self.data), "")
        parts = [INTRODUCTION]
        if title:
            parts += self._top(title)
        parts += [HOW, *(part for title in self.data for part in self._section(title))]
        return "\n".join(parts)

    def _top(self, title: str) -> Iterator[str]:
        """The first data set in short: where Saec is not above, figure, table."""
        name, kept = self.data[title]
        yield f"## {title}, in short\n"
        yield "First, where Saec is not shown to be better than a peer:\n"
        for other, (_, of_it) in self.data.items():
            yield f"{other}:\n"
            yield "\n".join(self.not_above(of_it)) + "\n"
        yield f"![AUC and log loss against bytes](images/{name}.png)\n"
        yield (
            f"{kept.content['rows']:,} rows of the last {kept.content['stretch']['scored']} hours, {_seeds(kept)}. "
            "Saec minus each method, AUC / log loss, with 95% intervals; higher AUC and lower log loss are better.\n"
        )
        yield "\n".join(matrix(kept)) + "\n"
        yield f"```bash\n{_commands(kept)}\n```\n"

    def _section(self, title: str) -> Iterator[str]:
        name, kept = self.data[title]
        stretch, runs = kept.content["stretch"], kept.content["runs"]
        commits = sorted({run["commit"] for run in runs})
        yield (
            f"## {title}\n\n`{stretch['config']}`, {stretch['hours']} hours up to {stretch['last']}, the last "
            f"{stretch['scored']} scored whole: {kept.content['rows']:,} rows, {_seeds(kept)}. "
            f"The original takes {kept.content['original_bytes']:,} bytes. {kept.content['hardware']}; commit "
            f"{', '.join(commits)}.\n\n```bash\n{_commands(kept)}\n```\n"
        )
        if told := _listed(chosen(kept, "original", 0)):
            yield f"Chosen on the earlier stretch, for the original and what is made from its table: {told}.\n"
        yield f"![AUC and log loss against bytes](images/{name}.png)\n"
        yield "### Where Saec is not shown to be better than a peer\n"
        yield "\n".join(self.not_above(kept)) + "\n"
        yield "### All results\n"
        yield "\n".join(self._table(kept)) + "\n"
        if last := [name for name in names(kept) if any(run.get("last_step") for run in runs if run["name"] == name)]:
            shown = ", ".join(f"{_title(name)} at 1/{mean_of(kept, name, 'ratio'):.0f}" for name in last)
            yield f"Scored by its last step in at least one seed: {shown}.\n"
        if any("scoring_us" in run for run in runs):
            yield "### Costs\n"
            yield "\n".join(_costs(kept)) + "\n"
        if kept.content.get("left_out"):
            yield "### Where a peer does not exist\n"
            yield "\n".join(_left_out(kept)) + "\n"
        yield "### Saec's settings\n"
        yield "\n".join(self._settings(kept)) + "\n"
        if kept.content["tuning"]:
            yield "### How each was tuned\n"
            yield "<details><summary>Every choice tried, and what came of it</summary>\n"
            yield "\n".join(_tuning(kept)) + "\n\n</details>\n"

    def _table(self, kept: Kept) -> Iterator[str]:
        known = kept.content["truth"]
        columns = [
            "method",
            "bytes",
            "ratio",
            "ratio without keys",
            "AUC",
            "log loss",
            *(["kept"] if known else []),
            "AUC over the original",
            "log loss over the original",
            "Saec's AUC over it",
            "Saec's log loss over it",
        ]
        if known:
            yield (
                f"The truth has AUC {known['auc']:.4f}, log loss {known['logloss']:.4f}; the constant 0.5 and "
                f'{known["constant"]:.4f}. "Kept" is the share of the AUC between them.\n'
            )
        yield f"| {' | '.join(columns)} |"
        yield "|" + "---|" * len(columns)
        for name in names(kept):
            paper = mean_of(kept, name, "ratio_embedding")
            auc = mean_of(kept, name, "auc")
            saec = saec_no_larger(kept, name) if name != "original" and not name.startswith("saec@") else None
            cells = [
                _title(name),
                f"{mean_of(kept, name, 'bytes'):,.0f}",
                f"{mean_of(kept, name, 'ratio'):.1f}",
                f"{paper:.0f}" if paper else "",
                f"{auc:.4f}",
                f"{mean_of(kept, name, 'logloss'):.4f}",
                *([f"{(auc - 0.5) / (known['auc'] - 0.5):.1%}"] if known else []),
                _shown(gap(kept, name, "original", "auc")),
                _shown(gap(kept, name, "original", "logloss")),
                _shown(saec and gap(kept, saec, name, "auc")),
                _shown(saec and gap(kept, saec, name, "logloss")),
            ]
            yield f"| {' | '.join(cells)} |"

    def _settings(self, kept: Kept) -> Iterator[str]:
        """What Saec was set to at each size."""
        yield "| ratio | settings of `compression`, the others as by default |\n|---|---|"
        for name in names(kept):
            if name.startswith("saec@"):
                setting = next(run["setting"] for run in kept.content["runs"] if run["name"] == name)
                yield f"| {mean_of(kept, name, 'ratio'):.1f} | {_listed(setting)} |"

    def not_above(self, kept: Kept) -> list[str]:
        """Where Saec is not shown to be above a peer, a line each."""
        lines = []
        for name in names(kept):
            if name == "original" or name.startswith("saec@"):
                continue
            where = f"{_title(name)} at 1/{mean_of(kept, name, 'ratio'):.0f}"
            saec = saec_no_larger(kept, name)
            auc, logloss = (saec and gap(kept, saec, name, metric) for metric in ("auc", "logloss"))
            if not auc or not logloss:
                lines.append(f"- {where}: no Saec was measured at so few bytes.")
            elif auc.lower <= 0 or logloss.upper >= 0:
                lines.append(
                    f"- {where}: AUC {_standing(auc.lower, auc.upper)}, "
                    f"log loss {_standing(-logloss.upper, -logloss.lower)}."
                )
        return lines or ["Nowhere: at every size both intervals favour Saec."]


def matrix(kept: Kept) -> Iterator[str]:
    """Saec over the original and over each peer, by size."""
    known = names(kept)
    sizes = sorted({int(name.partition("@")[2]) for name in known if name.partition("@")[2].isdigit()})
    yield f"| over | {' | '.join(f'1/{size}' for size in sizes)} |"
    yield "|---|" + "---|" * len(sizes)
    over_original = (_over(kept, f"saec@{size}", "original") for size in sizes)
    yield f"| original, fp32 rows | {' | '.join(over_original)} |"
    missing = {record["name"] for record in kept.content.get("left_out", [])}
    for method, title in METHODS.items():
        peers = [f"{method}@{size}" for size in sizes]
        if method != "saec" and not missing.union(known).isdisjoint(peers):
            cells = [
                _over(kept, saec_no_larger(kept, peer), peer) if peer in known else "does not exist" * (peer in missing)
                for peer in peers
            ]
            yield f"| {title} | {' | '.join(cells)} |"


def _over(kept: Kept, saec: str | None, other: str) -> str:
    """What Saec has over another, both metrics."""
    found = [gap(kept, saec, other, metric) if saec else None for metric in ("auc", "logloss")]
    if not all(found):
        return "" if other == "original" else "no Saec as small"
    assert saec is not None
    at = f"at 1/{mean_of(kept, saec, 'ratio'):.0f}: " if other == "original" else ""
    return at + " / ".join(map(_shown, found))


def _seeds(kept: Kept) -> str:
    """Which seeds."""
    seeds = sorted({run["seed"] for run in kept.content["runs"]})
    return f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"


def _commands(kept: Kept) -> str:
    """The commands that made the results, one a line; older results name only one."""
    return "\n".join(kept.content.get("commands") or [kept.content["command"]])


def names(kept: Kept) -> list[str]:
    """Contestants in the order of the table: by method, then from large to small."""
    found = dict.fromkeys(run["name"] for run in kept.content["runs"])
    order = ["original", *METHODS]
    return sorted(found, key=lambda name: (order.index(name.partition("@")[0]), mean_of(kept, name, "ratio")))


def _title(name: str) -> str:
    method, _, setting = name.partition("@")
    title = METHODS.get(method, "original, fp32 rows")
    return f"{title}, {setting}" if method == "product-quantised" else title


def _listed(setting: dict[str, object]) -> str:
    return ", ".join(
        f"{name}: {value:.4g}" if isinstance(value, float) else f"{name}: {value}" for name, value in setting.items()
    )


def _standing(lower: float, upper: float) -> str:
    """What an interval of Saec's advantage shows."""
    if lower > 0:
        return "better"
    return "**worse**" if upper < 0 else "no significant difference"


def _shown(found: Gap | str | None) -> str:
    return f"{found.difference:+.4f} ± {found.reach:.4f}" if isinstance(found, Gap) else ""


def _costs(kept: Kept) -> Iterator[str]:
    """Seconds of learning and microseconds of scoring beside bytes; runs of before these were taken have none."""
    hours = kept.content["stretch"]["hours"]
    yield (
        f"CPU seconds of one thread to learn the {hours} hours (Saec's include the original's), and microseconds to "
        "score a row, starting from distinct features.\n"
    )
    yield "| method | bytes | learning, s | scoring, µs a row |\n|---|---|---|---|"
    runs = kept.content["runs"]
    timed = {run["name"] for run in runs} - {run["name"] for run in runs if "scoring_us" not in run}
    for name in names(kept):
        if name in timed:
            yield (
                f"| {_title(name)} | {mean_of(kept, name, 'bytes'):,.0f} | "
                f"{mean_of(kept, name, 'learning_seconds'):,.0f} | {mean_of(kept, name, 'scoring_us'):.1f} |"
            )


def _left_out(kept: Kept) -> Iterator[str]:
    for record in {record["name"]: record for record in kept.content["left_out"]}.values():
        method, _, size = record["name"].partition("@")
        yield f"- {METHODS[method]} at 1/{size}: {record['left_out']}."


def _tuning(kept: Kept) -> Iterator[str]:
    """Each variant tried and what came of it."""
    yield "| method | variant | AUC | log loss | taken |\n|---|---|---|---|---|"
    choices = kept.content["choices"]
    for record in kept.content["tuning"]:
        method, _, size = record["name"].partition("@")
        if method != record["pass"]:
            continue  # shares the original's pass
        taken = "yes" if choices.get(record["name"]) == record["choice"] else ""
        made = "left_out" not in record
        metrics = [f"{record['auc']:.4f}", f"{record['logloss']:.4f}"] if made else ["too large", ""]
        cells = [f"{method}, 1/{size}" if size else method, _listed(record["choice"]), *metrics]
        yield f"| {' | '.join([*cells, taken])} |"
