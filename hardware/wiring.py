#!/usr/bin/env python3
"""Draws wiring.svg from wiring.csv, and prints the same wires as the table in README.md.

    hardware/wiring.py            writes hardware/wiring.svg
    hardware/wiring.py --table    prints the Markdown table
    hardware/wiring.py --check    exits 1 when the SVG or the table is not what the CSV says

Knows the 40-pin header and the CSV; a wire that contradicts the header is an error.
"""

import csv
import sys
from pathlib import Path
from xml.sax.saxutils import escape

HERE = Path(__file__).resolve().parent

# The Raspberry Pi's 40-pin header, pin 1 first (pinout.xyz, BCM numbering).
HEADER = """3V3 5V GPIO2 5V GPIO3 GND GPIO4 GPIO14 GND GPIO15 GPIO17 GPIO18 GPIO27 GND GPIO22 GPIO23
3V3 GPIO24 GPIO10 GND GPIO9 GPIO25 GPIO11 GPIO8 GND GPIO7 GPIO0 GPIO1 GPIO5 GND GPIO6 GPIO12
GPIO13 GND GPIO19 GPIO16 GPIO26 GPIO20 GND GPIO21""".split()

ROW, TOP, LEFT_HOLE, RIGHT_HOLE = 34, 110, 470, 506
WIDTH, HEIGHT = 976, TOP + 20 * ROW + 10


