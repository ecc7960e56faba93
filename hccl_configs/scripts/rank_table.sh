# This server's workers: start_workers NUMBER-OF-SERVER
start_workers() {
  local node=$1 device rank
  prepare
  export RANK_TABLE_FILE="$table"
  export RANK_SIZE=$((nodes * devices))
  echo "server $node: $devices workers, logs in $logs/rank-RANK.log"
  for ((device = 0; device < devices; device++)); do
    rank=$((node * devices + device))
    RANK_ID=$rank DEVICE_ID=$device "${command[@]}" >"$logs/rank-$(printf '%05d' "$rank").log" 2>&1 &
    pids+=("$!")
  done
  local killer='' status=0
  stop() { # workers in the middle of a collective may not hear it
    kill -TERM "${pids[@]}" 2>/dev/null || true
    { sleep "$grace_s"; kill -KILL "${pids[@]}"; } >/dev/null 2>&1 &
    killer=$!
    disown
  }
  wait_for_all || status=$?
  if [[ -n $killer ]]; then
    kill -KILL "$killer" || true
  fi
  return "$status"
}
