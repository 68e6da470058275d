"""`saec completion`: prints the script that lets a shell complete commands, options and versions."""

from __future__ import annotations

import contextlib
from pathlib import Path

import click
from click.shell_completion import CompletionItem, get_completion_class

from saec.cli.session import Session, default_config, example, shared_options

SHELLS = {
    "bash": 'eval "$(saec completion bash)"   # in ~/.bashrc',
    "zsh": 'eval "$(saec completion zsh)"    # in ~/.zshrc',
    "fish": "saec completion fish | source   # in ~/.config/fish/config.fish",
}
_VARIABLE = "_SAEC_COMPLETE"


@click.command(epilog=example("saec completion bash"))
@click.argument("shell", type=click.Choice([*SHELLS]))
@shared_options
def completion(session: Session, shell: str) -> None:
    """Print the completion script of SHELL for commands, options and versions.

    Load it when the shell starts: eval "$(saec completion bash)" in bash, the same in zsh; in fish, pipe it to source.
    """
    known = get_completion_class(shell)
    script = known(click.Group(), {}, "saec", _VARIABLE).source() if known else ""
    session.answer({"shell": shell, "script": script, "use": SHELLS[shell]})
    if not session.as_json:
        click.echo(script)


def versions_that_are_there(ctx: click.Context, _param: click.Parameter, begun: str) -> list[CompletionItem]:
    """The store's versions, newest first, with the live one marked; none if settings or store cannot be read."""
    with contextlib.suppress(Exception):  # errors must not disturb a shell's completion
        store = Session(Path(ctx.params.get("config_path") or default_config()), as_json=True).store
        live = (last := store.live()) and last.version
        return [
            CompletionItem(version, help="live" if version == live else None)
            for version in reversed(store.versions())
            if version.startswith(begun)
        ]
    return []
