"""onnx_arities.py FILE: how many inputs and outputs ONNX's operators have, by the schemas of the onnx package.

Writes tests/unit/arities_fixture.h: of each operator of lib/net/ops its name, the least and the greatest number
of inputs, and the greatest of outputs, in any of the opsets that are read; -1: no bound.
"""

import pathlib
import re
import sys

from onnx import defs

OPSETS, UNBOUNDED = range(13, 18), 1 << 30


def schemas_of(name):
    """Those of the opsets that have the operator."""
    last = defs.get_schema(name, OPSETS[-1], "")
    found = [last]
    for opset in OPSETS:
        try:
            found.append(defs.get_schema(name, opset, ""))
        except defs.SchemaError:  # it came later
            pass
    return found


def main(path):
    folder = pathlib.Path(__file__).resolve().parents[2] / "lib/net/ops"
    names = set()
    for file in sorted(folder.rglob("*.c")):
        text = file.read_text(encoding="utf-8")
        names |= set(re.findall(r'(?:\.name = |_ROW\(|\bROW\()"(\w+)"', text))
    bound = lambda number: -1 if number > UNBOUNDED else number
    with open(path, "w", encoding="utf-8") as file:
        file.write("/* Made by tests/oracle/onnx_arities.py: name, least and most inputs, most outputs. */\n/* clang-format off */\n")
        for name in sorted(names):
            schemas = schemas_of(name)
            file.write(f'{{"{name}", {min(s.min_input for s in schemas)}, {bound(max(s.max_input for s in schemas))}, '
                       f"{bound(max(s.max_output for s in schemas))}}},\n")


if __name__ == "__main__":
    main(sys.argv[1])
