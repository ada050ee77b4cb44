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
#   PROGRAMS_ARCH   of another architecture than the machine's: arm64; then with all that they depend on
#   CANDELA_CACHE   the cache, default ${XDG_CACHE_HOME:-$HOME/.cache}/candela
set -eu

top=$(cd "$(dirname "$0")/.." && pwd)
. "$top/scripts/aptroot.sh"

[ $# -gt 0 ] || die "which packages?"
VERSION_CODENAME=''
[ ! -r /etc/os-release ] || . /etc/os-release
arch=${PROGRAMS_ARCH:-}
dir=$cache/programs/$(echo "${VERSION_CODENAME:-unknown} $arch${arch:+ }$*" | tr ' /' '--')
if [ -d "$dir" ]; then
    echo "$dir"
    exit 0
fi
apt_tools apt-get dpkg-deb
apt_work "$cache/programs"

download() {
    apt-get -q -y --no-install-recommends --download-only install "$@" > "$work/log" 2>&1
}

# The machine has no lists of another architecture's packages, and nothing of it installed.
if [ -z "$arch" ]; then
    apt_root_machine "$work"
    apt_installed "$work"
fi
if [ -n "$arch" ] || ! download "$@"; then
    apt_root "$work"
    if [ -n "$arch" ]; then apt_of "$work" "$arch"; else apt_installed "$work"; fi
    # An archive of somebody else's may be out of reach; what counts is whether the packages are there afterwards.
    apt-get -q update > "$work/update.log" 2>&1 || true
    download "$@" || apt_failed "apt could not download $* (its words above)" "$work/update.log" "$work/log"
fi

apt_unpack "$work" "$work/archives"    # none, where all is installed
rm -rf "$work/tree/usr/share"
apt_keep "$work/tree" "$dir" . || die "cannot move the packages to $dir"
echo "fetch-programs: $* unpacked" >&2
echo "$dir"
