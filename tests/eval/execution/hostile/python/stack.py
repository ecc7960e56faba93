# Calls itself without end, having lifted the interpreter's own limit.
# verdict: memory, exception
# limits: memory_mib=200
import sys

sys.setrecursionlimit(10**9)


def answer():
    return answer() + 1
