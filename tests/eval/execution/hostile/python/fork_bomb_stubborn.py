# Forks and does not care about errors.
# verdict: CPU time, wall time
# limits: cpu_s=1 wall_s=10 processes=8
import os

while True:
    try:
        os.fork()
    except OSError:
        continue
