"""A TCP proxy that can cut connections and withhold responses."""

import socket
import threading
from contextlib import suppress
from types import TracebackType
from urllib.parse import urlsplit


class TcpProxy:
    """A proxy between clients and an HTTP server; use it as a context manager.

    Attributes:
        address: URL of the proxy.
        refused: Number of connections that were attempted while the proxy was cut.
        triggered: Event that is set once `withhold_response` or `cut_within` takes effect.
    """

    def __init__(self, server: str) -> None:
        parts = urlsplit(server)
        self._server = (parts.hostname or "", parts.port or 80)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.refused = 0
        self.triggered = threading.Event()
        self._is_cut = False
        self._withhold = b""
        self._cut_within = b""
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()

    def __enter__(self) -> "TcpProxy":
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._listener.close()
        self.cut()

    def cut(self) -> None:
        """Break all connections, and reject new ones."""
        self._is_cut = True
        with self._lock:
            ends, self._open = self._open, set()
        for end in ends:
            _break(end)

    def restore(self) -> None:
        """Accept connections again."""
        self._is_cut = False

    def withhold_response(self, request: bytes) -> None:
        """Forward the next request whose first line contains `request`, but not its response."""
        self.triggered.clear()
        self._withhold = request

    def cut_within(self, request: bytes) -> None:
        """Cut all connections within the next request whose first line contains `request`."""
        self.triggered.clear()
        self._cut_within = request

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self._is_cut:
                self.refused += 1
                _break(client)
                continue
            server = socket.create_connection(self._server)
            with self._lock:
                self._open |= {client, server}
            withheld = threading.Event()
            for forward in (self._forward_requests, self._forward_responses):
                threading.Thread(
                    target=forward, args=(client, server, withheld), daemon=True
                ).start()

    def _forward_requests(
        self, client: socket.socket, server: socket.socket, withheld: threading.Event
    ) -> None:
        while data := _receive(client):
            first_line = data.split(b"\r\n", 1)[0]
            if self._withhold and self._withhold in first_line:
                self._withhold = b""
                withheld.set()
            if self._cut_within and self._cut_within in first_line:
                self._cut_within = b""
                _send(server, data[: len(data) // 2])
                self.cut()
                self.triggered.set()
                return
            if not _send(server, data):
                break
        self._close(client, server)

    def _forward_responses(
        self, client: socket.socket, server: socket.socket, withheld: threading.Event
    ) -> None:
        while data := _receive(server):
            if withheld.is_set():
                self.triggered.set()
                break
            if not _send(client, data):
                break
        self._close(client, server)

    def _close(self, *ends: socket.socket) -> None:
        with self._lock:
            self._open -= set(ends)
        for end in ends:
            _break(end)


def _receive(end: socket.socket) -> bytes:
    try:
        return end.recv(1 << 16)
    except OSError:
        return b""


def _send(end: socket.socket, data: bytes) -> bool:
    try:
        end.sendall(data)
    except OSError:
        return False
    return True


def _break(end: socket.socket) -> None:
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
