"""How much memory the machine has."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class MachineMemory:
    """Bytes of the machine, and those that are free or can be freed."""

    total: int
    available: int


def machine_memory() -> MachineMemory | None:
    """This machine's memory, or what a container leaves of it; None if it does not tell."""
    try:
        page, pages = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return _windows_memory() if sys.platform == "win32" else None
    total = available = page * pages
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        available = next(
            int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")
        )
    except (OSError, ValueError, IndexError, StopIteration):
        pass  # not on macOS, which frees what it needs
    limit, used = _container()
    if limit is not None:
        total, available = min(total, limit), min(available, limit - used)
    return MachineMemory(total, max(0, available))


def _container() -> tuple[int | None, int]:
    """The limit of a Linux container and what it uses of it, files that are cached left out."""
    folder = Path("/sys/fs/cgroup")
    try:
        limit = int((folder / "memory.max").read_text())
        used = int((folder / "memory.current").read_text())
        lines = (folder / "memory.stat").read_text().splitlines()
        parts = {name: int(count) for name, count in (line.split() for line in lines)}
    except (OSError, ValueError):  # no container, or `max`
        return None, 0
    return limit, used - parts.get("file", 0) + parts.get("shmem", 0)


def _windows_memory() -> MachineMemory | None:
    import ctypes

    class Status(ctypes.Structure):
        """`MEMORYSTATUSEX`."""

        _fields_ = (
            ("length", ctypes.c_ulong),
            ("load", ctypes.c_ulong),
            ("total", ctypes.c_ulonglong),
            ("available", ctypes.c_ulonglong),
            ("others", ctypes.c_ulonglong * 5),
        )

    status = Status(length=ctypes.sizeof(Status))
    kernel = getattr(ctypes, "windll").kernel32  # noqa: B009
    if not kernel.GlobalMemoryStatusEx(ctypes.byref(status)):
        return None
    return MachineMemory(status.total, status.available)
