#!/bin/sh
# build.sh: the images, with docker or podman (CONTAINER=…), from the bases in the Dockerfile.
set -eu
cd "$(dirname "$0")/.."
. images/names.sh
container=${CONTAINER:-$(command -v docker || command -v podman || true)}
[ -n "$container" ] || { echo "make images needs docker or podman"; exit 1; }
for target in $TARGETS; do
  echo "== $target as $(image_of "$target")"
  # shellcheck disable=SC2046  # several arguments, none with a space
  "$container" build ${PYTHON_IMAGE:+--build-arg PYTHON_IMAGE="$PYTHON_IMAGE"} $(build_args) \
    --target "$target" -t "$(image_of "$target")" .
done
