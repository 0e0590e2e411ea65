#!/usr/bin/python3
"""Bytes of one set rot while the daemon runs (P7, R10, R18): bits flip, blocks become zero, two change places, the end
of a file goes, a file is what it was before. Clients write and read meanwhile and never see a wrong byte; each
damage is in status with its place, and is healed from the other set; the same after a restart. In the end each set is
whole by itself.

  TWOFOLD=build/release/twofold tests/e2e/rot_running.py [ROUNDS] [SEED]
"""
import collections
import mmap
import os
import random
import struct
import sys
import time

import nbd

from common import Pool, check, fail

BLOCK = 4096
BLOCKS = 2048  # 8 MiB
ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 5
SEED = int(sys.argv[2]) if len(sys.argv) > 2 else int(time.time())
KINDS = ("flip", "zero", "swap", "truncate", "older copy")


def content(block, version):
    return struct.pack("<QQ", block, version) * (BLOCK // 16) if version else bytes(BLOCK)


class SegmentFiles:
    """The segment files of one set, past the page cache, as the daemon has them open."""

    def __init__(self, directory):
        self.folder = os.path.join(directory, "log")
        self.buffer = mmap.mmap(-1, BLOCK)

    def paths(self):
        return sorted(os.path.join(self.folder, name) for name in os.listdir(self.folder))

    def read(self, path):
        """The whole file, by blocks."""
        size = os.stat(path).st_size
        whole = mmap.mmap(-1, max(size, BLOCK))
        file = os.open(path, os.O_RDONLY | os.O_DIRECT)
        try:
            done = os.preadv(file, [whole], 0)
        finally:
            os.close(file)
        return [whole[i:i + BLOCK] for i in range(0, done, BLOCK)]

    def write(self, path, block, data):
        self.buffer[:] = data
        file = os.open(path, os.O_WRONLY | os.O_DIRECT | os.O_DSYNC)
        try:
            os.pwritev(file, [self.buffer], block * BLOCK)
        finally:
            os.close(file)


class Client:
    def __init__(self, pool, generator):
        self.pool = pool
        self.generator = generator
        self.versions = [0] * BLOCKS
        self.next_version = 1
        self.snapshots = {}
        self.connect()

    def connect(self):
        self.handle = nbd.NBD()
        self.handle.connect_uri(self.pool.uri("vol"))

    def close(self):
        self.handle.shutdown()

    def write(self, first, count):
        versions = range(self.next_version, self.next_version + count)
        self.next_version += count
        data = b"".join(content(first + i, version) for i, version in enumerate(versions))
        self.handle.pwrite(data, first * BLOCK)
        self.versions[first:first + count] = versions

    def write_part(self, block):
        """A part of a block: the rest of it comes from a set that has it whole (R10)."""
        self.handle.pwrite(content(block, self.versions[block])[:512], block * BLOCK)

    def check(self, handle, versions, first, count):
        data = handle.pread(count * BLOCK, first * BLOCK)
        for i in range(count):
            if data[i * BLOCK:(i + 1) * BLOCK] != content(first + i, versions[first + i]):
                fail("block %d is wrong" % (first + i))

    def read_all(self):
        for name, versions in [("vol", self.versions)] + list(self.snapshots.items()):
            handle = nbd.NBD()
            handle.connect_uri(self.pool.uri(name))
            # Piece by piece: the sets take turns, in another order each time.
            pieces = list(range(0, BLOCKS, 16))
            self.generator.shuffle(pieces)
            for first in pieces:
                self.check(handle, versions, first, 16)
            handle.shutdown()

    def change(self, times):
        for _ in range(times):
            count = self.generator.choice((1, 1, 2, 5, 32))
            first = self.generator.randrange(BLOCKS - count)
            self.write(first, count)
            self.check(self.handle, self.versions, self.generator.randrange(BLOCKS - 16), 16)
            if self.generator.random() < 0.1:
                self.write_part(self.generator.randrange(BLOCKS))

    def snapshot(self, name):
        self.pool.run("snapshot", "create", name)
        self.snapshots[name] = list(self.versions)

    def is_shown(self, data):
        block, version = struct.unpack_from("<QQ", data)
        if not 0 < version < self.next_version or block >= BLOCKS or data != content(block, version):
            return False
        return any(versions[block] == version
                   for versions in [self.versions] + list(self.snapshots.values()))


class Rot:
    def __init__(self, client, files, generator):
        self.client = client
        self.files = files
        self.generator = generator
        self.older = {}

    def shown_blocks(self):
        """Files with blocks of payload that are shown, and which ones those are."""
        files = {path: self.files.read(path) for path in self.files.paths()}
        # Of a block that was moved the old place may still hold it: which one counts nobody can see.
        times = collections.Counter(data[:16] for blocks in files.values() for data in blocks)
        shown = {}
        for path, blocks in files.items():
            places = [i for i, data in enumerate(blocks)
                      if times[data[:16]] == 1 and self.client.is_shown(data)]
            if len(places) > 1:
                shown[path] = (blocks, places)
        return shown

    def keep_copies(self):
        self.older = {path: blocks for path, (blocks, _) in self.shown_blocks().items()}

    def damage(self, kind):
        """Damages something that is shown; returns the file."""
        shown = self.shown_blocks()
        check(shown, "nothing is shown")
        path = self.generator.choice(sorted(shown))
        blocks, places = shown[path]
        if kind == "flip":
            data = bytearray(blocks[place := self.generator.choice(places)])
            data[self.generator.randrange(BLOCK)] ^= 1 << self.generator.randrange(8)
            self.files.write(path, place, data)
        elif kind == "zero":
            for place in self.generator.sample(places, min(3, len(places))):
                self.files.write(path, place, bytes(BLOCK))
        elif kind == "swap":
            one, other = self.generator.sample(places, 2)
            self.files.write(path, one, blocks[other])
            self.files.write(path, other, blocks[one])
        elif kind == "truncate":
            os.truncate(path, self.generator.choice(places) * BLOCK)
        else:
            # One that differs in what is shown.
            for path, older in self.older.items():
                if path not in shown:
                    continue
                blocks, places = shown[path]
                if any(i >= len(older) or older[i] != blocks[i] for i in places):
                    for i, data in enumerate(older):
                        self.files.write(path, i, data)
                    return path
            return self.damage("zero")
        return path

    def damage_records(self):
        shown = self.shown_blocks()
        path = self.generator.choice(sorted(shown))
        junk = bytes(self.generator.randrange(256) for _ in range(BLOCK))
        self.files.write(path, 0, junk)
        self.files.write(path, len(shown[path][0]) - 1, junk)
        return path


def damage_of(pool, name):
    for replica in pool.json("status")["replicas"]:
        if replica["set"] == name:
            return replica["damage"]
    return fail("status does not show set " + name)


def wait_until_healed(pool, client, name, found_before):
    """Reads until all that is bad was met and healed: a read meets it on every other try, about."""
    deadline = time.monotonic() + 120
    quiet = 0
    while quiet < 6:
        if time.monotonic() > deadline:
            fail("not healed: %s" % damage_of(pool, name))
        before = damage_of(pool, name)["found"]
        client.read_all()
        client.change(5)
        damage = damage_of(pool, name)
        quiet = quiet + 1 if damage["bad"] == 0 and before == damage["found"] > found_before else 0
    for place in damage["places"]:
        check(place["healed"] is not None and place["seen"] and place["where"],
              "a place without a date: %s" % place)
    return damage


def main():
    generator = random.Random(SEED)
    print("seed %d" % SEED, flush=True)
    with Pool(size="192M") as pool:
        pool.start()
        pool.run("volume", "create", "vol", "%d" % (BLOCKS * BLOCK))
        client = Client(pool, generator)
        for first in range(0, BLOCKS, 64):
            client.write(first, 64)
        client.snapshot("vol@early")
        rots = {name: Rot(client, SegmentFiles(pool.sets[name]), generator) for name in pool.sets}
        for number in range(ROUNDS):
            name = generator.choice("ab")
            rot = rots[name]
            rot.keep_copies()
            client.change(60)
            if number == 2:
                client.snapshot("vol@late")
            found = damage_of(pool, name)["found"]
            kind = KINDS[number % len(KINDS)]
            path = rot.damage(kind)
            client.change(40)
            damage = wait_until_healed(pool, client, name, found)
            check(any(path in place["where"] for place in damage["places"]),
                  "%s is in no place of %s" % (path, damage["places"]))
            print("round %d: %s in set %s, %d places found and healed" %
                  (number, kind, name, damage["found"] - found), flush=True)
        client.close()
        pool.stop()
        pool.compare_sets()

        # The same after a restart: what rotted while nobody looked.
        for name, kind in (("a", "flip"), ("b", "zero"), ("b", "swap")):
            rots[name].damage(kind)
        pool.start()
        client.connect()
        for name in pool.sets:
            wait_until_healed(pool, client, name, 0)
        print("after a restart: healed", flush=True)
        # What no client reads: a segment's header and its end. The scrub meets it, and sees it healed.
        path = rots["a"].damage_records()
        pool.run("scrub", "a", "--rate", "0")
        damage = damage_of(pool, "a")
        check(damage["bad"] == 0, "not healed: %s" % damage)
        check(any(path in place["where"] for place in damage["places"]), "%s: %s" % (path, damage))
        print("records: found by a scrub and healed", flush=True)
        client.close()
        pool.stop()
        pool.compare_sets()
        with open(pool.log_path) as log:
            text = log.read()
        check("is DAMAGED" in text and "was evacuated" in text, "the log does not tell of it")
    print("ok")


main()
