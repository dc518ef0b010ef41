#!/bin/sh
# release.sh FOLDER: everything of a release, in a folder: the wheels, the images for each of PLATFORMS
# as archives, an SBOM beside each, checksums of all, and signatures where cosign is.
#
# What cannot be made here is named at the end, and the exit status is then 1. Nothing is pushed.
# PYTHON is the one of `make setup`; CONTAINER, PYTHON_IMAGE as for build.sh.
set -eu
cd "$(dirname "$0")/.."
. images/names.sh
folder=${1:?usage: release.sh FOLDER}
PYTHON=${PYTHON:-.venv/bin/python}
PLATFORMS=${PLATFORMS:-linux/amd64 linux/arm64}
container=${CONTAINER:-$(command -v docker || command -v podman || true)}
missing=

lacks() {
  echo "!! $1"
  missing="$missing
  $1"
}

[ -z "$(git status --porcelain)" ] || { echo "make release needs a clean tree: what is not committed would be in it"; exit 1; }
mkdir -p "$folder"

echo "== wheels"
for project in . clients/python; do
  "$PYTHON" -m build --quiet --wheel --no-isolation --outdir "$folder" "$project"
done
"$PYTHON" images/sbom.py --project clients/python/pyproject.toml --lock requirements/client.txt \
  >"$folder/parley-$VERSION-py3-none-any.whl.cdx.json"
"$PYTHON" images/sbom.py --lock requirements/chat.txt --lock requirements/tts.txt \
  --lock requirements/access.txt >"$folder/parley_services-$VERSION-py3-none-any.whl.cdx.json"

# Whether programs of that platform run here, as the build must: by itself, or through qemu.
runs() {
  case $1 in linux/amd64) own=x86_64 ;; linux/arm64) own=aarch64 ;; *) own=none ;; esac
  [ "$(uname -m)" = "$own" ] || [ -e "/proc/sys/fs/binfmt_misc/qemu-$own" ]
}

image() {
  target=$1 platform=$2
  archive=$folder/parley-$target-$VERSION-${platform#linux/}.tar
  name=$(image_of "$target")-${platform#linux/}
  echo "== $target for $platform"
  # shellcheck disable=SC2046  # several arguments, none with a space
  "$container" build ${PYTHON_IMAGE:+--build-arg PYTHON_IMAGE="$PYTHON_IMAGE"} $(build_args) ${BUILD_OPTIONS:-} \
    --platform "$platform" --target "$target" -t "$name" . &&
    "$container" save --output "$archive" "$name" &&
    "$container" run --rm --platform "$platform" --entrypoint dpkg-query "$name" \
      --show --showformat '${Package}\t${Version}\t${Architecture}\n' >"$archive.packages" &&
    "$PYTHON" images/sbom.py --image "parley-$target" --lock "$(lock_of "$target")" \
      --packages "$archive.packages" >"$archive.cdx.json"
  built=$?
  rm -f "$archive.packages"
  return $built
}

for platform in $PLATFORMS; do
  if [ -z "$container" ]; then
    lacks "the images for $platform: neither docker nor podman is here"
  elif ! runs "$platform"; then
    lacks "the images for $platform: its programs do not run here (apt-get install qemu-user-static, or a builder of that platform)"
  else
    for target in $TARGETS; do
      image "$target" "$platform" || lacks "$target for $platform: see above; PYTHON_IMAGE names another base where the one in the Dockerfile is not to be had"
    done
  fi
done

(cd "$folder" && rm -f SHA256SUMS* && sha256sum -- * >SHA256SUMS)
if command -v cosign >/dev/null; then
  echo "== signature"
  cosign sign-blob --yes ${COSIGN_KEY:+--key "$COSIGN_KEY"} --bundle "$folder/SHA256SUMS.sigstore.json" "$folder/SHA256SUMS"
else
  lacks "the signature of SHA256SUMS: cosign is not here"
fi

echo "== in $folder"
ls "$folder"
[ -z "$missing" ] || { echo "not made:$missing"; exit 1; }
