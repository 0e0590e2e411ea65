#!/usr/bin/python3
"""Bytes of one set rot while the daemon is stopped, in good order or killed (P6, P7): blocks of segment files and of the
superblock are flipped, zeroed, swapped or put back from an older copy; files vanish, are cut off, or have each other's
name. The daemon starts, clients see what was written, status and log name the place, and by itself the pool becomes
healthy; a scrub finds nothing, each set is whole alone, and it is the same after one more restart.

  TWOFOLD=build/release/twofold tests/e2e/rot_stopped.py [ROUNDS] [SEED]
"""
import os
import random
import shutil
import struct
import sys
import time

import nbd

from common import Pool, check, wait_until

BLOCK = 4096
BLOCKS = 2048  # 8 MiB
ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 5
SEED = int(sys.argv[2]) if len(sys.argv) > 2 else int(time.time())


def content(block, version):
    return struct.pack("<QQ", block, version) * (BLOCK // 16) if version else bytes(BLOCK)


class Client:
    def __init__(self, pool, generator):
        self.pool = pool
        self.generator = generator
        self.head = [0] * BLOCKS
        self.snapshots = {}
        self.version = 0

    def write(self, times):
        handle = nbd.NBD()
        handle.connect_uri(self.pool.uri("vol"))
        for _ in range(times):
            count = self.generator.choice((1, 1, 2, 8, 64))
            first = self.generator.randrange(BLOCKS - count)
            versions = range(self.version + 1, self.version + 1 + count)
            self.version += count
            data = b"".join(content(first + i, version) for i, version in enumerate(versions))
            handle.pwrite(data, first * BLOCK)
            self.head[first:first + count] = versions
        handle.shutdown()

    def shows(self, block, version):
        return 0 < version <= self.version and block < BLOCKS and any(
            versions[block] == version
            for versions in [self.head] + list(self.snapshots.values()))

    def snapshot(self):
        name = "s%d" % self.version
        self.pool.run("snapshot", "create", "vol@" + name)
        self.snapshots[name] = list(self.head)

    def read_all(self):
        """Twice: the sets take turns."""
        for _ in range(2):
            for name, versions in [("vol", self.head)] + [
                    ("vol@" + s, v) for s, v in self.snapshots.items()]:
                handle = nbd.NBD()
                handle.connect_uri(self.pool.uri(name))
                for first in range(0, BLOCKS, 64):
                    data = handle.pread(64 * BLOCK, first * BLOCK)
                    for i in range(64):
                        check(data[i * BLOCK:(i + 1) * BLOCK] ==
                              content(first + i, versions[first + i]),
                              "%s shows a wrong block %d" % (name, first + i))
                handle.shutdown()


class Rot:
    """Damages files of one set that nobody has open. Each returns the file that it has damaged."""

    def __init__(self, directory, generator):
        self.directory = directory
        self.folder = os.path.join(directory, "log")
        self.older = directory + "-older"
        self.generator = generator

    def keep_copy(self):
        shutil.rmtree(self.older, ignore_errors=True)
        os.mkdir(self.older)
        for path in self.segments() + [self.superblock()]:
            shutil.copy(path, self.older)

    def superblock(self):
        return os.path.join(self.directory, "SUPERBLOCK")

    def segments(self):
        """Those that hold something."""
        paths = []
        for name in sorted(os.listdir(self.folder)):
            path = os.path.join(self.folder, name)
            with open(path, "rb") as file:
                if file.read(2 * BLOCK)[BLOCK:].strip(b"\0"):
                    paths.append(path)
        return paths

    def some_block(self, path):
        with open(path, "rb") as file:
            data = file.read()
        used = [i for i in range(len(data) // BLOCK)
                if data[i * BLOCK:(i + 1) * BLOCK].strip(b"\0")]
        return self.generator.choice(used + [used[0], used[-1]] * (len(used) // 8))

    def read(self, path, block):
        with open(path, "rb") as file:
            file.seek(block * BLOCK)
            return bytearray(file.read(BLOCK))

    def write(self, path, block, data):
        with open(path, "r+b") as file:
            file.seek(block * BLOCK)
            file.write(data)
            os.fsync(file.fileno())

    def flip(self, path):
        block = self.some_block(path)
        data = self.read(path, block)
        data[self.generator.randrange(BLOCK)] ^= 1 << self.generator.randrange(8)
        self.write(path, block, data)

    def zero(self, path):
        self.write(path, self.some_block(path), bytes(BLOCK))

    def swap_blocks(self, path):
        one, other = self.some_block(path), self.some_block(path)
        kept = self.read(path, one)
        self.write(path, one, self.read(path, other))
        self.write(path, other, kept)

    def truncate(self, path):
        os.truncate(path, self.some_block(path) * BLOCK)

    def extend(self, path):
        os.truncate(path, os.path.getsize(path) + 3 * BLOCK)

    def lose(self, path):
        os.remove(path)

    def older_block(self, path):
        older = os.path.join(self.older, os.path.basename(path))
        if not os.path.exists(older):
            return self.zero(path)
        block = self.some_block(path)
        return self.write(path, block, self.read(older, block))

    def older_file(self, path):
        older = os.path.join(self.older, os.path.basename(path))
        if not os.path.exists(older):
            return self.lose(path)
        return shutil.copy(older, path)

    def swap_files(self, path):
        other = self.generator.choice(self.segments())
        os.rename(path, path + ".aside")
        if other != path:
            os.rename(other, path)
        os.rename(path + ".aside", other)

    def superblock_copy(self, path):
        """One of both; older_superblock: both."""
        slot = self.generator.randrange(2)
        data = self.read(path, slot)
        data[self.generator.randrange(760)] ^= 0x10
        self.write(path, slot, data)

    def older_superblock(self, path):
        shutil.copy(os.path.join(self.older, "SUPERBLOCK"), path)

    SEGMENT_KINDS = (flip, zero, swap_blocks, truncate, extend, lose, older_block, older_file,
                     swap_files)

    def shown_blocks(self, client):
        """Places of payload that is shown and stands nowhere else: files with blocks."""
        places = {}
        for path in self.segments():
            with open(path, "rb") as file:
                data = file.read()
            for i in range(len(data) // BLOCK):
                block, version = struct.unpack_from("<QQ", data, i * BLOCK)
                if client.shows(block, version) and data[i * BLOCK:(i + 1) * BLOCK] == content(
                        block, version):
                    places.setdefault((block, version), []).append((path, i))
        return [where[0] for where in places.values() if len(where) == 1]

    def damage_shown(self, client):
        path, block = self.generator.choice(self.shown_blocks(client))
        data = self.read(path, block)
        data[self.generator.randrange(BLOCK)] ^= 1 << self.generator.randrange(8)
        self.write(path, block, data)
        return path

    def damage(self):
        damaged = []
        for kind in self.generator.sample(self.SEGMENT_KINDS, self.generator.choice((1, 1, 2, 3))):
            path = self.generator.choice(self.segments())
            kind(self, path)
            damaged.append("%s %s" % (kind.__name__, path))
        kind = self.generator.choice((None, Rot.superblock_copy, Rot.older_superblock))
        if kind is not None:
            kind(self, self.superblock())
            damaged.append("%s %s" % (kind.__name__, self.superblock()))
        return damaged


def replica(pool, name):
    return next(r for r in pool.json("status")["replicas"] if r["set"] == name)


def wait_until_healthy(pool):
    def whole():
        status = pool.json("status")
        return status["state"] == "healthy" and not any(r["damage"]["bad"]
                                                        for r in status["replicas"])
    wait_until(whole, "the pool to be healthy: %s" % pool.run("status"), seconds=120)


def scrub(pool):
    pool.run("scrub", "--rate", "0")


def check_told(pool, name, places, text):
    """Status has each place, or the set was refused with what is wrong; so has the log."""
    damage = replica(pool, name)["damage"]["places"]
    refused = "not opened: set %s" % name in text
    for path in places:
        check(refused or any(path in place["where"] for place in damage),
              "%s is in no place of %s" % (path, damage))
        check(refused or path in text, "the log does not tell of " + path)


def log_from(pool, offset):
    with open(pool.log_path) as log:
        log.seek(offset)
        return log.read()


def flip_in_superblock(pool):
    """While the daemon runs: a scrub meets it, and sees it healed."""
    rot = Rot(pool.sets["b"], random.Random(1))
    rot.superblock_copy(rot.superblock())
    pool.run("scrub", "b", "--rate", "0")
    damage = replica(pool, "b")["damage"]
    check(damage["bad"] == 0 and any("SUPERBLOCK" in p["where"] for p in damage["places"]),
          "the superblock was not healed: %s" % damage)


def lose_both_superblocks(pool, client, name):
    """Can't be healed where it is: the pool goes on without it, and says what to do."""
    pool.stop()
    for slot in range(2):
        with open(os.path.join(pool.sets[name], "SUPERBLOCK"), "r+b") as file:
            file.seek(slot * BLOCK + 100)
            file.write(b"\xff" * 64)
    pool.start()
    client.read_all()
    client.write(20)
    lost = replica(pool, name)
    check(lost["state"] == "missing" and "damaged in all copies" in lost["reason"] and
          "replica replace" in lost["reason"], "status does not say what to do: %s" % lost)
    os.rename(pool.sets[name], pool.sets[name] + "-damaged")
    os.mkdir(pool.sets[name])
    pool.run("replica", "replace", name, pool.sets[name])
    wait_until_healthy(pool)
    client.read_all()


def rot_witness(pool, client, generator):
    """Damaged while the daemon runs and while it is stopped: healed from what the sets know."""
    path = os.path.join(pool.witness, "witness")

    def read():
        with open(path, "rb") as file:
            return file.read()

    def flip():
        data = bytearray(read())
        data[generator.randrange(len(data))] ^= 1 << generator.randrange(7)
        with open(path, "wb") as file:
            file.write(data)

    def cut():
        os.truncate(path, generator.randrange(len(read())))

    def zero():
        with open(path, "wb") as file:
            file.write(bytes(300))

    whole = read()
    flip()
    wait_until(lambda: read() == whole, "the witness to be written again")
    for damage in (flip, cut, zero, None):
        pool.stop()
        offset = os.path.getsize(pool.log_path)
        if damage is None:
            with open(path, "wb") as file:
                file.write(whole)  # an older copy: several generations were since
        else:
            damage()
        pool.start()
        check("the witness (%s) is DAMAGED" % pool.witness in log_from(pool, offset),
              "the log does not tell of the witness")
        wait_until_healthy(pool)
        client.read_all()


def main():
    print("seed %d" % SEED, flush=True)
    generator = random.Random(SEED)
    with Pool(size="128M") as pool:
        pool.start()
        pool.run("volume", "create", "vol", "%d" % (BLOCKS * BLOCK))
        client = Client(pool, generator)
        client.write(200)
        client.snapshot()
        for number in range(ROUNDS):
            name = generator.choice("ab")
            rot = Rot(pool.sets[name], generator)
            rot.keep_copy()
            client.write(150)
            if number == 1:
                client.snapshot()
            killed = generator.random() < 0.5
            if killed:
                # What was written last and is not known to be durable yet looks torn where it rots.
                time.sleep(0.5 if number % 2 == 0 else generator.choice((0, 0.3)))
                pool.kill()
            else:
                pool.stop()
            offset = os.path.getsize(pool.log_path)
            told = []
            damaged = []
            if number % 2 == 0:
                told.append(rot.damage_shown(client))
                damaged.append("a shown block of " + told[0])
                if number % 4 == 0:
                    rot.superblock_copy(rot.superblock())
                    told.append(rot.superblock())
                    damaged.append("superblock")
            else:
                damaged = rot.damage()
            print("round %d: set %s%s: %s" % (number, name, ", killed" if killed else "",
                                             "; ".join(damaged)), flush=True)
            pool.start()
            client.read_all()
            client.write(20)
            wait_until_healthy(pool)
            scrub(pool)
            client.read_all()
            wait_until_healthy(pool)
            check_told(pool, name, told, log_from(pool, offset))
            pool.stop()
            pool.compare_sets()
            pool.start()
            for each in pool.sets:
                check(replica(pool, each)["damage"]["found"] == 0, "damage that was healed is there "
                      "again: %s" % replica(pool, each)["damage"])
            wait_until_healthy(pool)
            client.read_all()
        flip_in_superblock(pool)
        rot_witness(pool, client, generator)
        lose_both_superblocks(pool, client, generator.choice("ab"))
        scrub(pool)
        pool.stop()
        pool.compare_sets()
    print("ok")


main()
