"""The way between a browser and the console, which can be cut and mended: what a lost network is to an open page."""

from __future__ import annotations

import select
import socket
import threading
from contextlib import suppress


class Cable:
    """Forwards a loopback port to another, byte by byte; cut, it drops what is open and refuses what comes."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self.port = 0
        self.mend()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def mend(self) -> None:
        listener = socket.create_server(("127.0.0.1", self.port), reuse_port=False)
        self.port = listener.getsockname()[1]
        self._listener = listener
        self._accepting = threading.Thread(target=self._accept, args=(listener,), daemon=True)
        self._accepting.start()

    def cut(self) -> None:
        if self._accepting.is_alive():
            # Wakes the thread that waits in accept; closing alone would not.
            with suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._accepting.join()
        with self._lock:
            for end in self._open:
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def _accept(self, listener: socket.socket) -> None:
        with listener, suppress(OSError):
            while True:
                near, _ = listener.accept()
                threading.Thread(target=self._relay, args=(near,), daemon=True).start()

    def _relay(self, near: socket.socket) -> None:
        with near, suppress(OSError), socket.create_connection(("127.0.0.1", self._target)) as far:
            with self._lock:
                self._open |= {near, far}
            other = {near: far, far: near}
            try:
                while True:
                    for end in select.select([near, far], [], [])[0]:
                        chunk = end.recv(65536)
                        if not chunk:
                            return
                        other[end].sendall(chunk)
            finally:
                with self._lock:
                    self._open -= {near, far}
