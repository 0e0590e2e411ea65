"""What bench/compare measures: Twofold, and those that it is compared to. Each is a volume of SIZE bytes that fio writes to and reads from.

A peer has a directory of its own for all that it makes, and ends with its processes when it is stopped.
"""
import os
import signal
import subprocess
import sys
import time
import uuid

SIZE_MIB = 1024
SET_SIZE = "8G"


def wait_until(true, what, seconds=60):
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            sys.exit("%s: not within %d s" % (what, seconds))
        time.sleep(0.05)


def run(*command, **options):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
    if done.returncode != 0:
        sys.exit("%s: %s" % (" ".join(command), done.stdout))
    return done.stdout


class Peer:
    """A server of a volume over NBD, on a Unix socket. Its processes are those whose CPU time and system calls count as the server's."""

    tools = ()
    files = 1  # which a job is spread over, with an equal part of its depth each
    copies = 1

    def __init__(self, name, directory):
        self.name = name
        self.directory = os.path.join(directory, name.replace(" ", "-").replace("=", "-"))
        os.makedirs(self.directory)
        self.socket = self.path("nbd.sock")
        self.export = ""
        self.processes = []

    def path(self, name):
        return os.path.join(self.directory, name)

    def spawn(self, *command, **options):
        log = open(self.path("log-%d" % len(self.processes)), "w")
        process = subprocess.Popen(command, stdout=options.pop("stdout", log), stderr=log, text=True, **options)
        self.processes.append(process)
        return process

    def spawn_server(self, *command):
        process = self.spawn(*command)
        wait_until(lambda: os.path.exists(self.socket) or process.poll() is not None, self.name)
        if process.poll() is not None:
            with open(self.path("log-%d" % (len(self.processes) - 1))) as log:
                sys.exit("%s: %s" % (" ".join(command), log.read()))

    def stop(self):
        for process in reversed(self.processes):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                process.wait()
        self.processes = []
        if os.path.exists(self.socket):
            os.unlink(self.socket)

    def fio_arguments(self):
        return ["--ioengine=nbd", "--uri=nbd+unix:///%s?socket=%s" % (self.export, self.socket)]

    def environment(self):
        return None

    def pids(self):
        return [process.pid for process in self.processes]

    def age(self, fio):
        """Called once after the volume was filled: brings about the state that is to be measured."""


class Twofold(Peer):
    """Two sets in one daemon."""

    copies = 2

    def __init__(self, name, directory, binary, ack):
        super().__init__(name, directory)
        self.binary = binary
        self.ack = ack
        self.export = "vol"

    def start(self):
        sets = ["--set", "a=" + self.path("a"), "--set", "b=" + self.path("b"), "--witness", self.path("witness")]
        control = "unix:" + self.path("control.sock")
        run(self.binary, "init", *sets, "--size", SET_SIZE)
        process = self.spawn(self.binary, "serve", *sets, "--nbd", "unix:" + self.socket, "--control", control,
                             stdout=subprocess.PIPE)
        if not process.stdout.readline():
            sys.exit("twofold serve did not get ready: " + self.path("log-0"))
        run(self.binary, "volume", "create", "vol", "%dM" % SIZE_MIB, "--ack", self.ack, "--control", control)

    # Writes at random until no pass makes a new file for the log: then whatever it writes goes where it wrote before, as
    # what it is compared to has its memory or its file. In order it would not do: each segment would be dead, and
    # used again, before the next new one is needed.
    def age(self, fio):
        log = self.path("a/log")
        files = 0
        while len(os.listdir(log)) > files:
            files = len(os.listdir(log))
            fio(self, ["--rw=randwrite", "--bs=16k", "--iodepth=16", "--io_size=2G"])


class NbdkitMemory(Peer):
    """One copy, in RAM: the ceiling of NBD itself."""

    tools = ("nbdkit",)

    def start(self):
        self.spawn_server("nbdkit", "--foreground", "--exit-with-parent", "--unix", self.socket, "memory", "%dM" % SIZE_MIB)


def written_file(path):
    """A file of the volume's size of which every block was written and is durable."""
    run("dd", "if=/dev/urandom", "of=" + path, "bs=1M", "count=%d" % SIZE_MIB, "conv=fsync")
    return path


class NbdkitFile(Peer):
    """One durable copy: every write is followed by a flush."""

    tools = ("nbdkit",)

    def start(self):
        self.spawn_server("nbdkit", "--foreground", "--exit-with-parent", "--unix", self.socket, "--filter=fua", "file",
                          written_file(self.path("image")), "fuamode=force")


class QemuRaw(Peer):
    """One durable copy."""

    tools = ("qemu-nbd",)

    def start(self):
        self.serve("raw", written_file(self.path("image")))

    def serve(self, image_format, image):
        self.spawn_server("qemu-nbd", "--cache=writethrough", "--aio=io_uring", "--persistent", "--shared=8", "--socket=" + self.socket,
                          "--format=" + image_format, image)


