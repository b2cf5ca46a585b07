"""Holds mutate.py to a small fixture: finds what it should, leaves alone what it should, and what it makes
compiles and is told from the original by a test. Entries of equivalent.txt are mutations of what there is."""
import os
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True  # beside the script
from judge import equivalents, stale  # noqa: E402
from mutate import mutations  # noqa: E402

FIXTURE = r"""
#include <math.h>
#define TWICE 2 /* a + b: no code */
#define SCALED(x, by) \
    ((x) * (by))
enum { SIZE = 8 };
/* a - b */
static double sum(const double *x, int n, double floor)
{
    double total = 0.0, *none = 0;
    for (int i = 0; i < n; i++)
        total += 0.5 * x[i] + floor;
    if (!none && n > 1)
        total = sqrt(total);
    total = total < floor ? floor : total;
    return fmax(total - (double)n, -floor) / SCALED(1.0, n);
}
int main(void)
{
    const double x[] = {3, 5, 4};
    return fabs(sum(x, 3, 4.0) - 4.0 / -3.0 * (1 - 0)) > 1e-9;
}
"""
# Line and result; what the test below must notice is marked.
EXPECTED = [
    ("constant", "for (int i = 1; i < n; i++)", False),
    ("comparison", "for (int i = 0; i <= n; i++)", False),
    ("assignment", "total = 0.5 * x[i] + floor;", False),
    ("operator", "total -= 0.5 * x[i] + floor;", False),
    ("statement removed", ";", True),
    ("constant", "total += 1.0 * x[i] + floor;", False),
    ("factor dropped", "total += x[i] + floor;", True),
    ("factor dropped", "total += 0.5 + floor;", False),
    ("term dropped", "total += 0.5 * x[i] ;", True),
    ("term dropped", "total += floor;", False),
    ("logic", "if (!none || n > 1)", False),
    ("negation", "if (none && n > 1)", True),
    ("negation", "if (!(!none && n > 1))", False),
    ("comparison", "if (!none && n >= 1)", False),
    ("call removed", "total = (total);", True),
    ("choice", "total = total > floor ? floor : total;", False),
    ("choice", "return fmin(total - (double)n, -floor) / SCALED(1.0, n);", False),
    ("negation", "return fmax(total - (double)n, floor) / SCALED(1.0, n);", False),
    ("term dropped", "return fmax(total , -floor) / SCALED(1.0, n);", False),
    ("factor dropped", "return fmax(total - (double)n, -floor) ;", True),
    ("operator", "((x) / (by))", True),
    ("constant", "double total = 1.0, *none = 0;", False),
]


def passes(source, folder):
    path = os.path.join(folder, "fixture.c")
    with open(path, "w", encoding="utf-8") as file:
        file.write(source)
    subprocess.run(["cc", "-w", "-o", path + ".run", path, "-lm"], check=True)
    return subprocess.run([path + ".run"], check=False).returncode == 0


def main():
    # The root of 0.5 (3 + 5 + 4) + 3 * 4 is 4.24; less 3, over 3: 0.41. A test against that.
    fixture = FIXTURE.replace("4.0 / -3.0 * (1 - 0)", "(3 * sqrt(2) - 3) / 3")
    found = {(m.kind, m.after): m for m in mutations("fixture.c", fixture)}
    assert list(found) == [(m.kind, m.after) for m in mutations("fixture.c", fixture)], "a mutation twice"
    again = [m.key() for m in mutations("fixture.c", fixture)]
    assert again == [m.key() for m in found.values()], "another order"
    for line in fixture[:fixture.index("static")].split("\n"):
        if "SIZE" in line or "TWICE" in line or "a - b" in line:
            assert not any(m.before == line.strip() for m in found.values()), line
    assert not any("const double / x" in after for _, after in found), "a pointer's star"
    with tempfile.TemporaryDirectory() as folder:
        assert passes(fixture, folder), "the fixture fails unmutated"
        for kind, after, noticed in EXPECTED:
            assert (kind, after) in found, f"not found: {kind}: {after}"
            mutation = found[(kind, after)]
            assert mutation.function == ("SCALED" if "by" in after else "sum"), mutation.function
            if noticed:
                assert not passes(mutation.apply(fixture), folder), f"passes: {after}"
    here = os.path.dirname(os.path.abspath(__file__))
    old = stale(equivalents(os.path.join(here, "equivalent.txt")), os.path.join(here, "../.."))
    for file, function, before, after in old:
        print(f"equivalent.txt: no mutation any more: {file} {function}\n  from {before}\n  to   {after}")
    return len(old) > 0


if __name__ == "__main__":
    sys.exit(main())
