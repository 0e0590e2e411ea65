#!/usr/bin/python3
"""Two histories, by a person's word (P6, R1, R3): nothing of either is merged into the other.

Only set a takes writes, and its daemon is killed under load. Set b is back alone: refused, with what is missing; opened
by --force-stale after it has said what that gives up, it takes writes of its own. Now set a comes back, to the running
daemon and at a start: it is refused, with what it has that the pool does not. Nothing of it has changed: in the one
ending the pool is forced back to it, and everything that was acknowledged by it alone is there, to the last write, and
set b is the one that is refused. In the other ending an empty directory takes its place. Then both sets are equal.

  TWOFOLD=build/release/twofold tests/e2e/parted.py [SEED]
"""
import os
import shutil
import subprocess
import sys
import time

from common import Pool, check, wait_until
from common_load import BLOCK, BLOCKS, Load, checksum, refused, verify

SEED = int(sys.argv[1]) if len(sys.argv) > 1 else int(time.time())


class History:
    """What a client was told by one of them."""

    def __init__(self, acked, unsure=None):
        self.acked = dict(acked)
        self.unsure = unsure
        self.sums = {}

    def check(self, pool):
        verify(pool, self.acked, self.unsure)
        self.unsure = None  # what it is was seen, and stays
        for snapshot, digest in self.sums.items():
            check(checksum(pool, "vol@" + snapshot) == digest, "snapshot %s changed" % snapshot)
        names = {s["name"].split("@")[1] for s in pool.json("snapshot", "list", "vol")["snapshots"]}
        check(names == set(self.sums), "there are snapshots %s, not %s" % (names, set(self.sums)))


def replica(pool, name):
    return next(r for r in pool.json("replica", "list")["replicas"] if r["set"] == name)


def healthy(pool):
    return pool.json("status")["state"] == "healthy"


def away(pool, name):
    os.rename(pool.sets[name], pool.sets[name] + ".away")


def back(pool, name):
    os.rename(pool.sets[name] + ".away", pool.sets[name])


def write(pool, history, seed, count):
    load = Load(pool, history.acked, seed)
    load.start()
    wait_until(lambda: load.writes > count or load.error, "the load")
    load.stop()
    check(load.error is None, "a write failed: %s" % load.error)


def snapshot(pool, history, name):
    pool.run("snapshot", "create", "vol@" + name)
    history.sums[name] = checksum(pool, "vol@" + name)


def alone_and_killed(pool, history):
    """Set a takes writes, and its daemon dies while it does."""
    pool.start()
    write(pool, history, SEED + 1, 300)
    snapshot(pool, history, "only-a")
    load = Load(pool, history.acked, SEED + 2)
    load.start()
    wait_until(lambda: load.writes > 300 or load.error, "the load")
    check(load.error is None, "a write failed: %s" % load.error)
    pool.kill()
    load.stop()
    history.unsure = load.unsure


def force(pool, name):
    said = refused(pool)
    for word in ("set %s" % name, "is stale", "Bring that back", "--force-stale %s" % name):
        check(word in said, "the refusal does not say \"%s\":\n%s" % (word, said))
    said = refused(pool, "--force-stale", name)
    for word in ("lacks writes that were acknowledged", "given up", "is refused", "--yes"):
        check(word in said, "--force-stale does not say \"%s\":\n%s" % (word, said))
    pool.serve_arguments = ["--force-stale", name, "--yes"]
    pool.start()
    pool.serve_arguments = []


def check_parted(pool, name):
    """The set that comes back is not taken, and says why."""
    wait_until(lambda: "parted" in replica(pool, name)["reason"], "set %s to be refused" % name)
    said = pool.fails("replica", "attach", name)
    for word in ("parted", "volume vol", "entries", "set %s" % name, "replica replace %s" % name):
        check(word in said, "attaching a history that parted does not say \"%s\":\n%s" % (word, said))
    check(not healthy(pool), "the pool is healthy with one copy")
    check("parted" in pool.run("status"), "status does not say why:\n" + pool.run("status"))


def replaced(pool, name, history):
    """An empty directory takes the place of the set, and is filled while clients write."""
    check("in use" in pool.fails("replica", "replace", name, pool.sets[name]), "it was taken as it is:\n" + pool.stderr)
    new = os.path.join(pool.directory, "new-" + name)
    os.mkdir(new)
    said = pool.run("replica", "replace", name, new)
    check("start the daemon with --set %s=%s" % (name, new) in said, "replacing says:\n" + said)
    old, pool.sets[name] = pool.sets[name], new
    load = Load(pool, history.acked, SEED + 5)
    load.start()
    wait_until(lambda: healthy(pool) or load.error, "the new set to be filled", 120)
    load.stop()
    check(load.error is None, "a write failed: %s" % load.error)
    history.check(pool)
    pool.stop()
    pool.compare_sets()
    # Each of them alone has all of it.
    for missing in ("a", "b"):
        away(pool, missing)
        pool.start()
        history.check(pool)
        pool.stop()
        back(pool, missing)
        pool.start()
        wait_until(lambda: healthy(pool), "both to be level")
        pool.stop()
    return old


def main():
    print("parted: seed %d" % SEED, flush=True)
    with Pool() as pool:
        pool.start()
        pool.run("volume", "create", "vol", "%d" % (BLOCKS * BLOCK))
        common = History({})
        write(pool, common, SEED, 300)
        snapshot(pool, common, "common")
        pool.stop()

        # ---- Only set a takes writes, and dies; set b is there alone ----
        of_a = History(common.acked)
        of_a.sums = dict(common.sums)
        away(pool, "b")
        alone_and_killed(pool, of_a)
        away(pool, "a")
        back(pool, "b")
        of_b = History(common.acked)
        of_b.sums = dict(common.sums)
        force(pool, "b")
        of_b.check(pool)
        write(pool, of_b, SEED + 3, 100)
        snapshot(pool, of_b, "only-b")

        # ---- Set a comes back: to the running daemon, then at a start, after a kill ----
        back(pool, "a")
        check_parted(pool, "a")
        write(pool, of_b, SEED + 4, 100)
        of_b.check(pool)
        pool.kill()
        pool.start()
        of_b.check(pool)
        check_parted(pool, "a")
        pool.stop()

        # ---- One ending: back to what set a has ----
        kept = os.path.join(pool.directory, "kept")
        os.mkdir(kept)
        for directory in (pool.sets["a"], pool.sets["b"], pool.witness):
            subprocess.run(["cp", "-a", directory, kept], check=True)
        away(pool, "b")
        force(pool, "a")
        of_a.check(pool)
        back(pool, "b")
        check_parted(pool, "b")
        old = replaced(pool, "b", of_a)

        # ---- The other one: set a is given up ----
        for directory in (pool.sets["a"], pool.sets["b"], old, pool.witness):
            shutil.rmtree(directory)
        pool.sets["b"] = old
        for directory in (pool.sets["a"], pool.sets["b"], pool.witness):
            os.rename(os.path.join(kept, os.path.basename(directory)), directory)
        pool.start()
        of_b.check(pool)
        check_parted(pool, "a")
        replaced(pool, "a", of_b)
    print("parted: passed, %d and %d acknowledged blocks, seed %d" % (len(of_a.acked), len(of_b.acked), SEED))


main()
