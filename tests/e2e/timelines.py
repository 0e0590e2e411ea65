#!/usr/bin/python3
"""Rollback upon rollback upon rollback, with undo: contents compared each time, with cold maps too, and when the snapshots
are gone only what the volume shows is left (P5, M8, M20)."""
import os
import random
import sys
import time

import nbd

from common import Pool, check, wait_until

BLOCK = 4096
BLOCKS = 1024  # 4 MiB
ROLLBACKS = int(sys.argv[1]) if len(sys.argv) > 1 else int(os.environ.get("TWOFOLD_ROLLBACKS", "40"))
SEED = int(sys.argv[2]) if len(sys.argv) > 2 else int(time.time())


def connect(pool, export):
    handle = nbd.NBD()
    handle.connect_uri(pool.uri(export))
    return handle


def read(pool, export):
    handle = connect(pool, export)
    data = bytes(handle.pread(BLOCKS * BLOCK, 0))
    handle.shutdown()
    return data


def overwrite(pool, generator):
    handle = connect(pool, "vol")
    for _ in range(40):
        count = generator.choice((1, 1, 2, 16))
        first = generator.randrange(BLOCKS - count)
        if generator.random() < 0.1:
            handle.trim(count * BLOCK, first * BLOCK)
        else:
            handle.pwrite(generator.randbytes(BLOCK) * count, first * BLOCK)
    handle.shutdown()


def snapshots(pool):
    return pool.json("snapshot", "list", "vol")["snapshots"]


def main():
    print("timelines: %d rollbacks, seed %d" % (ROLLBACKS, SEED), flush=True)
    generator = random.Random(SEED)
    with Pool(size="256M", segment="4M") as pool:
        pool.start()
        pool.run("volume", "create", "vol", "%d" % (BLOCKS * BLOCK))
        overwrite(pool, generator)
        shown = {}  # by snapshot
        for number in range(ROLLBACKS):
            name = "vol@s%d" % number
            pool.run("snapshot", "create", name)
            shown[name] = read(pool, "vol")
            overwrite(pool, generator)
            left = read(pool, "vol")
            target = generator.choice(sorted(shown))
            kept = pool.json("rollback", target)["kept_as"]["name"]
            shown[kept] = left
            check(read(pool, "vol") == shown[target], "the rollback to %s shows something else" % target)
            if number % 3 == 0:  # undone, and that as well
                overwrite(pool, generator)
                undone = read(pool, "vol")
                again = pool.json("rollback", kept)["kept_as"]["name"]
                check(read(pool, "vol") == left, "an undo does not show what was left")
                shown[again] = undone
                pool.run("rollback", again)
                check(read(pool, "vol") == undone, "the undo of an undo shows something else")
                for snapshot in snapshots(pool):
                    shown.setdefault(snapshot["name"], left)
            if number % 4 == 3:
                for name in generator.sample(sorted(shown), len(shown) // 3):
                    pool.run("snapshot", "delete", name)
                    del shown[name]
            if number % 10 == 9:
                # From cold maps, after a crash.
                pool.kill()
                pool.start()
            for name in generator.sample(sorted(shown), min(3, len(shown))):
                check(read(pool, name) == shown[name], "%s changed" % name)
        check({s["name"] for s in snapshots(pool)} == set(shown), "other snapshots than were made")
        for name, data in shown.items():
            check(read(pool, name) == data, "%s changed" % name)
        final = read(pool, "vol")

        # Nothing of all that is left when its snapshots are gone.
        for name in shown:
            pool.run("snapshot", "delete", name)
        written = sum(final[i * BLOCK:(i + 1) * BLOCK] != bytes(BLOCK) for i in range(BLOCKS))

        def live():
            return {r["live_bytes"] // BLOCK for r in pool.json("status")["replicas"]}

        wait_until(lambda: live() == {written},
                   "the live counts to come down to the %d blocks that are shown" % written, seconds=120)
        check(read(pool, "vol") == final, "the volume changed while its past was given back")
        pool.stop()
        contents = pool.compare_sets()
        check(set(contents) == {"vol"}, "only the volume is left: %s" % sorted(contents))
        pool.start()
        check(read(pool, "vol") == final, "the volume changed over a restart")
        pool.stop()
    print("timelines: passed, seed %d" % SEED)


main()
