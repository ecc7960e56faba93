# Never ends and ignores whatever would tell it to.
# verdict: CPU time
# limits: cpu_s=1
import signal

for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
    signal.signal(number, signal.SIG_IGN)
while True:
    pass
