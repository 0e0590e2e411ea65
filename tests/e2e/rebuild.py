#!/usr/bin/python3
"""The map of a set is deleted after a long life: overwriting in a small store, so that it was cleaned all the time,
snapshots, deletes, rollbacks and undone rollbacks whose timelines were made flat and folded, trims. The map that is made
anew from the log (M12, R17) must say what the other set's says, of every volume, snapshot and timeline; also when the
rebuild is killed in the middle, and when the set goes on living with it.

  TWOFOLD=build/release/twofold tests/e2e/rebuild.py [ROUNDS] [SEED]
"""
import os
import random
import shutil
import subprocess
import sys
import time

import nbd

from common import Pool, TWOFOLD, check, wait_until
from common_stamped import BLOCK, content, version_of

BLOCKS = 2048  # 8 MiB
ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else int(os.environ.get("TWOFOLD_REBUILD_ROUNDS", "4"))
SEED = int(sys.argv[2]) if len(sys.argv) > 2 else int(time.time())


class World:
    def __init__(self, pool, generator):
        self.pool = pool
        self.generator = generator
        self.heads = {}      # by volume
        self.snapshots = {}  # by "volume@name"
        self.version = 0
        self.number = 0

    def connect(self, export):
        handle = nbd.NBD()
        handle.connect_uri(self.pool.uri(export))
        return handle

    def write(self, volume, count):
        handle = self.connect(volume)
        head = self.heads[volume]
        for _ in range(count):
            length = self.generator.choice((1, 1, 2, 8, 32))
            first = self.generator.randrange(BLOCKS - length)
            if self.generator.random() < 0.1:
                handle.trim(length * BLOCK, first * BLOCK)
                head[first:first + length] = [0] * length
                continue
            versions = list(range(self.version + 1, self.version + 1 + length))
            self.version += length
            handle.pwrite(b"".join(content(first + i, v) for i, v in enumerate(versions)), first * BLOCK)
            head[first:first + length] = versions
        handle.shutdown()

    def snapshot(self, volume):
        self.number += 1
        name = "%s@s%d" % (volume, self.number)
        self.pool.run("snapshot", "create", name)
        self.snapshots[name] = list(self.heads[volume])

    def rollback(self, name):
        volume = name.split("@")[0]
        kept = self.pool.json("rollback", name)["kept_as"]["name"]
        self.snapshots[kept] = self.heads[volume]
        self.heads[volume] = list(self.snapshots[name])
        return kept

    def delete_snapshot(self, name):
        self.pool.run("snapshot", "delete", name)
        del self.snapshots[name]

    def of(self, volume):
        return sorted(name for name in self.snapshots if name.startswith(volume + "@"))

    def live(self):
        return [r["live_bytes"] for r in self.pool.json("status")["replicas"]]

    def age(self):
        """A while of all that a map goes through."""
        generator = self.generator
        for volume in list(self.heads):
            for _ in range(3):
                self.write(volume, 150)
                self.snapshot(volume)
                self.write(volume, 50)
            kept = self.rollback(generator.choice(self.of(volume)))
            self.write(volume, 30)
            if generator.random() < 0.5:
                kept = self.rollback(kept)
                self.write(volume, 20)
            # What a rollback left goes mostly, so that its timeline is nothing but a base and is folded.
            names = self.of(volume)
            keep = generator.randrange(3)
            for name in generator.sample(names, max(0, len(names) - keep)):
                self.delete_snapshot(name)
        if "brief" in self.heads:
            self.pool.run("volume", "delete", "brief", "--force")
            for name in self.of("brief"):
                del self.snapshots[name]
            del self.heads["brief"]
        else:
            self.create("brief")
            self.write("brief", 100)

    def create(self, volume):
        self.pool.run("volume", "create", volume, "%d" % (BLOCKS * BLOCK))
        self.heads[volume] = [0] * BLOCKS

    def settle(self):
        """Until reclaiming has nothing left to do in either set."""
        last = [None]

        def still():
            now = self.live()
            same = now == last[0] and now[0] == now[1]
            last[0] = now
            time.sleep(0.3)
            return same

        wait_until(still, "reclaiming to be done", seconds=120)

    def check_contents(self):
        """Twice: the sets take turns."""
        for _ in range(2):
            for name, versions in list(self.heads.items()) + list(self.snapshots.items()):
                handle = self.connect(name)
                for first in range(0, BLOCKS, 256):
                    data = bytes(handle.pread(256 * BLOCK, first * BLOCK))
                    for i in range(256):
                        shown = version_of(first + i, data[i * BLOCK:(i + 1) * BLOCK])
                        check(shown == versions[first + i], "%s, block %d shows version %d, not %d" %
                              (name, first + i, shown, versions[first + i]))
                handle.shutdown()

    def scrub_compare(self):
        self.pool.run("scrub", "--compare")


