# Starts children that start children, until it may not.
# verdict: forbidden
# says: Resource temporarily unavailable
# limits: wall_s=20 processes=32
import subprocess

while True:
    subprocess.Popen(["sh", "-c", ": @MARK@; sleep 99 & sleep 99"])
