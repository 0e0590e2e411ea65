#!/usr/bin/python3
"""Latencies are counted stage by stage, always: `twofold latency`, `status --json` and `twofold metrics` tell the same.

A client writes and reads a number of blocks; every stage has counted exactly those, the stages of a write add up to what the server says a
write took, and that is no more than what the client saw. A lost set's stages go, and an unknown path or argument is a clear error.

  TWOFOLD=build/release/twofold tests/e2e/latency.py
"""
import os
import re
import subprocess
import time

import nbd

from common import TWOFOLD, Pool, check

BLOCK = 4096
WRITES = 200
READS = 100


def stages(answer):
    return {(one["stage"], one["set"]): one for one in answer}


def metric(text, name):
    found = re.search("^" + re.escape(name) + " (.*)$", text, re.MULTILINE)
    check(found, "there is no metric " + name)
    return float(found.group(1))


with Pool() as pool:
    pool.start()
    pool.run("volume", "create", "vol", "16M")
    check("no requests" in pool.run("latency") or "apply" in pool.run("latency"), "an idle daemon's latencies")
    before = stages(pool.json("latency")["stages"])
    check(before["nbd_write", ""]["count"] == 0, "writes are counted that nobody made")

    client = nbd.NBD()
    client.connect_uri(pool.uri("vol"))
    seen_ns = 0
    for i in range(WRITES):
        begin = time.monotonic_ns()
        client.pwrite(bytes([i % 255 + 1]) * BLOCK, i * BLOCK)
        seen_ns += time.monotonic_ns() - begin
    for i in range(READS):
        client.pread(BLOCK, i * BLOCK)

    now = stages(pool.json("latency")["stages"])
    for stage in ("receive", "order", "replicate", "commit", "reply", "nbd_write"):
        check(now[stage, ""]["count"] == WRITES, "%s counts %d of %d writes" % (stage, now[stage, ""]["count"], WRITES))
    check(now["nbd_read", ""]["count"] == READS, "nbd_read counts %d" % now["nbd_read", ""]["count"])
    for name in ("a", "b"):
        for stage in ("queue", "log"):
            grown = now[stage, name]["count"] - before[stage, name]["count"]
            check(WRITES <= grown <= WRITES + 50, "%s of set %s counts %d of %d writes" % (stage, name, grown, WRITES))
    check(now["read", "a"]["count"] + now["read", "b"]["count"] >= READS, "reads of the sets")

    total = now["nbd_write", ""]["sum_ns"]
    parts = sum(now[stage, ""]["sum_ns"] for stage in ("receive", "order", "replicate", "commit", "reply"))
    check(abs(total - parts) <= total * 0.05 + WRITES * 1000, "stages add up to %d ns, a write to %d ns" % (parts, total))
    check(total <= seen_ns, "the server says %d ns, the client saw %d ns" % (total, seen_ns))
    for one in now.values():
        check(sum(count for _, count in one["buckets"]) == one["count"], "buckets of %s" % one["stage"])
        check(one["p50_ns"] <= one["p90_ns"] <= one["p99_ns"] <= one["p99_9_ns"] <= one["max_ns"],
              "percentiles of %s" % one["stage"])

    status = stages(pool.json("status")["latency"])
    check(status["nbd_write", ""]["count"] == WRITES and "buckets" not in status["nbd_write", ""], "status --json")
    table = pool.run("latency")
    check(re.search(r"^replicate +- +%d " % WRITES, table, re.MULTILINE), "the table:\n" + table)

    text = pool.run("metrics")
    check(metric(text, 'twofold_nbd_requests_total{command="write"}') == WRITES, "requests")
    check(metric(text, 'twofold_nbd_bytes_total{command="write"}') == WRITES * BLOCK, "bytes")
    check(metric(text, 'twofold_latency_seconds_count{stage="nbd_write",set=""}') == WRITES, "count")
    check(metric(text, 'twofold_latency_seconds_bucket{stage="nbd_write",set="",le="+Inf"}') == WRITES, "the last bucket")
    check(abs(metric(text, 'twofold_latency_seconds_sum{stage="nbd_write",set=""}') * 1e9 - total) < 1000, "sum")
    check(metric(text, 'twofold_set_in_sync{set="b"}') == 1 and metric(text, "twofold_healthy") == 1, "health")
    for line in text.splitlines():
        check(line.startswith("#") or re.fullmatch(r'[a-z_]+(\{[^{}]*\})? [-+0-9.e]+', line), "no sample: " + line)

    pool.run("replica", "detach", "b")
    now = stages(pool.json("latency")["stages"])
    check(("log", "a") in now and ("log", "b") not in now, "a detached set still has stages")
    check(metric(pool.run("metrics"), 'twofold_set_in_sync{set="b"}') == 0, "a detached set counts")

    wrong = subprocess.run([TWOFOLD, "latency", "vol"], capture_output=True, text=True, timeout=60,
                           env=dict(os.environ, TWOFOLD_CONTROL="unix:" + pool.control))
    check(wrong.returncode == 2 and "vol" in wrong.stderr, "an argument too many: %d %s" % (wrong.returncode, wrong.stderr))
    client.shutdown()
    pool.stop()
print("latencies are counted and told")
