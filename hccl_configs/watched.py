"""The part of a launch script that leaves the hosts to `mindgeex train --hosts`, which watches and restarts them.

Covers: ssh, and Slurm with srun as the way to every host of the job. Does not cover: Kubernetes and ModelArts, which
start a container again themselves (`mindgeex train --resume` goes on there).
"""

import shlex

SRUN = "srun --overlap --nodes=1 --ntasks=1 --nodelist={host}"

LISTED = "  local hosts=({hosts}) spares=()"
GIVEN_BY_SLURM = r"""  local hosts spares=()
  mapfile -t hosts < <(scontrol show hostnames "${SLURM_JOB_NODELIST:?submit this script with sbatch}")"""

MAIN = r"""main() {{
  cd -- "$workdir"
  settings
{hosts}
  if ((${{#hosts[@]}} > nodes)); then
    spares=(--spare-hosts "${{hosts[@]:nodes}}")
  fi
  "${{command[@]}}" --workers "$devices" --restarts {restarts}{reach} \
    --hosts "${{hosts[@]:0:nodes}}" "${{spares[@]}}" &
  pids=("$!")
  wait_for_all
}}"""


def watched_main(hosts: tuple[str, ...], restarts: int) -> str:
    """For the hosts in a list, or those that Slurm gives; the ones beyond `nodes` are spare ones."""
    if not hosts:
        return MAIN.format(hosts=GIVEN_BY_SLURM, restarts=restarts, reach=f" --reach {shlex.quote(SRUN)}")
    return MAIN.format(hosts=LISTED.format(hosts=" ".join(map(shlex.quote, hosts))), restarts=restarts, reach="")
