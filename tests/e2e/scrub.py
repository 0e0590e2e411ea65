#!/usr/bin/python3
"""A set is proven whole (P7, P9): `twofold scrub` under load, what it finds, what it remembers, and comparing the sets.

A clean pass over both sets while a client writes, stopped, started in the background and joined; the proof survives kill -9. The
two sets are compared while a client writes. Then bits are flipped in one set, in a block and in a descriptor: found with the place, clients
never see it, and what the pass finds is healed from the other set where the pool does so.

  TWOFOLD=build/release/twofold tests/e2e/scrub.py [SEED]
"""
import glob
import hashlib
import json
import os
import random
import subprocess
import sys
import threading
import time

import nbd

from common import TWOFOLD, Pool, check, wait_until

BLOCK = 4096
BLOCKS = 4096  # 16 MiB
BUSY = 1024    # that the load writes to
SEED = int(sys.argv[1]) if len(sys.argv) > 1 else int(time.time())


def content(block, version):
    return b"".join(hashlib.sha256(b"%d %d %d" % (block, version, i)).digest() for i in range(BLOCK // 32))


class Load(threading.Thread):
    """Writes random blocks until told to stop."""

    def __init__(self, pool, seed):
        super().__init__()
        self.handle = nbd.NBD()
        self.handle.connect_uri(pool.uri("vol"))
        self.generator = random.Random(seed)
        self.running = True
        self.writes = 0
        self.error = None

    def run(self):
        try:
            while self.running:
                block = self.generator.randrange(BUSY)
                self.handle.pwrite(content(block, self.writes + 1), block * BLOCK)
                self.writes += 1
        except nbd.Error as error:
            self.error = error

    def stop(self):
        self.running = False
        self.join()
        check(self.error is None, "a write failed: %s" % self.error)


def scrub(pool, *arguments):
    """`scrub --json`, whatever its exit code; returns code and answer."""
    done = subprocess.run([TWOFOLD, "scrub", *arguments, "--json"], capture_output=True, text=True, timeout=300,
                          env=dict(os.environ, TWOFOLD_CONTROL="unix:" + pool.control))
    check(done.returncode in (0, 1) and done.stdout, "scrub %s: %s" % (arguments, done.stderr))
    return done.returncode, json.loads(done.stdout)


def of_set(answer, name):
    return next(one for one in answer["sets"] if one["set"] == name)


def proofs(pool):
    return {replica["set"]: replica["scrub"]["proven_whole"] for replica in pool.json("status")["replicas"]}


def flip(path, offset):
    with open(path, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 0x10]))
        file.flush()
        os.fsync(file.fileno())


def find(directory, wanted):
    """Where a block with this content lies in the set's log: the file and the offset."""
    for path in sorted(glob.glob(os.path.join(directory, "log", "*.seg"))):
        with open(path, "rb") as file:
            at = file.read().find(wanted)
        if at >= 0 and at % BLOCK == 0:
            return path, at
    check(False, "the block is not in the log of " + directory)


