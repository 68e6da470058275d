"""Shared by both mirrors: failures become warnings that neither disturb an hour nor show a secret."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from saec.errors import SaecError
from saec.settings_file import LOGIN

log = logging.getLogger("saec.mirrors")
_LONGEST = 200


def without_login(url: str) -> str:
    """A URL, or text with URLs in it, without users and passwords.

    >>> without_login("cannot reach http://ann:secret@x/api")
    'cannot reach http://x/api'
    """
    return LOGIN.sub("://", url)


@contextmanager
def undisturbed(what: str, then: str) -> Iterator[None]:
    """Whatever goes wrong within becomes a warning.

    Args:
        what: is being done, for the warning.
        then: what becomes of it.
    """
    try:
        yield
    except ImportError as error:
        log.warning("%s was not possible: %s; install it: pip install 'saec[mirrors]'", what, error)
    except Exception as error:  # noqa: BLE001 - whatever is wrong out there, it is no hour's affair
        said = without_login(" ".join(str(error).split()))[:_LONGEST]
        kind = "" if isinstance(error, SaecError) else f"{type(error).__name__}: "
        log.warning("%s was not possible, %s: %s%s", what, then, kind, said)