class QemuQcow2(QemuRaw):
    """One durable copy, with internal snapshots between which a little was written."""

    tools = ("qemu-nbd", "qemu-img", "qemu-io")

    def __init__(self, name, directory, snapshots):
        super().__init__(name, directory)
        self.snapshots = snapshots
        self.image = self.path("image.qcow2")

    def start(self):
        if not os.path.exists(self.image):
            run("qemu-img", "create", "-f", "qcow2", self.image, "%dM" % SIZE_MIB)
        self.serve("qcow2", self.image)

    def age(self, fio):
        if self.snapshots == 0:
            return
        self.stop()
        for number in range(self.snapshots):
            run("qemu-img", "snapshot", "-c", "s%d" % number, self.image)
            run("qemu-io", "-f", "qcow2", "-c", "write -P %d %dM 1M" % (number % 255 + 1, number * 7 % SIZE_MIB), self.image)
        self.start()


class QemuQuorum(Peer):
    """Two durable copies with today's standard tools."""

    tools = ("qemu-storage-daemon",)
    copies = 2

    def __init__(self, name, directory):
        super().__init__(name, directory)
        self.export = "vol"

    def start(self):
        children = []
        for child in ("a", "b"):
            children += ["--blockdev", "driver=file,aio=io_uring,node-name=%s,filename=%s" % (child, written_file(self.path(child)))]
        self.spawn_server("qemu-storage-daemon", *children,
                          "--blockdev", "driver=quorum,node-name=quorum,vote-threshold=1,read-pattern=fifo,children.0=a,children.1=b",
                          "--nbd-server", "addr.type=unix,addr.path=%s,max-connections=8" % self.socket,
                          "--export", "type=nbd,id=export,node-name=quorum,name=vol,writable=on,writethrough=on")


class RawFiles(Peer):
    """The disk: fio itself, on as many files as there are copies. A write of both files counts as one."""

    def __init__(self, name, directory, files, arguments):
        super().__init__(name, directory)
        self.files = self.copies = files
        self.arguments = arguments

    def start(self):
        for number in range(self.files):
            written_file(self.path(str(number)))

    def fio_arguments(self):
        return ["--ioengine=io_uring", "--direct=1", *self.arguments]


class Ceph(Peer):
    """RBD with two OSDs, each with a file for its device, one monitor and one manager; nothing is authenticated. fio speaks to it itself."""

    tools = ("ceph-mon", "ceph-mgr", "ceph-osd", "ceph", "rbd", "monmaptool")
    copies = 2
    port = 16789

    def start(self):
        self.conf = self.path("ceph.conf")
        fsid = str(uuid.uuid4())
        with open(self.conf, "w") as conf:
            conf.write("""[global]
fsid = %(fsid)s
mon host = v2:127.0.0.1:%(port)d
auth cluster required = none
auth service required = none
auth client required = none
public network = 127.0.0.0/8
osd pool default size = 2
osd pool default min size = 2
osd crush chooseleaf type = 0
osd objectstore = bluestore
bluestore block size = %(device)d
osd memory target = 1073741824
mon allow pool size one = true
rbd cache = false
run dir = %(directory)s
admin socket = %(directory)s/$name.asok
log file = %(directory)s/$name.log
pid file =
mon data = %(directory)s/mon
mgr data = %(directory)s/mgr
osd data = %(directory)s/osd$id
""" % {"fsid": fsid, "port": self.port, "directory": self.directory, "device": 6 * SIZE_MIB << 20})
        monmap = self.path("monmap")
        run("monmaptool", "--create", "--fsid", fsid, "--addv", "m", "[v2:127.0.0.1:%d]" % self.port, monmap)
        os.makedirs(self.path("mgr"))
        run("ceph-mon", "--conf", self.conf, "--mkfs", "--id", "m", "--monmap", monmap)
        self.spawn("ceph-mon", "--conf", self.conf, "--foreground", "--id", "m")
        self.ceph("status")
        self.ceph("config", "set", "mon", "auth_allow_insecure_global_id_reclaim", "false")
        self.spawn("ceph-mgr", "--conf", self.conf, "--foreground", "--id", "x")
        for number in range(2):
            osd = str(uuid.uuid4())
            self.ceph("osd", "new", osd, str(number))
            os.makedirs(self.path("osd%d" % number))
            run("ceph-osd", "--conf", self.conf, "--mkfs", "--id", str(number), "--osd-uuid", osd)
            self.spawn("ceph-osd", "--conf", self.conf, "--foreground", "--id", str(number))
        self.ceph("osd", "pool", "create", "rbd", "32")
        self.ceph("osd", "pool", "application", "enable", "rbd", "rbd")
        wait_until(lambda: "32 active+clean" in self.ceph("pg", "stat") or "33 active+clean" in self.ceph("pg", "stat"), "Ceph", 120)
        run("rbd", "--conf", self.conf, "create", "rbd/vol", "--size", "%dM" % SIZE_MIB)

    def ceph(self, *arguments):
        return run("ceph", "--conf", self.conf, "--connect-timeout", "60", *arguments)

    def environment(self):
        return dict(os.environ, CEPH_CONF=self.conf)

    def fio_arguments(self):
        return ["--ioengine=rbd", "--clientname=admin", "--pool=rbd", "--rbdname=vol"]
