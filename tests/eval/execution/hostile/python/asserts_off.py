# Runs itself again with assertions switched off.
# verdict: early exit
# says: exit code 0
import os
import sys

if sys.flags.optimize == 0:
    os.execv(sys.executable, [sys.executable, "-O", "program.py"])


def answer():
    return 41
