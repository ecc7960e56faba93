# Spreads its work over children that each live shortly.
# verdict: CPU time
# limits: cpu_s=1
import os

while True:
    if os.fork() == 0:
        sum(range(10**6))
        os._exit(0)
    os.wait()
