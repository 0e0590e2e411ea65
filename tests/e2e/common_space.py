"""A volume that is overwritten at random beside its snapshots, and what it and they may show, across kills of the daemon."""
import os
import subprocess
import time

import nbd

from common import TWOFOLD, check
from common_stamped import BLOCK, content, version_of

BLOCKS = 3072  # 12 MiB
DEPTH = 16


class Image:
    """For each block the versions that it may show. What was read once is all that it may show."""

    def __init__(self, versions=None):
        self.may = [{v} for v in versions] if versions else [{0} for _ in range(BLOCKS)]

    def copy(self):
        other = Image()
        other.may = [set(versions) for versions in self.may]
        return other

    def settle(self, what, versions):
        for block, version in enumerate(versions):
            check(version in self.may[block], "%s, block %d shows version %d, not one of %s" %
                  (what, block, version, sorted(self.may[block])))
            self.may[block] = {version}

    def shows(self, versions):
        return all(version in may for version, may in zip(versions, self.may))


class Space:
    def __init__(self, pool, generator):
        self.pool = pool
        self.generator = generator
        self.head = Image()
        self.snapshots = {}  # name -> Image
        self.version = 0
        self.number = 0
        self.written = 0
        self.full = 0
        self.made_room = 0

    # ---- Writing ----

    def connect(self, export="vol"):
        handle = nbd.NBD()
        handle.connect_uri(self.pool.uri(export))
        return handle

    def send(self, handle, busy):
        count = self.generator.choice((1, 1, 1, 4))
        first = self.generator.randrange(BLOCKS - count)
        blocks = range(first, first + count)
        if any(block in busy for block in blocks):
            return
        trim = self.generator.random() < 0.02
        versions = []
        for block in blocks:
            self.version += 1
            versions.append(0 if trim else self.version)
            self.head.may[block].add(versions[-1])
            for image in self.opening:
                image.may[block].add(versions[-1])
            busy.add(block)

        def done(error):
            for block, version in zip(blocks, versions):
                busy.discard(block)
                if error.value == 0:
                    self.head.may[block] = {version}
                    self.written += BLOCK
            if error.value:
                self.full += 1
            return 1

        if trim:
            handle.aio_trim(count * BLOCK, first * BLOCK, done)
        else:
            data = b"".join(content(b, v) for b, v in zip(blocks, versions))
            handle.aio_pwrite(nbd.Buffer.from_bytearray(bytearray(data)), first * BLOCK, done)

    opening = ()

    def write(self, bytes_wanted=None, deadline=None, meanwhile=None):
        """Until so much was written, the deadline, or the daemon's end; then what is under way. `meanwhile`: a
        command that must have ended."""
        handle = self.connect()
        busy = set()
        goal = None if bytes_wanted is None else self.written + bytes_wanted
        try:
            while ((goal is None or self.written < goal) and
                   (deadline is None or time.monotonic() < deadline) and
                   (meanwhile is None or meanwhile.poll() is None)):
                while handle.aio_in_flight() < DEPTH:
                    self.send(handle, busy)
                handle.poll(10)
            while handle.aio_in_flight() > 0 and handle.poll(10000) > 0:
                pass
            handle.shutdown()
        except nbd.Error:
            return False
        return True

    # ---- Looking ----

    def versions(self, export):
        handle = self.connect(export)
        versions = []
        step = 256
        for first in range(0, BLOCKS, step):
            data = handle.pread(step * BLOCK, first * BLOCK)
            versions += [version_of(first + i, bytes(data[i * BLOCK:(i + 1) * BLOCK]))
                         for i in range(step)]
        handle.shutdown()
        return versions

    def listed(self):
        return {s["name"]: s for s in self.pool.json("snapshot", "list", "vol")["snapshots"]}

    def check_all(self):
        listed = set(self.listed())
        check(listed == {"vol@" + name for name in self.snapshots},
              "snapshots are %s, not %s" % (sorted(listed), sorted(self.snapshots)))
        self.head.settle("vol", self.versions("vol"))
        for name, image in self.snapshots.items():
            image.settle(name, self.versions("vol@" + name))

    # ---- What is done while it may crash ----

    def start(self, *arguments):
        return subprocess.Popen([TWOFOLD, *arguments], stdout=subprocess.DEVNULL,
                                stderr=subprocess.DEVNULL,
                                env=dict(os.environ, TWOFOLD_CONTROL="unix:" + self.pool.control))

    def create(self):
        self.number += 1
        name = "s%d" % self.number
        image = self.head.copy()
        self.opening = (image,)
        return name, image, self.start("snapshot", "create", "vol@" + name)
