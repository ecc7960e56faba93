# Writes wherever a program might be allowed to, in the toolchain's folders and through /proc too.
# verdict: wrong answer
import glob
import os
import sys

FOLDERS = ["/", "/etc", "/usr", "/usr/bin", "/dev", "/var", "/var/tmp", "/run", "/opt", "/root", "/home", "/sys"]
FOLDERS += ["/proc/1/root", "/proc/1/cwd/..", "@OUTSIDE@", "@HOME@", "@PROJECT@", *glob.glob("/opt/*"), *sys.path[1:]]


def answer():
    for path in [f"{folder}/@MARK@" for folder in FOLDERS] + ["/proc/sys/kernel/core_pattern", "/proc/1/oom_score_adj"]:
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT))
        except OSError:
            continue
        print(path)
        return 42
    return 41
