# Never ends.
# verdict: CPU time
# says: used more than 1 s of CPU time
# limits: cpu_s=1
while True:
    pass
