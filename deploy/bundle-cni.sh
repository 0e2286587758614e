#!/bin/sh
# Makes the CNI plugin one file without imports, at the path given: it starts once for every pod, and "vl3 cni install" copies
# it alone to where runtimes look for plugins.
set -eu
cd "$(dirname "$0")/.."
rolldown cmd/vl3-cni/main.ts --platform node --format cjs --minify --file "$1" >/dev/null
