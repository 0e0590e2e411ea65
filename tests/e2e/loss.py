#!/usr/bin/python3
"""A set is lost under load, and the pool goes on (P2, P6, R21, R22, R28).

Set b is deleted whole under a running daemon: no write fails, status says loudly what is at risk. The daemon is
killed and started with set a alone. Then set a is away and b, made whole on disk again, comes back alone: refused, naming
what is missing; beside set a it is brought level while clients write. Then set a is lost for good, and nothing is missing. A
new disk takes its place while the daemon runs; set b is deleted; nothing is missing. A set that vanishes comes back by itself, one
that was taken out when it is told to. A volume with on-set-loss=block holds its writes. A lost witness is not made anew while a
set is away.

  TWOFOLD=build/release/twofold tests/e2e/loss.py [SEED]
"""
import os
import shutil
import subprocess
import sys
import time

import nbd

from common import Pool, check, wait_until
from common_load import BLOCK, BLOCKS, Load, checksum, refused, verify

SEED = int(sys.argv[1]) if len(sys.argv) > 1 else int(time.time())


def status(pool):
    return pool.json("status")


def states(pool):
    return {replica["set"]: replica["state"] for replica in status(pool)["replicas"]}


def replica(pool, name):
    return next(r for r in pool.json("replica", "list")["replicas"] if r["set"] == name)


def healthy(pool):
    return status(pool)["state"] == "healthy"


def under_load(pool, acked, seed, what, condition):
    """Clients write until `condition` holds, and none of their writes fails."""
    load = Load(pool, acked, seed)
    load.start()
    wait_until(lambda: condition() or load.error, what, 120)
    load.stop()
    check(load.error is None, "a write failed while waiting for %s: %s" % (what, load.error))


def come_back(pool, acked):
    """Healthy before and after."""
    # ---- The files of set b vanish, and are there again ----
    log = os.path.join(pool.sets["b"], "log")
    incarnation = replica(pool, "b")["incarnation"]
    os.rename(log, log + ".away")
    under_load(pool, acked, SEED + 10, "the loss", lambda: replica(pool, "b")["state"] == "dropped")
    # The daemon may have begun a segment in the place of the folder, before it looked; found there it
    # would be a log without its history, and for a person to look at.
    shutil.rmtree(log, ignore_errors=True)
    check("comes back by itself" in pool.run("status"), "status:\n" + pool.run("status"))
    said = pool.fails("replica", "attach", "b")
    check("set b" in said, "attaching what is not there:\n" + said)
    shutil.rmtree(log, ignore_errors=True)
    os.rename(log + ".away", log)
    under_load(pool, acked, SEED + 11, "set b to come back", lambda: healthy(pool))
    check(replica(pool, "b")["incarnation"] > incarnation, "it came back in its old incarnation")
    verify(pool, acked)

    # ---- A copy in its place is not taken unasked ----
    os.rename(pool.sets["b"], pool.sets["b"] + ".old")
    subprocess.run(["cp", "-a", pool.sets["b"] + ".old", pool.sets["b"]], check=True)
    shutil.rmtree(pool.sets["b"] + ".old")
    wait_until(lambda: replica(pool, "b")["state"] == "dropped", "the loss")
    under_load(pool, acked, SEED + 12, "three seconds", lambda begun=time.monotonic(): time.monotonic() - begun > 3)
    check(replica(pool, "b")["state"] == "dropped", "a copy was taken unasked")
    pool.run("replica", "attach", "b")
    under_load(pool, acked, SEED + 13, "the copy to be brought level", lambda: healthy(pool))
    verify(pool, acked)

    # ---- Taken out, and brought back; the last one is not taken out ----
    pool.run("replica", "detach", "b")
    check(replica(pool, "b")["state"] == "detached", "it is %s" % replica(pool, "b")["state"])
    check("only one" in pool.fails("replica", "detach", "a"), "the last set was taken out:\n" + pool.stderr)
    pool.run("replica", "rate", "1M")
    under_load(pool, acked, SEED + 14, "some writes", lambda begun=time.monotonic(): time.monotonic() - begun > 2)
    pool.run("replica", "attach", "b")
    slow = replica(pool, "b")
    check(slow["state"] == "resyncing" and slow["resync"]["phase"] != "", "it is %s" % slow)
    pool.run("replica", "rate", "unlimited")
    under_load(pool, acked, SEED + 15, "set b to be brought level", lambda: healthy(pool))
    check("in-sync" in pool.fails("replica", "replace", "b", "/nowhere"), "a set in-sync was replaced:\n" + pool.stderr)
    check("no set x" in pool.fails("replica", "attach", "x"), "a set that is not there:\n" + pool.stderr)


