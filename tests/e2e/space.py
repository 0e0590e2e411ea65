#!/usr/bin/python3
"""Space comes back, and nothing is lost while it does (M14-M22).

First several times the store's size of random overwriting, with snapshots made and deleted all the time. Then kill -9 at
random moments while the cleaner, checkpoints, and deletes of snapshots and volumes, rollbacks and what follows from them are at
work: the store is small, so that it cleans all the time. After each crash both sets must verify (live counts equal to a
recount), and every acknowledged block and every snapshot must show what it may. At the end all snapshots go, and with
them all that the volume does not show.

  TWOFOLD_SPACE_TURNS=10 TWOFOLD=build/release/twofold tests/e2e/space.py [ROUNDS] [SEED]
"""
import os
import random
import subprocess
import sys
import time

import nbd

from common import Pool, TWOFOLD, check, wait_until
from common_stamped import BLOCK, content, version_of

BLOCKS = 3072  # 12 MiB
STORE = 96 << 20
DEPTH = 16
ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else int(os.environ.get("TWOFOLD_SPACE_ROUNDS", "12"))
SEED = int(sys.argv[2]) if len(sys.argv) > 2 else int(time.time())
TURNS = int(os.environ.get("TWOFOLD_SPACE_TURNS", "3"))  # times the store's size


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


def overwrite_many_times(space, pool):
    """Overwriting at random, with up to three snapshots that come and go."""
    while space.written < TURNS * STORE:
        check(space.write(bytes_wanted=STORE // 8), "the daemon went away")
        if len(space.snapshots) >= 2 or space.full:
            for name in space.generator.sample(sorted(space.snapshots), len(space.snapshots) // 2 + 1
                                               if space.snapshots else 0):
                pool.run("snapshot", "delete", "vol@" + name)
                del space.snapshots[name]
            space.full = 0
        name, image, command = space.create()
        check(command.wait() == 0, "snapshot create")
        space.opening = ()
        space.snapshots[name] = image
    space.check_all()
    pool.stop()
    pool.compare_sets()
    pool.start()


CHOICES = ("create", "rollback", "delete", "volume", "nothing")


def round_of_deletes(space, pool, generator, number):
    """A burst of writes beside a command; the daemon is killed at some moment of it."""
    names = sorted(space.snapshots)
    choice = CHOICES[number % len(CHOICES)]
    name = generator.choice(names) if names else None
    if choice in ("delete", "rollback") and name is None or len(names) < 2 and choice == "delete":
        choice = "create"
    if choice == "create" and len(names) >= 3:
        choice = "delete"
    delay = generator.choice((0.005, 0.02, 0.1, 0.4)) * generator.random()
    old_head = None
    command = None
    image = None
    if choice == "create":
        name, image, command = space.create()
    elif choice == "delete":
        command = space.start("snapshot", "delete", "vol@" + name)
    elif choice == "rollback":
        old_head = space.head.copy()
        command = space.start("rollback", "vol@" + name)
    elif choice == "volume":
        command = space.start("volume", "delete", "other", "--force")
    # The killer is a process, since the writer below never looks up.
    killer = subprocess.Popen(["sh", "-c", "sleep %f; kill -9 %d" % (delay, pool.daemon.pid)])
    if choice == "rollback":
        command.wait()
        killer.wait()
    else:
        try:
            space.write(deadline=time.monotonic() + 5)
        except nbd.Error:
            pass
    killer.wait()
    if command is not None:
        command.wait()
    space.opening = ()
    pool.daemon.wait()
    pool.daemon.stdout.close()
    pool.daemon = None
    pool.verify()  # each set alone, as the crash left it
    pool.start()

    listed = space.listed()
    if choice == "create" and "vol@" + name in listed:
        space.snapshots[name] = image
    elif choice == "create":
        check(command.returncode != 0, "a snapshot that was acknowledged is gone")
    elif choice == "delete":
        if "vol@" + name not in listed:
            del space.snapshots[name]
        else:
            check(command.returncode != 0, "a snapshot that was deleted is back")
    elif choice == "rollback":
        for other in set(listed) - {"vol@" + known for known in space.snapshots}:
            check(listed[other].get("before_rollback"), "a snapshot that nobody took: " + other)
            space.snapshots[other.split("@")[1]] = old_head
        shown = space.versions("vol")
        target = space.snapshots[name]
        check(target.shows(shown) or command.returncode != 0 and space.head.shows(shown),
              "after a rollback the volume shows neither state")
        if target.shows(shown):
            space.head = target.copy()
    elif choice == "volume" and command.returncode == 0:
        check(all(v["name"] != "other" for v in pool.json("volume", "list")["volumes"]),
              "a volume that was deleted is back")
    space.check_all()
    return choice


def main():
    print("space: %d rounds, seed %d" % (ROUNDS, SEED), flush=True)
    generator = random.Random(SEED)
    with Pool(size="%d" % STORE, segment="4M") as pool:
        pool.start()
        pool.run("volume", "create", "vol", "%d" % (BLOCKS * BLOCK))
        space = Space(pool, generator)
        overwrite_many_times(space, pool)
        print("wrote %d MiB into sets of %d MiB" % (space.written >> 20, STORE >> 20), flush=True)
        counts = {}
        for number in range(ROUNDS):
            if all(v["name"] != "other" for v in pool.json("volume", "list")["volumes"]):
                pool.run("volume", "create", "other", "8M")
                handle = space.connect("other")
                try:
                    for offset in range(0, 4 << 20, 1 << 20):
                        handle.pwrite(b"o" * (1 << 20), offset)
                except nbd.Error:
                    pass  # full
                handle.shutdown()
            choice = round_of_deletes(space, pool, generator, number)
            counts[choice] = counts.get(choice, 0) + 1
            if len(space.snapshots) >= 4:
                for name in list(space.snapshots)[:2]:
                    pool.run("snapshot", "delete", "vol@" + name)
                    del space.snapshots[name]
            if number % 10 == 9:
                print("round %d: %s" % (number + 1, counts), flush=True)

        # Everything goes but what the volume shows.
        for name in list(space.snapshots):
            pool.run("snapshot", "delete", "vol@" + name)
        space.snapshots.clear()
        if any(v["name"] == "other" for v in pool.json("volume", "list")["volumes"]):
            pool.run("volume", "delete", "other")
        space.check_all()
        shown = sum(version != 0 for version in space.versions("vol"))

        def live_blocks():
            return [r["live_bytes"] // BLOCK for r in pool.json("status")["replicas"]]

        wait_until(lambda: live_blocks() == [shown, shown],
                   "the live counts to come down to the %d blocks that the volume shows" % shown,
                   seconds=120)
        for r in pool.json("status")["replicas"]:
            parts = r["live_bytes"] + r["to_clean_bytes"] + r["free_bytes"]
            check(parts == r["capacity_bytes"], "set %s: live, to clean and free make %d of %d bytes"
                  % (r["set"], parts, r["capacity_bytes"]))
            check(r["reserve_bytes"] > 0, "set %s keeps nothing back" % r["set"])
        pool.stop()
        pool.compare_sets()
    print("space: passed, %s, seed %d" % (counts, SEED))


main()
