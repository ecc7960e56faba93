"""What the error codes of HCCL and CANN mean, and what to do next.

Covers: codes that CANN publishes for HCCL (EI) and HCCP (EJ), a few of the driver and the runtime, and, for any other
code of the form, the component and whether it is the user's mistake or an internal error.
Does not cover: codes of single operators; guesses: a code whose meaning is not published is said to have none.
Sources: CANN documentation, maintenance reference, "error codes" (form of a code, components, EL0004, EL0019, E*9999)
and HCCL user guide, "HCCL error codes"; error tables in the public sources of CANN's hcomm and runtime (EI, EJ, EE).
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from mindgeex.common.errors import UserError

COMPONENTS = {
    "1": "GE (graph engine)",
    "2": "FE (fusion engine)",
    "3": "AI CPU",
    "4": "TE Fusion",
    "7": "the plugins of vector operators",
    "8": "vector operators",
    "B": "the TBE pass compiler",
    "C": "Auto Tune",
    "D": "RL Tune",
    "E": "the runtime",
    "F": "LxFusion and AutoDeploy",
    "G": "AOE (tuning)",
    "H": "AscendCL",
    "I": "HCCL (collective communication)",
    "J": "HCCP (HCCL's processes on the devices)",
    "K": "profiling",
    "L": "the driver",
    "M": "queue scheduling",
    "N": "DVPP",
    "O": "AMCT",
    "P": "dump",
    "Z": "operators in general",
}
"""Second letter of a code -> who reports it."""
FIRST_INTERNAL = 9000

MEANINGS = {
    "EI0001": (
        "an environment variable of HCCL has a value that is not allowed",
        "correct the variable that the message names",
    ),
    "EI0002": (
        "a collective operation waited for another rank until HCCL_EXEC_TIMEOUT",
        "look for the rank that reported another error first, or none; if all report this one at about the same time, "
        "compare their batches and speed; `grep -rn 'error cqe'` in the plogs finds lost packets",
    ),
    "EI0003": (
        "a collective operation was given a value that is not allowed",
        "correct the argument that the message names",
    ),
    "EI0004": (
        "the rank table cannot be read, or this rank is not in it",
        "`mindgeex hccl check $RANK_TABLE_FILE`, and compare RANK_ID with the table",
    ),
    "EI0005": (
        "ranks called the same collective operation with different arguments",
        "compare script, recipe, data and rank table of the two ranks: they have to be the same",
    ),
    "EI0006": (
        "a rank did not connect within HCCL_CONNECT_TIMEOUT (120 s if it is not set)",
        "look for a rank that failed or never started; if all time out far apart in time, raise HCCL_CONNECT_TIMEOUT; "
        "then check the links: `hccn_tool -i N -ping -g address ...`, and `hccn_tool -i N -tls -g`, the same on all",
    ),
    "EI0007": (
        "HCCL found no memory or no other resource that it needs",
        "end other processes on these NPUs; use fewer communication groups or less memory",
    ),
    "EI0008": (
        "servers have different versions of HCCL",
        "install the same version of CANN on all servers",
    ),
    "EI0009": (
        "the transport between two ranks could not be set up",
        "read the cause in the message, and look for an earlier error of the other rank",
    ),
    "EI0010": (
        "two NPUs of a server cannot reach each other directly",
        "check the NPUs with `npu-smi info`; HCCL_INTRA_ROCE_ENABLE=1 sends by their network cards instead",
    ),
    "EI0011": (
        "HCCL found no memory on the NPU",
        "end other processes on it, or leave HCCL more memory (smaller batch, smaller HCCL_BUFFSIZE)",
    ),
    "EI0012": (
        "copying memory between NPUs failed",
        "look for a process that left before, then a link that broke, then a buffer that was too small or freed",
    ),
    "EI0013": (
        "packets between two network cards were lost for good (error CQE)",
        "look for a process that left before; else check cables, ports and switches between the two addresses named",
    ),
    "EI0014": (
        "the rank table does not agree with the machines",
        "`mindgeex hccl check $RANK_TABLE_FILE`, then compare it with /etc/hccn.conf of the server named",
    ),
    "EI0015": (
        "the ranks could not collect each other's addresses in time",
        "look for ranks that never came; check that all hosts reach the first one and that HCCL_SOCKET_IFNAME names "
        "the right card; then raise HCCL_CONNECT_TIMEOUT",
    ),
    "EI0016": ("a setting of HCCL has a value that is not allowed", "correct the setting that the message names"),
    "EI0017": ("a key is missing in the rank table", "`mindgeex hccl check $RANK_TABLE_FILE` names it"),
    "EI0018": (
        "packets on the UB network were lost for good (error CQE)",
        "look for a process that left before; else check the link",
    ),
    "EI0019": (
        "an address and port could not be bound",
        "see who has the port (`ss -ltnp`), and end what an earlier run left behind",
    ),
    "EI0020": (
        "an address and port could not be bound",
        "see who has the port (`ss -ltnp`), and end what an earlier run left behind",
    ),
    "EJ0001": (
        "HCCL's process on the NPU could not start, most likely since one of an earlier run is still there",
        "end the earlier run's processes (`npu-smi info` lists them), wait ten seconds, start again",
    ),
    "EJ0002": ("the NPU's network port is down", "check `hccn_tool -i N -link -g`, the cable and the switch"),
    "EJ0003": (
        "HCCP could not bind an address and port",
        "end what an earlier run left behind; compare device_ip with /etc/hccn.conf",
    ),
    "EJ0004": (
        "an address is not that of the NPU",
        "`mindgeex hccl check $RANK_TABLE_FILE`, then compare device_ip with /etc/hccn.conf of that server",
    ),
    "EE1002": (
        "a stream did not finish in time",
        "look for an earlier error of this or another rank; then check the network",
    ),
    "EL0004": ("no memory could be allocated", "end other processes; use a smaller batch or recompute more"),
    "EL0019": ("no memory on the NPU could be allocated", "end other processes; use a smaller batch or recompute more"),
}
"""Code -> meaning, next step."""

CODE = re.compile(r"(?<![A-Za-z0-9_#])E[0-9A-Z]\d{4}(?![A-Za-z0-9_])")
REPORTED = re.compile(r"[:)\]]")
"""What follows a code in a message of CANN; words of the form whose component is unknown count only then."""
TIME = re.compile(r"\d{4}-\d\d-\d\d[- T]\d\d:\d\d:\d\d(?:[.,:]\d+)*")


@dataclass(frozen=True)
class Meaning:
    """What is known of a code."""

    code: str
    component: str | None
    """Who reports it; None if no such component is published."""
    meaning: str
    next_step: str


@dataclass
class Finding:
    """A code in logs."""

    code: str
    where: str
    """File and line of its first appearance."""
    line: str
    time: str
    """As the line tells; empty if it does not."""
    count: int = 0
    files: set[str] = field(default_factory=set)


def explain_code(code: str) -> Meaning:
    """What a code means, as far as that is published.

    Raises:
        UserError: it has not the form of a code, such as EI0006.
    """
    if not CODE.fullmatch(code):
        raise UserError(f"{code!r} is no error code of CANN: they look like EI0006, E39999 or EZ9999")
    component = COMPONENTS.get(code[1])
    if code in MEANINGS:
        return Meaning(code, component, *MEANINGS[code])
    if component is None:
        return Meaning(
            code, None, "no component with this letter is published", "read the message that follows the code"
        )
    if int(code[2:]) >= FIRST_INTERNAL:
        step = (
            "read the lines below it and the plog (~/ascend/log); it often only follows another rank's or code's error"
        )
        return Meaning(code, component, f"an internal error of {component}, with the cause in the message only", step)
    step = "read the message that follows the code, and CANN's list of error codes"
    return Meaning(code, component, f"{component} was given something it refuses; no more is known here", step)


def find_codes(logs: Iterable[tuple[str, Iterable[str]]]) -> list[Finding]:
    """The codes in some logs, the earliest first: by the time that their lines tell, then in the order of the logs.

    Args:
        logs: name and lines of each.
    """
    found: dict[str, Finding] = {}
    for name, lines in logs:
        for number, line in enumerate(lines, start=1):
            for match in CODE.finditer(line):
                code, after = match[0], line[match.end() : match.end() + 1]
                if code not in MEANINGS and code[1] not in COMPONENTS and not REPORTED.match(after):
                    continue
                time = TIME.search(line)
                first = Finding(code, f"{name}, line {number}", line.strip(), time[0] if time else "")
                known = found.setdefault(code, first)
                if first.time and (not known.time or first.time < known.time):
                    known.where, known.line, known.time = first.where, first.line, first.time
                known.count += 1
                known.files.add(name)
    return sorted(found.values(), key=lambda finding: (not finding.time, finding.time))
