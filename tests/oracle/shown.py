"""What a document shows of an output, held against the output: the same words in the same order,
and numbers that agree. Columns may be spaced otherwise, and a line `...` stands for lines that are
not shown.

usage: shown.py DOCUMENT ABSOLUTE RELATIVE < OUTPUT

fails unless DOCUMENT has the words of OUTPUT, in one place, and there numbers that differ by at
most ABSOLUTE + RELATIVE |number| and one unit of the last digit, which rounding may change.
"""
import re
import sys

DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
# Not the digits of f32, of 3x4 or behind a second point.
NUMBER = re.compile(r"(?<![\w.])[-+]?(?:\d+(?:\.\d+)?|\.\d+)(?:e[-+]?\d+)?(?!\w)")


def blocks(path, text):
    """A manual page's literal displays, or a Markdown file's fenced blocks."""
    if path.endswith(".md"):
        return re.findall(r"^```\w*\n(.*?)^```$", text, re.M | re.S)
    found = re.findall(r"^\.Bd -literal.*?\n(.*?)^\.Ed$", text, re.M | re.S)
    return [block.replace(r"\e", "\\").replace(r"\&", "") for block in found]


def words(text):
    """Words with # for every number, and the numbers as they are written."""
    text = DATE.sub("DATE", text)
    return NUMBER.sub("#", text).split(), NUMBER.findall(text)


def unit(number):
    mantissa, _, exponent = number.partition("e")
    decimals = len(mantissa.partition(".")[2])
    return 10.0 ** (int(exponent or 0) - decimals) if decimals else 0.0


def agree(shown, printed, absolute, relative):
    """Whole numbers are equal where the tolerance is below 1: they have no digit that rounding
    changes."""
    a, b = float(shown), float(printed)
    units = [u for u in (unit(shown), unit(printed)) if u]
    allowed = absolute + relative * max(abs(a), abs(b)) + min(units, default=0)
    return abs(a - b) <= allowed * (1 + 1e-9)


def same(shown, printed, absolute, relative):
    (a, numbers_a), (b, numbers_b) = words(shown), words(printed)
    return a == b and all(agree(x, y, absolute, relative) for x, y in zip(numbers_a, numbers_b))


def difference(shown, printed, absolute, relative):
    """The first line that is not as printed, with what is there instead; None if all are."""
    for i, line in enumerate(shown):
        if line.strip() == "...":
            rest = [difference(shown[i + 1:], printed[at:], absolute, relative)
                    for at in range(i, len(printed) + 1)]
            return None if None in rest else rest[0]
        if i == len(printed) or not same(line, printed[i], absolute, relative):
            return line, printed[i] if i < len(printed) else "nothing"
    return None if len(shown) == len(printed) else ("nothing", printed[len(shown)])


def find(document, output, absolute, relative):
    """Compares with the only place of `document` that has the words of `output`."""
    wanted, printed = words(output)
    assert printed, "no number to compare"
    pattern = r"\s+".join(re.escape(word).replace(r"\#", f"({NUMBER.pattern})") for word in wanted)
    places = list(re.finditer(r"(?<!\S)" + pattern + r"(?!\S)", document))
    assert len(places) == 1, f"{len(places)} places have the words of:\n{output}"
    for shown, number in zip(places[0].groups(), printed):
        assert agree(shown, number, absolute, relative), \
            f"shown {shown}, printed {number} in:\n{output}"
    return len(printed)


if __name__ == "__main__":
    with open(sys.argv[1]) as file:
        count = find(file.read(), sys.stdin.read(), *map(float, sys.argv[2:]))
    print(f"{sys.argv[1]} shows these {count} numbers")
