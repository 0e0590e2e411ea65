#!/usr/bin/python3
"""kill -9 at random moments under many writes in flight: no acknowledged write is lost (P2), no value goes back
(P3), and both sets hold the same.

Each 4 KiB block carries (block, version) over and over, so that a torn or misplaced block is seen. For every
block the test knows the versions that it may show: the last acknowledged one and those sent after it. What is read once
after a crash must stay.

  TWOFOLD=build/release/twofold tests/e2e/crash.py [ROUNDS] [SEED]
"""
import os
import random
import sys
import time

import nbd

from common import Pool, check
from common_stamped import BLOCK, content, version_of

BLOCKS = 8192  # 32 MiB
DEPTH = 48
ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else int(os.environ.get("TWOFOLD_CRASH_ROUNDS", "50"))
SEED = int(sys.argv[2]) if len(sys.argv) > 2 else int(time.time())


class Model:
    """What each block may show: its last acknowledged version, or one that was sent after it."""

    def __init__(self):
        self.acked = [0] * BLOCKS
        self.unsure = [set() for _ in range(BLOCKS)]  # sent, not acknowledged; 0 is a trim
        self.next_version = 1
        self.writes = 0

    def settle(self, block, version):
        check(version == self.acked[block] or version in self.unsure[block],
              "block %d shows version %d; acknowledged is %d, in flight were %s" %
              (block, version, self.acked[block], sorted(self.unsure[block])))
        self.acked[block] = version
        self.unsure[block].clear()


class Writer:
    """Keeps DEPTH requests in flight on two connections, never two on one block."""

    def __init__(self, pool, model, generator):
        self.model = model
        self.generator = generator
        self.busy = set()
        self.handles = []
        for _ in range(2):
            handle = nbd.NBD()
            handle.connect_uri(pool.uri("vol"))
            self.handles.append(handle)
        self.in_flight = 0
        self.dead = False

    def send_one(self, handle):
        count = self.generator.choice((1, 1, 1, 1, 2, 5))
        first = self.generator.randrange(BLOCKS - count)
        blocks = range(first, first + count)
        if any(block in self.busy for block in blocks):
            return
        trim = self.generator.random() < 0.05
        versions = []
        for block in blocks:
            version = 0 if trim else self.model.next_version
            self.model.next_version += 1
            versions.append(version)
            self.model.unsure[block].add(version)
            self.busy.add(block)
        self.in_flight += 1

        def done(error):
            self.in_flight -= 1
            for block, version in zip(blocks, versions):
                self.busy.discard(block)
                if error.value == 0:
                    self.model.acked[block] = version
                    self.model.unsure[block].discard(version)
                    self.model.writes += 1
            return 1

        try:
            if trim:
                handle.aio_trim(count * BLOCK, first * BLOCK, done)
            else:
                data = b"".join(content(b, v) for b, v in zip(blocks, versions))
                handle.aio_pwrite(nbd.Buffer.from_bytearray(bytearray(data)), first * BLOCK, done)
        except nbd.Error:
            self.dead = True

    def run_until(self, deadline):
        while not self.dead and time.monotonic() < deadline:
            for handle in self.handles:
                while handle.aio_in_flight() < DEPTH // 2 and not self.dead:
                    self.send_one(handle)
                try:
                    handle.poll(1)
                except nbd.Error:
                    self.dead = True

    def collect(self):
        """Takes the replies that arrived before the daemon died: those are acknowledged too."""
        for handle in self.handles:
            try:
                while handle.aio_in_flight() > 0 and handle.poll(100) > 0:
                    pass
            except nbd.Error:
                pass
        self.handles.clear()


def read_and_settle(pool, model):
    handle = nbd.NBD()
    handle.connect_uri(pool.uri("vol"))
    step = 256
    for first in range(0, BLOCKS, step):
        data = handle.pread(step * BLOCK, first * BLOCK)
        for i in range(step):
            piece = bytes(data[i * BLOCK:(i + 1) * BLOCK])
            model.settle(first + i, version_of(first + i, piece))
    handle.shutdown()


def main():
    print("crash: %d rounds, seed %d" % (ROUNDS, SEED), flush=True)
    generator = random.Random(SEED)
    model = Model()
    with Pool() as pool:
        pool.start()
        pool.run("volume", "create", "vol", "%d" % (BLOCKS * BLOCK))
        for number in range(ROUNDS):
            writer = Writer(pool, model, generator)
            if number % 5 == 4:
                pool.run("snapshot", "create", "vol@round-%d" % number)
                # Two are enough to hold on to; with all of them the sets are full half-way.
                if number > 10:
                    pool.run("snapshot", "delete", "vol@round-%d" % (number - 10))
            writer.run_until(time.monotonic() + generator.uniform(0.02, 0.6))
            pool.kill()
            writer.collect()
            pool.verify()  # each set alone is whole at every crash
            pool.start()
            read_and_settle(pool, model)
            pool.stop()
            pool.compare_sets()
            pool.start()
            read_and_settle(pool, model)  # what was shown once stays
            if number % 10 == 9:
                print("round %d: %d blocks acknowledged so far" % (number + 1, model.writes),
                      flush=True)
        check(model.writes > ROUNDS, "hardly anything was written: the test shows nothing")
        pool.stop()
    print("crash: passed, %d acknowledged blocks, seed %d" % (model.writes, SEED))


main()
