#!/bin/sh
# Compiles what ships to dist/ (or the directory given): a package of its own, to be run by Node without type stripping
# after `npm ci --omit=dev` in it. Wants the generated code and the tools of the set-up.
set -eu
cd "$(dirname "$0")/.."
out=${1:-dist}
rm -rf "$out"
tsc --project tsconfig.build.json --outDir "$out"
mkdir -p "$out/src/api/generated"
cp -R src/api/generated/vl3 "$out/src/api/generated/"
cp cmd/vl3/vl3 "$out/cmd/vl3/vl3"
# One file without imports: it starts once for every pod. "vl3 cni install" puts it where runtimes look for plugins.
rolldown cmd/vl3-cni/main.ts --platform node --format cjs --minify \
  --file "$out/cmd/vl3-cni/vl3-cni.cjs" >/dev/null
rm -f "$out"/cmd/vl3-cni/*.js "$out"/cmd/vl3-cni/*.map
cp package.json package-lock.json .npmrc LICENSE "$out/"
