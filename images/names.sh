# What the images are called and labelled with, for the scripts beside this file, which are in the
# project's folder by then. The version stands in pyproject.toml.
VERSION=${VERSION:-$(sed -n 's/^version = "\(.*\)"$/\1/p' pyproject.toml)}
TARGETS="chat tts access emulator"
image_of() { echo "localhost/parley-$1:$VERSION"; }
PYTHON_STANDIN=localhost/parley-standin-python:1
NATS_STANDIN=localhost/parley-standin-nats:1
STORE_STANDIN=localhost/parley-standin-store:1

# The packages of each, locked.
lock_of() { if [ "$1" = emulator ]; then echo images/emulator.txt; else echo "requirements/$1.txt"; fi; }

# Of the commit, and not of the clock, so that equal sources make equal images.
REVISION=${REVISION:-$(git rev-parse HEAD 2>/dev/null || echo unknown)}
CREATED=${CREATED:-$(git log -1 --format=%cI 2>/dev/null || echo unknown)}
SOURCE=${SOURCE:-$(git config --get remote.origin.url 2>/dev/null | grep '^https://' || echo unknown)}
build_args() {
  for name in VERSION REVISION CREATED SOURCE; do eval "echo --build-arg $name=\$$name"; done
}
