#!/usr/bin/python3
"""`serve --metrics` serves the numbers over HTTP to whoever asks, and nothing else.

  TWOFOLD=build/release/twofold tests/e2e/metrics.py
"""
import json
import re
import subprocess
import time
import urllib.error
import urllib.request

from common import TWOFOLD, Pool, check


def get(url, method="GET", data=None):
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data=data, method=method), timeout=30) as answer:
            return answer.status, answer.headers, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read().decode()


with Pool(serve_arguments=("--metrics", "127.0.0.1:0")) as pool:
    ready = pool.start()
    url = re.search(r"metrics on (http://127\.0\.0\.1:[1-9][0-9]*)/metrics", ready)
    check(url, "the ready line does not say where the metrics are: " + ready)
    base = url.group(1)
    check("http://" + pool.json("status")["daemon"]["metrics"] == base, "status says another place")

    status, headers, text = get(base + "/metrics")
    check(status == 200 and headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8", "%s %s" % (status, headers))
    names = {line.split("{")[0].split(" ")[0] for line in text.splitlines() if not line.startswith("#")}
    local = pool.run("metrics")
    check(names == {line.split("{")[0].split(" ")[0] for line in local.splitlines() if not line.startswith("#")},
          "other metrics than on the control socket")
    check("twofold_healthy 1\n" in text, "health")

    # An answer is a second old at most.
    pool.run("replica", "detach", "b")
    time.sleep(1.1)
    check("twofold_healthy 0\n" in get(base + "/metrics")[2], "the numbers don't change")

    # Nothing else is there, for anybody.
    pool.run("volume", "create", "vol", "1M")
    for method, path, data, expected in (("GET", "/v1/status", None, 404), ("GET", "/v1/volumes", None, 404),
                                         ("DELETE", "/v1/volumes/vol?force=true", None, 404),
                                         ("POST", "/v1/volumes", b'{"name":"x","size_bytes":4096}', 404),
                                         ("POST", "/metrics", b"{}", 405), ("GET", "/", None, 404)):
        status, _, body = get(base + path, method, data)
        check(status == expected and "error" in json.loads(body), "%s %s: %d %s" % (method, path, status, body))
    check([one["name"] for one in pool.json("volume", "list")["volumes"]] == ["vol"], "a command came in")
    pool.stop()

    # What is no address is said before the pool is opened.
    for wrong in ("9464", "unix:/tmp/x", "127.0.0.1:99999"):
        done = subprocess.run([TWOFOLD, "serve", *pool.set_arguments(), "--metrics", wrong, "--control", "unix:" + pool.control],
                              capture_output=True, text=True, timeout=60)
        check(done.returncode == 2 and "--metrics" in done.stderr, "%s: %d %s" % (wrong, done.returncode, done.stderr))
print("the metrics are served, and nothing else")