def main():
    print("loss: seed %d" % SEED, flush=True)
    acked = {}
    with Pool() as pool:
        pool.start()
        pool.run("volume", "create", "vol", "%d" % (BLOCKS * BLOCK))
        pool.run("volume", "create", "careful", "1M", "--on-set-loss", "block")
        check(pool.json("volume", "show", "careful")["on_set_loss"] == "block", "block was not kept")
        check(status(pool)["state"] == "healthy", "a new pool is not healthy")
        check(status(pool)["degraded"] is None, "a new pool is degraded")

        load = Load(pool, acked, SEED)
        load.start()
        wait_until(lambda: load.writes > 200, "the load")
        pool.run("snapshot", "create", "vol@before")
        sum_before = checksum(pool, "vol@before")
        careful = nbd.NBD()
        careful.connect_uri(pool.uri("careful"))
        careful.pwrite(b"x" * BLOCK, 0)

        # ---- Set b is gone, under load ----
        old_b = pool.sets["b"] + ".old"
        pool.run("status")
        subprocess.run(["cp", "-a", pool.sets["b"], old_b], check=True)  # a copy of some moment
        shutil.rmtree(pool.sets["b"])
        wait_until(lambda: status(pool)["state"] == "degraded", "the loss to be noticed")
        seen = load.writes
        wait_until(lambda: load.writes > seen + 200 or load.error, "writes to go on")
        check(load.error is None, "a write failed: %s" % load.error)
        answer = status(pool)
        check(answer["degraded"]["sets"] == ["b"], "status names %s" % answer["degraded"]["sets"])
        since = answer["degraded"]["since"]
        check(states(pool) == {"a": "in-sync", "b": "dropped"}, "states: %s" % states(pool))
        text = pool.run("status")
        for word in ("DEGRADED since", "set b", "at risk", "what to do"):
            check(word in text, "status does not say \"%s\":\n%s" % (word, text))

        # ---- The careful volume holds its write, and its reads go on ----
        done = []
        careful.aio_pwrite(nbd.Buffer.from_bytearray(bytearray(b"y" * BLOCK)), 0, lambda error: done.append(error.value) or 1)
        for _ in range(10):
            careful.poll(100)
        check(not done, "a write on a blocked volume was answered")
        check(bytes(careful.pread(BLOCK, 0)) == b"x" * BLOCK, "a held write is seen")
        check("blocked" in pool.json("volume", "show", "careful")["state"], "it is not shown as blocked")

        # ---- kill -9, and again with set a alone ----
        pool.run("snapshot", "create", "vol@alone")
        pool.kill()
        load.stop()
        check(load.writes > 400, "hardly anything was written")
        pool.start()
        verify(pool, acked, load.unsure)
        check(status(pool)["degraded"]["since"] == since, "since when it is degraded was forgotten")
        check(states(pool) == {"a": "in-sync", "b": "missing"}, "states: %s" % states(pool))
        check(checksum(pool, "vol@before") == sum_before, "a snapshot changed")
        handle = nbd.NBD()
        try:
            handle.connect_uri(pool.uri("careful"))
            check(False, "a blocking volume opened with a set missing")
        except nbd.Error:
            pass
        load = Load(pool, acked, SEED + 1)
        load.start()
        wait_until(lambda: load.writes > 200 or load.error, "more writes")
        load.stop()
        check(load.error is None, "a write failed: %s" % load.error)
        pool.stop()

        # ---- Set b comes back alone: the case that two copies get wrong ----
        os.rename(old_b, pool.sets["b"])
        os.rename(pool.sets["a"], pool.sets["a"] + ".away")
        before = open(os.path.join(pool.witness, "witness")).read()
        said = refused(pool)
        for word in ("set b", "is stale", "since", "Bring that back", "--force-stale b"):
            check(word in said, "the refusal does not say \"%s\":\n%s" % (word, said))
        said = refused(pool, "--force-stale", "b")
        for word in ("given up", "--yes"):
            check(word in said, "--force-stale does not say \"%s\":\n%s" % (word, said))
        check(open(os.path.join(pool.witness, "witness")).read() == before, "a refusal changed the witness")

        # ---- Beside set a it is not read ----
        os.rename(pool.sets["a"] + ".away", pool.sets["a"])
        check("not needed" in refused(pool, "--force-stale", "b", "--yes"), "force with a whole set there")
        pool.start()
        sum_alone = checksum(pool, "vol@alone")
        load = Load(pool, acked, SEED + 2)
        load.start()
        wait_until(lambda: status(pool)["state"] == "healthy", "set b to be brought level", 60)
        load.stop()
        check(load.error is None, "a write failed while a set was brought level: %s" % load.error)
        check(states(pool) == {"a": "in-sync", "b": "in-sync"}, "states: %s" % states(pool))
        check(status(pool)["degraded"] is None, "a healthy pool is degraded")
        handle = nbd.NBD()
        handle.connect_uri(pool.uri("careful"))
        handle.pwrite(b"z" * BLOCK, 0)  # it opens again, and takes writes
        handle.shutdown()
        verify(pool, acked)
        pool.stop()
        pool.compare_sets()

        # ---- Now the other set is lost for good: everything is on b ----
        shutil.rmtree(pool.sets["a"])
        pool.start()
        check(states(pool) == {"a": "missing", "b": "in-sync"}, "states: %s" % states(pool))
        verify(pool, acked)
        check(checksum(pool, "vol@before") == sum_before, "a snapshot changed")
        check(checksum(pool, "vol@alone") == sum_alone, "a snapshot changed")
        pool.stop()

        # ---- A new disk takes its place while b serves, and then set b is lost as well ----
        pool.start()
        new = os.path.join(pool.directory, "new-disk")
        os.mkdir(new)
        with open(os.path.join(new, "letter"), "w") as letter:
            letter.write("dear diary")
        check("letter" in pool.fails("replica", "replace", "a", new), "a disk that is in use was taken")
        os.remove(os.path.join(new, "letter"))
        check("start the daemon with --set a=" + new in pool.run("replica", "replace", "a", new), "it does not say how to start")
        pool.sets["a"] = new
        under_load(pool, acked, SEED + 3, "the new disk to be filled", lambda: healthy(pool))
        come_back(pool, acked)
        check(checksum(pool, "vol@before") == sum_before, "a snapshot changed")
        check(checksum(pool, "vol@alone") == sum_alone, "a snapshot changed")
        pool.stop()
        pool.compare_sets()

        # ---- The same at a start: as the last time, and with a set that is replaced by an empty one ----
        shutil.rmtree(pool.sets["a"])
        pool.sets["a"] = os.path.join(pool.directory, "newer-disk")
        os.mkdir(pool.sets["a"])
        pool.serve_arguments = ["--replace", "a"]
        pool.start()
        under_load(pool, acked, SEED + 4, "the newer disk to be filled", lambda: healthy(pool))
        pool.stop()
        pool.compare_sets()
        pool.start()  # --replace is still there, and does nothing more
        check(states(pool) == {"a": "in-sync", "b": "in-sync"}, "states: %s" % states(pool))
        pool.stop()
        pool.serve_arguments = []
        shutil.rmtree(pool.sets["b"])
        pool.start()
        check(states(pool) == {"a": "in-sync", "b": "missing"}, "states: %s" % states(pool))
        verify(pool, acked)
        check(checksum(pool, "vol@before") == sum_before, "a snapshot changed")
        check(checksum(pool, "vol@alone") == sum_alone, "a snapshot changed")
        pool.stop()

        # ---- The witness is lost ----
        shutil.rmtree(pool.witness)
        refused(pool)
        said = refused(pool, "--new-witness")  # one set is away: it could have gone on alone
        check("every set must be there" in said, "a new witness with a set away:\n%s" % said)
    print("loss: passed, %d acknowledged blocks, seed %d" % (len(acked), SEED))


main()
