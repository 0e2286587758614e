#!/bin/sh
# Compiles what ships to dist/ (or the directory given): a package of its own, to be run by Node without type stripping
# after `npm ci --omit=dev` in it. Wants the generated code and the tools of the set-up.
set -eu
cd "$(dirname "$0")/.."
out=${1:-dist}
rm -rf "$out"
tsc --project tsconfig.build.json --outDir "$out"
mkdir -p "$out/src/api/generated"
cp -R src/api/generated/vl3 src/api/generated/runtime src/api/generated/spiffe "$out/src/api/generated/"
cp cmd/vl3/vl3 cmd/vl3/vl3-wg "$out/cmd/vl3/"
sh deploy/bundle-cni.sh "$out/cmd/vl3-cni/vl3-cni.cjs"
rm -f "$out"/cmd/vl3-cni/*.js "$out"/cmd/vl3-cni/*.map
cp package.json package-lock.json .npmrc LICENSE "$out/"
