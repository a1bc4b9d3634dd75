"""Draws the pages of the PDF on standard input to standard output; a program of its own, started by pdf.py."""

from __future__ import annotations

import resource
import struct
import sys

MEMORY = 1 << 30  # bytes of address space
DOTS_PER_INCH = 150
MAX_PIXELS = 16_000_000
HEAD = struct.Struct("<III")  # as in pdf.py


def main() -> None:
    import pypdfium2

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    try:
        document = pypdfium2.PdfDocument(sys.stdin.buffer.read(MEMORY // 4))
        count = len(document)
    except pypdfium2.PdfiumError as error:
        return tell(f"not a PDF document that can be read: {error}; save it again, without a password")
    most = int(sys.argv[1])
    for number in range(min(count, most)):
        try:
            page = document[number]
            width, height = page.get_size()
            scale = min(DOTS_PER_INCH / 72, (MAX_PIXELS / max(width * height, 1)) ** 0.5)
            picture = page.render(scale=scale, rev_byteorder=True, prefer_bgrx=False, may_draw_forms=False).to_numpy()
        except (pypdfium2.PdfiumError, ValueError, OverflowError) as error:
            tell(f"damaged page: {error}; save it as PNG by another program")
            continue
        rows, columns = picture.shape[:2]
        sys.stdout.buffer.write(HEAD.pack(columns, rows, rows * columns * 3))
        sys.stdout.buffer.write(picture[:, :, :3].tobytes())
        sys.stdout.buffer.flush()
        page.close()
    if count > most:
        tell(f"the document has {count} pages, of which the first {most} are read; split it")


def tell(message: str) -> None:
    data = message.encode()
    sys.stdout.buffer.write(HEAD.pack(0, 0, len(data)) + data)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
