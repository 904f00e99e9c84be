# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors
"""Inputs of the target net_hdr, as fuzz_net_hdr.c reads them."""

from struct import pack

# Features, in the order of net_features.
(CSUM, HOST_TSO4, HOST_TSO6, HOST_ECN, HOST_UFO, GSO, GUEST_CSUM, GUEST_TSO4, GUEST_TSO6,
 GUEST_ECN, GUEST_UFO) = (1 << n for n in range(11))
FROM_GUEST = CSUM | HOST_TSO4 | HOST_TSO6 | HOST_ECN | HOST_UFO
TO_GUEST = GUEST_CSUM | GUEST_TSO4 | GUEST_TSO6 | GUEST_ECN | GUEST_UFO
# What the application wants.
LEGACY, COMPLETE_TCP, COMPLETE_UDP = 1, 2, 4
LONG = 0xa0
# Kinds of segments.
TCPV4, UDP, TCPV6, ECN = 1, 3, 4, 0x80
# Flags of mbufs, in the order of net_ask(); the last two bits are the checksum's kind.
IP_CKSUM, IPV4, IPV6, TCP_SEG, UDP_SEG, VLAN = (1 << n for n in range(6))
L4_TCP, L4_SCTP, L4_UDP = 0x40, 0x80, 0xc0

MACS = bytes.fromhex("020000000002020000000001")
TCP = bytes.fromhex("303900500000000100000002501020000000" "0000")
UDP_HEADER = bytes.fromhex("3039005000280000")
SCTP = bytes.fromhex("303900500000000100000000")


def ipv4(proto: int, payload: bytes, options: bytes = b"", fragment: int = 0) -> bytes:
    """An Ethernet frame with an IPv4 packet."""
    head = pack("!BBHHHBBH", 0x45 + len(options) // 4, 0, 20 + len(options) + len(payload), 0,
                fragment, 64, proto, 0)
    return MACS + b"\x08\x00" + head + bytes([10, 0, 0, 1, 10, 0, 0, 2]) + options + payload


def ipv6(proto: int, payload: bytes) -> bytes:
    """An Ethernet frame with an IPv6 packet."""
    head = pack("!IHBB", 6 << 28, len(payload), proto, 64)
    return MACS + b"\x86\xdd" + head + bytes(32) + payload


def vlan(frame: bytes) -> bytes:
    """The frame with a tag."""
    return frame[:12] + b"\x81\x00\x00\x05" + frame[12:]


def gre(frame: bytes) -> bytes:
    """The packet of a frame in a tunnel."""
    return ipv4(47, b"\x00\x00\x08\x00" + frame[14:])


def received(frame: bytes, features: int = FROM_GUEST, app: int = 0, start: int = 34,
             offset: int = 16, gso: int = 0, size: int = 0, csum: bool = True,
             cut: tuple[int, int] = (255, 255)) -> bytes:
    """A frame from the guest; `cut` says how long its segments are, less one."""
    hdr = pack("<BBHHHH", int(csum), gso, 0, size, start, offset)
    return pack("<HBBB", features, app, *cut) + hdr + frame


def sent(frame: bytes, flags: int, features: int = TO_GUEST, l2: int = 14, l3: int = 20,
         l4: int = 20, size: int = 0, cut: tuple[int, int] = (255, 255)) -> bytes:
    """A frame to the guest. What it asks for stands where the header is otherwise: 10 bytes."""
    ask = pack("<BBHBHBH", flags, l2, l3, l4, size, 0, 0)
    return pack("<HBBB", features, LONG, *cut) + ask + frame


DATA = bytes(range(32))
TCP4 = ipv4(6, TCP + DATA)
TCP6 = ipv6(6, TCP + DATA)
UDP4 = ipv4(17, UDP_HEADER + DATA)

