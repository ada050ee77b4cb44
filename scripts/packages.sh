#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# Makes sure that what a goal needs is installed: scripts/packages.sh build|run|check [ARCH]
#
# build and run are for one architecture (default: x86_64), check is for all of them.
#
# Debian 12/13 and Ubuntu 24.04: missing packages are named in one line and installed with apt-get (through sudo
# when not root), after one apt-get update if the package lists do not know them. Where everything is there, this
# is one dpkg-query and no more. On other systems the commands themselves are looked for and the missing ones named.
# DRY_RUN=1 only says what is missing (exit 1 if anything is).
set -eu

# package=command, or package=/path for what is not a command. libc6-dev is named because gcc only recommends it.
build="gcc=gcc libc6-dev=/usr/include/stdio.h binutils=objcopy make=make git=git python3=python3
       dpkg-dev=dpkg-source ca-certificates=/etc/ssl/certs xz-utils=xz"
run="qemu-utils=qemu-img e2fsprogs=/sbin/mke2fs"
check="mtools=mcopy gdisk=/sbin/sgdisk dosfstools=/sbin/mkfs.vfat
       libnbd-bin=nbdcopy curl=curl iperf=iperf acpica-tools=iasl
       busybox-static=busybox zstd=zstd ethtool=/sbin/ethtool
       clang=clang libclang-rt-dev=clang llvm=llvm-cov"
# Per architecture: the compiler where the machine is another, the emulator, what checks want beyond that. The hosted
# tests of the other architecture are programs for Linux: they want its C library and an emulator of its programs.
cross_x86_64="gcc-x86-64-linux-gnu=x86_64-linux-gnu-gcc"
cross_arm64="gcc-aarch64-linux-gnu=aarch64-linux-gnu-gcc"
run_x86_64="qemu-system-x86=qemu-system-x86_64"
run_arm64="qemu-system-arm=qemu-system-aarch64"
check_x86_64="ovmf=/usr/share/OVMF/OVMF_CODE_4M.fd"
check_arm64="qemu-efi-aarch64=/usr/share/AAVMF/AAVMF_CODE.fd"
hosted_arm64="libc6-dev-arm64-cross=/usr/aarch64-linux-gnu/include/stdio.h qemu-user=qemu-aarch64"

case $(uname -m) in
aarch64 | arm64)
    machine=arm64 ;;
*)  machine=x86_64
    # GRUB for the PC is packaged for that machine alone.
    check="$check grub-common=grub-mkrescue grub-pc-bin=/usr/lib/grub/i386-pc
           grub-efi-amd64-bin=/usr/lib/grub/x86_64-efi xorriso=xorriso" ;;
esac
arch=${2:-x86_64}
case $arch in
x86_64 | arm64) ;;
*) echo "$0: there is no architecture $arch" >&2; exit 2 ;;
esac
# The compiler of an architecture, when the machine has not got it anyway.
compiler() {
    [ "$1" = $machine ] || eval "echo \$cross_$1"
}

case "${1-}" in
build) wanted="$build $(compiler "$arch")" ;;
run)   eval "emulator=\$run_$arch"
       wanted="$build $(compiler "$arch") $run $emulator" ;;
check) wanted="$build $(compiler x86_64) $(compiler arm64) $run $run_x86_64 $run_arm64 $check $check_x86_64 $check_arm64"
       [ $machine = arm64 ] || wanted="$wanted $hosted_arm64" ;;
*)     echo "usage: $0 build|run|check [ARCH]" >&2; exit 2 ;;
esac

say() { echo "packages: $*" >&2; }
die() { say "$*"; exit 1; }

if ! command -v dpkg-query >/dev/null 2>&1; then
    missing=
    for pair in $wanted; do
        tool=${pair#*=}
        command -v "$tool" >/dev/null 2>&1 || [ -e "$tool" ] || missing="$missing $tool"
    done
    [ -z "$missing" ] || die "not a Debian or Ubuntu system; install by hand:$missing"
    exit 0
fi

names=
for pair in $wanted; do
    names="$names ${pair%%=*}"
done
# shellcheck disable=SC2086 # a list of words
installed=$(dpkg-query -W -f='${Package} ${db:Status-Status}\n' $names 2>/dev/null || true)
missing=
for name in $names; do
    case "
$installed
" in
    *"
$name installed
"*) ;;
    *) missing="$missing $name" ;;
    esac
done
[ -n "$missing" ] || exit 0

[ -z "${DRY_RUN-}" ] || die "missing:$missing"
command -v apt-get >/dev/null 2>&1 || die "no apt-get here; install by hand:$missing"
sudo=
if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null 2>&1 || die "neither root nor sudo: as root run: apt-get install -y$missing"
    if [ -n "${CI-}" ] || [ ! -t 0 ]; then
        sudo -n true 2>/dev/null || die "sudo would ask for a password: first run: sudo apt-get install -y$missing"
    fi
    sudo="sudo"
fi

# Arguments: apt-get's. Waits for another apt-get instead of failing; never asks.
apt() {
    $sudo env DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=l APT_LISTCHANGES_FRONTEND=none \
        apt-get -qq -o DPkg::Lock::Timeout=300 "$@"
}
install() {
    # shellcheck disable=SC2086
    apt install -y --no-install-recommends $missing >"$log" 2>&1
}
log=$(mktemp)
trap 'rm -f "$log"' EXIT

update() {
    # apt-get calls it a success when no archive could be reached, and keeps the old lists.
    if ! apt -o APT::Update::Error-Mode=any update >"$log" 2>&1; then
        sed 's/^/  /' "$log" >&2
        die "apt-get update failed (its words above); needed:$missing"
    fi
    updated=yes
}
# The names among $missing that the package lists do not know.
unknown() {
    for name in $missing; do
        case "$(apt-cache policy "$name" 2>/dev/null)" in
        *"Candidate: (none)"* | "") printf ' %s' "$name" ;;
        esac
    done
}

updated=
say "installing${sudo:+ with sudo}:$missing"
if [ -n "$(unknown)" ]; then
    update
    left=$(unknown)
    [ -z "$left" ] || die "this machine's archives have no$left (on Ubuntu: sudo add-apt-repository universe)"
fi
# Old lists name versions that the archive has dropped; new ones cure that.
install || { [ -z "$updated" ] && update && install; } || {
    sed 's/^/  /' "$log" >&2
    die "apt-get install failed (its words above)"
}
