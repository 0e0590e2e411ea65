"""kill -9 of the daemon at a drawn moment, and what it was at by its own metrics.

A process of its own asks for the metrics over and over and kills at once after an answer, so that what is counted was so a
millisecond or two before. It may aim: then it waits until the daemon says that it is at something, and kills a drawn time into that.
"""
import http.client
import multiprocessing
import os
import signal
import socket
import time

AIMS = ("clean", "checkpoint", "delete", "resync")
METRICS = {"twofold_set_clean_running": "clean", "twofold_set_checkpoint_running": "checkpoint",
           "twofold_set_reclaim_jobs": "delete", "twofold_set_resync_running": "resync"}
PATIENCE = 4  # seconds that it waits for what it aims at


class Control(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("twofold", timeout=30)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def work_under_way(control):
    """What at least one set is at."""
    control.request("GET", "/v1/metrics")
    text = control.getresponse().read().decode()
    found = set()
    for line in text.splitlines():
        name, labels, value = line.partition("{")
        if labels and name in METRICS and value.rsplit(" ", 1)[1] != "0":
            found.add(METRICS[name])
    return found


def watch_and_kill(path, pid, delay, aim, into, out):
    work = None
    try:
        control = Control(path)
        time.sleep(delay)
        work = work_under_way(control)
        deadline = time.monotonic() + PATIENCE
        while aim is not None and aim not in work and time.monotonic() < deadline:
            time.sleep(0.002)
            work = work_under_way(control)
        if aim in work:
            time.sleep(into)
            work = work_under_way(control)
    finally:
        os.kill(pid, signal.SIGKILL)
        out.send(work)


class Killer:
    """Kills the pool's daemon `delay` seconds from now, or `into` seconds after it is first seen at `aim` after that."""

    def __init__(self, pool, delay, aim=None, into=0):
        self.work, out = multiprocessing.Pipe(False)
        self.process = multiprocessing.get_context("fork").Process(
            target=watch_and_kill, args=(pool.control, pool.daemon.pid, delay, aim, into, out))
        self.process.start()
        out.close()

    def wait(self):
        """What the daemon was at when it was killed."""
        work = self.work.recv()
        self.process.join()
        return work
