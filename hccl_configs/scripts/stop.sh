stop() {
  kill -TERM "${pids[@]}" 2>/dev/null || true
}
