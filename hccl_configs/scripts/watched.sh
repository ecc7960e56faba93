# One process that watches the servers, and starts the workers there.
main() {
  cd -- "$workdir"
  settings
  local spares=()
  if ((${#hosts[@]} > nodes)); then
    spares=(--spare-hosts "${hosts[@]:nodes}")
  fi
  "${command[@]}" --workers "$devices" --restarts "$restarts" "${reach[@]}" \
    --hosts "${hosts[@]:0:nodes}" "${spares[@]}" &
  pids=("$!")
  wait_for_all
}
