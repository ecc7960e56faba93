# The servers of a Slurm job, each with its own copy of this script.
main() {
  if [[ ${1:-} == node ]]; then # sent to a server by the lines below
    start_workers "$SLURM_NODEID" "$2"
    return
  fi
  local master
  master=$(scontrol show hostnames "${SLURM_JOB_NODELIST:?submit this script with sbatch}" | sed -n 1p)
  # srun gives its standard input to every server.
  srun --nodes="$nodes" --ntasks="$nodes" --ntasks-per-node=1 --kill-on-bad-exit=1 \
    bash -s -- node "$master" <"$script" &
  pids=("$!")
  wait_for_all
}
script=$(readlink -f -- "${BASH_SOURCE[0]:-/dev/null}")
