"""`saec export`: writes a version for other scoring engines."""

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
@click.option(
    "--inputs",
    type=click.Choice(["keys", "codes"]),
    default="keys",
    show_default=True,
    help="Feature keys, or codes for engines that cannot look keys up.",
)
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
    model = Model.open(session.store.open(name), verify=False, engine="numpy")  # the store has just verified it
    data = export_onnx(model, inputs).SerializeToString(deterministic=True)
    with storage_errors(f"write {out}"):
        write_file(out, data)
    session.answer({"version": name, "out": str(out), "inputs": inputs, "bytes": len(data)})
    session.say(f"version {name} as ONNX, {len(data):,} bytes: {out}")
