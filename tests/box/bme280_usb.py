#!/usr/bin/env python3
"""A live BME280 for a QEMU guest: an i2c-tiny-usb adapter over usbredir, with the chip's registers behind it.

    bme280_usb.py SOCKET     listens on a UNIX socket for QEMU's `-device usb-redir`

The guest's unmodified i2c-tiny-usb driver offers /dev/i2c-N with plain I2C_RDWR. A line on standard input is a command:

    unplug         the adapter is pulled out         plug       and put back
    fault absent   the chip answers no address       fault nak  every third transfer is refused
    fault none     all is well again

Sources: usbredir protocol 0.7 (usb-redirection-protocol.md), Linux drivers/i2c/busses/i2c-tiny-usb.c, BME280 datasheet.
Knows nothing of weather stations.
"""

import os
import selectors
import socket
import struct
import sys
import time

# --- the chip -----------------------------------------------------------------------------------------------------

ADDRESS = 0x76
# Temperature and pressure: the example of Bosch's datasheet (25.08 degC, 1006.53 hPa); humidity: of a real part's kind.
CALIBRATION_1 = struct.pack(
    "<HhhHhhhhhhhhxB", 27504, 26435, -1000, 36477, -10685, 3024, 2855, 140, -7, 15500, -14600, 6000, 75
)
CALIBRATION_2 = struct.pack("<hBbbbb", 362, 0, 318 >> 4, (318 & 0xF) | ((50 & 0xF) << 4), 50 >> 4, 30)


class Bme280:
    def __init__(self):
        self.fault = "none"
        self.transfers = 0
        self.measurements = 0
        self.reset()

    def reset(self):
        self.registers = bytearray(256)
        self.registers[0xD0] = 0x60
        self.registers[0x88 : 0x88 + len(CALIBRATION_1)] = CALIBRATION_1
        self.registers[0xE1 : 0xE1 + len(CALIBRATION_2)] = CALIBRATION_2
        self.registers[0xF7:0xFF] = bytes([0x80, 0, 0, 0x80, 0, 0, 0x80, 0])
        self.pointer = 0
        self.ready_at = 0.0

    def measure(self):
        """Values that move a little, never twice the same, so that nothing looks frozen."""
        self.measurements += 1
        step = self.measurements % 97
        temperature, pressure, humidity = 519888 + 16 * step, 415148 + 8 * step, 27500 + 4 * step
        self.registers[0xF7:0xFF] = bytes(
            [
                pressure >> 12, (pressure >> 4) & 0xFF, (pressure & 0xF) << 4,
                temperature >> 12, (temperature >> 4) & 0xFF, (temperature & 0xF) << 4,
                humidity >> 8, humidity & 0xFF,
            ]
        )

    def settle(self):
        """Ends a conversion whose time is over: results appear, the mode goes back to sleep."""
        if self.registers[0xF3] & 0x08 and time.monotonic() >= self.ready_at:
            self.registers[0xF3] &= ~0x08
            self.registers[0xF4] &= ~0x03
            self.measure()

    def write(self, data):
        if data:
            self.pointer = data[0]
        # BME280 datasheet 6.2.1: further bytes are pairs of register and value; the first pair's register is data[0].
        for at in range(1, len(data), 2):
            register = data[at - 1]
            if register == 0xE0 and data[at] == 0xB6:
                self.reset()
            elif register in (0xF2, 0xF4, 0xF5):
                self.registers[register] = data[at]
                if register == 0xF4 and data[at] & 0x03 in (1, 2):
                    self.registers[0xF3] |= 0x08
                    self.ready_at = time.monotonic() + 0.0093

    def read(self, length):
        self.settle()
        data = bytes(self.registers[(self.pointer + i) & 0xFF] for i in range(length))
        self.pointer = (self.pointer + length) & 0xFF
        return data

    def answers(self, address):
        self.transfers += 1
        if self.fault == "absent" or address != ADDRESS:
            return False
        return not (self.fault == "nak" and self.transfers % 3 == 0)


# --- the adapter: i2c-tiny-usb ------------------------------------------------------------------------------------

DEVICE = struct.pack("<BBHBBBBHHHBBBB", 18, 1, 0x0110, 0xFF, 0, 0, 8, 0x0403, 0xC631, 0x0205, 1, 2, 0, 1)
CONFIGURATION = struct.pack("<BBHBBBBB", 9, 2, 18, 1, 1, 0, 0x80, 50) + struct.pack("<BBBBBBBBB", 9, 4, 0, 0, 0, 0xFF, 0, 0, 0)
STRINGS = [b"\x04\x03\x09\x04"] + [
    bytes([2 + 2 * len(words), 3]) + words.encode("utf-16-le") for words in ("weather-station tests", "i2c-tiny-usb")
]
# I2C_FUNC_I2C and the SMBus calls that the kernel makes out of it.
FUNCTIONALITY = struct.pack("<I", 0x0EFF0001)
STALL = 4


class Adapter:
    def __init__(self, chip):
        self.chip = chip
        self.acknowledged = False

    def control(self, request, request_type, value, index, length, data):
        """One control transfer; gives (status, bytes for the host)."""
        if request_type & 0x60 == 0x00:
            return self.standard(request, value, length)
        if request == 0:  # echo
            return 0, struct.pack("<H", value)
        if request == 1:
            return 0, FUNCTIONALITY
        if request == 2:  # delay between clock edges: nothing to slow down here
            return 0, b""
        if request == 3:
            return 0, bytes([1 if self.acknowledged else 2])
        if 4 <= request <= 7:
            self.acknowledged = self.chip.answers(index)
            if request_type & 0x80:
                return 0, self.chip.read(length) if self.acknowledged else bytes(length)
            if self.acknowledged:
                self.chip.write(data)
            return 0, b""
        return STALL, b""

    @staticmethod
    def standard(request, value, length):
        if request == 6:  # GET_DESCRIPTOR
            kind, number = value >> 8, value & 0xFF
            if kind == 1:
                return 0, DEVICE[:length]
            if kind == 2:
                return 0, CONFIGURATION[:length]
            if kind == 3 and number < len(STRINGS):
                return 0, STRINGS[number][:length]
            return STALL, b""
        if request == 0:  # GET_STATUS
            return 0, b"\x00\x00"[:length]
        return 0, b""


