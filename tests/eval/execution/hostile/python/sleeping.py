# Sleeps for ever, in a child too, and ignores SIGTERM.
# verdict: wall time
# says: had not ended after 1.5 s
# limits: wall_s=1.5
import signal
import subprocess

signal.signal(signal.SIGTERM, signal.SIG_IGN)
subprocess.run(["sh", "-c", ": @MARK@; trap '' TERM HUP; sleep 99"])
