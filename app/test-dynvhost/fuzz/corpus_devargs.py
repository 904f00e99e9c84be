# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors
"""Inputs of the target devargs: strings."""

STRINGS = {
    "nothing": "",
    "path": "iface=/run/a",
    "everything": (
        "iface=/run/a,queues=128,client=1,reconnect-ms=0,sock-mode=0777,mrg-rxbuf=0,packed=0,"
        "in-order=0,event-idx=0,indirect=0,csum=1,tso=1,linear-buffer=1,ext-buffer=1,"
        "legacy-ol-flags=1,iommu-support=1,mtu=65535,tx-retries=32,map-mode=mmap,"
        "map-granule=1G,map-idle-ms=3600000,map-max=17179869183G,map-require-seal=1,map-dump=1"),
    "group": "iface=/run/a,sock-group=root",
    "group_unknown": "iface=/run/a,sock-group=no-such-group-anywhere",
    "sizes": "iface=/run/a,map-granule=4k,map-max=1m",
    "size_that_wraps": "iface=/run/a,map-max=17179869184G",
    "size_of_a_unit_alone": "iface=/run/a,map-max=K",
    "granule_not_a_power": "iface=/run/a,map-granule=12K",
    "path_with_signs": "iface=/run/a=b=c",
    "path_too_long": "iface=/" + "a" * 107,
    "path_of_full_length": "iface=/" + "a" * 106,
    "path_missing": "queues=1",
    "path_empty": "iface=",
    "key_unknown": "iface=/run/a,color=blue",
    "key_twice": "iface=/run/a,iface=/run/a",
    "key_without_value": "iface=/run/a,queues",
    "key_empty": "iface=/run/a,=1",
    "commas": ",,iface=/run/a,,",
    "number_negative": "iface=/run/a,queues=-1",
    "number_with_space": "iface=/run/a,queues= 1",
    "number_with_junk": "iface=/run/a,mtu=1500x",
    "number_enormous": "iface=/run/a,mtu=99999999999999999999999999",
    "mode_of_more_than_rights": "iface=/run/a,sock-mode=1777",
    "mode_not_octal": "iface=/run/a,sock-mode=0999",
    "segments_without_checksums": "iface=/run/a,tso=1,csum=0",
    "mode_unknown": "iface=/run/a,map-mode=magic",
}

INPUTS = {name: text.encode() for name, text in STRINGS.items()}
