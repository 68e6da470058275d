"""The server's HTTP/1.1 protocol: uvicorn over llhttp, with a limit on the bytes outside of bodies.

Decisions: llhttp accepts heads, trailers and chunk extensions of any size, in any number of pieces. Bytes that are not
part of a body are counted, and beyond `HEAD_LIMIT` the connection is closed.
"""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_LIMIT = 1 << 16
"""Most bytes of a request's head."""


class BoundedProtocol(HttpToolsProtocol):
    """One connection."""

    _beside = 0
    """Bytes since a request began or a piece of its body came."""

    def data_received(self, data: bytes) -> None:
        """Read what the network brings."""
        self._beside += len(data)
        super().data_received(data)
        if self._beside > HEAD_LIMIT and not self.transport.is_closing():
            if self.cycle is None or self.cycle.response_complete:
                self.send_400_response(f"The head of the request is larger than {HEAD_LIMIT} bytes.")
            self.transport.close()

    def on_message_begin(self) -> None:
        """A request begins."""
        self._beside = 0
        super().on_message_begin()

    def on_body(self, body: bytes) -> None:
        """A piece of a body is there."""
        self._beside = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """A request is whole."""
        self._beside = 0
        super().on_message_complete()