INPUTS = {
    "tcp_checksum_is_left": received(TCP4),
    "tcp_checksum_is_completed": received(TCP4, app=COMPLETE_TCP),
    "tcp_checksum_by_old_flags": received(TCP4, app=LEGACY),
    "tcp6_checksum": received(TCP6, start=54, app=COMPLETE_TCP),
    "udp_checksum": received(UDP4, offset=6, app=COMPLETE_UDP),
    "sctp_checksum": received(ipv4(132, SCTP + DATA), offset=8),
    "checksum_of_tagged_frame": received(vlan(TCP4), start=38),
    "checksum_in_a_tunnel": received(gre(UDP4), start=58, offset=6),
    "checksum_of_unknown_protocol": received(ipv4(99, DATA), offset=2),
    "checksum_where_none_is": received(TCP4, start=33, offset=3),
    "checksum_in_the_last_bytes": received(TCP4, start=len(TCP4) - 2, offset=0),
    "checksum_over_the_end": received(TCP4, start=len(TCP4) - 1, offset=0),
    "checksum_far_beyond": received(TCP4, start=65535, offset=65535),
    "checksum_over_segments": received(gre(UDP4), start=58, offset=6, cut=(58, 0)),
    "checksum_of_fragment": received(ipv4(17, UDP_HEADER + DATA, fragment=0x2001), offset=6),
    "checksum_with_options": received(ipv4(6, TCP + DATA, options=bytes(40)), start=74),
    "frame_cut_into_bytes": received(TCP4, app=COMPLETE_TCP, cut=(0, 0)),
    "headers_are_cut_off": received(TCP4[:40], start=34, offset=2),
    "header_asks_nothing": received(TCP4, csum=False),
    "segments": received(TCP4, gso=TCPV4, size=100, app=LONG),
    "segments_by_old_flags": received(TCP4, gso=TCPV4 | ECN, size=100, app=LEGACY | LONG),
    "segments_of_tcp6": received(TCP6, gso=TCPV6, size=100, start=54, app=LONG),
    "segments_of_udp": received(UDP4, gso=UDP, size=100, offset=6, app=LEGACY | LONG),
    "segments_of_another_protocol": received(UDP4, gso=TCPV4, size=100, offset=6, app=LONG),
    "segments_of_no_size": received(TCP4, gso=TCPV4, size=7, app=LONG),
    "segments_longer_than_the_frame": received(TCP4, gso=TCPV4, size=60000),
    "segments_of_headers_alone": received(ipv4(6, TCP), gso=TCPV4, size=10),
    "segments_not_negotiated": received(TCP4, features=CSUM, gso=TCPV4, size=100, app=LONG),
    "segments_legacy_feature": received(TCP4, features=CSUM | GSO, gso=TCPV4, size=100, app=LONG),
    "segments_without_checksum": received(TCP4, gso=TCPV4, size=100, csum=False, app=LONG),
    "tcp_header_longer_than_the_frame": received(
        ipv4(6, TCP[:12] + b"\xf0" + TCP[13:]), gso=TCPV4, size=20),
    "send_checksum": sent(TCP4, L4_TCP | IPV4),
    "send_checksum_completed": sent(TCP4, L4_TCP | IPV4 | IP_CKSUM, features=0),
    "send_checksum_udp6": sent(ipv6(17, UDP_HEADER + DATA), L4_UDP | IPV6, features=0, l3=40),
    "send_checksum_sctp": sent(ipv4(132, SCTP + DATA), L4_SCTP | IPV4),
    "send_checksum_sctp_not_negotiated": sent(ipv4(132, SCTP + DATA), L4_SCTP | IPV4, features=0),
    "send_segments": sent(TCP4, TCP_SEG | IPV4 | IP_CKSUM, size=100),
    "send_segments_tagged": sent(TCP4, TCP_SEG | IPV4 | VLAN, size=100, cut=(3, 9)),
    "send_segments_of_udp": sent(UDP4, UDP_SEG | IPV4, l4=8, size=100),
    "send_segments_not_negotiated": sent(TCP4, TCP_SEG | IPV4, size=100, features=0),
    "send_with_a_tag": sent(TCP4, VLAN),
    "send_headers_beyond_the_frame": sent(TCP4[:30], L4_TCP | IPV4, l3=500),
    "send_longest_headers": sent(TCP4, TCP_SEG | VLAN, l2=127, l3=511, l4=255, size=9),
    "send_over_segments": sent(TCP4, L4_TCP | IPV4, features=0, cut=(0, 0)),
    "nothing": b"",
}
