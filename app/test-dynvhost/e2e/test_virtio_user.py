# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors

"""DPDK's own virtio driver as the guest, in a second testpmd: every byte of every frame compared.

The sender reads its frames from a capture file, the receiver writes what arrives into another, and
testpmd's retry mode waits for ring space, so nothing may be lost, changed, doubled or reordered.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from harness import eal, frames, hugepages
from harness.errors import check
from harness.lab import Lab
from harness.settings import PEER_CPU, SWITCH_CPU
from harness.tap import case, note
from harness.testpmd import Testpmd, socket_of
from harness.wait import until

GUEST_MB = 256
SHORT_FRAMES = range(64, 1519)
JUMBO_FRAMES = (9000, 64, 8999, 1519, 4096, 9000, 2048)
PCAP_PORT, VIRTIO_PORT = 0, 1
TRANSFER_SECONDS = 60.0


@dataclass(frozen=True)
class Shape:
    """How both sides are set up. Small mbufs chain long frames; without mergeable buffers the
    guest's must hold a whole frame."""
    mergeable: bool
    switch_mbuf: int
    guest_mbuf: int
    frame_limit: int
    scatter: bool = False
    guest_options: str = ''


SHORT_MERGEABLE = Shape(True, 2176, 2176, 1518)
SHORT_PLAIN = Shape(False, 2176, 2176, 1518)
JUMBO_MERGEABLE = Shape(True, 640, 640, 9018, scatter=True)
JUMBO_PLAIN = Shape(False, 640, 10240, 9018)


def _testpmd(lab: Lab, name: str, shape: Shape, vdevs: Sequence[str], guest: bool) -> Testpmd:
    mbuf = shape.guest_mbuf if guest else shape.switch_mbuf
    options = [f'--max-pkt-len={shape.frame_limit}', f'--mbuf-size={mbuf}',
               '--disable-device-start', '--no-flush-rx']
    pmd = Testpmd(lab, name, vdevs, cpu=PEER_CPU if guest else SWITCH_CPU, huge=guest,
                  memory_mb=GUEST_MB, options=options)
    pmd.command(f'port config {VIRTIO_PORT} tx_offload multi_segs on')
    if guest and shape.scatter:
        pmd.command(f'port config {VIRTIO_PORT} rx_offload scatter on')
    pmd.command('set fwd io retry')
    pmd.command('set burst tx delay 20 retry 50000')
    pmd.start_ports()
    return pmd


def _capture(name: str, lab: Lab, sends: bool) -> str:
    """The devargs of the capture port: the source of frames, or the place they end in."""
    used, empty = lab.path(f'{name}.pcap'), lab.path(f'{name}-none.pcap')
    frames.write(empty, [])
    unused = lab.path(f'{name}-unused.pcap')
    if sends:
        return f'net_pcap0,rx_pcap={used},tx_pcap={unused}'
    return f'net_pcap0,rx_pcap={empty},tx_pcap={used}'


def _transfer(lab: Lab, shape: Shape, sent: Sequence[bytes], guest_sends: bool) -> None:
    """Move the frames one way through a fresh pair of processes and compare what came out."""
    hugepages.reserve(lab, GUEST_MB)
    frames.write(lab.path('source.pcap'), sent)
    socket = socket_of(lab, VIRTIO_PORT)
    switch_capture = _capture('sink' if guest_sends else 'source', lab, not guest_sends)
    guest_capture = _capture('source' if guest_sends else 'sink', lab, guest_sends)
    switch = _testpmd(lab, 'switch', shape, [
        switch_capture, eal.vdev(lab.settings, 0, socket)], guest=False)
    guest = _testpmd(lab, 'guest', shape, [
        guest_capture, f'net_virtio_user0,path={socket},queue_size=256,'
        f'mrg_rxbuf={int(shape.mergeable)}{shape.guest_options}'], guest=True)
    switch.wait_link(VIRTIO_PORT)
    receiver, sender = (switch, guest) if guest_sends else (guest, switch)
    receiver.start()
    sender.start()
    _await_all(lab, sent)
    frames.compare(sent, frames.read(lab.path('sink.pcap')))
    counted = switch.stats(VIRTIO_PORT)
    seen = counted.rx_packets if guest_sends else counted.tx_packets
    check(seen == len(sent), f'the port counts {seen} packets of {len(sent)}')
    guest.quit()
    switch.wait_link(VIRTIO_PORT, up=False)
    switch.quit()
    check(not socket.exists(), 'the switch left its socket behind')


def _await_all(lab: Lab, sent: Sequence[bytes]) -> None:
    sink, wanted = lab.path('sink.pcap'), frames.file_size(sent)
    until(lambda: sink.exists() and sink.stat().st_size >= wanted, TRANSFER_SECONDS,
          f'{len(sent)} frames; {len(frames.read(sink))} had come when it began', every=0.1)


def _register(name: str, shape: Shape, sizes: Sequence[int], short: int, long: int) -> None:
    """One case per direction; the frames are `sizes` once over, as often as the form asks."""
    for guest_sends in (True, False):
        def body(lab: Lab, guest_sends: bool = guest_sends) -> None:
            rounds = lab.settings.count(short, long)
            sent = frames.make(list(sizes) * rounds, seed=1 + guest_sends)
            _transfer(lab, shape, sent, guest_sends)
            note(f'{len(sent)} frames compared')

        way = 'guest to switch' if guest_sends else 'switch to guest'
        case(f'virtio_user: {name} arrives unchanged, {way}')(body)


_register('every frame of 64 to 1518 bytes, mergeable,', SHORT_MERGEABLE, SHORT_FRAMES, 10, 100)
_register('every frame of 64 to 1518 bytes, not mergeable,', SHORT_PLAIN, SHORT_FRAMES, 10, 100)
_register('a 9000-byte frame in chained mbufs, mergeable,', JUMBO_MERGEABLE, JUMBO_FRAMES,
          500, 5000)
for ring, options in (('packed ring', ',packed_vq=1'), ('split ring in order', ',in_order=1'),
                      ('packed ring in order', ',packed_vq=1,in_order=1')):
    for mergeable in (True, False):
        merged = 'mergeable' if mergeable else 'not mergeable'
        _register(f'every frame of 64 to 1518 bytes, {ring}, {merged},',
                  Shape(mergeable, 2176, 2176, 1518, guest_options=options), SHORT_FRAMES, 10, 100)
for ring, options in (('split ring', ',vectorized=1'),
                      ('packed ring in order', ',packed_vq=1,in_order=1,vectorized=1')):
    _register(f'every frame of 64 to 1518 bytes, vectorised, {ring},',
              replace(SHORT_PLAIN, guest_options=options), SHORT_FRAMES, 10, 100)
_register('a 9000-byte frame in chained mbufs, packed ring,',
          replace(JUMBO_MERGEABLE, guest_options=',packed_vq=1'), JUMBO_FRAMES, 500, 5000)
_register('a 9000-byte frame in chained mbufs, not mergeable,', JUMBO_PLAIN, JUMBO_FRAMES,
          500, 5000)
