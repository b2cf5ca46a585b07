"""libivon_layout.py: what ivon_posterior's _library.py declares of libivon for ctypes is what the C
compiler makes of the headers: sizes and offsets of structs, the functions' arguments and results,
the order of enumerations."""
import ctypes
import os
import re
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.join(HERE, "../..")
sys.path.insert(0, os.path.join(ROOT, "formats/python"))
from ivon_posterior import _calls, _library as lib  # noqa: E402

# Those that the library hands out by a pointer and that are read in part; structs of options are
# known by their first member, unless they are embedded in others.
BORROWED = {"ivon_predictions", "ivon_sensitivities", "ivon_influences", "ivon_summary",
            "ivon_likelihood_traits", "ivon_score_traits", "ivon_merge_method_traits"}
EMBEDDED = {"ivon_sample_options"}
SCALARS = {ctypes.c_int: "int", ctypes.c_int64: "int64_t", ctypes.c_uint64: "uint64_t",
           ctypes.c_size_t: "size_t", ctypes.c_ssize_t: "ptrdiff_t", ctypes.c_double: "double",
           ctypes.c_char_p: "const char *", ctypes.c_void_p: "void *"}
ENUMERATIONS = {
    "ivon_predict_method": ("IVON_PREDICT_", lib.CHOICES["predict_method"]),
    "ivon_covariance": ("IVON_COVARIANCE_", lib.CHOICES["covariance"]),
    "ivon_leverage": ("IVON_LEVERAGE_", lib.CHOICES["leverage"]),
    "ivon_merge_mismatch": ("IVON_MISMATCH_", lib.CHOICES["mismatch"]),
    "ivon_merge_nonpositive": ("IVON_NONPOSITIVE_", lib.CHOICES["nonpositive"]),
    "ivon_merge_structure": ("IVON_MERGE_", [
        {"keep": "structure_keep", "lowrank": "low_rank"}.get(name, name)
        for name in lib.CHOICES["merge_structure"]]),
    "ivon_fit_structure": ("IVON_FIT_", lib.CHOICES["fit_structure"]),
    "ivon_curvature": ("IVON_CURVATURE_", lib.CHOICES["curvature"]),
    "ivon_measure": ("IVON_MEASURE_", lib.CHOICES["measure"]),
    "ivon_link": ("IVON_LINK_", _calls.LINKS),
    "ivon_dtype": ("IVON_", [name if name == "bf16" else "bool" if name == "b1" else
                             f"{name[0]}{8 * int(name[1])}" for name in lib.DTYPES] +
                   ["dtype_count"]),
    "ivon_part": ("IVON_", [
        {"lowrank_vectors": "low_rank", "buffers": "buffer", "model.onnx": "graph",
         "structure.json": "structure"}.get(part, part) for part in lib.PARTS] +
        ["opaque", "part_count"]),
}


def structures():
    return {name: kind for name, kind in vars(lib).items()
            if isinstance(kind, type) and issubclass(kind, ctypes.Structure) and
            name.startswith("ivon_")}


def layouts():
    """Lines of C that check each struct; where it may have more members than are declared, the
    others are behind these."""
    for name, kind in structures().items():
        options = kind._fields_[0][0] == "size" and name not in EMBEDDED
        relation = ">=" if options or name in BORROWED else "=="
        yield f'CHECK(sizeof(struct {name}) {relation} {ctypes.sizeof(kind)}, "{name}");'
        for field, _ in kind._fields_:
            place = getattr(kind, field)
            yield (f'CHECK(offsetof(struct {name}, {field}) == {place.offset} && '
                   f'sizeof ((struct {name} *)0)->{field} == {place.size}, "{name}.{field}");')


def argument(kind):
    if kind in SCALARS:
        return "v_" + kind.__name__  # no constant, whose type would not be looked at
    inner = kind._type_
    struct = isinstance(inner, type) and issubclass(inner, ctypes.Structure)
    return f"(struct {inner.__name__} *)0" if struct else "(void *)0"


def functions():
    """Each is called, without being run, with what is passed to it."""
    for name, (result, arguments) in lib.FUNCTIONS.items():
        call = f"{name}({', '.join(map(argument, arguments))})"
        if result is None:
            yield f"(void)sizeof(({call}), 0);"
        elif result in SCALARS:
            yield f"{SCALARS[result]} r_{name} = {call}; (void)r_{name};"
        elif issubclass(result, ctypes.Structure):
            yield f"struct {result.__name__} r_{name} = {call}; (void)r_{name};"
        else:
            yield f"const struct {result._type_.__name__} *r_{name} = {call}; (void)r_{name};"


def enumerations(text):
    for name, (prefix, names) in ENUMERATIONS.items():
        body = re.search(rf"enum {name} {{(.*?)}};", text, re.S).group(1)
        found = re.findall(r"\b(IVON_\w+)", re.sub(r"/\*.*?\*/", "", body, flags=re.S))
        expected = [prefix + one.upper().replace("-", "_") for one in names]
        assert found == expected, (name, found, expected)


def main():
    text = ""
    for folder in "lib/ivon", "formats/ivon":
        for header in sorted(os.listdir(os.path.join(ROOT, folder))):
            with open(os.path.join(ROOT, folder, header)) as file:
                text += file.read()
    enumerations(text)
    checks, calls = list(layouts()), list(functions())
    source = "\n".join([
        "#include <stddef.h>", '#include "ivon/ivon.h"',
        "#define CHECK(holds, what) _Static_assert(holds, what)", *checks,
        *(f"extern {c} v_{kind.__name__};" for kind, c in SCALARS.items()),
        "void calls(void);", "void calls(void)", "{", *calls, "}", ""])
    with tempfile.NamedTemporaryFile("w", suffix=".c") as file:
        file.write(source)
        file.flush()
        subprocess.run([os.environ.get("CC", "gcc"), "-std=c11", "-Wall", "-Wconversion",
                        "-Werror",
                        "-fsyntax-only", "-Ilib", "-Iformats", file.name], check=True, cwd=ROOT)
    print(f"{len(structures())} structs, {len(calls)} functions, {len(ENUMERATIONS)} enumerations")


main()
