#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# Prints the command that runs CBMC, the model checker of tests/cbmc: the installed one where there is one, else one
# that is fetched and unpacked, not installed.
#
# Debian 12 has no package of it, Debian 13 has. There the package comes from the archive of 13 (the machine's own
# archive entries with the suite's name changed), with the C library it was built for, whose loader runs it: 26 MB to
# download beside the list of packages, 30 MB kept. apt checks signatures and sums as ever. Nothing outside the cache
# is changed and root is not needed. Elsewhere (Ubuntu, Debian 13) the distribution's own package is named, no more.
#
#   --cached        print what is there; fail rather than touch the network
#   CANDELA_CACHE   the cache, default ${XDG_CACHE_HOME:-$HOME/.cache}/candela
set -eu

top=$(cd "$(dirname "$0")/.." && pwd)
. "$top/scripts/aptroot.sh"
suite=trixie
lib=usr/lib/x86_64-linux-gnu
loader=$lib/ld-linux-x86-64.so.2
packages="cbmc minisat libc6 libstdc++6 libgcc-s1 zlib1g"

# With its own loader and libraries; the programs it starts (gcc, for the preprocessor) run with the machine's.
command_in() { echo "$1/$loader --library-path $1/$lib:$1/usr/lib $1/usr/bin/cbmc"; }

if command -v cbmc; then
    exit 0
fi
for dir in "$cache/cbmc/$suite"-[0-9]*; do
    [ -x "$dir/usr/bin/cbmc" ] && newest=$dir
done
if [ -n "${newest:-}" ]; then
    command_in "$newest"
    exit 0
fi
ID='' VERSION_CODENAME=''
[ ! -r /etc/os-release ] || . /etc/os-release
[ "$ID/$VERSION_CODENAME/$(uname -m)" = debian/bookworm/x86_64 ] || die "not installed (apt-get install cbmc)"
[ "${1:-}" != --cached ] || die "the cache $cache holds no CBMC yet; run scripts/fetch-cbmc.sh once"

apt_tools apt-get apt-cache dpkg-deb
apt_work "$cache/cbmc"

apt_root "$work"
apt_only_entries "$work"
# The list of packages alone: not what they contain, nor what they look like.
cat >> "$work/apt.conf" <<CONF
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled "false";
CONF
# Security updates of that release come from an archive of their own, which names its suites otherwise.
apt_archives main > "$work/found"
[ -s "$work/found" ] || die "no main archive in /etc/apt/sources.list or sources.list.d"
while read -r uri key; do
    apt_entry deb "$uri" "$suite" main "$key"
done < "$work/found" > "$work/parts/cbmc.sources"

apt-get -q update > "$work/log" 2>&1 || true
version=$(apt-cache madison cbmc 2>/dev/null | awk -F' *[|] *' 'NR == 1 { print $2 }')
[ -n "$version" ] || apt_failed "no cbmc in $suite of this machine's archives (apt's words above)" "$work/log"
# Word by word: those it needs to run, not the compiler that it would be installed with.
# shellcheck disable=SC2086
(cd "$work/archives" && apt-get -q download $packages) > "$work/log" 2>&1 ||
    apt_failed "apt could not download cbmc $version (its words above)" "$work/log"
apt_unpack "$work" "$work/archives"
rm -rf "$work/tree/usr/share" "$work/tree/etc"
find "$work/tree/usr/bin" -type f ! -name cbmc -delete
$(command_in "$work/tree") --version > "$work/log" 2>&1 ||
    apt_failed "cbmc $version does not run here (its words above)" "$work/log"
dir=$cache/cbmc/$suite-$(echo "$version" | tr '/:~' '___')
apt_keep "$work/tree" "$dir" usr/bin/cbmc || die "cannot move CBMC to $dir"
echo "fetch-cbmc: cbmc $version of $suite unpacked" >&2
command_in "$dir"
