"""What a server's processes use, by psutil, over the whole tree."""

import psutil


def tree(pid):
    """The process and all its descendants that still live."""
    parent = psutil.Process(pid)
    return [parent, *parent.children(recursive=True)]


def cpu_seconds(pid):
    """User and system seconds of the tree, those of children that ended and were awaited too."""
    return sum(_of(process, lambda p: sum(p.cpu_times()[:4]), 0.0) for process in tree(pid))


def resident_mib(pid):
    """Resident memory of the tree in MiB; pages that processes share count once (PSS)."""

    def own(process):
        memory = process.memory_full_info()
        return getattr(memory, "pss", 0) or memory.rss

    return sum(_of(process, own, 0) for process in tree(pid)) / 2**20


def _of(process, read, gone):
    try:
        return read(process)
    except psutil.NoSuchProcess:
        return gone
