# Asks for a socket of every family but Unix.
# verdict: wrong answer
import socket


def answer():
    for family in set(range(64)) - {socket.AF_UNIX}:
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW):
            try:
                socket.socket(family, kind).close()
            except OSError:
                continue
            return 42
    return 41
