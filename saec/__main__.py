"""Entry point of `saec` and `python -m saec`: says what to install if the command line is missing.

Decisions: the bare package is for programs that score (`saec.serving`), so it has no command line. `pipx run saec`
installs it all the same, and its command must not end in a traceback.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Entry point of the installed command."""
    try:
        from saec.cli.main import main as command  # noqa: PLC0415 - it may not be there
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "saec":
            raise
        sys.exit(
            f"saec: the command line needs {error.name}, which the extra pipeline brings; "
            "install saec[pipeline] (pipx run --spec 'saec[pipeline]' saec)"
        )
    command()


if __name__ == "__main__":
    main()
