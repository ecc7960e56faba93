# What this server's workers need: the folders, the settings, the NPUs.
prepare() {
  cd -- "$workdir"
  mkdir -p -- "$logs"
  # Left by clusters' own launchers; a worker that finds them believes them.
  unset RANK_TABLE_FILE RANK_ID RANK_SIZE DEVICE_ID ASCEND_DEVICE_ID MS_ROLE
  settings
  [[ $device_target == CPU ]] || check_npus
}

check_npus() {
  if [[ -z "${ASCEND_HOME_PATH:-}" && -f /usr/local/Ascend/ascend-toolkit/set_env.sh ]]; then
    set +u # it reads variables that may not be there
    # shellcheck disable=SC1091
    source /usr/local/Ascend/ascend-toolkit/set_env.sh
    set -u
  fi
  local found=(/dev/davinci[0-9]*)
  if [[ ! -e ${found[0]} ]] || ((${#found[@]} < devices)); then
    echo "$(hostname): fewer than $devices NPUs in /dev/davinci*" >&2
    return 2
  fi
}