def main():
    print("scrub: seed %d" % SEED, flush=True)
    with Pool() as pool:
        pool.start()
        check(proofs(pool) == {"a": None, "b": None}, "a new pool is proven: %s" % proofs(pool))
        check("never" in pool.run("status"), "status does not say that nothing was ever proven")
        pool.run("volume", "create", "vol", "%d" % (BLOCKS * BLOCK))
        handle = nbd.NBD()
        handle.connect_uri(pool.uri("vol"))
        for block in range(BLOCKS):
            handle.pwrite(content(block, 0), block * BLOCK)
        pool.run("snapshot", "create", "vol@first")

        # ---- A clean pass while a client writes ----
        load = Load(pool, SEED)
        load.start()
        wait_until(lambda: load.writes > 50 or load.error, "the load")
        seen = load.writes
        code, answer = scrub(pool)
        check(code == 0, "a clean pass ended with %d: %s" % (code, answer))
        for name in ("a", "b"):
            one = of_set(answer, name)
            check(one["state"] == "whole" and one["damaged_places"] == 0, "set %s: %s" % (name, one))
            check(one["bytes_done"] > BLOCKS * BLOCK, "set %s: only %d bytes were read" % (name, one["bytes_done"]))
        check(load.writes > seen, "nothing was written during a pass")
        check(all(proofs(pool).values()), "nothing was proven: %s" % proofs(pool))
        check("just now" in pool.run("status"), "status does not say when")

        # ---- In the background, joined at another rate, stopped ----
        pool.run("scrub", "a", "--rate", "1M", "--background")
        check(of_set(scrub(pool, "--background", "b")[1], "a")["state"] == "running", "it does not run")
        check("under way" in pool.run("status"), "status does not show a pass that runs")
        seen = load.writes
        wait_until(lambda: load.writes > seen + 50 or load.error, "writes during a pass")
        code, answer = scrub(pool, "a", "--rate", "0")
        check(code == 0 and of_set(answer, "a")["state"] == "whole", "joining a pass: %s" % answer)
        pool.run("scrub", "a", "--rate", "64K", "--background")
        pool.run("scrub", "a", "--stop")
        check(of_set(scrub(pool, "b")[1], "a")["state"] == "stopped", "it was not stopped")
        pool.run("scrub", "c", expect=1)
        check("no set c" in pool.stderr, "an unknown set: " + pool.stderr)
        pool.run("scrub", "--compare", "--rate", "1M", expect=2)
        pool.run("scrub", "a", "--compare", expect=2)

        # ---- Both sets say the same, while a client writes ----
        seen = load.writes
        code, answer = scrub(pool, "--compare")
        check(code == 0 and answer["compare"]["state"] == "equal", "comparing: %s" % answer["compare"])
        check(answer["compare"]["blocks"] >= BLOCKS and answer["compare"]["points_done"] == 2,
              "too little was compared: %s" % answer["compare"])
        wait_until(lambda: load.writes > seen + 20 or load.error, "writes after a comparison")
        check(len(pool.json("snapshot", "list")["snapshots"]) == 1, "a comparison left a snapshot in the list")
        load.stop()

        # ---- The proof survives kill -9; a pass does not ----
        before = proofs(pool)
        pool.run("scrub", "a", "--rate", "64K", "--background")
        handle.shutdown()
        pool.kill()
        pool.start()
        after = proofs(pool)
        for name in ("a", "b"):
            check(after[name] and after[name]["time"] == before[name]["time"],
                  "set %s: proven %s before a restart, %s after" % (name, before[name], after[name]))
        check(of_set(json.loads(pool.run("scrub", "b", "--background", "--json")), "a")["state"] == "never",
              "a pass went on over a restart")
        scrub(pool, "b")

        # ---- Bits rot: a block, and a descriptor ----
        pool.stop()
        pool.compare_sets()
        victim = BUSY + random.Random(SEED).randrange(BLOCKS - BUSY)
        path, offset = find(pool.sets["a"], content(victim, 0))
        flip(path, offset + 1000)
        pool.start()
        code, answer = scrub(pool, "a")
        one = of_set(answer, "a")
        check(one["damaged_places"] + one["healed_places"] >= 1, "the flipped bit was not found: %s" % one)
        if one["damaged_places"]:
            check(code == 1, "damage and exit code %d" % code)
            check("block %d of volume" % victim in one["findings"][0]["what"], "the wrong place: %s" % one["findings"])
            check(one["findings"][0]["block"] == offset // BLOCK, "the wrong place: %s" % one["findings"])
            check("DAMAGED" in pool.run("scrub", "a", expect=1), "people are not told")
            check(proofs(pool)["a"]["time"] == before["a"]["time"], "a damaged set was proven whole")
        else:
            check(code == 0 and proofs(pool)["a"]["healed_places"] >= 1, "healed and not proven: %s" % one)
        check(of_set(scrub(pool, "b")[1], "b")["state"] == "whole", "the other set was touched")
        handle = nbd.NBD()
        handle.connect_uri(pool.uri("vol"))
        for block in range(BUSY, BLOCKS):
            check(bytes(handle.pread(BLOCK, block * BLOCK)) == content(block, 0), "block %d is wrong" % block)
        code, answer = scrub(pool, "--compare")
        check(code == 0, "the maps differ: %s" % answer["compare"])
        handle.shutdown()
        print("scrub: %d writes during the passes" % load.writes, flush=True)
        pool.stop()


if __name__ == "__main__":
    main()
