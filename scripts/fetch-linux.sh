#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# Fetches the distribution's own Linux kernel with its modules, unpacked and not installed, and prints the folder it
# is in: boot/vmlinuz-RELEASE and [usr/]lib/modules/RELEASE below it, and with them its Hyper-V daemons.
#
# The kernel is what linux-image-amd64 (Debian) or linux-image-generic (Ubuntu) depends on, the daemons are in
# hyperv-daemons or what linux-cloud-tools-generic depends on. apt downloads them and checks them as ever, with the
# machine's own archive entries: by the package lists the machine has, or where these are missing or too old by fresh
# private ones. Nothing outside the cache is changed and root is not needed. Exits at once when the cache holds a kernel
# already.
#
#   --cached        print what the cache holds; fail rather than touch the network
#   CANDELA_CACHE   the cache, default ${XDG_CACHE_HOME:-$HOME/.cache}/candela
#   LINUX_PACKAGE   another package than the two above, or that of one version: linux-image-6.1.0-56-amd64
#   LINUX_BACKPORT  not empty: the newer one of the release's backports, if these have one
#   LINUX_ARCH      amd64, or arm64: then with programs of that kind that tests run on it: busybox-static, and ethtool
#                   with its libraries
set -eu

top=$(cd "$(dirname "$0")/.." && pwd)
. "$top/scripts/aptroot.sh"

arch=${LINUX_ARCH:-amd64}

ID='' ID_LIKE='' daemons=''
[ ! -r /etc/os-release ] || . /etc/os-release
case "${LINUX_PACKAGE:-} $ID $ID_LIKE " in
[!\ ]*)       meta=$LINUX_PACKAGE ;;
*" ubuntu "*) meta=linux-image-generic daemons=linux-cloud-tools-generic ;;
*" debian "*) meta=linux-image-$arch daemons=hyperv-daemons ;;
*)            die "only Debian and Ubuntu are known here" ;;
esac

programs= libraries='linux-image'
[ "$arch" = amd64 ] || programs='busybox-static ethtool' libraries='lib'
# Whether a folder has what is there besides the kernel.
whole() { [ -d "$1/boot" ] && { [ -z "$programs" ] || [ -e "$1/sbin/ethtool" ] || [ -e "$1/usr/sbin/ethtool" ]; }; }

# A folder appears under its last name only when it is whole.
place=$cache/linux/${LINUX_BACKPORT:+backport-}$meta
[ "$arch" = amd64 ] || place=$cache/linux/$arch/${LINUX_BACKPORT:+backport-}$meta
for dir in "$place"-[0-9]*; do
    whole "$dir" && newest=$dir
done
if [ -n "${newest:-}" ]; then
    echo "$newest"
    exit 0
fi
[ "${1:-}" != --cached ] || die "the cache $cache holds no $meta${LINUX_BACKPORT:+ of the backports} yet; run scripts/fetch-linux.sh once"

apt_tools apt-get apt-cache dpkg-deb
mkdir -p "${place%/*}" 2>/dev/null || die "cannot write to $cache; set CANDELA_CACHE"
apt_work "$cache/linux"

candidate() { [ -z "$1" ] || apt-cache policy "$1" 2>/dev/null | sed -n 's/^  Candidate: \([^(].*\)$/\1/p'; }

# The packages, and those they depend on, directly or not, that hold a part of the kernel.
packages() {
    todo="$meta $programs" seen=
    [ -z "$(candidate "$daemons")" ] || todo="$todo $daemons"
    while [ -n "$todo" ]; do
        next=
        for name in $todo; do
            case " $seen " in *" $name "*) continue ;; esac
            seen="$seen $name"
            next="$next $(apt-cache depends --no-recommends --no-suggests --no-enhances --no-conflicts --no-breaks \
                          --no-replaces --important "$name" 2>/dev/null |
                          sed -n 's/^ *|\{0,1\}Depends: \(\(linux-image\|linux-modules\|linux-cloud-tools\|'$libraries'\)[a-z0-9.+-]*\)$/\1/p' |
                          grep -v -- -unsigned | tr '\n' ' ')"
        done
        todo=$(echo $next)
    done
    echo $seen
}

# Meta packages are small and are downloaded with the rest: their versions then belong together.
download() {
    version=$(candidate "$meta")
    [ -n "$version" ] || { echo "no candidate for $meta" > "$work/log"; return 1; }
    # shellcheck disable=SC2046 # a list of words
    (mkdir -p "$work/debs" && cd "$work/debs" && rm -f ./*.deb && apt-get -q download $(packages)) > "$work/log" 2>&1
}

# apt asks for packages of another architecture than the machine's; it has no lists of them.
foreign() {
    apt_root "$work"
    apt_of "$work" "$arch"
}

# Lists of our own, of the release and its backports, which come first.
backports() {
    apt_only_entries "$work"
    release=${UBUNTU_CODENAME:-$VERSION_CODENAME}
    echo "APT::Default-Release \"$release-backports\";" >> "$work/apt.conf"
    apt_archives main > "$work/found"
    while read -r uri key; do
        for suite in "$release" "$release-backports"; do
            apt_entry deb "$uri" "$suite" main "$key"
        done
    done < "$work/found" > "$work/parts/linux.sources"
}

own_lists=${LINUX_BACKPORT:-}
[ "$arch" = amd64 ] || own_lists=foreign
[ -n "$own_lists" ] || apt_root_machine "$work"
if [ -n "$own_lists" ] || ! download; then
    if [ "$arch" = amd64 ]; then apt_root "$work"; else foreign; fi
    [ -z "${LINUX_BACKPORT:-}" ] || backports
    # An archive of somebody else's may be out of reach; what counts is whether the kernel is there afterwards.
    apt-get -q update > "$work/update.log" 2>&1 || true
    download || apt_failed "apt could not download $meta (its words above)" "$work/update.log" "$work/log"
fi

apt_unpack "$work" "$work/debs"
ls "$work"/tree/boot/vmlinuz-* > /dev/null 2>&1 || die "$meta $version holds no boot/vmlinuz"
rm -rf "$work/tree/usr/share"
dir=$place-$(echo "$version" | tr '/:~' '___')
[ ! -d "$dir" ] || whole "$dir" || rm -rf "$dir"       # of a time when less belonged to it
apt_keep "$work/tree" "$dir" boot || die "cannot move the kernel to $dir"
echo "fetch-linux: $meta $version unpacked" >&2
echo "$dir"
