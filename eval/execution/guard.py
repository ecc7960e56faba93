"""Ends the sandboxes of a harness that was killed (kill -9, out of memory) and could not end them itself.

bubblewrap's --die-with-parent does most of it, but not in the first milliseconds of a sandbox: a sandbox whose parent
dies while it is being set up waits for ever. So a shell stands beside the harness, asleep until a pipe closes, which
the kernel does however the harness ends; then it kills what carries the harness's mark in its environment.
Does not cover: the guard itself being killed.
"""

import functools
import os
import secrets
import subprocess

VARIABLE = "MINDGEEX_SANDBOX"
"""Carries the mark; bubblewrap clears it for the program inside."""

SCRIPT = f"""
read -r end
quiet=0
while [ $quiet -lt 5 ]; do
    # grep also complains about processes that end meanwhile: only what it names counts.
    found=$(grep -lszxF "{VARIABLE}=$1" /proc/[0-9]*/environ)
    if [ -z "$found" ]; then quiet=$((quiet + 1)); else quiet=0; fi
    for path in $found; do
        pid=${{path#/proc/}}
        kill -KILL "${{pid%/environ}}"
    done
    sleep 0.05
done
"""
"""Looks until it has found nothing five times: a process between fork and exec does not carry the mark yet."""


@functools.cache
def _guard(pid: int) -> tuple[str, "subprocess.Popen[bytes]"]:
    mark = f"{pid}-{secrets.token_hex(8)}"
    command = ["/bin/sh", "-c", SCRIPT, "guard", mark]
    null = subprocess.DEVNULL
    guard = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=null, stderr=null, start_new_session=True)
    return mark, guard


def mark() -> str:
    """What every sandbox of this process must have in its environment as VARIABLE; starts the guard if need be."""
    return _guard(os.getpid())[0]
