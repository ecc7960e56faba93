# Fills /dev/shm, which is memory.
# verdict: exception
# says: No space left
with open("/dev/shm/@MARK@", "wb", buffering=0) as file:
    for _ in range(100):
        file.write(bytes(1 << 20))
