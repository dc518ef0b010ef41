#!/bin/sh
# build.sh: the three images, with docker or podman (CONTAINER=…), from the bases in the Dockerfile.
set -eu
cd "$(dirname "$0")/.."
. images/names.sh
container=${CONTAINER:-$(command -v docker || command -v podman || true)}
[ -n "$container" ] || { echo "make images needs docker or podman"; exit 1; }
for target in chat tts emulator; do
  echo "== $target as $(image_of "$target")"
  "$container" build ${PYTHON_IMAGE:+--build-arg PYTHON_IMAGE="$PYTHON_IMAGE"} --build-arg VERSION="$VERSION" \
    --build-arg REVISION="$(git rev-parse --short HEAD 2>/dev/null || echo unknown)" \
    --target "$target" -t "$(image_of "$target")" .
done
