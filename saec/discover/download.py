"""Downloads a log from a web address, once.

Decisions: the log is read several times (inspected, counted, split by hours), so the whole file is downloaded. A file
with the size that the server reports is not downloaded again. The part of a signed address after `?` is a secret and is
never shown. The download can be deleted once the hourly files are made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import HTTPStore

from saec.durable import make_folder, write_parts
from saec.errors import InputError

CHUNK_BYTES = 8 << 20


def is_web_address(source: str) -> bool:
    """Whether a source is to be fetched.

    >>> is_web_address("https://localhost/clicks.csv.gz"), is_web_address("s3://bucket/log")
    (True, False)
    """
    return source.startswith(("http://", "https://"))


def download(url: str, folder: Path, on_progress: Callable[[str, int], None] = lambda _what, _bytes: None) -> Path:
    """Fetch the one file of an address into a folder.

    Args:
        url: of http or https; redirects are followed.
        folder: made if it is not there.
        on_progress: told what goes on, and the bytes that are here.

    Returns:
        The file, called as in the address.

    Raises:
        InputError: reason absent, when it cannot be had, or download, when it cannot be kept; the message leaves out
            what follows a `?`.
    """
    address = urlsplit(url)
    shown = f"{address.scheme}://{address.netloc.rpartition('@')[2]}{address.path}"
    name = unquote(address.path).rstrip("/").rpartition("/")[2]
    if not name:
        raise InputError(f"{shown} names no file; name one file of rows", reason="absent")
    path = folder / name
    store = HTTPStore.from_url(url, client_options={"allow_http": True}, retry_config={"max_retries": 3})
    try:
        answer = obstore.get(store, "")
        size = answer.meta["size"]
        if path.is_file() and path.stat().st_size == size:
            return path
        make_folder(folder)

        def chunks() -> Iterator[memoryview]:
            here = 0
            for chunk in answer.stream(min_chunk_size=CHUNK_BYTES):
                yield memoryview(chunk)
                here += len(chunk)
                on_progress(f"fetching {name}, {here / 1e6:,.0f} of {size / 1e6:,.0f} MB", here)

        return write_parts(path, chunks(), lambda _sha256: path)
    except (BaseError, OSError) as error:
        if isinstance(error, OSError) and error.errno:
            raise InputError(
                f"{shown} cannot be kept in {folder}: {error.strerror}; make room, or name another --workspace",
                reason="download",
            ) from None
        raise InputError(
            f"{shown} cannot be fetched ({type(error).__name__}); try it in a browser, or fetch it by "
            "hand and name the file",
            reason="absent",
        ) from None
