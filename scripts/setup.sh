#!/usr/bin/env bash
# Makes .venv and installs the project and its tools into it, and system packages where we may. Does nothing, within
# milliseconds, when that is done already; `rm .venv/ready` makes it look again. EXTRAS=interop adds PyTorch, so that the
# tests also compare with it, EXTRAS=ray builds corpora on a Ray cluster; several extras are separated by commas.
#
# Covers: Debian and its relatives with apt, as root or with passwordless sudo; elsewhere it says what to install.
# Does not cover: Ascend drivers and CANN (`mindgeex doctor` says what is missing).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# command or files, Debian package, what it is for
TOOLS="
bwrap   bubblewrap            running generated programs in a sandbox (eval run)
g++     g++                   evaluating C++
go      golang-go             evaluating Go
javac   default-jdk-headless  evaluating Java
node    nodejs                evaluating JavaScript
rustc   rustc                 evaluating Rust
/usr/include/boost/any.hpp libboost-dev evaluating C++ that uses Boost
/usr/include/openssl/md5.h libssl-dev evaluating C++ that uses OpenSSL
/usr/share/cargo/registry/regex-1.* librust-regex-dev evaluating Rust that uses the crate regex
/usr/share/cargo/registry/md5-0.* librust-md5-dev evaluating Rust that uses the crate md5
ip      iproute2              testing several hosts on one machine
"

say() { printf 'setup: %s\n' "$*" >&2; }

fingerprint() {
    { pwd; cat constraints.txt pyproject.toml setup.py scripts/setup.sh
      find common model_zoo data train eval hccl_configs cli -name __init__.py | LC_ALL=C sort; } | sha256sum | cut -c1-64
}

is_right_python() { "$1" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; }

find_python() {
    local candidate
    for candidate in python3.11 python3; do
        if is_right_python "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    say "Python 3.11 is needed (constraints.txt is resolved for it) and was not found on PATH: install python3.11 and python3.11-venv"
    exit 1
}

# Prints how to become root for one command; fails where we may not.
as_root() {
    if [ "$(id -u)" = 0 ]; then echo env; elif sudo -n true 2>/dev/null; then echo sudo -n; else return 1; fi
}

install_packages() { # package...
    local root
    command -v apt-get >/dev/null && root=$(as_root) || return 1
    say "installing with apt: $*"
    # shellcheck disable=SC2086  # $root is a command and its options
    $root apt-get update -qq && $root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

is_there() { # command or files
    case $1 in
    /*) compgen -G "$1" >/dev/null ;;
    *) command -v "$1" >/dev/null ;;
    esac
}

# System packages for the evaluation and the tests; every one of them is optional, so a refusal is reported and we go on.
system_packages() {
    local missing=() command package purpose
    while read -r command package purpose; do
        [ -z "$command" ] || is_there "$command" || missing+=("$package")
    done <<<"$TOOLS"
    [ ${#missing[@]} -eq 0 ] && return
    install_packages "${missing[@]}" || say "could not install system packages here; going on without them"
    while read -r command package purpose; do
        [ -z "$command" ] || is_there "$command" || say "missing: $package, for $purpose"
    done <<<"$TOOLS"
}

# The one package of Node that a benchmark uses; Debian's node comes without npm, which is not worth its 300 packages.
node_packages() {
    local root
    command -v npm >/dev/null || return 0
    [ ! -d "$(npm root --global)/js-md5" ] || return 0
    say "installing with npm: js-md5"
    root=$(as_root) || root="env"
    # shellcheck disable=SC2086  # $root is a command and its options
    if ! $root timeout 60 npm install --global --silent --no-fund --no-audit js-md5 >/dev/null; then
        say "missing: js-md5, for evaluating JavaScript that uses it: npm install --global js-md5"
    fi
}

# One line that is rewritten on a terminal; elsewhere a line for each package of 20 MB or more.
show_pip() {
    local count=0 word name size unit text
    while read -r word name size unit _; do
        case $word in
        Collecting) count=$((count + 1)) text="Collecting $name" ;;
        Downloading)
            text="Downloading ${name##*/} $size $unit" size=${size#(}
            if [ ! -t 2 ] && [ "$unit" = "MB)" ] && [ "${size%.*}" -ge 20 ]; then say "$text"; fi
            ;;
        Obtaining | Building | Installing) text="$word $name" ;;
        *) continue ;;
        esac
        if [ -t 2 ]; then printf '\r\033[Ksetup: %d packages, %.70s' "$count" "$text" >&2; fi
    done
    if [ -t 2 ]; then printf '\r\033[K' >&2; fi
}

python_packages() {
    local python=$1
    if ! "$python" -c 'import ensurepip' 2>/dev/null; then
        install_packages python3.11-venv || {
            say "this Python cannot make virtual environments: install python3.11-venv"
            exit 1
        }
    fi
    # One of another Python, or whose Python is gone, cannot be repaired in place.
    [ ! -e .venv ] || is_right_python .venv/bin/python || say "making .venv anew: its Python is not a working 3.11"
    is_right_python .venv/bin/python || rm -rf .venv
    "$python" -m venv .venv
    say "installing Python packages into .venv: about 4 GB, some minutes the first time (log: .venv/setup.log)"
    if ! .venv/bin/python -m pip install --progress-bar off --disable-pip-version-check \
        -c constraints.txt -e ".[dev,mindformers${EXTRAS:+,$EXTRAS}]" 2>&1 | tee .venv/setup.log | show_pip; then
        grep -E '^(ERROR|error)' .venv/setup.log >&2 || tail -n 20 .venv/setup.log >&2
        say "pip could not install everything; the whole log is in .venv/setup.log; run again to continue"
        exit 1
    fi
}

wanted=$(fingerprint)
[ "$(cat .venv/ready 2>/dev/null)" = "$wanted" ] && [ -x .venv/bin/python ] && [ -x .venv/bin/mindgeex ] &&
    { [ -z "${EXTRAS:-}" ] || [ "$(cat .venv/extras 2>/dev/null)" = "$EXTRAS" ]; } && exit 0
python=$(find_python)
system_packages
node_packages
python_packages "$python"
[ -z "${EXTRAS:-}" ] || echo "$EXTRAS" >.venv/extras
echo "$wanted" >.venv/ready
say "done: $(du -sh .venv | cut -f1) in .venv"
