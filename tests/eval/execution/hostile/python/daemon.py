# Leaves a daemon: a session of its own, forked twice, nothing open.
# verdict: passed
import os


def answer():
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.closerange(0, 256)
            os.execv("/bin/sh", ["sh", "-c", ": @MARK@; trap '' TERM HUP; sleep 99"])
        os._exit(0)
    os.wait()
    return 42
