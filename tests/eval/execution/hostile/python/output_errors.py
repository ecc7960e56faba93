# Writes errors without end.
# verdict: output
# says: wrote more than 1 MiB
import sys

while True:
    sys.stderr.write("flood " * 10000)
