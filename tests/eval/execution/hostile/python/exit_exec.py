# Becomes another program, one that succeeds.
# verdict: early exit
# says: exit code 0
import os


def answer():
    os.execv("/bin/true", ["true"])
