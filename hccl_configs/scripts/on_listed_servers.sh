# The servers of a list, each with its own copy of this script, sent over ssh.
on_host() {
  ssh -o BatchMode=yes -o ConnectTimeout=30 -o ServerAliveInterval=30 "$@"
}

main() {
  if (($# > 0)); then # sent to a server by the lines below
    mkdir -p -- "$logs"
    echo "$$" >"$logs/server-$1.pid"
    start_workers "$@"
    return
  fi
  local node master=${hosts[0]#*@}
  stop() {
    local node file
    for node in "${!hosts[@]}"; do # the script there passes it on
      file=$(printf '%q' "$logs/server-$node.pid")
      on_host "${hosts[node]}" "kill -TERM \$(cat $file)" 2>/dev/null || true
    done
  }
  for node in "${!hosts[@]}"; do
    { on_host "${hosts[node]}" "bash -s -- $node $master" <"$script" 2>&1 | sed -u "s/^/[${hosts[node]}] /"; } &
    pids+=("$!")
  done
  wait_for_all
}
script=$(readlink -f -- "${BASH_SOURCE[0]:-/dev/null}")
