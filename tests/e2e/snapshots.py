#!/usr/bin/python3
"""Snapshots under load: a group is one instant across two volumes (P4, R34), a snapshot is a read-only export that
does not change while its volume is written, rollback is undone by rollback (P5), and with a client connected it
needs --force, which disconnects it (R37)."""
import struct
import threading
import time

import nbd

from common import Pool, check

BLOCK = 4096
BLOCKS = 64


def connect(pool, export):
    handle = nbd.NBD()
    handle.connect_uri(pool.uri(export))
    return handle


def read_numbers(pool, export):
    handle = connect(pool, export)
    data = handle.pread(BLOCKS * BLOCK, 0)
    handle.shutdown()
    return [struct.unpack_from("<Q", data, i * BLOCK)[0] for i in range(BLOCKS)]


class Writer(threading.Thread):
    """Writes 1, 2, 3, ... round and round, each number first to `left` and when that is answered to `right`."""

    def __init__(self, pool):
        super().__init__()
        self.handles = [connect(pool, "left"), connect(pool, "right")]
        self.number = 0
        self.stopping = False

    def run(self):
        while not self.stopping:
            self.number += 1
            block = self.number % BLOCKS
            for handle in self.handles:
                handle.pwrite(struct.pack("<Q", self.number) * (BLOCK // 8), block * BLOCK)
        for handle in self.handles:
            handle.shutdown()


def main():
    with Pool() as pool:
        pool.start()
        pool.run("volume", "create", "left", "%d" % (BLOCKS * BLOCK))
        pool.run("volume", "create", "right", "%d" % (BLOCKS * BLOCK))
        writer = Writer(pool)
        writer.start()
        first_seen = {}
        for i in range(30):
            names = ["left@g%d" % i, "right@g%d" % i]
            time.sleep(0.03)
            pool.run("snapshot", "create", *names)
            first_seen[i] = [read_numbers(pool, name) for name in names]
        writer.stopping = True
        writer.join()
        check(writer.number > 100, "hardly anything was written")

        for i in range(30):
            left, right = (read_numbers(pool, "%s@g%d" % (name, i)) for name in ("left", "right"))
            check([left, right] == first_seen[i], "snapshot g%d changed while its volume was written" % i)
            # `left` has a number before `right`: in one instant right is at most one behind, never ahead.
            check(max(right) <= max(left) <= max(right) + 1,
                  "g%d is no instant: left %d, right %d" % (i, max(left), max(right)))
            check(sum(a != b for a, b in zip(left, right)) <= 1, "g%d is torn" % i)

        handle = connect(pool, "left@g3")
        check(handle.is_read_only(), "a snapshot is read-only")
        handle.shutdown()

        # Rollback, and its undoing.
        before = read_numbers(pool, "left")
        kept = pool.json("rollback", "left@g5")
        check(read_numbers(pool, "left") == first_seen[5][0], "rollback shows the snapshot")
        kept_name = [s["name"] for s in pool.json("snapshot", "list", "left")["snapshots"]
                     if s.get("before_rollback")]
        check(len(kept_name) == 1, "the state before is kept as a snapshot: %s %s" % (kept, kept_name))
        pool.run("rollback", kept_name[0])
        check(read_numbers(pool, "left") == before, "a rollback undoes a rollback")

        # With a client connected it is refused, unless forced.
        handle = connect(pool, "left")
        pool.run("rollback", "left@g7", expect=1)
        check("--force" in pool.stderr, "the refusal says what to do: " + pool.stderr)
        check(bytes(handle.pread(8, 0)), "the refused rollback left the client alone")
        pool.run("rollback", "left@g7", "--force")
        try:
            handle.pwrite(b"z" * BLOCK, 0)
            check(False, "a session of the old timeline wrote into the new one")
        except nbd.Error:
            pass
        check(read_numbers(pool, "left") == first_seen[7][0], "the forced rollback shows the snapshot")

        # Everything once more after a crash, then deletes.
        pool.kill()
        pool.start()
        check(read_numbers(pool, "left") == first_seen[7][0], "the rollback survived the crash")
        for i in range(0, 30, 3):
            check(read_numbers(pool, "right@g%d" % i) == first_seen[i][1], "g%d after the crash" % i)
        for i in range(0, 30, 2):
            pool.run("snapshot", "delete", "right@g%d" % i)
        for i in range(1, 30, 2):
            check(read_numbers(pool, "right@g%d" % i) == first_seen[i][1], "g%d after deletes" % i)
        pool.stop()
        pool.compare_sets()
    print("snapshots: passed")


main()
