"""examples.py DOCUMENT: runs, here, every "$ " line of a manual page's literal displays or of a
Markdown file's fenced blocks, and compares what is shown below it with what it prints.

Lines that begin with a command's name and a colon are of standard error, the others of standard
output: a shown output is all of both, but for what a line `...` stands for in the one that it
follows.

An output may differ from what is shown by 1e-4 of a number, and by one unit of its last digit. The
networks of the examples sum at most 20 products of binary32: another order of them, which is what
another machine's matrix products are, changes 20 * 2^-24 = 1.2e-6 of the terms' sum. Losses, and
means over examples that partly cancel, may have a hundred times that. By OpenBLAS's kernels for
seven generations of processors, outputs differ by less than 1e-6, also after 120 training steps.
"""
import os
import re
import subprocess
import sys

sys.dont_write_bytecode = True
sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../oracle"))
import shown  # noqa: E402

TOLERANCE = 0.0, 1e-4
ERROR = re.compile(r"ivon(-[a-z-]+)?: ")


def examples(path):
    """Each command with the lines below it, in order."""
    with open(path) as file:
        text = file.read()
    found = []
    for block in shown.blocks(path, text):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append((line[2:], []))
            elif block.startswith("$ "):
                found[-1][1].append(line)
    assert len(found) == len(re.findall(r"^\$ ", text, re.M)), f"{path}: an example is in no block"
    return found


def streams(lines):
    """Lines of standard output, and of standard error."""
    parts, at = ([], []), 0
    for line in lines:
        at = at if line == "..." else int(bool(ERROR.match(line)))
        parts[at].append(line)
    return parts


def run(command):
    """What it prints on both; into files, which a process in the background may keep open."""
    with open("output", "w") as output, open("errors", "w") as errors:
        status = subprocess.call(["bash", "-euo", "pipefail", "-c", command],
                                 stdin=subprocess.DEVNULL, stdout=output, stderr=errors)
    printed = [open(name).read().splitlines() for name in ("output", "errors")]
    # 141: what `head` no longer read
    assert status == 0 or status == 141 and "| head" in command, (status, printed[1])
    return printed


def main(path):
    name, compared = os.path.basename(path), 0
    for command, lines in examples(path):
        print(f"{name}: {command}", flush=True)
        printed = run(command)
        for wanted, found in zip(streams(lines), printed) if lines else ():
            difference = shown.difference(wanted, found, *TOLERANCE)
            if difference:
                sys.exit("{}: shown:\n{}\nprinted:\n{}".format(name, *difference))
        compared += bool(lines)
    if name.startswith("ivon-") and name.endswith(".1") and not compared:
        sys.exit(f"{name}: no output is shown")
    print(f"{name}: {compared} outputs are as shown")


main(sys.argv[1])
