#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# A GRUB rescue ISO for BIOS and EFI that starts the application by Multiboot2: scripts/iso.sh ARCH APP
# ARGS="key=value ..." become the command line.
set -eu
arch=${1:?usage: iso.sh ARCH APP}
app=${2:?usage: iso.sh ARCH APP}
cd "$(dirname "$0")/.."
[ "$arch" = x86_64 ] || { echo "iso: GRUB starts us by Multiboot2, which is x86_64's; for $arch: make image" >&2; exit 2; }
elf=build/$arch/candela-$app.elf
out=${OUT:-build/$arch/candela-$app.iso}
[ -r "$elf" ] || { echo "iso: $elf is not built" >&2; exit 1; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/iso/boot/grub"
# The symbols are for debuggers; the image carries its own table.
objcopy --strip-all "$elf" "$work/iso/boot/candela.elf"
cat >"$work/iso/boot/grub/grub.cfg" <<END
set timeout=0
set gfxpayload=text
serial --unit=0 --speed=115200
terminal_output console serial
menuentry "Candela $app" {
    multiboot2 /boot/candela.elf ${ARGS-}
    boot
}
END
grub-mkrescue -o "$work/out.iso" "$work/iso" >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
mkdir -p "$(dirname "$out")"
mv "$work/out.iso" "$out"
ls -sh "$out"
