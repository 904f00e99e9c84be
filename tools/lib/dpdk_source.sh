# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors
#
# What only DPDK's source holds: the driver SDK headers that a distribution's libdpdk-dev leaves
# out, and the l2fwd example, built as it is. Needs common.sh, packages.sh and source_package.sh.
# shellcheck shell=bash

readonly DRIVER_SDK_HEADERS=(
	lib/eal/include/dev_driver.h
	lib/ethdev/ethdev_driver.h
	lib/ethdev/ethdev_vdev.h
	drivers/bus/vdev/bus_vdev_driver.h
)

# dpdk_has_driver_sdk: is the DPDK that pkg-config finds one built with enable_driver_sdk?
dpdk_has_driver_sdk()
{
	have pkg-config && pkg-config --exists libdpdk || return 1
	# shellcheck disable=SC2046 # compiler flags are words
	printf '#include <ethdev_driver.h>\n' |
		cc -E -DALLOW_INTERNAL_API $(pkg-config --cflags libdpdk) - >/dev/null 2>&1
}

# dpdk_key: the DPDK that the things made here belong to.
dpdk_key()
{
	dpkg-query -W -f '${Version}' libdpdk-dev 2>/dev/null || pkg-config --modversion libdpdk
}

# use_dpdk_source: unpack DPDK's source once per run; sets DPDK_SOURCE.
DPDK_SOURCE=

use_dpdk_source()
{
	local work

	[ -z "$DPDK_SOURCE" ] || return 0
	[ -z "$(missing_packages libdpdk-dev)" ] ||
		die "DPDK $(dpdk_key) is not Debian's libdpdk-dev: it is unknown where its source is"
	work=$(mktemp -d "$DYNVHOST_DEPS/dpdk-source.XXXXXX")
	on_exit rm -rf "$work"
	fetch_source_package libdpdk-dev "$work/dpdk"
	DPDK_SOURCE=$work/dpdk
}

# check_driver_sdk DIR: compile and link a driver that uses what ours uses.
check_driver_sdk()
{
	# shellcheck disable=SC2046 # compiler flags are words
	cc -shared -fPIC -Wall -Wextra -Werror -DALLOW_INTERNAL_API -I"$1" \
		$(pkg-config --cflags libdpdk) -x c -o /dev/null - -Wl,--no-undefined \
		-lrte_ethdev -lrte_bus_vdev -lrte_eal <<-'END'
		#include <bus_vdev_driver.h>
		#include <ethdev_driver.h>
		#include <ethdev_vdev.h>
		static int
		probe(struct rte_vdev_device *vdev)
		{
			struct rte_eth_dev *eth_dev = rte_eth_vdev_allocate(vdev, 0);

			if (eth_dev == NULL)
				return -1;
			rte_eth_dev_probing_finish(eth_dev);
			return 0;
		}
		static struct rte_vdev_driver driver = { .probe = probe };
		RTE_PMD_REGISTER_VDEV(net_sdk_check, driver);
	END
}

setup_driver_sdk()
{
	local target=$DYNVHOST_DEPS/driver-sdk key new header

	key="$(dpdk_key) ${DRIVER_SDK_HEADERS[*]}"
	stamp_is driver-sdk "$key" && return 0
	stamp_drop driver-sdk
	if dpdk_has_driver_sdk; then
		rm -rf "$target"
		say "DPDK $(dpdk_key) has its driver SDK headers: none fetched"
	else
		use_dpdk_source
		new=$(mktemp -d "$target.XXXXXX")
		on_exit rm -rf "$new"
		chmod 755 "$new"
		for header in "${DRIVER_SDK_HEADERS[@]}"; do
			install -m 644 "$DPDK_SOURCE/$header" "$new/"
		done
		check_driver_sdk "$new" || die "DPDK $(dpdk_key) needs more driver SDK headers"
		replace_dir "$new" "$target"
		say "driver SDK headers of DPDK $(dpdk_key) are in $target"
	fi
	stamp_set driver-sdk "$key"
}

# example_source NAME: print where DPDK's example is; a self-built DPDK installs its examples.
example_source()
{
	local installed

	installed=$(pkg-config --variable=prefix libdpdk)/share/dpdk/examples/$1
	if [ -d "$installed" ]; then
		echo "$installed"
	else
		echo "$DPDK_SOURCE/examples/$1"
	fi
}

setup_l2fwd()
{
	local target=$DYNVHOST_DEPS/src-dpdk-examples/l2fwd key new log=$DYNVHOST_DEPS/log/l2fwd.log

	key=$(dpdk_key)
	stamp_is l2fwd "$key" && return 0
	stamp_drop l2fwd
	[ -d "$(example_source l2fwd)" ] || use_dpdk_source
	mkdir -p "${target%/*}" "$DYNVHOST_DEPS/bin" "$DYNVHOST_DEPS/log"
	new=$(mktemp -d "$target.XXXXXX")
	on_exit rm -rf "$new"
	chmod 755 "$new"
	cp -r "$(example_source l2fwd)/." "$new/"
	make -C "$new" shared >"$log" 2>&1 || die "cannot build DPDK's l2fwd example; see $log"
	install -m 755 "$new/build/l2fwd-shared" "$DYNVHOST_DEPS/bin/dpdk-l2fwd"
	replace_dir "$new" "$target"
	stamp_set l2fwd "$key"
	say "DPDK's l2fwd example is $DYNVHOST_DEPS/bin/dpdk-l2fwd"
}
