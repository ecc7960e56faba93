# Spreads memory over processes that each stay below the limit.
# verdict: memory
# says: its processes held more
# limits: memory_mib=300
import os
import time

for _ in range(8):
    if os.fork() == 0:
        kept = b"x" * (100 << 20)
        time.sleep(99)
os.wait()
