"""images.py FILE.h5:/GROUP DIRECTORY [ROWS]: the images x of a group, or the first ROWS, as PNG files of a directory
for each class, by names in the order of rows; and DIRECTORY.h5, the same rows in the order in which the directory
has them."""
import os
import struct
import sys
import zlib


def write_png(path, pixels):
    """Of bytes, height x width, or height x width x 3."""
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
    height, width, colour = *pixels.shape[:2], 2 if pixels.ndim == 3 else 0
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    with open(path, "wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0))
                   + chunk(b"IDAT", zlib.compress(rows, 1)) + chunk(b"IEND", b""))


def write_folder(directory, x, y):
    """Images n x channels x height x width by their class; returns the rows in the directory's order."""
    order = []
    for label in sorted(set(y.tolist())):
        folder = os.path.join(directory, f"class-{label:03}")
        os.makedirs(folder)
        for row in (y == label).nonzero()[0]:
            pixels = x[row].transpose(1, 2, 0)
            write_png(os.path.join(folder, f"{row:06}.png"), pixels[..., 0] if len(x[row]) == 1 else pixels)
            order.append(row)
    return order


def main(data, directory, rows=None):
    import h5py
    path, group = data.split(":")
    with h5py.File(path) as file:
        x, y = (file[group][name][:int(rows) if rows else None] for name in "xy")
    order = write_folder(directory, x, y)
    with h5py.File(directory + ".h5", "w") as file:
        file["x"], file["y"] = x[order], y[order]


if __name__ == "__main__":
    main(*sys.argv[1:])
