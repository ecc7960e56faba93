# Looks for the harness by its process id and signals whatever has it.
# verdict: exception
# says: ProcessLookupError
import os
import signal

os.kill(int("@PID@"), signal.SIGKILL)
