# Wants all memory.
# verdict: memory
# says: 200 MiB
# limits: memory_mib=200
kept = []
while True:
    kept.append(bytearray(10**7))
