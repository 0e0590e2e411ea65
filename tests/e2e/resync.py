#!/usr/bin/python3
"""kill -9 at random moments of bringing a set level (R4, R23, R29-R32).

Each round takes set b out, or puts an empty directory in its place; what was missed comes back while clients write, and the daemon is killed
at a random moment of that, once or several times: while it fills, catches up, joins, or just after. It goes on at each start by itself. At
the end of a round everything that was acknowledged is there, and now and then both sets are compared, snapshots included.

  TWOFOLD=build/release/twofold tests/e2e/resync.py [ROUNDS [SEED]]
"""
import os
import random
import shutil
import sys
import time

from common import Pool, check, wait_until
from common_load import BLOCK, BLOCKS, Load, verify

ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 3
SEED = int(sys.argv[2]) if len(sys.argv) > 2 else int(time.time())


def main():
    print("resync: seed %d" % SEED, flush=True)
    random.seed(SEED)
    acked = {}
    cut_short = 0
    with Pool(size="512M") as pool:
        pool.start()
        pool.run("volume", "create", "vol", "%d" % (BLOCKS * BLOCK))
        for number in range(ROUNDS):
            cut_short += one_round(pool, acked, number)
            if number % 5 == 4 or number == ROUNDS - 1:
                pool.stop()
                pool.compare_sets()
                pool.start()
        pool.stop()
    check(cut_short > 0 or ROUNDS < 3, "no resync was cut short in %d rounds" % ROUNDS)
    print("resync: passed, %d rounds, %d resyncs cut short, seed %d" % (ROUNDS, cut_short, SEED))


def state(pool):
    return pool.json("status")["state"]


def resyncing(pool):
    return any(replica["state"] == "resyncing" for replica in pool.json("replica", "list")["replicas"])


def one_round(pool, acked, number):
    """Returns how many resyncs it cut short."""
    pool.run("replica", "detach", "b")
    load = Load(pool, acked, SEED + 100 * number)
    load.start()
    enough = random.choice((100, 1000))
    wait_until(lambda: load.writes > enough or load.error, "the load", 120)
    pool.run("snapshot", "create", "vol@round%d" % number)
    # So slow that there is time to be killed.
    pool.run("replica", "rate", random.choice(("2M", "8M", "unlimited")))
    if number % 3 == 0:
        old = pool.sets["b"]
        pool.sets["b"] = os.path.join(pool.directory, "b%d" % number)
        pool.run("replica", "replace", "b", pool.sets["b"])
        shutil.rmtree(old)
    else:
        pool.run("replica", "attach", "b")
    cut_short = 0
    for _ in range(random.randrange(1, 4)):
        time.sleep(random.choice((0.05, 0.3, 1.5)) * random.random())
        cut_short += resyncing(pool)
        pool.kill()
        load.stop()
        pool.start()
        verify(pool, acked, load.unsure)
        load = Load(pool, acked, SEED + 100 * number + 1 + cut_short)
        load.start()
    wait_until(lambda: state(pool) == "healthy" or load.error, "set b to be brought level", 120)
    load.stop()
    check(load.error is None, "a write failed: %s" % load.error)
    verify(pool, acked)
    if number >= 4:
        pool.run("snapshot", "delete", "vol@round%d" % (number - 4))
    return cut_short


main()