def lose(world, victim, way):
    """With the daemon stopped. `way`: how the map comes back."""
    pool = world.pool
    before = pool.compare_sets()
    shutil.rmtree(os.path.join(pool.sets[victim], "map"))
    said = pool.fails("inspect", pool.sets[victim], "--verify")
    check("--rebuild-map" in said, "inspect does not say what to do: " + said)
    if way == "killed":
        # Until a rebuild has been cut short; then another one begins from nothing.
        rebuild = subprocess.Popen([TWOFOLD, "inspect", pool.sets[victim], "--rebuild-map"],
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(world.generator.random() * 0.3)
        rebuild.kill()
        rebuild.wait()
    if way == "by hand":
        pool.run("inspect", pool.sets[victim], "--rebuild-map")
        check(pool.compare_sets() == before, "inspect --rebuild-map made another map")
    pool.start()
    if way == "by itself":
        with open(pool.log_path) as log:
            check("rebuilt from the log" in log.read(), "no word of a rebuild in the log")
    status = pool.json("status")
    check(len(status["replicas"]) == 2, "a set is missing: %s" % status)
    world.check_contents()
    world.scrub_compare()
    pool.stop()
    check(pool.compare_sets() == before, "the map that was made anew (%s) says something else" % way)
    pool.start()


def rot_in_use(world, victim):
    """The tables of a map go bad under the daemon: a scrub finds it, the set leaves, comes back with another map, and no
    client sees anything."""
    pool = world.pool
    with open(pool.log_path) as log:
        rebuilt = log.read().count("the map was rebuilt from the log")
    folder = os.path.join(pool.sets[victim], "map")
    tables = [os.path.join(folder, name) for name in os.listdir(folder) if name.endswith(".sst")]
    check(tables, "the map has no tables")
    for table in tables:
        with open(table, "r+b") as file:
            file.seek(os.path.getsize(table) // 3)
            file.write(os.urandom(64))
            file.flush()
            os.fsync(file.fileno())
    subprocess.run([TWOFOLD, "scrub", victim], capture_output=True, timeout=300,
                   env=dict(os.environ, TWOFOLD_CONTROL="unix:" + pool.control))

    def again():
        with open(pool.log_path) as log:
            text = log.read()
        return text.count("the map was rebuilt from the log") > rebuilt and pool.json("status")["state"] == "healthy"

    wait_until(again, "set %s to come back with a map made anew" % victim, seconds=120)
    with open(pool.log_path) as log:
        check("is DAMAGED" in log.read(), "the damage was not said")
    world.check_contents()
    world.scrub_compare()


def main():
    print("rebuild: %d rounds, seed %d" % (ROUNDS, SEED), flush=True)
    generator = random.Random(SEED)
    with Pool(size="128M", segment="4M") as pool:
        pool.start()
        world = World(pool, generator)
        world.create("vol")
        ways = ["by itself", "by hand", "killed"]
        for number in range(ROUNDS):
            world.age()
            if generator.random() < 0.7:
                world.settle()
            pool.stop()
            lose(world, generator.choice("ab"), ways[number % len(ways)])
        world.age()
        rot_in_use(world, generator.choice("ab"))
        # All that is left of the past goes, in the set with the map that was made anew as in the other one.
        for name in list(world.snapshots):
            world.delete_snapshot(name)
        shown = sum(version != 0 for head in world.heads.values() for version in head)
        wait_until(lambda: world.live() == [shown * BLOCK] * 2,
                   "the live counts to come down to the %d blocks that the volumes show" % shown, seconds=120)
        world.check_contents()
        pool.stop()
        pool.compare_sets()
        # And what is left of it alone, with both maps lost.
        for directory in pool.sets.values():
            shutil.rmtree(os.path.join(directory, "map"))
        pool.start()
        world.check_contents()
        # Timelines come back unfolded, and are folded again by themselves.
        wait_until(lambda: world.live() == [shown * BLOCK] * 2,
                   "the live counts to come down to the %d blocks again, with both maps made anew" % shown, seconds=120)
        pool.stop()
        pool.compare_sets()
    print("rebuild: passed, seed %d" % SEED)


main()
