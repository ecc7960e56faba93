# Leaves a child that keeps output and channel open, so that whoever reads them would wait.
# verdict: passed
import subprocess


def answer():
    subprocess.Popen(["sh", "-c", ": @MARK@; sleep 99"], close_fds=False, start_new_session=True)
    return 42
