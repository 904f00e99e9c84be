# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors

"""How much memory a Linux guest's virtqueues take, by the layout that Linux gives them."""

from dataclasses import dataclass

from .exposure import PAGE, Exposure
from .errors import check
from .guest import Guest

HUGE_PAGE = 2 << 20
QUEUES = 2


@dataclass(frozen=True)
class RingPages:
    """Pages of one virtqueue: one block that starts on a page border, with descriptors, available
    ring and used ring one after the other (virtio 1.2 §2.7)."""
    entries: int
    page: int

    @property
    def _available_end(self) -> int:
        return 16 * self.entries + 6 + 2 * self.entries

    @property
    def _used_start(self) -> int:
        return (self._available_end + 63) // 64 * 64

    @property
    def read(self) -> int:
        """Pages the device must load from: descriptors and available ring."""
        return self._pages(0, self._available_end)

    @property
    def written(self) -> int:
        """Pages the device must store to: the used ring."""
        return self._pages(self._used_start, self._used_start + 6 + 8 * self.entries)

    def _pages(self, start: int, end: int) -> int:
        return (end - 1) // self.page - start // self.page + 1


def rings_of(guest: Guest) -> RingPages:
    """The geometry of each of the guest's two queues, by its own account."""
    entries = int(guest.ok("ethtool -g eth0 | sed -n '/Current/,$s/^RX:[^0-9]*//p'"))
    return RingPages(entries, HUGE_PAGE if guest.hugetlb else PAGE)


def check_rings_only(seen: Exposure, rings: RingPages) -> None:
    """Something is reachable, and no more than rings of this geometry can lie in."""
    storable = QUEUES * rings.written * rings.page
    loadable = storable + QUEUES * rings.read * rings.page
    check(0 < seen.loadable <= loadable, f'{seen.loadable} bytes loadable, rings are {loadable}')
    check(0 < seen.storable <= storable, f'{seen.storable} bytes storable, rings are {storable}')
