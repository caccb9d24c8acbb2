"""The listening socket of the server."""

from __future__ import annotations

import errno
import os
import socket

import psutil

from tollhouse.trouble import Trouble

BACKLOG = 2048


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens on the address; with port 0 on any free one. Raises Trouble with the remedy."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except (socket.gaierror, UnicodeError) as error:
        raise Trouble(
            f"TOLLHOUSE_HOST is {host!r}, which is no address of this machine. Use 127.0.0.1 or 0.0.0.0."
        ) from error
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise Trouble(_reason(error, host, port)) from error
    return listener


def _reason(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        other = f"TOLLHOUSE_PORT={port + 1 if port < 65535 else 8400}"
        return f"Port {port} is taken{_holder(port)}. Stop that program, or choose another port: {other}"
    if error.errno == errno.EACCES:
        return f"This user may not listen on port {port}. Choose one above 1023, for example TOLLHOUSE_PORT=8400"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"TOLLHOUSE_HOST is {host!r}, which is no address of this machine. Use 127.0.0.1 or 0.0.0.0."
    return f"Tollhouse can't listen on {host} port {port}: {os.strerror(error.errno or 0)}."


def _holder(port: int) -> str:
    """Who has it, as far as this user may know."""
    try:
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and tuple(connection.laddr)[1:2] == (port,) and connection.pid:
                return f" by {psutil.Process(connection.pid).name()} (pid {connection.pid})"
    except (psutil.Error, OSError):
        pass
    return ""


def address_of(listener: socket.socket) -> str:
    """Where a browser or curl on this machine finds the listener, as a URL without a path."""
    host, port = listener.getsockname()[:2]
    if host in ("0.0.0.0", "::"):  # noqa: S104 - every address: any will do to show
        host = "127.0.0.1" if host == "0.0.0.0" else "::1"  # noqa: S104
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
