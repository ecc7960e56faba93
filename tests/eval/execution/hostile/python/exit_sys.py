# Ends with sys.exit.
# verdict: early exit
# says: exit code 0
import sys


def answer():
    sys.exit(0)
