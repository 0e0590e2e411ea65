#!/usr/bin/python3
"""Space comes back, and nothing is lost while it does (M14-M22).

First several times the store's size of random overwriting, with snapshots made and deleted all the time. Then kill -9 at
random moments while the cleaner, checkpoints, deletes of snapshots and volumes, rollbacks and what follows from them are at
work, and, in every third round, while a set that was away for a while is brought level: the store is small, so that it cleans all
the time. After each crash both sets must verify (live counts equal to a recount), every acknowledged block and every snapshot must
show what it may, and once they are level the sets must be equal. How often the daemon was at what when it was killed is
counted from its own metrics. At the end what is used by what must be what the test knows; then all snapshots go, and with
them all that the volume does not show.

  TWOFOLD_SPACE_TURNS=10 TWOFOLD=build/release/twofold tests/e2e/space.py [ROUNDS] [SEED]
"""
import os
import random
import sys
import time

import nbd

from common import Pool, check, wait_until
from common_kill import AIMS, Killer
from common_space import BLOCKS, Space
from common_stamped import BLOCK

STORE = 96 << 20
ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else int(os.environ.get("TWOFOLD_SPACE_ROUNDS", "9"))
SEED = int(sys.argv[2]) if len(sys.argv) > 2 else int(time.time())
TURNS = int(os.environ.get("TWOFOLD_SPACE_TURNS", "3"))  # times the store's size


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


def be_away_for_a_while(space, pool, generator):
    """Set b misses some writes; then it is being brought level, so slowly that there is time to be killed."""
    pool.run("replica", "detach", "b")
    check(space.write(bytes_wanted=generator.choice((1, 4, 12)) << 20, deadline=time.monotonic() + 5), "the daemon went away")
    pool.run("replica", "rate", generator.choice(("1M", "4M", "unlimited")))
    pool.run("replica", "attach", "b")


def round_of_deletes(space, pool, generator, number):
    """A burst of writes beside a command; the daemon is killed at some moment of it. Returns the command, and what the daemon
    was at."""
    names = sorted(space.snapshots)
    choice = CHOICES[number % len(CHOICES)]
    name = generator.choice(names) if names else None
    if choice in ("delete", "rollback") and name is None or len(names) < 2 and choice == "delete":
        choice = "create"
    if choice == "create" and len(names) >= 3:
        choice = "delete"
    delay = generator.choice((0.005, 0.02, 0.1, 0.4)) * generator.random()
    aim = generator.choice((None, "clean", "checkpoint", "delete"))
    into = generator.choice((0, 0.003, 0.03)) * generator.random()
    if number % 3 == 2:
        be_away_for_a_while(space, pool, generator)
        aim = generator.choice((aim, "resync"))
        into *= 10
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
    killer = Killer(pool, delay, aim, into)
    if choice != "rollback":
        try:
            space.write(deadline=time.monotonic() + 10)
        except nbd.Error:
            pass
    work = killer.wait()
    check(work is not None, "the daemon went away by itself")
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
    bring_level(space, pool)
    pool.stop()
    pool.compare_sets()
    pool.start()
    return choice, work


def bring_level(space, pool):
    """Beside what a set misses it keeps its old state until it is level (R4). Where there is no room for both, it says so, and
    what is deleted makes it."""

    def level():
        status = pool.json("status")
        if status["state"] == "healthy":
            return True
        if any("is full" in replica["reason"] for replica in status["replicas"]) and space.snapshots:
            name = next(iter(space.snapshots))
            pool.run("snapshot", "delete", "vol@" + name)
            del space.snapshots[name]
            space.made_room += 1
            time.sleep(1)
            pool.run("replica", "attach", "b")
        return False

    wait_until(level, "both sets to be level", seconds=120)


