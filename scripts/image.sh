#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# Disk images that firmware boots: scripts/image.sh ARCH APP
#
#   build/ARCH/candela-APP.img    raw: GPT with one EFI system partition (FAT32): \EFI\BOOT\BOOTX64.EFI or BOOTAA64.EFI,
#                                 \candela.conf
#   build/ARCH/candela-APP.vhdx   the same for Hyper-V, Generation 2 (dynamic)
#   build/ARCH/candela-APP.vhd    the same for Azure (fixed, whole MiB, Generation 2)
#
# CONF=file takes that file as candela.conf, OUT=prefix names the files.
# Needs neither root nor loop devices. The same input gives the same image.
set -eu
arch=${1:?usage: image.sh ARCH APP}
app=${2:?usage: image.sh ARCH APP}
PATH=$PATH:/usr/sbin:/sbin
cd "$(dirname "$0")/.."

case $arch in
x86_64) boot_name=BOOTX64.EFI ;;
arm64)  boot_name=BOOTAA64.EFI ;;
*)      echo "image: no boot file name known for $arch" >&2; exit 2 ;;
esac
efi=build/$arch/BOOT-$app.EFI
conf=${CONF:-boot/efi/candela.conf}
out=${OUT:-build/$arch/candela-$app}
[ -r "$efi" ] || { echo "image: $efi is not built" >&2; exit 1; }
[ -r "$conf" ] || { echo "image: can't read $conf" >&2; exit 1; }

# FAT32 has at least 65525 clusters, so 64 MiB with one sector each; files of that size cost what is in them.
mib=64
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
img=$work/img
truncate -s ${mib}M "$img"
sgdisk --clear --disk-guid=43414E44-454C-4100-8000-000000000001 \
    --new=1:2048:0 --typecode=1:EF00 --change-name=1:Candela \
    --partition-guid=1:43414E44-454C-4100-8000-000000000002 "$img" >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
# The partition ends 34 sectors before the disk does (the second GPT).
kib=$(((mib * 2048 - 2048 - 34) / 2))
mkfs.vfat -F 32 -s 1 -n CANDELA -i 43414E44 --invariant --offset 2048 "$img" $kib >"$work/log" 2>&1 ||
    { cat "$work/log" >&2; exit 1; }
cp "$efi" "$work/boot"
cp "$conf" "$work/conf"
touch -d "@${SOURCE_DATE_EPOCH:-1767225600}" "$work/boot" "$work/conf"
export MTOOLS_SKIP_CHECK=1 TZ=UTC
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-1767225600} mmd -i "$img@@1M" ::EFI ::EFI/BOOT
mcopy -m -i "$img@@1M" "$work/boot" "::EFI/BOOT/$boot_name"
mcopy -m -i "$img@@1M" "$work/conf" ::candela.conf

qemu-img convert -q -f raw -O vhdx -o subformat=dynamic "$img" "$work/vhdx"
qemu-img convert -q -f raw -O vpc -o subformat=fixed,force_size=on "$img" "$work/vhd"
mv "$img" "$out.img"
mv "$work/vhdx" "$out.vhdx"
mv "$work/vhd" "$out.vhd"
ls -sh "$out.img" "$out.vhdx" "$out.vhd"
