# One server.
main() {
  start_workers 0 127.0.0.1
}
