#!/usr/bin/python3
"""How much a resync sends (R1, R4): of a set that missed changes to one hundredth of a volume, spread all over it, at most two
hundredths; and the set has all of it afterwards.

  TWOFOLD=build/release/twofold tests/e2e/resync_delta.py [SEED]
"""
import random
import sys
import time

import nbd

from common import Pool, check, wait_until
from common_load import BLOCK, content

BLOCKS = 32768  # 128 MiB
SEED = int(sys.argv[1]) if len(sys.argv) > 1 else int(time.time())


def write(pool, blocks, version, acked):
    handle = nbd.NBD()
    handle.connect_uri(pool.uri("vol"))
    for block in blocks:
        handle.pwrite(content(block, version), block * BLOCK)
        acked[block] = version
    handle.shutdown()


def verify(pool, acked):
    handle = nbd.NBD()
    handle.connect_uri(pool.uri("vol"))
    for block, version in acked.items():
        check(bytes(handle.pread(BLOCK, block * BLOCK)) == content(block, version),
              "block %d is not what was acknowledged last" % block)
    handle.shutdown()


def replica(pool, name):
    return next(each for each in pool.json("status")["replicas"] if each["set"] == name)


def main():
    print("resync_delta: seed %d" % SEED, flush=True)
    random.seed(SEED)
    acked = {}
    with Pool(size="1G") as pool:
        pool.start()
        pool.run("volume", "create", "vol", "%d" % (BLOCKS * BLOCK), "--ack", "written")
        write(pool, range(BLOCKS), 1, acked)
        check(replica(pool, "b")["resync"] is None, "a resync before there was one")
        pool.run("replica", "detach", "b")
        changed = random.sample(range(BLOCKS), BLOCKS // 100)
        write(pool, changed, 2, acked)
        pool.run("replica", "attach", "b")
        wait_until(lambda: replica(pool, "b")["state"] == "in-sync", "set b to be brought level")
        resync = replica(pool, "b")["resync"]
        check(resync["phase"] == "done" and resync["lost_blocks"] == 0, "it ended as %s" % resync)
        changed_bytes = len(changed) * BLOCK
        check(changed_bytes <= resync["bytes_done"] <= 2 * changed_bytes,
              "%d bytes were sent for %d that changed" % (resync["bytes_done"], changed_bytes))
        verify(pool, acked)
        pool.stop()
        pool.compare_sets()
    print("resync_delta: passed, %d bytes sent for %d that changed, seed %d" % (resync["bytes_done"], changed_bytes, SEED))


main()
