"""Writes docs/results.md and its figures from the kept results.

Decisions: the table has one row per method and size, with means over seeds; the figure shows the spread over seeds as
error bars and the original as a line. The page itself lists where Saec is not shown to be better than a peer.
"""

from __future__ import annotations

import json
from pathlib import Path
from statistics import stdev
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from benchmarks.compression.judged import gap, mean_of, saec_no_larger
from benchmarks.compression.page import METHODS, Page, matrix, names
from benchmarks.compression.runs import Kept
from benchmarks.record import ROOT, Figures

COLOURS = {
    "saec": "#c1272d",
    "int8": "#555555",
    "product-quantised": "#0072b2",
    "filtered": "#009e73",
    "hashing": "#e69f00",
    "quotient-remainder": "#8e5ea2",
    "cafe": "#17becf",
    "robe": "#bcbd22",
    "cce": "#d65f9e",
    "mpe": "#1f3b73",
    "trained-pq": "#56b4e9",
    "int4": "#8c564b",
    "int2": "#c49c94",
    "ftrl": "#aaaaaa",
}
MARKERS = dict(zip(METHODS, "osD^vPXph<>*d1", strict=True))
TICKS = (3, 10, 30, 100, 300, 1000, 3000)
DATA = {
    "compression": "The real log",
    "compression-before": "The real log before: with feature dropout, three seeds",
    "compression-small": "Simulated data with known truth, as the quickstart has it",
    "compression-simulated": "Simulated data with known truth, ten times the users and items",
    "compression-many": "Simulated data with known truth, 20 million features seen",
}


def render(results: Path, name: str) -> None:
    """Draw the figures, write the page, and end with the record of one of the results."""
    found = {
        data: Kept(path, json.loads(path.read_text(encoding="utf-8")))
        for data in DATA
        if (path := results / f"{data}-runs.json").exists()
    }
    for data, kept in found.items():
        draw(kept, ROOT / "docs" / "images" / f"{data}.png")
    page = Page({DATA[data]: (data, kept) for data, kept in found.items()})
    (ROOT / "docs" / "results.md").write_text(page.text(), encoding="utf-8")
    if name in found:
        record(name, found[name], results)


def in_short(results: Path, name: str) -> list[str]:
    """The results that are not on the page, in lines of text."""
    kept = Kept.load(results / f"{name}-runs.json")
    return [*Page({name: (name, kept)}).not_above(kept), "", *matrix(kept)]


def draw(kept: Kept, path: Path) -> None:
    """Two panels, AUC and log loss against bytes, one line a method."""
    mpl.use("Agg")
    with mpl.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        figure, panels = plt.subplots(1, 2, figsize=(11, 4.6), constrained_layout=True)
        for axes, metric, label in zip(panels, ("auc", "logloss"), ("AUC", "log loss (nats a row)"), strict=True):
            _panel(kept, axes, metric)
            axes.set_ylabel(label)
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=7, frameon=False)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=150, metadata={"Software": None})
        plt.close(figure)


def _panel(kept: Kept, axes: Axes, metric: str) -> None:
    axes.axhline(mean_of(kept, "original", metric), color="black", lw=1, ls="--", label="original, fp32", zorder=1)
    for method, title in METHODS.items():
        points = sorted(
            (mean_of(kept, name, "ratio"), mean_of(kept, name, metric), _spread(kept, name, metric))
            for name in names(kept)
            if name.partition("@")[0] == method
        )
        if points:
            ratios, values, spreads = zip(*points, strict=True)
            axes.errorbar(
                ratios,
                values,
                spreads,
                color=COLOURS[method],
                marker=MARKERS[method],
                ms=5,
                capsize=2,
                lw=2.2 if method == "saec" else 1.2,
                label=title,
                zorder=3 if method == "saec" else 2,
            )
    axes.set_xscale("log")
    axes.set_xticks(TICKS, [f"1/{tick}" for tick in TICKS])
    axes.minorticks_off()
    axes.grid(alpha=0.25, lw=0.5)
    axes.set_xlabel("bytes on disk, keys counted, as a share of the original's")
    size = kept.content["original_bytes"]
    bytes_axis = axes.secondary_xaxis("top", functions=(lambda ratio: ratio, lambda ratio: ratio))
    bytes_axis.set_xticks(TICKS, [_bytes(size / tick) for tick in TICKS])
    bytes_axis.minorticks_off()


def _spread(kept: Kept, name: str, metric: str) -> float:
    values = [run[metric] for run in kept.content["runs"] if run["name"] == name]
    return stdev(values) if len(values) > 1 else 0.0


def _bytes(count: float) -> str:
    """A size in words: 1.4 MB, 14 kB."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.2g} {unit}" if count < 10 * size else f"{count / size:,.0f} {unit}"
    return f"{count:.0f} B"


def record(name: str, kept: Kept, results: Path) -> dict[str, Any]:
    """The figures that the issue asks for, with their targets."""
    made_by = {
        "command": " ; ".join(kept.content.get("commands") or [kept.content["command"]]),
        "hardware": kept.content["hardware"],
        "commit": ", ".join(sorted({run["commit"] for run in kept.content["runs"]})),
    }
    figures = _Figures(name, results=results, made_by=made_by)
    for run in names(kept):
        for figure in ("ratio", "auc", "logloss"):
            figures.add(f"{run}, {figure}", mean_of(kept, run, figure), "")
        if run.startswith("saec@"):
            _against_original(figures, kept, run)
        elif run != "original" and (saec := saec_no_larger(kept, run)) is not None:
            _against_peer(figures, kept, saec, run)
    return figures.finish()


class _Figures(Figures):
    """A record that names the command that made the runs, not the one that drew them."""

    def __init__(self, name: str, *, results: Path, made_by: dict[str, str]) -> None:
        """Start a record."""
        super().__init__(name, results=results)
        self._made_by = made_by

    def record(self) -> dict[str, Any]:
        """The run as one JSON object."""
        return {**super().record(), **self._made_by}


def _against_original(figures: Figures, kept: Kept, name: str) -> None:
    auc, logloss = gap(kept, name, "original", "auc"), gap(kept, name, "original", "logloss")
    if auc is not None and logloss is not None:
        figures.add(f"{name}, AUC over the original, lower bound", auc.lower, "", ">= 0", auc.lower >= 0)
        figures.add(f"{name}, log loss over the original, upper bound", logloss.upper, "", "<= 0", logloss.upper <= 0)


def _against_peer(figures: Figures, kept: Kept, saec: str, peer: str) -> None:
    auc, logloss = gap(kept, saec, peer, "auc"), gap(kept, saec, peer, "logloss")
    if auc is not None and logloss is not None:
        figures.add(f"{saec} over {peer}, AUC, lower bound", auc.lower, "", "> 0", auc.lower > 0)
        figures.add(f"{saec} over {peer}, log loss, upper bound", logloss.upper, "", "< 0", logloss.upper < 0)
