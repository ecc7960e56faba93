# A child answers rightly, and its parent wrongly.
# verdict: wrong answer
import os


def answer():
    if os.fork() == 0:
        os._exit(0)
    os.wait()
    return 41
