#!/usr/bin/python3
"""`twofold bench latency` measures a volume from its client's side and tells where the time goes.

What it counts is what the daemon counted for it; a rate that the daemon can't keep shows in the latencies, since they count from when a request was
due; a volume with data or clients is not written over unless --force says so; the table, the JSON and the picture come out whole.

  TWOFOLD=build/release/twofold tests/e2e/bench_latency.py
"""
import os
import xml.etree.ElementTree

import nbd

from common import Pool, check

WRITE_STAGES = ("receive", "order", "replicate", "commit", "reply")


def stages(result):
    return {(one["stage"], one["set"]): one for one in result["stages"]}


with Pool() as pool:
    pool.start()
    pool.run("volume", "create", "vol", "16M")

    result = pool.json("bench", "latency", "vol", "--depth", "4", "--duration", "2")
    counted = stages(result)
    writes = counted["client_write", ""]["count"]
    check(writes > 50 and result["errors"] == 0 and result["unsent"] == 0, "a plain run: %s" % result)
    check(result["requests"] == writes and counted["client_read", ""]["count"] == 0, "only writes")
    check(abs(result["requests_per_second"] - writes / result["seconds"]) < 1, "requests per second")
    for stage in WRITE_STAGES + ("nbd_write",):
        check(counted[stage, ""]["count"] == writes, "%s counts %d of %d" % (stage, counted[stage, ""]["count"], writes))
    for name in ("a", "b"):
        for stage in ("queue", "log"):
            grown = counted[stage, name]["count"]
            check(writes <= grown <= writes + 100, "%s of set %s counts %d of %d writes" % (stage, name, grown, writes))
    check(counted["client_write", ""]["sum_ns"] >= counted["nbd_write", ""]["sum_ns"], "the client saw less than the server")
    for one in result["stages"]:
        check(one["p50_ns"] <= one["p90_ns"] <= one["p99_ns"] <= one["p99_9_ns"] <= one["max_ns"],
              "percentiles of %s" % one["stage"])
        check(sum(count for _, count in one["buckets"]) == one["count"], "buckets of %s" % one["stage"])

    # It has data now: written over only when that is wanted. Reading is always fine.
    said = pool.fails("bench", "latency", "vol", "--duration", "1")
    check("has data" in said and "--force" in said, "a volume with data: " + said)
    picture = os.path.join(pool.directory, "latency.svg")
    table = pool.run("bench", "latency", "vol", "--read-share", "100", "--duration", "1", "--svg", picture)
    check("client_read" in table and "client_write" not in table and "P99.9" in table, "a table of reads:\n" + table)
    root = xml.etree.ElementTree.parse(picture).getroot()
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    check("client_read" in texts and "nbd_read" in texts, "the picture: %s" % texts)

    mixed = pool.json("bench", "latency", "vol", "--read-share", "50", "--duration", "1", "--depth", "8", "--force")
    counted = stages(mixed)
    reads = counted["client_read", ""]["count"]
    share = reads / mixed["requests"]
    check(0.3 < share < 0.7, "half of %d requests should read, %d did" % (mixed["requests"], reads))
    check(counted["nbd_read", ""]["count"] == reads, "nbd_read counts %d of %d" % (counted["nbd_read", ""]["count"], reads))

    # A slow rate is kept, and the number of requests is what was due.
    slow = pool.json("bench", "latency", "vol", "--rate", "50", "--duration", "2", "--force")
    check(slow["requests"] + slow["unsent"] == 100, "50 a second for 2 s: %d and %d unsent" % (slow["requests"], slow["unsent"]))

    # A rate that can't be kept: what the server says stays small, what clients would see does not.
    fast = pool.json("bench", "latency", "vol", "--rate", "2000000", "--duration", "1", "--depth", "1", "--force")
    counted = stages(fast)
    check(fast["unsent"] > 0, "two million a second were kept")
    check(fast["requests"] + fast["unsent"] == 2000000, "due were 2000000, not %d" % (fast["requests"] + fast["unsent"]))
    check(counted["client_write", ""]["p50_ns"] > 100 * 1000 * 1000, "waiting does not count: %s" % counted["client_write", ""]["p50_ns"])
    check(counted["nbd_write", ""]["p50_ns"] < counted["client_write", ""]["p50_ns"], "the server's part")
    check("the rate was not reached" in pool.run("bench", "latency", "vol", "--rate", "2000000", "--duration", "1", "--depth", "1", "--force"),
          "the table does not say that the rate was not reached")

    # An empty volume that somebody uses is not written either.
    pool.run("volume", "create", "used", "1M")
    client = nbd.NBD()
    client.connect_uri(pool.uri("used"))
    said = pool.fails("bench", "latency", "used", "--duration", "1")
    check("1 clients" in said and "--force" in said, "a volume with a client: " + said)
    client.shutdown()

    check("nothere" in pool.fails("bench", "latency", "nothere", "--duration", "1"), "a volume that is not there")
    said = pool.run("bench", "latency", "vol", "--depth", "0", expect=2)
    pool.run("volume", "create", "tiny", "4K")
    check("4K" in (pool.run("bench", "latency", "tiny", "--size", "8K", expect=2), pool.stderr)[1], "a volume that is too small")
    pool.run("bench", "latency", "tiny", "--duration", "1")
    pool.stop()
print("latencies are measured from the client's side")
