#!/bin/sh
# Run by mmdebstrap on the fresh system "$1": keep what a boot with Bluetooth needs, and write kernel and archive to $OUT.
set -eu
cd "$1"
version=$(ls usr/lib/modules)
cp "boot/vmlinuz-$version" "$OUT/vmlinuz"
modules="hci_vhci sha512_generic hmac ctr jitterentropy_rng drbg ecdh_generic cmac ccm algif_hash algif_skcipher uhid"
mkdir -p keep
for module in $modules; do
    chroot . modprobe -S "$version" --show-depends "$module" | sed -n 's/^insmod \([^ ]*\).*/\1/p'
done | sort -u | while read -r file; do
    mkdir -p "keep/$(dirname "$file")"
    cp "./$file" "keep/$file"
done
for list in order builtin builtin.modinfo; do cp "usr/lib/modules/$version/modules.$list" "keep/$list"; done
rm -rf boot/* "usr/lib/modules/$version" var/cache/* var/lib/apt/* usr/share/locale usr/share/i18n usr/share/zoneinfo \
    usr/share/perl* usr/lib/x86_64-linux-gnu/perl* usr/lib/x86_64-linux-gnu/gconv usr/lib/firmware usr/lib/udev/hwdb* \
    usr/lib/python3*/test usr/lib/python3*/ensurepip usr/lib/python3*/idlelib usr/lib/python3*/lib2to3
mkdir -p "usr/lib/modules/$version"
cp -r keep/lib/modules/"$version"/. "usr/lib/modules/$version/" 2>/dev/null \
    || cp -r keep/usr/lib/modules/"$version"/. "usr/lib/modules/$version/"
for list in order builtin builtin.modinfo; do mv "keep/$list" "usr/lib/modules/$version/modules.$list"; done
rm -rf keep
chroot . depmod "$version"
find . -xdev | cpio --quiet -o -H newc -R 0:0 | zstd -q -T0 -6 -o "$OUT/base.cpio.zst"
