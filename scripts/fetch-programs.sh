#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# Fetches packages of the machine's own distribution, unpacked and not installed, and prints the folder they are in:
# scripts/fetch-programs.sh fio nbdkit
#
# With each comes what it depends on and the machine has not got installed, so that program and libraries can be taken
# from the folder or else from the machine. apt chooses and checks the packages as for an installation, and only
# downloads them: by the package lists the machine has, or where these are missing or too old by fresh private ones.
# Nothing outside the cache is changed and root is not needed. Exits at once when the cache holds them already.
#
#   CANDELA_CACHE   the cache, default ${XDG_CACHE_HOME:-$HOME/.cache}/candela
set -eu

top=$(cd "$(dirname "$0")/.." && pwd)
cache=${CANDELA_CACHE:-${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/candela}

die() { echo "fetch-programs: $*" >&2; exit 1; }

[ $# -gt 0 ] || die "which packages?"
VERSION_CODENAME=''
[ ! -r /etc/os-release ] || . /etc/os-release
dir=$cache/programs/$(echo "${VERSION_CODENAME:-unknown} $*" | tr ' /' '--')
if [ -d "$dir" ]; then
    echo "$dir"
    exit 0
fi
for tool in apt-get dpkg-deb; do
    command -v $tool >/dev/null || die "$tool is missing"
done
mkdir -p "$cache/programs" 2>/dev/null || die "cannot write to $cache; set CANDELA_CACHE"
work=$(mktemp -d "$cache/programs/fetch.XXXXXX") || die "cannot write to $cache; set CANDELA_CACHE"
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
. "$top/scripts/aptroot.sh"

# What is installed counts as there; it is read, and never written: its lock, which only root may take, is left alone.
know_installed() {
    printf 'Dir::State::status "/var/lib/dpkg/status";\nDebug::NoLocking "true";\n' >> "$work/apt.conf"
}
download() {
    apt-get -q -y --no-install-recommends --download-only install "$@" > "$work/log" 2>&1
}

apt_root_machine "$work"
know_installed
if ! download "$@"; then
    apt_root "$work"
    know_installed
    # An archive of somebody else's may be out of reach; what counts is whether the packages are there afterwards.
    apt-get -q update > "$work/update.log" 2>&1 || true
    download "$@" || {
        cat "$work/update.log" "$work/log" | sed 's/^/  /' >&2
        die "apt could not download $* (its words above)"
    }
fi

mkdir "$work/tree"
for deb in "$work"/archives/*.deb; do
    [ -e "$deb" ] || continue           # all of it is installed
    dpkg-deb -x "$deb" "$work/tree" > "$work/log" 2>&1 || {
        sed 's/^/  /' "$work/log" >&2
        die "cannot unpack ${deb##*/} (dpkg-deb's words above)"
    }
done
rm -rf "$work/tree/usr/share"
# Two may fetch at once: the first to finish wins, and both find a whole tree.
mv -T "$work/tree" "$dir" 2>/dev/null || [ -d "$dir" ] || die "cannot move the packages to $dir"
echo "fetch-programs: $* unpacked" >&2
echo "$dir"
