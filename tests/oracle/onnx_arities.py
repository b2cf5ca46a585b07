"""onnx_arities.py FILE: how many inputs and outputs ONNX's operators have, and their attributes, by the schemas of
the onnx package.

Writes tests/unit/arities_fixture.h: of each version of each operator of lib/net/ops its name, the first of the
opsets that are read in which it is in force, and the last that the package knows; the least and the greatest number
of inputs, and the greatest of outputs, in any of these opsets (-1: no bound); the opset that brought the operator,
or this version of it; and the attributes that are in some of the opsets but not in the first, each
with its opset. Rows of opsets that the package does not know are not in it.
"""

import pathlib
import re
import sys
import textwrap

from onnx import defs

LEAST, KNOWN, UNBOUNDED = 7, defs.onnx_opset_version(), 1 << 30
SOURCES = [file.read_text(encoding="utf-8")
           for file in sorted((pathlib.Path(__file__).resolve().parents[2] / "lib/net/ops").rglob("*.c"))]
READ = {name for text in SOURCES for name in re.findall(r'\{"(\w+)", NET_', text)}  # attributes


def rows():
    """{name: the opsets of its rows}, of ONNX's own operators."""
    found = {}
    for text in SOURCES:
        for row in re.finditer(r'\.name = "(\w+)",(?:\s*/\*[^*]*\*/)?\s*\.since = (\d+)|ROW\("(\w+)", (\d+)', text):
            if not re.search(r'\.domain = \S+,\s*$', text[:row.start()]):
                found.setdefault(row[1] or row[3], set()).add(int(row[2] or row[4]))
    return found


def brought(name):
    """The opset that brought an operator."""
    return min(s.since_version for s in defs.get_all_schemas_with_history() if s.name == name and s.domain == "")


def schemas_of(name, first, last):
    """{opset: schema}, of the opsets that have the operator."""
    found = {}
    for opset in range(first, last + 1):
        try:
            found[opset] = defs.get_schema(name, opset, "")
        except defs.SchemaError:  # it came later
            pass
    return found


def later_attributes(schemas):
    """The attributes that the first of the opsets lacks, and their opsets."""
    found, first = {}, min(schemas)
    for opset, schema in schemas.items():
        for attribute in READ.intersection(schema.attributes):
            found.setdefault(attribute, opset)
    return {attribute: opset for attribute, opset in sorted(found.items()) if opset > first}


def main(path):
    bound = lambda number: -1 if number > UNBOUNDED else number
    with open(path, "w", encoding="utf-8") as file:
        file.write("/* Made by tests/oracle/onnx_arities.py: name, first and last opset, least and most inputs, most\n"
                   "   outputs, the opset that brought it, later attributes. */\n/* clang-format off */\n")
        for name, opsets in sorted(rows().items()):
            ordered = sorted(opsets)
            for since, until in zip(ordered, ordered[1:] + [KNOWN + 1]):
                schemas = schemas_of(name, max(since, LEAST), min(until - 1, KNOWN))
                if not schemas:
                    continue
                all_schemas = schemas.values()
                first = min(schemas)
                origin = schemas[first].since_version if since > ordered[0] else brought(name)
                row = (f'{{"{name}", {first}, {max(schemas)}, {min(s.min_input for s in all_schemas)}, '
                       f"{bound(max(s.max_input for s in all_schemas))}, "
                       f"{bound(max(s.max_output for s in all_schemas))}, {origin}, {{")
                row += ", ".join(f'{{"{attribute}", {opset}}}'
                                 for attribute, opset in later_attributes(schemas).items()) or "{0}"
                file.write(textwrap.fill(row + "}},", 100, subsequent_indent=" ") + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
