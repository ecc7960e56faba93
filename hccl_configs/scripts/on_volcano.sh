# A server of a Volcano job, which ModelArts runs on, too.
main() {
  local workers=${VC_WORKER_HOSTS:-127.0.0.1} count
  count=$(tr ',' '\n' <<<"$workers" | wc -l)
  if ((count != nodes)); then
    echo "the job has $count servers ($workers), this script was made for $nodes" >&2
    return 2
  fi
  start_workers "${VC_TASK_INDEX:-0}" "${workers%%,*}"
}
