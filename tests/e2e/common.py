"""A pool of its own for one end-to-end test: directories, daemon, command line, clean-up.

The daemon listens on Unix sockets in a temporary directory, so that tests can run side by side. Everything a
test starts is ended by its process id.
"""
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

TWOFOLD = os.environ["TWOFOLD"]


def fail(text):
    print("FAILED: " + text, flush=True)
    sys.exit(1)


def check(condition, text):
    if not condition:
        fail(text)


class Pool:
    def __init__(self, size="256M", segment="4M", serve_arguments=()):
        base = os.environ.get("TWOFOLD_TEST_DIR", "/var/tmp")
        self.directory = tempfile.mkdtemp(prefix="twofold-e2e-", dir=base)
        self.sets = {name: os.path.join(self.directory, name) for name in ("a", "b")}
        self.witness = os.path.join(self.directory, "witness")
        self.nbd_socket = os.path.join(self.directory, "nbd.sock")
        self.control = os.path.join(self.directory, "control.sock")
        self.serve_arguments = list(serve_arguments)
        self.daemon = None
        self.starts = 0
        self.run("init", *self.set_arguments(), "--size", size, "--segment-size", segment)

    def set_arguments(self):
        return ["--set", "a=" + self.sets["a"], "--set", "b=" + self.sets["b"],
                "--witness", self.witness]

    def run(self, *arguments, expect=0):
        """Runs one command of the program and returns its standard output."""
        done = subprocess.run([TWOFOLD, *arguments], capture_output=True, text=True, timeout=300,
                              env=dict(os.environ, TWOFOLD_CONTROL="unix:" + self.control))
        if done.returncode != expect:
            fail("twofold %s: exit code %d, expected %d\n%s%s" %
                 (" ".join(arguments), done.returncode, expect, done.stdout, done.stderr))
        self.stderr = done.stderr
        return done.stdout

    def fails(self, *arguments):
        """A command that must fail; returns what it says."""
        self.run(*arguments, expect=1)
        return self.stderr

    def json(self, *arguments):
        return json.loads(self.run(*arguments, "--json"))

    def start(self):
        self.starts += 1
        self.log_path = os.path.join(self.directory, "daemon.log")
        log = open(self.log_path, "a")
        self.daemon = subprocess.Popen(
            [TWOFOLD, "serve", *self.set_arguments(), "--nbd", "unix:" + self.nbd_socket,
             "--control", "unix:" + self.control, *self.serve_arguments],
            stdout=subprocess.PIPE, stderr=log, text=True)
        log.close()
        ready = self.daemon.stdout.readline()
        if not ready:
            self.show_log()
            fail("the daemon did not get ready (exit code %s)" % self.daemon.wait())
        return ready

    def kill(self):
        self.daemon.send_signal(signal.SIGKILL)
        self.daemon.wait()
        self.daemon.stdout.close()
        self.daemon = None

    def stop(self):
        self.daemon.send_signal(signal.SIGTERM)
        try:
            code = self.daemon.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self.show_log()
            fail("the daemon did not stop within 60 s of SIGTERM")
        self.daemon.stdout.close()
        self.daemon = None
        if code != 0:
            self.show_log()
            fail("the daemon stopped with exit code %d" % code)

    def show_log(self):
        with open(self.log_path) as log:
            print("--- end of the daemon's log\n" + log.read()[-8000:], flush=True)

    def uri(self, export):
        return "nbd+unix:///%s?socket=%s" % (export, self.nbd_socket)

    def verify(self):
        """`inspect --verify` of each set alone; returns what each holds, by name."""
        contents = {}
        for name, directory in self.sets.items():
            report = json.loads(self.run("inspect", directory, "--verify", "--json"))
            check(not report["problems"], "set %s: %s" % (name, report["problems"]))
            contents[name] = {c["name"]: (c["digest"], c["data_blocks"], c["size_bytes"])
                              for c in report["contents"]}
        return contents

    def compare_sets(self):
        contents = self.verify()
        check(contents["a"] == contents["b"],
              "the sets differ:\na: %s\nb: %s" % (contents["a"], contents["b"]))
        return contents["a"]

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        failed = kind is not None and not (kind is SystemExit and value.code in (0, 77))
        if failed and self.starts:
            self.show_log()
        if self.daemon is not None:
            self.kill()
        if failed and os.environ.get("TWOFOLD_KEEP"):
            print("kept: " + self.directory)
        else:
            shutil.rmtree(self.directory, ignore_errors=True)
        return False


def wait_until(condition, what, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            fail("waited %d s for %s" % (seconds, what))
        time.sleep(0.02)
