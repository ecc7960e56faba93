# Passes its tests, but a thread of it stays.
# verdict: wall time
# limits: wall_s=3
import threading
import time

threading.Thread(target=time.sleep, args=(99,)).start()


def answer():
    return 42
