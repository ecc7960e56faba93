# Looks for the harness's Unix sockets, by path and by abstract name, and listens on its own.
# verdict: wrong answer
import socket


def answer():
    socket.socket(socket.AF_UNIX).bind("\0@MARK@")
    socket.socket(socket.AF_UNIX).bind("@MARK@")
    for address in ("@UNIX@", "\0@ABSTRACT@"):
        try:
            socket.socket(socket.AF_UNIX).connect(address)
        except OSError:
            continue
        return 42
    return 41
