"""A TCP proxy before an HTTP server, whose connections can be cut, restored, and robbed."""

import socket
import threading
from contextlib import suppress
from types import TracebackType
from urllib.parse import urlsplit


class TcpProxy:
    """Stands between a client and a server; use as a context manager, and go by `address`."""

    def __init__(self, server: str) -> None:
        parts = urlsplit(server)
        self._server = (parts.hostname or "", parts.port or 80)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.refused = 0
        """Connections that were tried while it was cut."""
        self.robbed = threading.Event()
        """Set once a request was dealt with as `rob` or `cut_within` say."""
        self._is_cut = False
        self._rob = b""
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
        """Break every connection, and every new one as soon as it is made."""
        self._is_cut = True
        with self._lock:
            ends, self._open = self._open, set()
        for end in ends:
            _break(end)

    def restore(self) -> None:
        """Let connections through again."""
        self._is_cut = False

    def rob(self, request: bytes) -> None:
        """Let the next request whose first line has this through, and keep its answer back."""
        self.robbed.clear()
        self._rob = request

    def cut_within(self, request: bytes) -> None:
        """`cut` when the next request whose first line has this is half through."""
        self.robbed.clear()
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
            robbed = threading.Event()
            for pump in (self._requests, self._answers):
                threading.Thread(target=pump, args=(client, server, robbed), daemon=True).start()

    def _requests(self, client: socket.socket, server: socket.socket, robbed: threading.Event):
        while data := _received(client):
            first_line = data.split(b"\r\n", 1)[0]
            if self._rob and self._rob in first_line:
                self._rob = b""
                robbed.set()
            if self._cut_within and self._cut_within in first_line:
                self._cut_within = b""
                _sent(server, data[: len(data) // 2])
                self.cut()
                self.robbed.set()
                return
            if not _sent(server, data):
                break
        self._close(client, server)

    def _answers(self, client: socket.socket, server: socket.socket, robbed: threading.Event):
        while data := _received(server):
            if robbed.is_set():
                self.robbed.set()
                break
            if not _sent(client, data):
                break
        self._close(client, server)

    def _close(self, *ends: socket.socket) -> None:
        with self._lock:
            self._open -= set(ends)
        for end in ends:
            _break(end)


def _received(end: socket.socket) -> bytes:
    try:
        return end.recv(1 << 16)
    except OSError:
        return b""


def _sent(end: socket.socket, data: bytes) -> bool:
    try:
        end.sendall(data)
    except OSError:
        return False
    return True


def _break(end: socket.socket) -> None:
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
