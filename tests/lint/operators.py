"""operators.py BUILD PAGE [--write]: the table of operators in ivon-onnx(7), by the rows that BUILD was made of.

The page has it between two comments; fails where it is not what the rows are, and with --write puts it there.
Groups are the files that rows stand in.
"""
import pathlib
import re
import subprocess
import sys

OPS = pathlib.Path(__file__).resolve().parents[2] / "lib/net/ops"
BEGIN, END = '.\\" begin of what tests/lint/operators.py writes\n', '.\\" end of it\n'
LEAST, OWN, RUNTIME = 7, "ivon", "com.microsoft"
GROUPS = { # the beginnings of where rows stand; the longest decides
    "Arithmetic and functions": ("elementwise/",),
    "Comparisons, logic and bits": ("elementwise/bits", "elementwise/logic"),
    "Element types and quantization": ("elementwise/cast", "quantize/"),
    "Matrix products": ("einsum/", "product/"),
    "Convolutions": ("convolution/",),
    "Pools": ("pooling/",),
    "Normalization": ("normalize/",),
    "Attention and gates": ("attention/", "elementwise/gated"),
    "Recurrent layers": ("recurrent/",),
    "Softmax and losses": ("reduce/loss", "reduce/softmax"),
    "Reductions, sums along an axis, greatest elements": ("index/selection", "reduce/"),
    "Shapes and movements": ("movement/",),
    "Indices": ("index/",),
    "Interpolation": ("resize/",),
}
ROW = re.compile(r'\.name = "(\w+)",(?:\s*/\*[^*]*\*/)?\s*\.since = \d+|ROW\("(\w+)", \d+')


def files():
    """{operator of ONNX: the file that its rows stand in}."""
    found = {}
    for path in sorted(OPS.rglob("*.c")):
        text = path.read_text(encoding="utf-8")
        for row in ROW.finditer(text):
            if not re.search(r"\.domain = \S+,\s*$", text[:row.start()]):
                found[row[1] or row[2]] = path.relative_to(OPS).as_posix()
    return found


def rows(build):
    """{(domain, operator): (opsets of its rows, whether it has derivatives, inputs that a plan must know)}."""
    lines = lambda *command: map(str.split, subprocess.check_output(command, text=True).splitlines())
    found = {}
    for domain, name, since, _, kind in lines(f"{build}/tests/conformance/conformance", "--operators"):
        opsets, kinds, _ = found.setdefault((domain, name), (set(), set(), set()))
        opsets.add(max(int(since), LEAST))
        kinds.add(kind)
    for domain, name, _, *inputs in lines(f"{build}/tests/unit/unit-forward", "--known"):
        found[domain, name][2].update(map(int, inputs))
    return {key: (sorted(opsets), kinds != {"constant"}, sorted(inputs))
            for key, (opsets, kinds, inputs) in found.items() if key[0] != OWN}


def entry(name, opsets, derivatives, inputs):
    text = ".Sy " + name + ("" if derivatives else " Ns *")
    said = [] if opsets == [LEAST] else ["/".join(map(str, opsets))]
    said += ["[" + ",".join(map(str, inputs)) + "]"] if inputs else []
    return text + (" No " + " ".join(said) if said else "")


def group(place):
    fits = {prefix: heading for heading, prefixes in GROUPS.items() for prefix in prefixes if place.startswith(prefix)}
    if not fits:
        sys.exit(f"operators.py: what stands in lib/net/ops/{place} is of no group: GROUPS needs one")
    return fits[max(fits, key=len)]


def table(build):
    places, groups = files(), {}
    for (domain, name), row in rows(build).items():
        heading = f"Of ONNX Runtime's domain {domain}" if domain == RUNTIME else group(places[name])
        groups.setdefault(heading, []).append(entry(name, *row))
    text = ".Bl -tag -width Ds\n"
    for heading in sorted(groups, key=lambda h: list(GROUPS).index(h) if h in GROUPS else len(GROUPS)):
        text += f".It {heading}\n" + " ,\n".join(sorted(groups[heading])) + "\n"
    return text + ".El\n"


def main(build, page, write):
    text = pathlib.Path(page).read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    shown, end, after = rest.partition(END)
    assert begin and end, f"{page} has no place for the table"
    wanted = table(build)
    if write:
        pathlib.Path(page).write_text(before + begin + wanted + end + after, encoding="utf-8")
    elif shown != wanted:
        sys.exit(f"{page}: the table is not of these rows: /usr/bin/python3 tests/lint/operators.py {build} {page} --write")
    print(f"{page}: {wanted.count('.Sy ')} operators")


main(sys.argv[1], sys.argv[2], sys.argv[3:] == ["--write"])
