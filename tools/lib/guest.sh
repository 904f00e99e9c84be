# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors
#
# The test guest: Debian's cloud kernel, unpacked but never installed, and an initial RAM disk made
# of the machine's own programs. Needs common.sh and packages.sh.
# shellcheck shell=bash

readonly GUEST_BUILDER=$DYNVHOST_ROOT/app/test-dynvhost/e2e/guest
readonly GUEST_KERNEL_META=linux-image-cloud-amd64

# kernel_package: print the kernel package the meta package stands for; nothing if apt knows none.
kernel_package()
{
	apt-cache depends --important "$GUEST_KERNEL_META" 2>/dev/null |
		awk '$1 == "Depends:" && $2 ~ /^linux-image-[0-9]/ { print $2; exit }'
}

# download_kernel DIR: fetch the kernel's .deb into DIR, with fresh package lists if need be.
download_kernel()
{
	local dir=$1 log=$DYNVHOST_DEPS/log/guest-kernel.log package

	mkdir -p "$DYNVHOST_DEPS/log"
	package=$(kernel_package)
	if [ -n "$package" ] && (cd "$dir" && apt-get download "$package") >"$log" 2>&1; then
		return 0
	fi
	am_root || die "not root, and apt's lists have no $GUEST_KERNEL_META to download"
	apt_refresh
	package=$(kernel_package)
	[ -n "$package" ] || die "apt knows no $GUEST_KERNEL_META; see $APT_UPDATE_LOG"
	(cd "$dir" && apt-get download "$package") >"$log" 2>&1 ||
		die "cannot download $package: $(apt_reason "$APT_UPDATE_LOG" "$log"); see $log"
}

# The kernel stays until it is deleted: a newer one in the archive is no reason to fetch again.
setup_guest_kernel()
{
	local target=$DYNVHOST_DEPS/guest/kernel key=$GUEST_KERNEL_META dir new

	stamp_is guest-kernel "$key" && return 0
	stamp_drop guest-kernel
	dir=$(private_apt_dir)
	on_exit rm -rf "$dir"
	say "downloading the guest's kernel"
	download_kernel "$dir/download"
	new=$(mktemp -d "$DYNVHOST_DEPS/kernel.XXXXXX")
	on_exit rm -rf "$new"
	chmod 755 "$new"
	dpkg-deb -x "$dir"/download/*.deb "$new" || die "cannot unpack the guest's kernel"
	# Since Debian 13 what used to be in /lib is in /usr/lib.
	[ -d "$new/lib" ] || ln -s usr/lib "$new/lib"
	replace_dir "$new" "$target"
	rm -rf "$dir"
	stamp_set guest-kernel "$key"
}

# guest_key: all that the initial RAM disk is made of.
guest_key()
{
	ls "$DYNVHOST_DEPS/guest/kernel/lib/modules"
	dpkg-query -W busybox-static iperf3 ethtool libc6
	sha256sum <"$GUEST_BUILDER/init"
	sha256sum <"$GUEST_BUILDER/shell"
	sha256sum <"$GUEST_BUILDER/build.sh"
}

setup_guest()
{
	local guest=$DYNVHOST_DEPS/guest key log=$DYNVHOST_DEPS/log/guest-initrd.log

	setup_guest_kernel
	key=$(guest_key)
	stamp_is guest "$key" && return 0
	stamp_drop guest
	mkdir -p "$DYNVHOST_DEPS/log"
	"$GUEST_BUILDER/build.sh" "$guest/kernel" "$guest/initrd.img.new" >"$log" 2>&1 ||
		die "cannot build the guest's RAM disk ($(tail -n 1 "$log")); see $log"
	cp "$guest"/kernel/boot/vmlinuz-* "$guest/vmlinuz.new"
	mv "$guest/vmlinuz.new" "$guest/vmlinuz"
	mv "$guest/initrd.img.new" "$guest/initrd.img"
	stamp_set guest "$key"
	say "the test guest is in $guest: Linux $(ls "$guest/kernel/lib/modules")"
}
