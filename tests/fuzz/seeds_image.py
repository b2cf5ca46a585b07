"""Writes pictures to mutate into a directory: PNG of every kind, and JPEG as PIL has written them."""
import base64
import os
import struct
import sys
import zlib

JPEG = {
    "colour": """
/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAA0JCgsKCA0LCgsODg0PEyAVExISEyccHhcgLikxMC4pLSwzOko+MzZGNywtQFdBRkxOUlNSMj5aYVpQ
YEpRUk//2wBDAQ4ODhMREyYVFSZPNS01T09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT0//wAARCAALABID
ASIAAhEBAxEB/8QAGQAAAQUAAAAAAAAAAAAAAAAAAAMEBQYH/8QAIRAAAQQBBAMBAAAAAAAAAAAAAQACAwQhBRITkSJRUlT/xAAWAQEBAQAAAAAA
AAAAAAAAAAADBAX/xAAhEQABBAAGAwAAAAAAAAAAAAABAAIDBAUREhMUUiExUf/aAAwDAQACEQMRAD8ALlaKUbnSAFuUrpmvunkFCaPZEzAeVG33
EAZTex41g5uD7SwVY7DXmYZuA8H4mxGKSrXZG52ppPpXTiofqb2hZ1zS/bu0KPhnssXbh6r/2Q==""",
    "grey": """
/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAA0JCgsKCA0LCgsODg0PEyAVExISEyccHhcgLikxMC4pLSwzOko+MzZGNywtQFdBRkxOUlNSMj5aYVpQ
YEpRUk//wAALCAALABIBAREA/8QAGAAAAgMAAAAAAAAAAAAAAAAAAAUDBAb/xAAhEAABBAEEAwEAAAAAAAAAAAABAAIDBCEFEhORIlFSVP/aAAgB
AQAAPwAuVopRudIAW5Uuma+6eQUJo9kTMB5Triofqb2snfcQBlV7HjWDm4PtLuaX7d2v/9k=""",
    "progressive": """
/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDABALDA4MChAODQ4SERATGCgaGBYWGDEjJR0oOjM9PDkzODdASFxOQERXRTc4UG1RV19iZ2hnPk1xeXBk
eFxlZ2P/2wBDARESEhgVGC8aGi9jQjhCY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2P/wgARCAALABID
ASIAAhEBAxEB/8QAFwAAAwEAAAAAAAAAAAAAAAAAAAIFBP/EABYBAQEBAAAAAAAAAAAAAAAAAAIDBP/aAAwDAQACEAMQAAABGzolVIZLL//EABkQ
AAMBAQEAAAAAAAAAAAAAAAABAhEDMf/aAAgBAQABBQKpTI7aZBY/NZ//xAAZEQACAwEAAAAAAAAAAAAAAAABAgADEVH/2gAIAQMBAT8BuU1oATsx
eT//xAAbEQACAQUAAAAAAAAAAAAAAAAAAgEDERITYf/aAAgBAgEBPwFKcPfI19P/xAAZEAABBQAAAAAAAAAAAAAAAAAAARIgMTL/2gAIAQEABj8C
GLRqH//EABoQAAIDAQEAAAAAAAAAAAAAAAABESFhEEH/2gAIAQEAAT8huJHtBCemDip0P//aAAwDAQACAAMAAAAQN8//xAAWEQADAAAAAAAAAAAA
AAAAAAABEBH/2gAIAQMBAT8QlEFb/8QAGBEBAQADAAAAAAAAAAAAAAAAAQARITH/2gAIAQIBAT8QCW6cbOf/xAAcEAEAAgEFAAAAAAAAAAAAAAAB
ABEhEEFRYZH/2gAIAQEAAT8QAsSptMgWgJozMFMPM7vs/9k=""",
    "whole-chroma": """
/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDABQODxIPDRQSEBIXFRQYHjIhHhwcHj0sLiQySUBMS0dARkVQWnNiUFVtVkVGZIhlbXd7gYKBTmCNl4x9
lnN+gXz/2wBDARUXFx4aHjshITt8U0ZTfHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHz/wAARCAALABID
AREAAhEBAxEB/8QAGAAAAgMAAAAAAAAAAAAAAAAAAAUCAwT/xAAgEAABAwQCAwAAAAAAAAAAAAABAAIDBBESIQUTFFJT/8QAGQEAAgMBAAAAAAAA
AAAAAAAAAgQAAwYF/8QAIREAAgIBAwUBAAAAAAAAAAAAAAECAxEEITMFExRBUUL/2gAMAwEAAhEDEQA/ACohY8XLrWVbtd2zQWk1NtP5J0fKmR3j
SNxY3WSOzpqqh3Eyq+SuluMcKb7BJ5l8FPGj9EVUTYbTfs1kIrD2K5dRAjRXVlxIyt/MzH2P9ikMImT/2Q==""",
    "cmyk": """
/9j/7gAOQWRvYmUAZAAAAAAA/9sAQwAUDg8SDw0UEhASFxUUGB4yIR4cHB49LC4kMklATEtHQEZFUFpzYlBVbVZFRmSIZW13e4GCgU5gjZeMfZZz
foF8/8AAFAgACAAIBEMRAE0RAFkRAEsRAP/EABYAAQEBAAAAAAAAAAAAAAAAAAEABv/EAB8QAAIBBAIDAAAAAAAAAAAAAAMEEQACEjEFExQzYf/a
AA4EQwBNAFkASwAAPwAdZOkJdR+PGvnLHdSj4VuTJepPST3zv5FAlxs2MunnvHGUarZ1/9k=""",
    "restarts": """
/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDABQODxIPDRQSEBIXFRQYHjIhHhwcHj0sLiQySUBMS0dARkVQWnNiUFVtVkVGZIhlbXd7gYKBTmCNl4x9
lnN+gXz/2wBDARUXFx4aHjshITt8U0ZTfHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHz/wAARCAALABID
ASIAAhEBAxEB/8QAGAAAAgMAAAAAAAAAAAAAAAAAAAYCAwT/xAAgEAABAwQCAwAAAAAAAAAAAAABAAIDBBESIQUTFFJT/8QAFwEAAwEAAAAAAAAA
AAAAAAAAAgMEBf/EAB4RAAICAQUBAAAAAAAAAAAAAAECAANRBBESEyFB/9oADAMBAAIRAxEAPwAqIWPFy61lOj5UyO8aRuLG6yWOqJsNquXUQI0U
ddK2hjZ6R9jNUjUVKpbcGMOFN9ghKXY/2KFP0HMzuNeJ/9k=""",
}
WIDTH, HEIGHT = 11, 9


