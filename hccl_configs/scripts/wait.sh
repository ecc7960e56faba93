pids=()
was_signalled=0

# Waits for all; the first that fails stops the others. A signal does so, too, and is no failure if they end well.
wait_for_all() {
  local left=${#pids[@]} status=0 is_stopping=0 code
  trap 'was_signalled=1; trap "" TERM INT HUP; stop' TERM INT HUP
  while ((left > 0)); do
    code=0
    wait -n || code=$?
    if ((was_signalled)); then # nobody has ended, only the waiting has
      was_signalled=0 is_stopping=1
      continue
    fi
    if ((is_stopping && code == 127)) && [[ -z $(jobs -pr) ]]; then
      break # somebody had ended all the same
    fi
    left=$((left - 1))
    if ((code != 0 && status == 0)); then
      status=$code
      stop
    fi
  done
  return "$status"
}
