#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# Fetches a QEMU that has VMBus devices (hv-balloon, since 8.2) where the installed one is older, unpacked and not
# installed, and prints the folder it is in: usr/bin/qemu-system-x86_64 below it, with what it needs beside what the
# machine has installed.
#
# It comes from the backports of the machine's own release: its own archive entries with the suite's name changed. apt
# chooses and checks the packages as for an installation, and only downloads them. Nothing outside the cache is changed
# and root is not needed. Exits at once when the cache holds a QEMU already.
#
#   --cached        print what the cache holds; fail rather than touch the network
#   CANDELA_CACHE   the cache, default ${XDG_CACHE_HOME:-$HOME/.cache}/candela
set -eu

top=$(cd "$(dirname "$0")/.." && pwd)
. "$top/scripts/aptroot.sh"
package=qemu-system-x86
binary=usr/bin/qemu-system-x86_64

[ "$(uname -m)" = x86_64 ] || die "only for x86_64 machines"
ID='' ID_LIKE='' VERSION_CODENAME=''
[ ! -r /etc/os-release ] || . /etc/os-release
release=${UBUNTU_CODENAME:-$VERSION_CODENAME}
[ -n "$release" ] || die "/etc/os-release names no release"
case " $ID $ID_LIKE " in
*" ubuntu "*) component=universe ;;
*" debian "*) component=main ;;
*)            die "only Debian and Ubuntu are known here" ;;
esac

# A folder appears under its last name only when it is whole; its name has the release its libraries belong to.
for dir in "$cache/qemu/$release"-[0-9]*; do
    [ -x "$dir/$binary" ] && newest=$dir
done
if [ -n "${newest:-}" ]; then
    echo "$newest"
    exit 0
fi
[ "${1:-}" != --cached ] || die "the cache $cache holds no QEMU for $release yet; run scripts/fetch-qemu.sh once"

apt_tools apt-get apt-cache dpkg-deb
apt_work "$cache/qemu"

apt_root "$work"
apt_only_entries "$work"
apt_installed "$work"
apt_archives $component > "$work/found"
[ -s "$work/found" ] || die "no $component archive in /etc/apt/sources.list or sources.list.d"
while read -r uri key; do
    for suite in "$release" "$release-backports"; do
        apt_entry deb "$uri" "$suite" "$component" "$key"
    done
done < "$work/found" > "$work/parts/qemu.sources"

apt-get -q update > "$work/log" 2>&1 || true
version=$(apt-cache madison $package 2>/dev/null | awk -F' *[|] *' -v suite="$release-backports/" \
          'index($3, suite) { print $2; exit }')
[ -n "$version" ] ||
    apt_failed "no $package in $release-backports of this machine's archives (apt's words above)" "$work/log"
apt-get -q -y --no-install-recommends --download-only -t "$release-backports" install "$package=$version" \
        > "$work/log" 2>&1 || apt_failed "apt could not download $package $version (its words above)" "$work/log"
apt_unpack "$work" "$work/archives"
[ -x "$work/tree/$binary" ] || die "$package $version holds no $binary"
rm -rf "$work/tree/usr/share/doc" "$work/tree/usr/share/man" "$work/tree/etc"
dir=$cache/qemu/$release-$(echo "$version" | tr '/:~' '___')
apt_keep "$work/tree" "$dir" "$binary" || die "cannot move QEMU to $dir"
echo "fetch-qemu: $package $version unpacked" >&2
echo "$dir"