def chunk(kind, content=b""):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def passes(interlaced):
    """Width and height of each pass of Adam7, or of the one."""
    steps = [(0, 8, 0, 8), (4, 8, 0, 8), (0, 4, 4, 8), (2, 4, 0, 4), (0, 2, 2, 4), (1, 2, 0, 2), (0, 1, 1, 2)]
    return [(len(range(x, WIDTH, dx)), len(range(y, HEIGHT, dy)))
            for x, dx, y, dy in (steps if interlaced else [(0, 1, 0, 1)])]


def png(colour, depth, interlaced, extra):
    samples = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    rows = b"".join((bytes([y % 5]) + bytes((7 * y + 3 * i) % (2 if colour == 3 else 256)
                                           for i in range((width * samples * depth + 7) // 8)))
                    for width, height in passes(interlaced) for y in range(height))
    head = struct.pack(">IIBBBBB", WIDTH, HEIGHT, depth, colour, 0, 0, interlaced)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND")


os.chdir(sys.argv[1])
palette, clear = chunk(b"PLTE", bytes(range(12))), chunk(b"tRNS", b"\0\x80")
for colour, depth, extra in [(0, 1, b""), (0, 4, chunk(b"tRNS", b"\0\1")), (0, 8, b""), (0, 16, b""), (2, 8, b""),
                             (2, 16, chunk(b"gAMA", b"\0\0\xb1\x8f")), (3, 1, palette + clear), (3, 8, palette),
                             (4, 8, b""), (4, 16, b""), (6, 8, chunk(b"acTL", struct.pack(">II", 2, 0))), (6, 16, b"")]:
    for interlaced in (0, 1):
        with open(f"{colour}-{depth}-{interlaced}.png", "wb") as file:
            file.write(png(colour, depth, interlaced, extra))
for name, text in JPEG.items():
    with open(name + ".jpg", "wb") as file:
        file.write(base64.b64decode(text))
