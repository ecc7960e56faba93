# Reads what belongs to the host: accounts, homes, the project, its problems, a file that everybody may read there.
# verdict: wrong answer
import os

WANTED = ["/etc/shadow", "/etc/passwd", "/etc/ssh", "/root", "/home", "/var/log", "/srv"]
WANTED += ["@BAIT@", "@HOME@", "@PROJECT@", "@CACHE@"]


def answer():
    for path in WANTED:
        try:
            if os.path.isdir(path):
                os.listdir(path)
            else:
                os.open(path, os.O_RDONLY)
        except OSError:
            continue
        print(path)
        return 42
    return 41
