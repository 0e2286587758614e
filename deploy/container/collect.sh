#!/bin/sh
# Puts what the image has besides vl3 itself into a directory: Node, the programs that vl3 calls, the libraries of all of
# them, and nothing else of the Debian it is run on. For each file the record of its package goes along, where scanners
# look for it. So that tests can run what the image holds, this is all that decides it.
#
#   sh deploy/container/collect.sh ROOT
set -eu
root=${1:?name the directory to fill}

# Its path, also of what is built into the shell.
find_program() {
  for directory in $(printf '%s' "$PATH" | tr : ' ') /usr/sbin /sbin; do
    [ ! -x "$directory/$1" ] || { printf '%s\n' "$directory/$1"; return; }
  done
  echo "collect: $1 is missing here" >&2
  exit 1
}

# src/netns/tool, src/agent/echo; setpriv drops what the agent does not need; sh, dirname and readlink start vl3; sleep is for
# pods that wait; cat, rm, mkdir, cp and cmp bring credentials out of a pod and into one.
programs='node ip nft nsenter ping setpriv sh true dirname readlink sleep cat rm mkdir cp cmp'

# Debian's merged layout: paths of both kinds lead to the same file.
for directory in bin sbin lib lib64; do
  mkdir -p "$root/usr/$directory"
  ln -sfn "usr/$directory" "$root/$directory"
done
mkdir -p "$root/usr/local/bin" "$root/etc" "$root/run/netns" "$root/tmp" "$root/proc" "$root/sys" "$root/dev" \
  "$root/var/lib/dpkg/status.d" "$root/var/lib/vl3" "$root/var/cache/vl3" "$root/root"
ln -sfn /run "$root/var/run"
chmod 1777 "$root/tmp"
chmod 700 "$root/root"

files=$(mktemp)
names=$(mktemp)
trap 'rm -f "$files" "$names"' EXIT
for program in $programs; do
  path=$(find_program "$program")
  # Node is the image's own and belongs to no package; the others keep their places.
  [ "$program" = node ] && at=/usr/local/bin/node || at="$(realpath "$(dirname "$path")")/$program"
  cp -L "$path" "$root$at"
  ldd "$path" | awk '$2 == "=>" && $3 ~ /^\// { print $3 } $1 ~ /^\// { print $1 }' >>"$files"
  [ "$program" = node ] || printf '%s\n' "$path" >>"$names"
done
# What src/ffi/ipsec-mb opens by itself; only amd64 has it.
for path in /usr/lib/*/libIPSec_MB.so.1; do [ ! -e "$path" ] || printf '%s\n' "$path" >>"$files"; done
sort -u "$files" | while read -r path; do
  at="$(realpath "$(dirname "$path")")/$(basename "$path")"
  [ -e "$root$at" ] || { mkdir -p "$root$(dirname "$at")"; cp -L "$path" "$root$at"; }
done

# Which package each is of. Debian names a file as it was packed, before or after its layout was merged; the other name is
# not found, which is no failure.
packages=$(sort -u "$files" "$names" | while read -r path; do
  real=$(realpath "$path")
  printf '%s\n' "$path" "$real" "${path#/usr}" "${real#/usr}" "/usr${path#/usr}"
done | sort -u | xargs dpkg -S 2>/dev/null | sed -n 's/^\([^,: ]*\)[:,].*/\1/p' | sort -u || true)
[ -n "$packages" ] || { echo 'collect: dpkg knows none of these files' >&2; exit 1; }
for package in $packages; do
  dpkg-query --status "$package" >"$root/var/lib/dpkg/status.d/$package"
  mkdir -p "$root/usr/share/doc/$package"
  cp -L "/usr/share/doc/$package/copyright" "$root/usr/share/doc/$package/copyright" 2>/dev/null || true
done

cp -L /etc/os-release "$root/etc/os-release"
printf 'hosts: files dns\n' >"$root/etc/nsswitch.conf"
printf 'root:x:0:0:root:/root:/usr/sbin/nologin\nvl3:x:65532:65532:vl3:/var/lib/vl3:/usr/sbin/nologin\n' >"$root/etc/passwd"
printf 'root:x:0:\nvl3:x:65532:\n' >"$root/etc/group"
# The registry runs as vl3. An agent is root.
chown 65532:65532 "$root/var/lib/vl3"
ln -sfn /opt/vl3/cmd/vl3/vl3 "$root/usr/local/bin/vl3"
