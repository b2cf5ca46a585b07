"""onnx_arities.py FILE: how many inputs and outputs ONNX's operators have, and since when, by the schemas of the
onnx package.

Writes tests/unit/arities_fixture.h: of each operator of lib/net/ops its name, the least and the greatest number
of inputs, and the greatest of outputs, in any of the opsets that are read (-1: no bound); the opset that brought
the operator; and the attributes that a later one brought, of those that are read, each with its opset.
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


def later_attributes(name, since):
    """The attributes that the first of the opsets that has the operator lacks, and their opsets."""
    first = max(since, OPSETS[0])
    found = {}
    for opset in range(first, OPSETS[-1] + 1):
        for attribute in defs.get_schema(name, opset, "").attributes:
            found.setdefault(attribute, opset)
    return {attribute: opset for attribute, opset in sorted(found.items()) if opset > first}


def operators():
    """The names of the rows."""
    folder = pathlib.Path(__file__).resolve().parents[2] / "lib/net/ops"
    names = set()
    for file in sorted(folder.rglob("*.c")):
        text = file.read_text(encoding="utf-8")
        names |= set(re.findall(r'(?:\.name = |_ROW\(|\bROW\()"(\w+)"', text))
    return names


def main(path):
    names = operators()
    bound = lambda number: -1 if number > UNBOUNDED else number
    since = {}
    for schema in defs.get_all_schemas_with_history():
        if schema.domain == "":
            since[schema.name] = min(schema.since_version, since.get(schema.name, schema.since_version))
    with open(path, "w", encoding="utf-8") as file:
        file.write("/* Made by tests/oracle/onnx_arities.py: name, least and most inputs, most outputs, the opset that\n"
                   "   brought it, its later attributes. */\n/* clang-format off */\n")
        for name in sorted(names):
            schemas = schemas_of(name)
            file.write(f'{{"{name}", {min(s.min_input for s in schemas)}, {bound(max(s.max_input for s in schemas))}, '
                       f"{bound(max(s.max_output for s in schemas))}, {since[name]}, {{")
            file.write(", ".join(f'{{"{attribute}", {opset}}}'
                                 for attribute, opset in later_attributes(name, since[name]).items()) or "{0}")
            file.write("}},\n")


if __name__ == "__main__":
    main(sys.argv[1])
