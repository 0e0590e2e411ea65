#!/usr/bin/python3
"""What `volume show`, `snapshot list` and `status` say is used by what: it adds up to what is live, and deleting each
snapshot gives back what was said, to the block, in both sets, also after a rollback.

  TWOFOLD=build/release/twofold tests/e2e/usage.py
"""
import nbd

from common import Pool, check, wait_until

BLOCK = 4096


def live(pool):
    return [r["live_bytes"] for r in pool.json("status")["replicas"]]


def rest(pool):
    usage = pool.json("status", "--usage")["usage"]
    totals = sum(volume["total_bytes"] for volume in usage["volumes"])
    check(totals + usage["to_give_back_bytes"] == usage["live_bytes"] and
          totals == usage["present_bytes"] + usage["history_bytes"],
          "what is used does not add up: %s" % usage)
    return usage["to_give_back_bytes"]


def own(pool):
    return {s["snapshot"]: s["own_bytes"] for s in pool.json("volume", "show", "vol")["usage"]["snapshots"]}


def main():
    with Pool(size="96M", segment="4M") as pool:
        pool.start()
        pool.run("volume", "create", "vol", "16M")
        handle = nbd.NBD()
        handle.connect_uri(pool.uri("vol"))
        for first, count, snapshot in ((0, 256, "one"), (0, 64, "two"), (32, 64, None)):
            handle.pwrite(b"x" * (count * BLOCK), first * BLOCK)
            if snapshot:
                pool.run("snapshot", "create", "vol@" + snapshot)
        handle.shutdown()
        check(pool.json("status")["usage"] is None, "nobody has counted yet")
        usage = pool.json("volume", "show", "vol")["usage"]
        check(usage["present_bytes"] == 256 * BLOCK and usage["history_bytes"] == 128 * BLOCK, usage)
        check(own(pool) == {"one": 64 * BLOCK, "two": 32 * BLOCK}, own(pool))
        listed = pool.json("snapshot", "list", "vol", "--usage")["snapshots"]
        check({s["snapshot"]: s["own_bytes"] for s in listed} == own(pool), listed)
        check("usage" not in pool.json("volume", "show", "vol", "--no-usage"), "it was counted all the same")
        check(rest(pool) == 0, "nothing was deleted yet")
        check(pool.json("status")["usage"] is not None, "the last count is remembered")
        for text in (("status",), ("volume", "show", "vol"), ("snapshot", "list", "--usage")):
            pool.run(*text)

        pool.run("rollback", "vol@one")
        for name in sorted(own(pool)):
            wait_until(lambda: rest(pool) == 0, "all that was deleted to be given back", seconds=120)
            said = own(pool)[name]
            before = live(pool)
            pool.run("snapshot", "delete", "vol@" + name)
            wait_until(lambda: live(pool) == [b - said for b in before],
                       "%d bytes to come free with snapshot %s" % (said, name), seconds=120)
        check(live(pool) == [256 * BLOCK] * 2, "more is live than the volume shows: %s" % live(pool))
        pool.stop()
    print("usage: passed")


main()
