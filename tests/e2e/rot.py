#!/usr/bin/python3
"""Bytes rot: files of one set are flipped, zeroed, cut, swapped, removed or put back from an older copy. Clients
never see a wrong byte (P7), the damage is reported with its place, and a map that is lost or damaged is made anew from
the log (M12).

  TWOFOLD=build/release/twofold tests/e2e/rot.py [ROUNDS] [SEED]
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
BLOCKS = 4096  # 16 MiB
ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else int(os.environ.get("TWOFOLD_ROT_ROUNDS", "4"))
SEED = int(sys.argv[2]) if len(sys.argv) > 2 else int(time.time())


def content(block, version):
    return struct.pack("<QQ", block, version) * (BLOCK // 16) if version else bytes(BLOCK)


class World:
    def __init__(self, pool, generator):
        self.pool = pool
        self.generator = generator
        self.head = [0] * BLOCKS
        self.snapshots = {}
        self.version = 0

    def write(self, count):
        handle = nbd.NBD()
        handle.connect_uri(self.pool.uri("vol"))
        for _ in range(count):
            length = self.generator.choice((1, 1, 2, 8, 64))
            first = self.generator.randrange(BLOCKS - length)
            if self.generator.random() < 0.1:
                handle.trim(length * BLOCK, first * BLOCK)
                self.head[first:first + length] = [0] * length
                continue
            versions = list(range(self.version + 1, self.version + 1 + length))
            self.version += length
            data = b"".join(content(first + i, v) for i, v in enumerate(versions))
            handle.pwrite(data, first * BLOCK)
            self.head[first:first + length] = versions
        handle.shutdown()

    def history(self, rounds):
        """Writes with snapshots made, deleted and rolled back to in between."""
        for _ in range(rounds):
            self.write(self.generator.randrange(20, 120))
            name = "s%d" % self.version
            self.pool.run("snapshot", "create", "vol@" + name)
            self.snapshots[name] = list(self.head)
            if len(self.snapshots) > 3:
                gone = self.generator.choice(sorted(self.snapshots))
                self.pool.run("snapshot", "delete", "vol@" + gone)
                del self.snapshots[gone]
            if self.generator.random() < 0.3:
                target = self.generator.choice(sorted(self.snapshots))
                self.pool.run("rollback", "vol@" + target)
                self.head = list(self.snapshots[target])

    def check(self):
        """Reads everything twice: the sets take turns."""
        for _ in range(2):
            for name, versions in [("vol", self.head)] + [
                    ("vol@" + s, v) for s, v in self.snapshots.items()]:
                handle = nbd.NBD()
                handle.connect_uri(self.pool.uri(name))
                step = 64
                for first in range(0, BLOCKS, step):
                    data = bytes(handle.pread(step * BLOCK, first * BLOCK))
                    for i in range(step):
                        check(data[i * BLOCK:(i + 1) * BLOCK] ==
                              content(first + i, versions[first + i]),
                              "%s shows a wrong block %d" % (name, first + i))
                handle.shutdown()


def largest(directory, suffix):
    files = [os.path.join(directory, name) for name in os.listdir(directory)
             if name.endswith(suffix)]
    check(files, "no %s in %s" % (suffix, directory))
    return max(files, key=os.path.getsize)


def overwrite(path, offset, data):
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


# ---- What can happen to a map. Each leaves one that is lost, or must not be believed. ----

def remove_map(directory, generator):
    shutil.rmtree(directory)


def empty_current(directory, generator):
    open(os.path.join(directory, "CURRENT"), "w").close()


def wrong_current(directory, generator):
    with open(os.path.join(directory, "CURRENT"), "w") as file:
        file.write("MANIFEST-999999\n")


def cut_manifest(directory, generator):
    for name in os.listdir(directory):
        if name.startswith("MANIFEST-"):
            os.truncate(os.path.join(directory, name), 100)


def remove_table(directory, generator):
    os.remove(largest(directory, ".sst"))


def cut_table(directory, generator):
    path = largest(directory, ".sst")
    os.truncate(path, os.path.getsize(path) // 2)


def zero_table_end(directory, generator):
    path = largest(directory, ".sst")
    overwrite(path, max(0, os.path.getsize(path) - 512), bytes(512))


def older_copy(directory, generator):
    """The whole map as it was some time ago."""
    shutil.rmtree(directory)
    shutil.copytree(directory + "-older", directory)


MAP_DAMAGE = (remove_map, empty_current, wrong_current, cut_manifest, remove_table, cut_table,
              zero_table_end)


def rot_map(world, damage):
    pool = world.pool
    pool.stop()
    before = pool.compare_sets()
    victim = world.generator.choice(("a", "b"))
    damage(os.path.join(pool.sets[victim], "map"), world.generator)
    pool.start()
    with open(pool.log_path) as log:
        check("rebuilt from the log" in log.read(),
              "%s of set %s: no word of a rebuild in the log" % (damage.__name__, victim))
    world.check()
    pool.stop()
    check(pool.compare_sets() == before, "%s: the rebuilt map differs" % damage.__name__)
    pool.start()


def rot_map_by_age(world):
    """What an older map lacks is taken from the log; where that has gone since, the set is not believed and brought level."""
    pool = world.pool
    victim = world.generator.choice(("a", "b"))
    folder = os.path.join(pool.sets[victim], "map")
    for rounds in (1, 6):
        pool.stop()
        shutil.rmtree(folder + "-older", ignore_errors=True)
        shutil.copytree(folder, folder + "-older")
        pool.start()
        world.history(rounds)
        pool.stop()
        before = pool.compare_sets()
        older_copy(folder, world.generator)
        pool.start()
        world.check()
        wait_until(lambda: pool.json("status")["state"] == "healthy", "the set with an older map to be level", seconds=120)
        world.check()
        pool.stop()
        shutil.rmtree(folder + "-older")
        check(pool.compare_sets() == before, "with an older map set %s is another" % victim)
        pool.start()


def rebuild_by_hand(world):
    pool = world.pool
    pool.stop()
    before = pool.compare_sets()
    pool.run("inspect", pool.sets["a"], "--rebuild-map")
    check(pool.compare_sets() == before, "inspect --rebuild-map made another map")
    pool.start()
    world.check()


def rot_payload(world):
    """Blocks of data of one set, with the daemon running: they come from the other set."""
    pool = world.pool
    hits = 0
    folder = os.path.join(pool.sets["a"], "log")
    for name in sorted(os.listdir(folder)):
        hits += rot_segment(world, os.path.join(folder, name))
    world.check()
    return hits


def rot_segment(world, segment):
    size = os.path.getsize(segment)
    with open(segment, "rb") as file:
        data = file.read()
    hits = 0
    for offset in range(BLOCK, size - BLOCK, BLOCK):
        number, version = struct.unpack_from("<QQ", data, offset)
        if not 0 < version <= world.version or data[offset:offset + BLOCK] != content(
                number, version):
            continue
        if world.generator.random() < 0.05:
            change = world.generator.choice((bytes(BLOCK), os.urandom(BLOCK), b"\x01" * 512))
            overwrite(segment, offset, change)
            hits += 1
    return hits


def main():
    print("rot: %d rounds, seed %d" % (ROUNDS, SEED), flush=True)
    generator = random.Random(SEED)
    with Pool() as pool:
        pool.start()
        pool.run("volume", "create", "vol", "%d" % (BLOCKS * BLOCK))
        world = World(pool, generator)
        damages = list(MAP_DAMAGE)
        generator.shuffle(damages)
        for number in range(ROUNDS):
            world.history(3)
            rot_map(world, damages[number % len(damages)])
        rot_map_by_age(world)
        rebuild_by_hand(world)
        check(rot_payload(world) > 0, "no block of data was damaged: the test shows nothing")
        pool.stop()
    print("rot: passed, seed %d" % SEED)


main()
