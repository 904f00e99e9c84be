#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors
#
# Builds the test guest's initial RAM disk from an unpacked kernel package and the machine's own
# busybox-static, iperf3 and ethtool. The guest's contract with tests is the head comment of init.
#
# Usage: build.sh KERNEL_ROOT INITRD
#	KERNEL_ROOT	where linux-image-* was unpacked (holds lib/modules/VERSION)
#	INITRD		file to write: a plain newc archive; under emulation unpacking costs more
#			than loading

set -euo pipefail

readonly HERE=${BASH_SOURCE[0]%/*}
readonly PROGRAMS=(iperf3 ethtool)
# What a guest may be asked to load; each comes with everything it needs.
readonly MODULES=(virtio_pci virtio_net virtio_balloon virtio_mem 8021q)

fail()
{
	echo "build.sh: $*" >&2
	exit 1
}

add_busybox()
{
	local root=$1 applet

	mkdir -p "$root"/{bin,dev,proc,sys,tmp,run,root,etc,lib/modules}
	cp /bin/busybox "$root/bin/busybox"
	while read -r applet; do
		[ "$applet" = busybox ] || ln -s busybox "$root/bin/$applet"
	done < <(/bin/busybox --list)
	echo 'root:x:0:0:root:/root:/bin/sh' >"$root/etc/passwd"
	echo '127.0.0.1 localhost' >"$root/etc/hosts"
}

add_library()
{
	mkdir -p "$1${2%/*}"
	cp -L "$2" "$1$2"
}

# What the dynamic linker names for no program, and the C library loads when a thread is cancelled.
add_libgcc()
{
	local library

	library=$(/sbin/ldconfig -p | awk '$1 == "libgcc_s.so.1" && /x86-64/ && !n++ { print $NF }')
	[ -n "$library" ] || fail "libgcc_s.so.1 is not installed"
	add_library "$1" "$library"
}

# A program and the libraries and loader the dynamic linker names for it, at the same paths.
add_program()
{
	local root=$1 program=$2 path library

	path=$(command -v "$program") || fail "$program is not installed"
	rm -f "$root/bin/$program"
	cp -L "$path" "$root/bin/$program"
	ldd "$path" | grep -o '/[^ ]*' | while read -r library; do
		add_library "$root" "$library"
	done
}

copy_module()
{
	local file=$1 target=$2

	case $file in
	*.ko) cp "$file" "$target" ;;
	*.ko.xz) xz -dc "$file" >"$target" ;;
	*) fail "do not know how to unpack $file" ;;
	esac
}

# One flat folder of modules, and for each name in MODULES the order to load it in; nothing is loaded
# for one that the kernel has built in.
add_modules()
{
	local kernel_root=$1 root=$2 version name needed verb file base

	version=$(ls "$kernel_root/lib/modules")
	depmod -b "$kernel_root" "$version"
	for name in "${MODULES[@]}"; do
		needed=$(modprobe -d "$kernel_root" -S "$version" --show-depends "$name") ||
			fail "kernel $version has no module $name"
		while read -r verb file; do
			[ "$verb" = insmod ] || continue
			base=${file##*/}
			base=${base%%.ko*}
			base=${base//-/_}
			copy_module "$file" "$root/lib/modules/$base.ko"
			echo "$base"
		done <<<"$needed" >"$root/lib/modules/$name.order"
	done
}

main()
{
	[ $# -eq 2 ] || fail "usage: build.sh KERNEL_ROOT INITRD"
	local kernel_root initrd=$2 root program

	kernel_root=$(realpath "$1")
	root=$(mktemp -d "$initrd.root.XXXXXX")
	# shellcheck disable=SC2064 # the folder's name of now is meant
	trap "rm -rf '$root'" EXIT
	chmod 755 "$root"
	add_busybox "$root"
	for program in "${PROGRAMS[@]}"; do
		add_program "$root" "$program"
	done
	add_libgcc "$root"
	add_modules "$kernel_root" "$root"
	install -m 755 "$HERE/init" "$root/init"
	install -m 755 "$HERE/shell" "$root/bin/shell"
	(cd "$root" && find . | LC_ALL=C sort | cpio --quiet -o -H newc -R 0:0) >"$initrd"
}

main "$@"
