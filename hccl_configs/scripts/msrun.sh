# This server's workers: start_workers NUMBER-OF-SERVER ADDRESS-OF-FIRST-SERVER
start_workers() {
  local node=$1 master=$2
  prepare
  echo "server $node: $devices workers, logs in $logs/worker_RANK.log"
  # msrun, but SIGTERM reaches the workers, and it ends when they fail
  python -m mindgeex.hccl_configs.msrun --worker_num="$((nodes * devices))" --local_worker_num="$devices" \
    --master_addr="$master" --master_port="$port" --node_rank="$node" --cluster_time_out=1800 \
    --log_dir="$logs" --join=True "${command[@]}" &
  pids=("$!")
  wait_for_all
}