# --- usbredir -----------------------------------------------------------------------------------------------------

HELLO, DEVICE_CONNECT, DEVICE_DISCONNECT, RESET, INTERFACE_INFO, EP_INFO = range(6)
SET_CONFIGURATION, GET_CONFIGURATION, CONFIGURATION_STATUS, SET_ALT, GET_ALT, ALT_STATUS = range(6, 12)
CONTROL = 100
# connect_device_version, ep_info_max_packet_size, 64bits_ids, 32bits_bulk_length.
CAPABILITIES = 1 << 1 | 1 << 4 | 1 << 5 | 1 << 6


class Link:
    def __init__(self, connection, adapter):
        self.connection = connection
        self.adapter = adapter
        self.buffer = b""
        self.greeted = False
        self.wide = False  # 64-bit ids, once both sides have said so
        self.plugged = False
        self.send(HELLO, 0, b"weather-station tests".ljust(64, b"\0") + struct.pack("<I", CAPABILITIES))

    def send(self, kind, number, payload):
        form = "<IIQ" if self.wide else "<III"
        self.connection.sendall(struct.pack(form, kind, len(payload), number) + payload)

    def plug(self):
        if not self.greeted or self.plugged:
            return
        self.plugged = True
        pad = bytes(31)
        self.send(INTERFACE_INFO, 0, struct.pack("<I", 1) + bytes(32) + b"\xff" + pad + bytes(32) + bytes(32))
        kinds = bytearray(b"\xff" * 32)
        kinds[0] = kinds[16] = 0
        packets = struct.pack("<32H", *[8 if kind == 0 else 0 for kind in kinds])
        self.send(EP_INFO, 0, bytes(kinds) + bytes(32) + bytes(32) + packets)
        self.send(DEVICE_CONNECT, 0, struct.pack("<BBBBHHH", 1, 0xFF, 0, 0, 0x0403, 0xC631, 0x0205))

    def unplug(self):
        if self.plugged:
            self.plugged = False
            self.send(DEVICE_DISCONNECT, 0, b"")

    def receive(self):
        data = self.connection.recv(65536)
        if not data:
            return False
        self.buffer += data
        while True:
            form = "<IIQ" if self.wide else "<III"
            size = struct.calcsize(form)
            if len(self.buffer) < size:
                return True
            kind, length, number = struct.unpack_from(form, self.buffer)
            if len(self.buffer) < size + length:
                return True
            payload, self.buffer = self.buffer[size : size + length], self.buffer[size + length :]
            self.handle(kind, number, payload)

    def handle(self, kind, number, payload):
        if kind == HELLO:
            theirs = struct.unpack_from("<I", payload, 64)[0] if len(payload) >= 68 else 0
            self.wide = bool(theirs & 1 << 5)
            self.greeted = True
            self.plug()
        elif kind == SET_CONFIGURATION:
            self.send(CONFIGURATION_STATUS, number, bytes([0, payload[0]]))
        elif kind == GET_CONFIGURATION:
            self.send(CONFIGURATION_STATUS, number, bytes([0, 1]))
        elif kind == SET_ALT:
            self.send(ALT_STATUS, number, bytes([0, payload[0], payload[1]]))
        elif kind == GET_ALT:
            self.send(ALT_STATUS, number, bytes([0, payload[0], 0]))
        elif kind == CONTROL:
            endpoint, request, request_type, _, value, index, length = struct.unpack_from("<BBBBHHH", payload)
            status, data = self.adapter.control(request, request_type, value, index, length, payload[10:])
            sent = len(data) if request_type & 0x80 else length
            self.send(CONTROL, number, struct.pack("<BBBBHHH", endpoint, request, request_type, status, value, index, sent) + data)
        # Everything else (reset, filter, cancelled packets) asks for no answer: control transfers are answered at once.


def main():
    path = sys.argv[1]
    if os.path.exists(path):
        os.unlink(path)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(1)
    chip = Bme280()
    link, wanted = None, True
    with selectors.DefaultSelector() as selector:
        selector.register(listener, selectors.EVENT_READ, "listener")
        selector.register(sys.stdin, selectors.EVENT_READ, "command")
        while True:
            for key, _ in selector.select():
                if key.data == "listener":
                    # A new QEMU: the chip has lost power, as after a power cut.
                    connection, _ = listener.accept()
                    chip.reset()
                    link = Link(connection, Adapter(chip))
                    selector.register(connection, selectors.EVENT_READ, "link")
                elif key.data == "link":
                    try:
                        alive = link is not None and link.receive()
                    except OSError:
                        alive = False
                    if not alive:
                        selector.unregister(key.fileobj)
                        key.fileobj.close()
                        link = None
                else:
                    line = sys.stdin.readline()
                    if not line:
                        return
                    words = line.split()
                    if words == ["unplug"]:
                        wanted = False
                    elif words == ["plug"]:
                        wanted = True
                        chip.reset()
                    elif words[:1] == ["fault"] and len(words) == 2:
                        chip.fault = words[1]
                if link is not None:
                    link.plug() if wanted else link.unplug()


if __name__ == "__main__":
    main()
