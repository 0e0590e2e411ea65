"""What end-to-end tests write and read back: blocks whose content says which version they are."""
import hashlib
import random
import subprocess
import threading

import nbd

from common import TWOFOLD, check

BLOCK = 4096
BLOCKS = 4096  # 16 MiB


def content(block, version):
    return b"".join(hashlib.sha256(b"%d %d %d" % (block, version, i)).digest() for i in range(BLOCK // 32))


class Load(threading.Thread):
    """Writes random blocks until told to stop; keeps what was acknowledged."""

    def __init__(self, pool, acked, seed):
        super().__init__()
        self.handle = nbd.NBD()
        self.handle.connect_uri(pool.uri("vol"))
        self.acked = acked
        self.generator = random.Random(seed)
        self.running = True
        self.writes = 0
        self.error = None
        self.unsure = None  # the write under way: (block, version)

    def run(self):
        version = max(self.acked.values(), default=0)
        try:
            while self.running:
                version += 1
                block = self.generator.randrange(BLOCKS)
                self.unsure = (block, version)
                self.handle.pwrite(content(block, version), block * BLOCK)
                self.acked[block] = version
                self.unsure = None
                self.writes += 1
        except nbd.Error as error:
            self.error = error

    def stop(self):
        self.running = False
        self.join()


def verify(pool, acked, unsure=None):
    handle = nbd.NBD()
    handle.connect_uri(pool.uri("vol"))
    for block in range(BLOCKS):
        data = bytes(handle.pread(BLOCK, block * BLOCK))
        expected = content(block, acked[block]) if block in acked else bytes(BLOCK)
        if data != expected and unsure is not None and block == unsure[0]:
            check(data == content(*unsure), "block %d shows neither of its two values" % block)
            acked[block] = unsure[1]
            continue
        check(data == expected, "block %d is not what was acknowledged last" % block)
    handle.shutdown()


def checksum(pool, export):
    handle = nbd.NBD()
    handle.connect_uri(pool.uri(export))
    digest = hashlib.sha256()
    for offset in range(0, BLOCKS * BLOCK, 1 << 20):
        digest.update(handle.pread(1 << 20, offset))
    handle.shutdown()
    return digest.hexdigest()


def refused(pool, *arguments):
    """`serve` that must end by itself; returns what it says."""
    done = subprocess.run([TWOFOLD, "serve", *pool.set_arguments(), "--nbd", "unix:" + pool.nbd_socket,
                           "--control", "unix:" + pool.control, *arguments],
                          capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
    check(done.returncode == 1, "serve ended with %d, not with a refusal:\n%s%s" %
          (done.returncode, done.stdout, done.stderr))
    return done.stderr
