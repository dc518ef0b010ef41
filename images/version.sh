#!/bin/sh
# version.sh: gives what cannot read pyproject.toml the version that stands there.
set -eu
cd "$(dirname "$0")/.."
unset VERSION
. images/names.sh
sed -i -E "s#(localhost/parley-[a-z]+:)[0-9][^}]*#\1$VERSION#" compose.yaml
sed -i -E "s#(newName: localhost/parley-[a-z]+, newTag: )[^}]*#\1$VERSION#" k8s/overlays/local/kustomization.yaml
npm --prefix clients/typescript version --no-git-tag-version --allow-same-version "$VERSION" >/dev/null
sed -i -E "s#^version = \".*\"#version = \"$VERSION\"#" clients/python/pyproject.toml
sed -i -E "s#^VERSION: Final = \".*\"#VERSION: Final = \"$VERSION\"#" shared/version.py
npm --prefix web version --no-git-tag-version --allow-same-version "$VERSION" >/dev/null
echo "$VERSION"