def check_usage(space, pool, exact):
    """What is used by what, against what the test has seen of each version of each block: no two are the same data. Not `exact`:
    after rollbacks, when a timeline that has a snapshot may hold on to what nothing shows any more. Returns the snapshots' own."""
    wait_until(lambda: pool.json("status", "--usage")["usage"]["to_give_back_bytes"] == 0,
               "all that was deleted to be given back", seconds=120)

    def blocks(export):
        return {(block, version) for block, version in enumerate(space.versions(export)) if version}

    present = blocks("vol")
    shown = {name: blocks("vol@" + name) for name in space.snapshots}
    history = len(set().union(*shown.values()) - present) * BLOCK
    usage = pool.json("volume", "show", "vol")["usage"]
    check(usage["present_bytes"] == len(present) * BLOCK and
          usage["total_bytes"] == usage["present_bytes"] + usage["history_bytes"] and
          (usage["history_bytes"] == history or not exact and usage["history_bytes"] > history),
          "%d blocks are shown now and %d bytes before; volume show says %s" % (len(present), history, usage))
    listed = pool.json("snapshot", "list", "vol", "--usage")["snapshots"]
    for snapshot in listed:
        name = snapshot["snapshot"]
        own = len(shown[name] - present.union(*(other for its, other in shown.items() if its != name))) * BLOCK
        check(snapshot["shown_bytes"] == len(shown[name]) * BLOCK and (snapshot["own_bytes"] == own or not exact),
              "%s shows %d blocks, %d bytes alone: %s" % (name, len(shown[name]), own, snapshot))
    check(len(listed) == len(shown), "snapshot list --usage lists %s" % listed)
    return {snapshot["snapshot"]: snapshot["own_bytes"] for snapshot in listed}


def live_blocks(pool):
    return [r["live_bytes"] // BLOCK for r in pool.json("status")["replicas"]]


def delete_and_gain(space, pool, name, own_bytes):
    """A snapshot gives back what was said, to the block, in both sets."""
    left = [live - own_bytes // BLOCK for live in live_blocks(pool)]
    pool.run("snapshot", "delete", "vol@" + name)
    del space.snapshots[name]
    wait_until(lambda: live_blocks(pool) == left, "%d bytes to come free with snapshot %s" % (own_bytes, name), seconds=120)


def main():
    print("space: %d rounds, seed %d" % (ROUNDS, SEED), flush=True)
    generator = random.Random(SEED)
    with Pool(size="%d" % STORE, segment="4M") as pool:
        pool.start()
        pool.run("volume", "create", "vol", "%d" % (BLOCKS * BLOCK))
        space = Space(pool, generator)
        overwrite_many_times(space, pool)
        check_usage(space, pool, exact=True)
        print("wrote %d MiB into sets of %d MiB" % (space.written >> 20, STORE >> 20), flush=True)
        counts = {}
        killed_at = dict.fromkeys(("nothing of it", *AIMS), 0)
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
            choice, work = round_of_deletes(space, pool, generator, number)
            counts[choice] = counts.get(choice, 0) + 1
            for what in work or ("nothing of it",):
                killed_at[what] += 1
            if len(space.snapshots) >= 4:
                for name in list(space.snapshots)[:2]:
                    pool.run("snapshot", "delete", "vol@" + name)
                    del space.snapshots[name]
            if number % 10 == 9:
                print("round %d: %s, killed at %s" % (number + 1, counts, killed_at), flush=True)
        check(ROUNDS < 50 or min(killed_at[what] for what in AIMS) >= ROUNDS // 20, "too rarely killed at some of it: %s" % killed_at)

        # Everything goes but what the volume shows.
        while space.snapshots:
            own = check_usage(space, pool, exact=False)
            name = next(iter(space.snapshots))
            delete_and_gain(space, pool, name, own[name])
        if any(v["name"] == "other" for v in pool.json("volume", "list")["volumes"]):
            pool.run("volume", "delete", "other")
        space.check_all()
        shown = sum(version != 0 for version in space.versions("vol"))
        wait_until(lambda: live_blocks(pool) == [shown, shown],
                   "the live counts to come down to the %d blocks that the volume shows" % shown,
                   seconds=120)
        for r in pool.json("status")["replicas"]:
            # What lies dense in its segments takes less than the blocks one by one of which the capacity is.
            check(r["used_bytes"] + r["free_bytes"] == r["capacity_bytes"] and
                  r["to_clean_bytes"] == max(r["used_bytes"] - r["live_bytes"], 0),
                  "set %s: what is live, to clean and free does not add up: %s" % (r["set"], r))
            check(r["reserve_bytes"] > 0, "set %s keeps nothing back" % r["set"])
        pool.stop()
        pool.compare_sets()
    print("space: passed, %s, killed at %s, %d snapshots gave way to a resync, seed %d" %
          (counts, killed_at, space.made_room, SEED))


main()
