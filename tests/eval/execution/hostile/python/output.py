# Writes without end.
# verdict: output
# says: wrote more than 1 MiB
while True:
    print("flood " * 10000)