def wires():
    """The rows of wiring.csv, each held against the header."""
    with open(HERE / "wiring.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    seen = set()
    for row in rows:
        pin = int(row["pin"])
        expected = row["gpio"] or row["signal"]
        if HEADER[pin - 1] != expected:
            sys.exit(f"wiring.csv: pin {pin} is {HEADER[pin - 1]}, not {expected}")
        if pin in seen:
            sys.exit(f"wiring.csv: pin {pin} is used twice")
        seen.add(pin)
    return rows


def table(rows):
    lines = ["| pin | signal | GPIO | goes to | note |", "|---|---|---|---|---|"]
    for row in rows:
        lines.append(
            f"| {row['pin']} | {row['signal']} | {row['gpio']} "
            f"| {row['part']} {row['terminal']} | {row['note']} |"
        )
    return "\n".join(lines) + "\n"


def text(x, y, words, size=13, anchor="start", weight="normal", fill="#1c2833"):
    return (
        f'<text x="{x}" y="{y}" font-size="{size}" text-anchor="{anchor}" '
        f'font-weight="{weight}" fill="{fill}">{escape(words)}</text>'
    )


def hole(pin):
    """Centre of a pin's hole: odd pins in the left column, even ones in the right."""
    return (LEFT_HOLE if pin % 2 else RIGHT_HOLE), TOP + (pin - 1) // 2 * ROW


def header(rows):
    used = {int(row["pin"]) for row in rows}
    out = [
        f'<rect x="{LEFT_HOLE - 22}" y="{TOP - 24}" width="80" height="{19 * ROW + 48}" rx="8" fill="#1e6b45"/>',
        text((LEFT_HOLE + RIGHT_HOLE) / 2, TOP - 36, "Raspberry Pi, 40 pins", 14, "middle", "bold"),
    ]
    for pin, name in enumerate(HEADER, start=1):
        x, y = hole(pin)
        left = pin % 2 == 1
        label_x = LEFT_HOLE - 30 if left else RIGHT_HOLE + 30
        out.append(
            text(label_x, y - 4 if pin in used else y + 4, name, 11, "end" if left else "start",
                 "bold" if pin in used else "normal", "#1c2833" if pin in used else "#99a3a4")
        )
    return out


def holes(rows):
    """The holes with their numbers, drawn last: a wire ends in its hole."""
    used = {int(row["pin"]): row["colour"] for row in rows}
    out = []
    for pin in range(1, len(HEADER) + 1):
        x, y = hole(pin)
        colour = used.get(pin)
        out.append(f'<circle cx="{x}" cy="{y}" r="9" fill="{colour or "#d5dbdb"}" stroke="#111" stroke-width="1"/>')
        out.append(text(x, y + 4, str(pin), 9, "middle", "bold", "#ffffff" if colour else "#1c2833"))
    return out


def part(rows, name, title, subtitle, left, box_top, notes):
    """One board: a box with a terminal for each wire, and the wires to the header."""
    mine = [row for row in rows if row["part"] == name]
    box_x, box_width = (40, 190) if left else (WIDTH - 230, 190)
    height = len(mine) * ROW + 62
    out = [
        f'<rect x="{box_x}" y="{box_top}" width="{box_width}" height="{height}" rx="10" fill="#eaf2f8" stroke="#1a5276" stroke-width="2"/>',
        text(box_x + box_width / 2, box_top + 24, title, 16, "middle", "bold"),
        text(box_x + box_width / 2, box_top + 42, subtitle, 11, "middle"),
    ]
    edge = box_x + box_width if left else box_x
    for place, row in enumerate(mine):
        pin = int(row["pin"])
        y = box_top + 66 + place * ROW
        pin_x, pin_y = hole(pin)
        out.append(f'<circle cx="{edge}" cy="{y}" r="6" fill="{row["colour"]}" stroke="#111"/>')
        out.append(text(edge + (-14 if left else 14), y + 4, row["terminal"], 13, "end" if left else "start", "bold"))
        # A wire runs level at the board, on its own track in between, and level at the pin.
        track = edge + (40 + 16 * place if left else -(40 + 16 * (len(mine) - 1 - place)))
        near = left == (pin % 2 == 1)
        # To a pin of the far column it runs between two rows, so that it crosses no other pin.
        path = f"M{edge} {y} H{track} V{pin_y if near else pin_y - ROW // 2} H{pin_x} V{pin_y}"
        optional = ' stroke-dasharray="6 4"' if row["terminal"] == "RST" else ""
        out.append(f'<path d="{path}" fill="none" stroke-linejoin="round" stroke="{row["colour"]}" stroke-width="2.5"{optional}/>')
    for line, note in enumerate(notes):
        out.append(text(box_x, box_top + height + 20 + 16 * line, note, 11))
    return out


def drawing(rows):
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="DejaVu Sans, Helvetica, Arial, sans-serif">',
        "<title>BME280 on I2C1 and TPM 2.0 on SPI0 CE1 of a Raspberry Pi</title>",
        "<!-- Made by hardware/wiring.py from hardware/wiring.csv; do not edit. -->",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        text(WIDTH / 2, 32, "Weather station: BME280 on I2C1, TPM 2.0 on SPI0 CE1", 19, "middle", "bold"),
        text(WIDTH / 2, 52, "Power off before plugging. Everything here is 3.3 V.", 12, "middle"),
    ]
    out += header(rows)
    out += part(
        rows, "BME280", "BME280", "I2C, address 0x76 or 0x77", True, TOP - 30,
        ["SDO to GND: 0x76; SDO to VIN: 0x77.", "CSB to VIN (or left to the board's",
         "pull-up): chooses I2C.", "Cable up to 0.5 m at 100 kHz."],
    )
    out += part(
        rows, "TPM", "TPM 2.0", "SLB9670 class, SPI", False, TOP + 5 * ROW + 10,
        ["A 2 x 5 module sits on pins 17 to 26", "and leaves pins 1 to 16 free.", "Dashed: optional."],
    )
    out += holes(rows)
    out.append("</svg>")
    return "\n".join(out) + "\n"


def main():
    rows = wires()
    svg = HERE / "wiring.svg"
    if "--table" in sys.argv:
        print(table(rows), end="")
    elif "--check" in sys.argv:
        if not svg.exists() or svg.read_text() != drawing(rows):
            sys.exit("wiring.svg is not what wiring.csv says: run hardware/wiring.py")
        if table(rows) not in (HERE / "README.md").read_text():
            sys.exit("the pin table in hardware/README.md is not what wiring.csv says: paste `hardware/wiring.py --table`")
        print("wiring.svg and the pin table are what wiring.csv says")
    else:
        svg.write_text(drawing(rows))


if __name__ == "__main__":
    main()
