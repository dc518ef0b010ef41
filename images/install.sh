#!/bin/sh
# install.sh LOCK FOLDER: the locked packages into a folder, without what only a developer needs.
# Wheels only; nkeys has none, and is built by the locked setuptools, with nothing fetched meanwhile.
set -eu
/pip/bin/pip install --disable-pip-version-check --no-cache-dir --no-compile --quiet \
  --require-hashes --only-binary :all: --no-binary nkeys --no-build-isolation --target "$2" -r "$1"
# The tests of a cryptography library and its public keys, FastStream for brokers whose libraries are
# not here anyhow, what pydantic and websockets keep for programs of long ago, messages of Google's
# services, sources of compiled modules, symbols that nothing loads by: a third of what the speech
# service needs.
rm -rf "$2/bin"
for part in SelfTest PublicKey Protocol Signature; do rm -rf "$2/Crypto/$part"; done
for broker in confluent kafka mqtt rabbit redis; do rm -rf "$2/faststream/$broker"; done
rm -rf "$2/pydantic/v1" "$2/websockets/legacy" "$2/websockets/sync"
for service in api cloud gapic logging longrunning type; do rm -rf "$2/google/$service"; done
find "$2" -name '*.abi3.so' | while read -r compiled; do rm -f "${compiled%.abi3.so}.py"; done
find "$2" -type f \( -name '*.pyi' -o -name '*.pyx' -o -name '*.pxd' -o -name '*.h' -o -name '*.c' \) -delete
# (What auditwheel has moved into `….libs` is stripped already, and would only grow.)
find "$2" -type f -name '*.so' -not -path '*.libs/*' -exec strip --strip-unneeded {} +
# The root is read-only at run time: what is not compiled now is compiled at every start. By hash
# and not by date, so that equal sources make equal files.
python3 -m compileall -q --invalidation-mode unchecked-hash "$2"
