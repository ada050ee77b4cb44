#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# Fetches lwIP 2.2 as a source package of the machine's own distribution and links it as build/lwip.
#
# How: a private apt root below a temporary folder gets the machine's own archive entries, rewritten to source entries
# of the suite that carries lwIP 2.2; apt checks signatures and sums as ever; dpkg-source unpacks into a cache outside
# the tree. The system's apt configuration is read and never changed; root is not needed. Exits at once when the cache
# holds it already.
#
#   --cached        link what the cache holds; fail rather than touch the network (what a plain build asks)
#   CANDELA_CACHE   the cache, default ${XDG_CACHE_HOME:-$HOME/.cache}/candela
#   LWIP_SUITE      another suite than the one chosen below
#   LWIP_DIR        an unpacked lwIP source to link instead: nothing is fetched
set -eu

top=$(cd "$(dirname "$0")/.." && pwd)
. "$top/scripts/aptroot.sh"
probe=src/core/init.c
oldest=2.2

link_and_exit() {
    mkdir -p "$top/build"
    if [ "$(readlink "$top/build/lwip" 2>/dev/null || true)" != "$1" ]; then
        ln -sfn "$1" "$top/build/lwip"
    fi
    exit 0
}

if [ -n "${LWIP_DIR:-}" ]; then
    [ -f "$LWIP_DIR/$probe" ] || die "LWIP_DIR=$LWIP_DIR holds no $probe"
    link_and_exit "$(cd "$LWIP_DIR" && pwd)"
fi
for dir in "$cache"/lwip-2.[2-9]*; do
    [ -f "$dir/$probe" ] && link_and_exit "$dir"
done
[ "${1:-}" != --cached ] || die "the cache $cache holds no lwIP yet; run scripts/fetch-lwip.sh once"

for tool in apt-get apt-cache dpkg-source; do
    command -v $tool >/dev/null || die "$tool is missing (Debian or Ubuntu package: $([ $tool = dpkg-source ] && echo dpkg-dev || echo apt))"
done

[ -r /etc/os-release ] || die "no /etc/os-release: which distribution is this? Set LWIP_DIR to an lwIP 2.2 source"
ID='' ID_LIKE='' VERSION_CODENAME=''
. /etc/os-release
# Debian 12 still has 2.1, Debian 13 was the first with 2.2, and a source package does not mind where it is unpacked.
# Ubuntu keeps lwIP in universe.
case " $ID $ID_LIKE " in
*" ubuntu "*) component=universe; suites="${LWIP_SUITE:-${UBUNTU_CODENAME:-$VERSION_CODENAME} devel}" ;;
*" debian "*) component=main;     suites=${LWIP_SUITE:-trixie} ;;
*) die "only Debian and Ubuntu are known here; set LWIP_DIR to an unpacked lwIP 2.2 source" ;;
esac

apt_work "$cache"
apt_archives "$component" > "$work/archives.txt"
[ -s "$work/archives.txt" ] || die "no $component archive in /etc/apt/sources.list or sources.list.d; set LWIP_DIR"
apt_root "$work"
apt_only_entries "$work"
mkdir "$work/unpack"

newest() {
    apt-cache showsrc --only-source lwip 2>/dev/null | awk '$1 == "Version:" { print $2 }' | while read -r v; do
        dpkg --compare-versions "$v" ge "$oldest" && echo "$v"
    done | sort -V | tail -n 1
}

version=''
for suite in $suites; do
    while read -r uri key; do
        apt_entry deb-src "$uri" "$suite" "$component" "$key"
    done < "$work/archives.txt" > "$work/parts/lwip.sources"
    failed=''
    apt-get update -q -o APT::Update::Error-Mode=any > "$work/log" 2>&1 || failed=yes
    version=$(newest)
    [ -z "$version" ] || break
done
if [ -z "$version" ]; then
    sed 's/^/  /' "$work/log" >&2
    [ -z "$failed" ] || die "can't reach this machine's package archives (apt's words above); try again, or set LWIP_DIR"
    die "no lwIP $oldest in $suites of this machine's archives (apt's words above); set LWIP_SUITE or LWIP_DIR"
fi

cd "$work/unpack"
apt-get source -q --download-only --only-source "lwip=$version" > "$work/log" 2>&1 ||
    apt_failed "apt could not download lwip $version (its words above)" "$work/log"
dpkg-source --no-check -x lwip_*.dsc source > "$work/log" 2>&1 ||
    apt_failed "dpkg-source could not unpack lwip $version (its words above)" "$work/log"
[ -f "source/$probe" ] || die "the unpacked lwip $version holds no $probe"
dir=$cache/lwip-${version%%[+-]*}
apt_keep source "$dir" "$probe" || die "cannot move the source to $dir"
echo "fetch-lwip: lwip $version unpacked to $dir"
rm -rf "$work"
link_and_exit "$dir"
