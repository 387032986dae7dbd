#!/usr/bin/env python3
"""A disk with a volatile write cache, as an NBD server: what a power cut does to a disk that was not told to flush.

    volatile_disk.py SOCKET IMAGE [SEED]

Writes stay in memory until FLUSH (or FUA). On SIGUSR1 the power goes: of the sectors that were not flushed a random half
reaches the image, the rest is gone, and the server ends at once after printing how many sectors were in doubt.
Source: NBD protocol (proto.md), fixed newstyle. One client at a time; knows nothing of file systems.
"""

import os
import random
import signal
import socket
import struct
import sys

SECTOR = 512
READ, WRITE, DISCONNECT, FLUSH, TRIM, _, WRITE_ZEROES = range(7)
FUA = 1
# HAS_FLAGS, SEND_FLUSH, SEND_FUA, SEND_TRIM, SEND_WRITE_ZEROES.
FLAGS = 1 | 1 << 2 | 1 << 3 | 1 << 5 | 1 << 6


class Disk:
    def __init__(self, path):
        self.file = os.open(path, os.O_RDWR)
        self.size = os.fstat(self.file).st_size
        self.dirty = {}  # sector number -> its newest 512 bytes
        self.writes = self.flushes = 0

    def read(self, offset, length):
        data = bytearray(os.pread(self.file, length, offset))
        if self.dirty:
            for sector in range(offset // SECTOR, (offset + length + SECTOR - 1) // SECTOR):
                if sector in self.dirty:
                    at = sector * SECTOR - offset
                    data[max(at, 0) : at + SECTOR] = self.dirty[sector][max(-at, 0) : min(SECTOR, length - at)]
        return bytes(data)

    def write(self, offset, data):
        # The guest's block size is 512: every request is whole sectors.
        self.writes += 1
        for at in range(0, len(data), SECTOR):
            self.dirty[(offset + at) // SECTOR] = data[at : at + SECTOR]

    def keep(self, sectors):
        for sector in sorted(sectors):
            os.pwrite(self.file, self.dirty.pop(sector), sector * SECTOR)

    def flush(self):
        self.flushes += 1
        self.keep(list(self.dirty))


def exactly(connection, length):
    data = b""
    while len(data) < length:
        part = connection.recv(min(length - len(data), 1 << 20))
        if not part:
            raise EOFError
        data += part
    return data


def negotiate(connection, disk):
    connection.sendall(b"NBDMAGICIHAVEOPT" + struct.pack(">H", 1 | 2))  # fixed newstyle, no zeroes
    exactly(connection, 4)
    while True:
        magic, option, length = struct.unpack(">8sII", exactly(connection, 16))
        exactly(connection, length)

        def reply(kind, data=b"", option=option):
            connection.sendall(struct.pack(">QIII", 0x3E889045565A9, option, kind, len(data)) + data)

        if option == 1:  # EXPORT_NAME
            connection.sendall(struct.pack(">QH", disk.size, FLAGS))
            return True
        if option == 2:  # ABORT
            reply(1)
            return False
        if option in (6, 7):  # INFO, GO
            reply(3, struct.pack(">HQH", 0, disk.size, FLAGS))
            reply(3, struct.pack(">HIII", 3, SECTOR, 4096, 1 << 25))  # block sizes
            reply(1)
            if option == 7:
                return True
        else:
            reply(1 | 1 << 31)  # unsupported


def serve(connection, disk):
    if not negotiate(connection, disk):
        return
    while True:
        _, flags, kind, handle, offset, length = struct.unpack(">IHHQQI", exactly(connection, 28))
        answer = b""
        if kind == READ:
            answer = disk.read(offset, length)
        elif kind == WRITE:
            disk.write(offset, exactly(connection, length))
        elif kind == WRITE_ZEROES:
            disk.write(offset, bytes(length))
        elif kind == FLUSH:
            disk.flush()
        elif kind == DISCONNECT:
            disk.flush()
            return
        if flags & FUA:
            disk.flush()
        connection.sendall(struct.pack(">IIQ", 0x67446698, 0, handle) + answer)


def main():
    path, image = sys.argv[1:3]
    chance = random.Random(int(sys.argv[3]) if len(sys.argv) > 3 else None)
    disk = Disk(image)

    def power_cut(*_):
        in_doubt = sorted(disk.dirty)
        disk.keep([sector for sector in in_doubt if chance.random() < 0.5])
        print(f"cut: {len(in_doubt)} sectors in doubt, {disk.writes} writes, {disk.flushes} flushes", flush=True)
        os._exit(0)

    signal.signal(signal.SIGUSR1, power_cut)
    if os.path.exists(path):
        os.unlink(path)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(1)
    while True:
        connection, _ = listener.accept()
        try:
            serve(connection, disk)
        except (EOFError, ConnectionError):
            pass
        connection.close()


if __name__ == "__main__":
    main()
