#!/usr/bin/python3
"""A full store: a clean ENOSPC to the writer, everything written before stays readable, deletes and trims work, and
there is room again (M22). Also across kill -9 and a restart."""
import errno

import nbd

from common import Pool, check, wait_until

MIB = 1 << 20


def pattern(number):
    return bytes([number % 251 + 1]) * MIB


def write_until_full(handle, size):
    """Returns how many MiB were taken before ENOSPC."""
    for number in range(size // MIB):
        try:
            handle.pwrite(pattern(number), number * MIB)
        except nbd.Error as error:
            check(error.errnum == errno.ENOSPC, "a full store must say ENOSPC: %s" % error)
            return number
    return size // MIB


def connect(pool, export):
    handle = nbd.NBD()
    handle.connect_uri(pool.uri(export))
    return handle


def check_content(handle, count):
    for number in range(count):
        check(handle.pread(MIB, number * MIB) == pattern(number), "MiB %d changed" % number)


def takes_writes(handle, data=b"x" * MIB, offset=0):
    try:
        handle.pwrite(data, offset)
        return True
    except nbd.Error as error:
        check(error.errnum == errno.ENOSPC, str(error))
        return False


def main():
    with Pool(size="160M", segment="4M") as pool:
        pool.start()
        pool.run("volume", "create", "first", "40M")
        pool.run("volume", "create", "second", "1G")
        first = connect(pool, "first")
        check(write_until_full(first, 40 * MIB) == 40, "40 MiB must fit into a set of 160 MiB")
        second = connect(pool, "second")
        taken = write_until_full(second, 1 << 30)
        print("second took %d MiB before ENOSPC" % taken)
        check(20 <= taken < 160, "took %d MiB" % taken)

        # Nothing is lost, and the daemon still answers.
        check_content(first, 40)
        check_content(second, taken)
        status = pool.json("status")
        print(status["replicas"] if "replicas" in status else status)
        check(not takes_writes(second), "a full store must stay full")

        # A trim needs no room, and gives room back.
        second.trim(16 * MIB, (taken - 16) * MIB)
        wait_until(lambda: takes_writes(second), "room after the trim", seconds=120)
        check(second.pread(MIB, (taken - 1) * MIB) == bytes(MIB), "trimmed bytes read as zeros")

        # The same after a crash while full.
        for number in range(64):
            try:
                second.pwrite(b"y" * MIB, (200 + number) * MIB)
            except nbd.Error:
                break
        first.shutdown()
        second.shutdown()
        pool.kill()
        pool.verify()
        pool.start()
        first = connect(pool, "first")
        second = connect(pool, "second")
        check_content(first, 40)

        # Deleting a volume works while full, and gives its room back.
        first.shutdown()
        pool.run("volume", "delete", "first")
        wait_until(lambda: takes_writes(second), "room after the volume was deleted",
                   seconds=120)
        for number in range(20):
            # Space comes back as the deleted volume is worked off.
            wait_until(lambda n=number: takes_writes(second, pattern(n), (400 + n) * MIB),
                       "the deleted volume's room", seconds=120)
        second.shutdown()
        pool.stop()
        pool.compare_sets()
    print("full: passed")


main()
