# Kills its parent, the first process, its process group and all it may.
# verdict: exception
# says: signal 9
import os
import signal

for target in (os.getppid(), 1, int("@PID@"), -1):
    try:
        os.kill(target, signal.SIGKILL)
    except OSError:
        continue
os.killpg(0, signal.SIGKILL)
