#!/usr/bin/python3
"""Garbage, truncated and mutated NBD streams and HTTP requests against a running daemon, for some seconds, while a good
client writes and verifies (P8). In the end the daemon still serves, has no connection left, stops cleanly, and both
sets verify and hold the same.

    bad_input.py [SECONDS] [SEED]
"""
import os
import random
import socket
import struct
import sys
import threading
import time

import nbd

from common import Pool, check, fail, wait_until

SECONDS = float(sys.argv[1]) if len(sys.argv) > 1 else 8
SEED = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(1 << 32)
SIZE = 8 << 20
BLOCK = 4096

REQUEST_MAGIC = 0x25609513
OPTIONS = {"export_name": 1, "abort": 2, "list": 3, "info": 6, "go": 7, "structured": 8, "list_meta": 9, "set_meta": 10}


def option(number, data=b""):
    return b"IHAVEOPT" + struct.pack(">II", number, len(data)) + data


def string(text):
    return struct.pack(">I", len(text)) + text


def go(name, infos=()):
    return option(OPTIONS["go"], string(name) + struct.pack(">H", len(infos)) + b"".join(struct.pack(">H", i) for i in infos))


def request(command, cookie, offset, length, flags=0, payload=b""):
    return struct.pack(">IHHQQI", REQUEST_MAGIC, flags, command, cookie, offset, length) + payload


def nbd_stream(chance, export):
    """What a good client could send, with a few things wrong."""
    parts = [struct.pack(">I", 3)]
    if chance.random() < 0.5:
        parts.append(option(OPTIONS["structured"]))
    if chance.random() < 0.5:
        parts.append(option(OPTIONS["set_meta"], string(export) + struct.pack(">I", 1) + string(b"base:allocation")))
    if chance.random() < 0.3:
        parts.append(option(chance.choice([OPTIONS["list"], 0, 4, 5, 11, 99, 0xffffffff]), os.urandom(chance.randrange(60))))
    parts.append(go(export, [chance.randrange(5)] * chance.randrange(3)))
    for cookie in range(chance.randrange(40)):
        command = chance.choice([0, 0, 1, 1, 1, 3, 4, 5, 6, 7, 8, 77])
        offset = chance.choice([chance.randrange(SIZE), chance.randrange(1 << 64), SIZE - 1])
        length = chance.choice([chance.randrange(9000), chance.randrange(300000), 0, 0xffffffff if command != 1 else 1])
        flags = chance.choice([0, 0, 0, 1, 2, 4, 8, 16, 0x8000])
        parts.append(request(command, cookie, offset, length, flags, b"b" * length if command == 1 else b""))
    return mutated(chance, b"".join(parts))


