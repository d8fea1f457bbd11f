"""Bar charts as SVG and PNG, of rectangles and text. A PNG's letters are our own, three dots by five, capitals only: a
plotting library would be larger than all the rest that is installed."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from xml.sax.saxutils import escape

Colour = tuple[int, int, int]
INK: Colour = (34, 34, 34)
COLOURS: Sequence[Colour] = (
    (68, 119, 170),
    (238, 102, 119),
    (34, 136, 51),
    (204, 187, 68),
    (102, 204, 238),
    (170, 51, 119),
)
_DOT = 2  # pixels of a PNG's letters' dots
_LINE, _BAR, _LABEL, _WIDTH = 24, 16, 220, 860


@dataclass(slots=True)
class Picture:
    """What is drawn, on white. Sizes are pixels; a text's place is its left end at half height."""

    width: int
    height: int
    boxes: list[tuple[int, int, int, int, Colour]] = field(default_factory=list)  # x, y, width, height
    texts: list[tuple[int, int, str, bool]] = field(default_factory=list)  # x, y, text, whether it is a heading

    def svg(self) -> bytes:
        """The picture as SVG."""
        lines = [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{self.width}" height="{self.height}" '
            f'viewBox="0 0 {self.width} {self.height}" font-family="sans-serif" font-size="13">',
            '<rect width="100%" height="100%" fill="#fff"/>',
        ]
        for x, y, width, height, colour in self.boxes:
            fill = "#{:02x}{:02x}{:02x}".format(*colour)
            lines.append(f'<rect x="{x}" y="{y}" width="{width}" height="{height}" fill="{fill}"/>')
        for x, y, text, heading in self.texts:
            weight = ' font-weight="bold"' if heading else ""
            lines.append(f'<text x="{x}" y="{y}" dominant-baseline="middle"{weight}>{escape(text)}</text>')
        return "\n".join([*lines, "</svg>\n"]).encode()

    def png(self) -> bytes:
        """The picture as PNG."""
        rows = [bytearray(b"\xff" * (3 * self.width)) for _ in range(self.height)]
        for x, y, width, height, colour in self.boxes:
            _fill(rows, x, y, width, height, colour)
        for x, y, text, _ in self.texts:
            _write(rows, x, y, text)
        header = struct.pack(">IIBBBBB", self.width, self.height, 8, 2, 0, 0, 0)
        body = zlib.compress(b"".join(b"\0" + row for row in rows), 9)
        return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", body) + _chunk(b"IEND", b"")


def bars(heading: str, groups: Sequence[tuple[str, Sequence[tuple[str, float, str]]]]) -> Picture:
    """Horizontal bars: for each group its title, and the name, value and written value of each bar."""
    count = sum(len(entries) + 2 for _, entries in groups) + 1
    picture = Picture(_LABEL + _WIDTH, count * _LINE + _LINE // 2)
    y = _LINE
    picture.texts.append((12, y, heading, True))
    for title, entries in groups:
        y += 2 * _LINE
        picture.texts.append((12, y, title, True))
        longest = max((value for _, value, _ in entries), default=0.0)
        for number, (name, value, written) in enumerate(entries):
            y += _LINE
            length = round((_WIDTH - 140) * value / longest) if longest > 0 else 0
            picture.texts.append((24, y, name, False))
            picture.boxes.append((_LABEL, y - _BAR // 2, max(1, length), _BAR, COLOURS[number % len(COLOURS)]))
            picture.texts.append((_LABEL + max(1, length) + 8, y, written, False))
    picture.height = y + _LINE
    return picture


def _fill(rows: list[bytearray], x: int, y: int, width: int, height: int, colour: Colour) -> None:
    end = min(x + width, len(rows[0]) // 3)
    for row in rows[max(0, y) : y + height]:
        row[3 * x : 3 * end] = bytes(colour) * max(0, end - x)


def _write(rows: list[bytearray], x: int, y: int, text: str) -> None:
    for letter in text.upper():
        for line, dots in enumerate(LETTERS.get(letter, "77777")):
            for place in range(3):
                if int(dots) >> (2 - place) & 1:
                    _fill(rows, x + place * _DOT, y - 5 * _DOT // 2 + line * _DOT, _DOT, _DOT, INK)
        x += 4 * _DOT


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


# Five lines from above; each digit's three bits are a line's dots.
LETTERS = {
    "0": "75557", "1": "26227", "2": "71747", "3": "71717", "4": "55711", "5": "74717", "6": "74757", "7": "71122",
    "8": "75757", "9": "75717", "A": "25755", "B": "65656", "C": "34443", "D": "65556", "E": "74647", "F": "74644",
    "G": "34553", "H": "55755", "I": "72227", "J": "11152", "K": "55655", "L": "44447", "M": "57755", "N": "65555",
    "O": "25552", "P": "65644", "Q": "25573", "R": "65655", "S": "34216", "T": "72222", "U": "55557", "V": "55552",
    "W": "55775", "X": "55255", "Y": "55222", "Z": "71247", ".": "00002", ",": "00024", "-": "00700", "_": "00007",
    "%": "51245", ":": "02020", "/": "11244", "(": "12221", ")": "42224", "$": "36236", "=": "07070", "+": "02720",
    " ": "00000", "·": "00200", "×": "05250",
}  # fmt: skip
