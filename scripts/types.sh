#!/usr/bin/env bash
# Checks types in every room. mypy has to see the rooms below one folder named mindgeex, so it is given one of links.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
namespace=.cache/namespace/mindgeex
rm -rf "$namespace"
mkdir -p "$namespace"
for room in common model_zoo data train eval hccl_configs cli; do
    ln -s "../../../$room" "$namespace/$room"
done
export MYPYPATH=.cache/namespace
exec "${PYTHON:-.venv/bin/python}" -m mypy --namespace-packages --explicit-package-bases -p mindgeex
