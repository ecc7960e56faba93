# Makes empty files, which have no size but take the kernel's memory.
# verdict: output
# says: made more than \d+ files
import os

for number in range(10**9):
    os.close(os.open(f"{number:x}", os.O_CREAT))
