"""`saec score`: scores a file of rows with a published version."""

# ruff: noqa: PLC0415 - numpy and pyarrow take a while to import, so command bodies import what they need
from __future__ import annotations

from pathlib import Path

import click

from saec.cli.session import Session, example, shared_options
from saec.errors import ConfigError


@click.command(epilog=example("saec score --in rows.parquet --out scores.parquet"))
@click.option("--in", "source", type=click.Path(path_type=Path), required=True, help="Parquet file of raw rows.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Parquet file to write.")
@click.option("--version", help="Version to score with; default: the live one.")
@shared_options
def score(session: Session, source: Path, out: Path, version: str | None) -> None:
    """Score a Parquet file of rows with a version.

    The file needs the columns of the version's fields, but no label. The output has all its columns plus `score`
    (probability of a click) and `version`.
    """
    from threadpoolctl import threadpool_limits

    from saec.cli.progress import Bar
    from saec.cli.scoring import score_file
    from saec.serving import Model

    if out.resolve() == source.resolve():
        raise ConfigError(f"--out {out} is the file that --in names; name another")
    threadpool_limits(session.config.threads, user_api="blas")
    name = version or session.live()
    model = Model.open(session.store.open(name), verify=False)  # the store has just done so
    with Bar(session.notes, unit="rows") as bar:
        scored = score_file(source, out, model, bar.show)
    session.answer({"version": name, "out": str(out), **vars(scored)})
    mean = "" if scored.mean_score is None else f", mean {scored.mean_score:.4f}"
    session.say(f"{scored.rows:,} rows scored with {name}{mean}: {out}")
