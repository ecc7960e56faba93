# Asks for memory that belongs to no process: memory files, System V segments.
# verdict: wrong answer
import ctypes
import os


def answer():
    if ctypes.CDLL(None).shmget(0, 4096, 0o1600) != -1:
        return 42
    try:
        os.memfd_create("more")
    except OSError:
        return 41
    return 42
