# Wants memory that no limit on a process counts.
# verdict: memory
# limits: memory_mib=200
import mmap
import time

kept = mmap.mmap(-1, 1 << 30)
for at in range(0, 1 << 30, 4096):
    kept[at] = 1
time.sleep(99)
