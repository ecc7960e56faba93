# Raises its own limits and those of the first process.
# verdict: wrong answer
import resource

LIMITS = (resource.RLIMIT_CPU, resource.RLIMIT_DATA, resource.RLIMIT_NPROC, resource.RLIMIT_FSIZE, resource.RLIMIT_CORE)


def answer():
    for limit in LIMITS:
        endless = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        try:
            resource.setrlimit(limit, endless)
        except (OSError, ValueError):
            continue
        return 42
    return 41