def http_stream(chance):
    bodies = [b'{"name":"x","size_bytes":4096}', b"{", b"[]", b'{"name":7}', b'{"names":["bad@s"]}', b"\xff\xfe", b"[" * 300, b""]
    parts = []
    for _ in range(chance.randrange(1, 5)):
        body = chance.choice(bodies)
        path = chance.choice([b"/v1/status", b"/v1/volumes", b"/v1/volumes/%2e%2e", b"/v1/nothing", b"/", b"/v1/snapshots?x=%zz"])
        method = chance.choice([b"GET", b"POST", b"PATCH", b"BREW", b"HEAD"])
        length = chance.choice([len(body), len(body), len(body) + 5, 1 << 40])
        parts.append(b"%s %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (method, path, length, body))
    return mutated(chance, b"".join(parts))


def mutated(chance, stream):
    stream = bytearray(stream)
    for _ in range(chance.randrange(4)):
        at = chance.randrange(len(stream))
        kind = chance.randrange(4)
        if kind == 0:
            stream[at] = chance.randrange(256)
        elif kind == 1:
            del stream[at:at + chance.randrange(1, 40)]
        elif kind == 2:
            stream[at:at] = stream[at:at + chance.randrange(1, 40)]
        else:
            stream = stream[:at + 1]
        if not stream:
            return os.urandom(10)
    return bytes(stream) if chance.random() < 0.9 else os.urandom(chance.randrange(1, 2000))


class BadClient(threading.Thread):
    def __init__(self, pool, number, deadline):
        super().__init__()
        self.pool = pool
        self.chance = random.Random(SEED + number)
        self.deadline = deadline
        self.connections = 0

    def run(self):
        while time.monotonic() < self.deadline:
            self.one_connection()
            self.connections += 1

    def one_connection(self):
        chance = self.chance
        http = chance.random() < 0.25
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(chance.choice([0.02, 0.1, 0.3]))
        try:
            client.connect(self.pool.control if http else self.pool.nbd_socket)
            stream = http_stream(chance) if http else nbd_stream(chance, chance.choice([b"bad", b"bad", b"bad@s", b"nobody", b""]))
            at = 0
            while at < len(stream):
                piece = chance.choice([1, 7, 100, 5000, 1 << 20]) if len(stream) < 20000 else 1 << 20
                client.sendall(stream[at:at + piece])
                at += piece
            end = chance.randrange(4)
            if end == 0:
                return  # gone, with replies unread
            if end == 1:
                client.shutdown(socket.SHUT_WR)
            while client.recv(1 << 16):
                pass
        except OSError:
            pass  # refused, closed in the middle, or nothing came any more
        finally:
            client.close()


class GoodClient(threading.Thread):
    """Writes blocks of its own volume and reads them back; keeps what must stand there."""

    def __init__(self, pool, deadline):
        super().__init__()
        self.handle = nbd.NBD()
        self.handle.connect_uri(pool.uri("good"))
        self.deadline = deadline
        self.chance = random.Random(SEED)
        self.expected = {}
        self.operations = 0
        self.problem = None

    def run(self):
        try:
            while time.monotonic() < self.deadline:
                block = self.chance.randrange(SIZE // BLOCK)
                data = struct.pack("<Q", self.operations + 1) * (BLOCK // 8)
                self.handle.pwrite(data, block * BLOCK)
                self.expected[block] = data
                look = self.chance.choice(list(self.expected))
                if self.handle.pread(BLOCK, look * BLOCK) != self.expected[look]:
                    raise ValueError("block %d is not what was written" % look)
                self.operations += 1
            self.handle.shutdown()
        except (nbd.Error, ValueError) as error:
            self.problem = str(error)


def check_half_closed(pool):
    """A client that has closed its sending side gets its answers."""
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(10)
    client.connect(pool.nbd_socket)
    reads = b"".join(request(0, i, 0, BLOCK) for i in range(10))
    client.sendall(struct.pack(">I", 3) + go(b"good") + reads)
    client.shutdown(socket.SHUT_WR)
    received = 0
    while True:
        piece = client.recv(1 << 16)
        if not piece:
            break
        received += len(piece)
    client.close()
    check(received > 10 * (16 + BLOCK), "a half-closed client got %d bytes only" % received)


def main():
    print("seed %d" % SEED, flush=True)
    with Pool() as pool:
        pool.start()
        for name in ("good", "bad"):
            pool.run("volume", "create", name, "8M")
        pool.run("snapshot", "create", "bad@s")
        check_half_closed(pool)
        deadline = time.monotonic() + SECONDS
        good = GoodClient(pool, deadline)
        bad = [BadClient(pool, number, deadline) for number in range(6)]
        for thread in [good, *bad]:
            thread.start()
        for thread in [good, *bad]:
            thread.join(timeout=SECONDS + 60)
            check(not thread.is_alive(), "a client is stuck")
        if good.problem:
            fail("the good client: " + good.problem)
        connections = sum(client.connections for client in bad)
        check(good.operations > 10, "the good client got through %d operations only" % good.operations)
        check(connections > 20, "the bad ones made %d connections only" % connections)

        clients = lambda: sum(v["clients"] for v in pool.json("volume", "list")["volumes"])
        wait_until(lambda: clients() == 0, "the connections of the bad clients to go")
        names = {v["name"] for v in pool.json("volume", "list")["volumes"]}
        check({"good", "bad"} <= names <= {"good", "bad", "x"}, "the volumes are %s" % names)
        handle = nbd.NBD()
        handle.connect_uri(pool.uri("good"))
        for block, data in good.expected.items():
            check(handle.pread(BLOCK, block * BLOCK) == data, "block %d changed" % block)
        handle.shutdown()
        pool.stop()
        pool.compare_sets()
        print("%d connections of bad clients, %d operations of the good one" % (connections, good.operations))


main()
