"""`saec export` and `saec delta`: versions for engines and servers that are not ours, or are far away."""

# ruff: noqa: PLC0415 - command bodies import what they need, for torch takes a second to import
from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from saec.cli.session import Session, example, shared_options
from saec.durable import storage_errors, write_file
from saec.errors import ConfigError

if TYPE_CHECKING:
    from saec.export.onnx import Inputs


@click.command(epilog=example("saec export --out model.onnx"))
@click.option("--version", help="Version to export; the live one when left out.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="ONNX file to write.")
@click.option("--inputs", type=click.Choice(["keys", "codes"]), default="keys", show_default=True,
              help="Feature keys, or codes for engines that cannot look keys up.")
@shared_options
def export(session: Session, version: str | None, out: Path, inputs: Inputs) -> None:
    """Write a version as an ONNX graph.

    Feature keys go in, probabilities come out; docs/format.md says how raw values become keys. Needs the extra onnx.
    """
    from saec.serving import Model

    try:
        from saec.export.onnx import export_onnx
    except ModuleNotFoundError as error:
        raise ConfigError(f"saec export needs the package {error.name}; install saec[onnx]") from None

    name = version or session.live()
    model = Model.open(session.store.open(name), verify=False)  # the store has just done so
    data = export_onnx(model, inputs).SerializeToString(deterministic=True)
    with storage_errors(f"write {out}"):
        write_file(out, data)
    session.answer({"version": name, "out": str(out), "inputs": inputs, "bytes": len(data)})
    session.say(f"version {name} as ONNX, {len(data):,} bytes: {out}")


@click.group("delta")
def delta_group() -> None:
    """Send what changed between two versions instead of a whole one."""


@delta_group.command(epilog=example("saec delta make --from 20260101T04-0123456789ab --to 20260101T05-0123456789ab "
                                    "--out hour.delta"))
@click.option("--from", "base", required=True, help="Version that the receiver has.")
@click.option("--to", "version", required=True, help="Version that it is to have.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="File to write.")
@shared_options
def make(session: Session, base: str, version: str, out: Path) -> None:
    """Write what turns one version of the store into another."""
    from saec.store.delta import make_delta

    folder = session.store.open(version)
    delta = make_delta(session.store.open(base), folder)
    whole = sum(path.stat().st_size for path in folder.iterdir())
    with storage_errors(f"write {out}"):
        write_file(out, delta)
    session.answer({"from": base, "to": version, "out": str(out), "bytes": len(delta), "whole": whole})
    session.say(f"{len(delta):,} bytes, {len(delta) / whole:.0%} of the whole version: {out}")


@delta_group.command(epilog=example("saec delta apply hour.delta --base versions/20260101T04-0123456789ab "
                                    "--out versions"))
@click.argument("delta", type=click.Path(path_type=Path))
@click.option("--base", type=click.Path(path_type=Path), required=True,
              help="Folder of the version that it was made from.")
@click.option("--out", type=click.Path(path_type=Path), required=True,
              help="Folder of versions, in which the new one appears.")
@shared_options
def apply(session: Session, delta: Path, base: Path, out: Path) -> None:
    """Make the version that a delta leads to.

    It is there whole and to the byte, under its id, or not at all. Neither settings nor a store are needed.
    """
    from saec.store.delta import apply_delta

    with storage_errors(f"read {delta}"):
        data = delta.read_bytes()
    folder = apply_delta(base, data, out)
    session.answer({"version": folder.name, "folder": str(folder)})
    session.say(f"version {folder.name}: {folder}")
