"""house.py [--list] [FOLDER]: measures the house: lib, formats and cmd, of the tree at FOLDER (here).

Folders: how many sources each holds, which include which, and whether one includes what is above it
or a circle of them exists. Files: circles by calls. Functions: names that several files have, and
lengths. Lines over 100 columns, and comments that begin with a relative clause instead of a noun.
--list names each finding. Exits with 1 where a limit, below, is passed.

Functions are found by the form that .clang-format gives the tree: a definition begins in the first
column, and its body's braces stand there alone. Calls are names followed by a parenthesis.
"""
import argparse
import collections
import os
import re
import sys

LIMITS = {
    "folders of more than 45 sources": 0,
    "includes of what is above": 0,
    "circles of folders by includes": 0,
    "circles of files by calls": 0,
    "function names of several files": 20,
    "lines over 100 columns": 0,
    "functions over 60 lines": 0,
    "comments that begin with a relative clause": 0,
}
# In each list, who may include only what stands before it.
ORDERS = [["lib", "formats", "cmd"], ["lib/core", "lib/net", "lib/metrics", "lib/bayes", "lib/train"]]
COLUMNS, LINES, SOURCES = 100, 60, 45
KEYWORDS = {"if", "for", "while", "switch", "return", "sizeof", "defined", "_Alignof", "_Static_assert"}


class File:
    def __init__(self, root, path):
        self.path, self.folder = path, os.path.dirname(path)
        with open(os.path.join(root, path), encoding="utf-8") as file:
            self.text = file.read()
        self.code = blank(self.text)
        self.functions = list(functions(self.code))
        self.included = re.findall(r'^\s*#\s*include\s*"([^"]+)"', self.text, re.M)


def blank(text):
    """The text with comments, strings and characters blanked, lines kept."""
    def hide(found):
        return re.sub(r"[^\n]", " ", found.group())
    return re.sub(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])+\'', hide, text, flags=re.S)


def functions(code):
    """(name, static, first line, lines, body) of every function that is defined."""
    lines = code.split("\n")
    start = None
    for i, line in enumerate(lines):
        if line == "{" and start is not None:
            head = re.sub(r"__attribute__\s*\(\((?:[^()]|\([^()]*\))*\)\)|IVON_DISPATCH", "", " ".join(lines[start:i]))
            end = next(k for k in range(i, len(lines)) if lines[k].startswith("}"))
            name = re.search(r"(\w+)\)?\s*\((?!\w+\)\()", head)  # the name may be in parentheses
            if name and "=" not in head:
                yield name.group(1), bool(re.search(r"\bstatic\b", head)), start + 1, end - start + 1, "\n".join(
                    lines[i:end + 1])
            start = None
        elif not line or line[0] in " \t}#{" or line.rstrip().endswith((";", "\\")):
            start = None if not line.startswith((" ", "\t")) else start
        elif re.match(r"[A-Za-z_]", line) and start is None:
            start = i
        elif re.match(r"[A-Za-z_]", line) and lines[i - 1].rstrip().endswith((";", "}")):
            start = i


def read(root):
    found = []
    for top in ORDERS[0]:
        for folder, _, names in os.walk(os.path.join(root, top)):
            found += [os.path.relpath(os.path.join(folder, name), root) for name in names if name.endswith((".c", ".h"))]
    return [File(root, path) for path in sorted(found)]


def circles(edges):
    """Strongly connected sets of more than one node (Tarjan, without recursion)."""
    index, low, on, stack, result = {}, {}, set(), [], []
    for root in sorted(edges):
        if root in index:
            continue
        work = [(root, iter(sorted(edges[root])))]
        index[root] = low[root] = len(index)
        stack.append(root)
        on.add(root)
        while work:
            node, rest = work[-1]
            step = next((n for n in rest if n not in index or n in on), None)
            if step is None:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == index[node]:
                    group = []
                    while not group or group[-1] != node:
                        group.append(stack.pop())
                        on.discard(group[-1])
                    if len(group) > 1:
                        result.append(sorted(group))
            elif step in index:
                low[node] = min(low[node], index[step])
            else:
                index[step] = low[step] = len(index)
                stack.append(step)
                on.add(step)
                work.append((step, iter(sorted(edges.get(step, ())))))
    return result


def folder_findings(files):
    """Edges between folders, those that lead upward, and folders that are too full."""
    where = {}
    for file in files:
        for prefix in ("", "lib/", "formats/"):
            if file.path.startswith(prefix):
                where[file.path[len(prefix):]] = file
    edges = collections.defaultdict(collections.Counter)
    upward = []
    for file in files:
        for name in file.included:
            to = where.get(name) or where.get(os.path.join(file.folder, name))
            if not to or to.folder == file.folder:
                continue
            edges[file.folder][to.folder] += 1
            ranks = [(rank(order, file.folder), rank(order, to.folder)) for order in ORDERS]
            upward += [f"{file.path} includes {name}" for own, other in ranks
                       if own is not None and other is not None and own < other]
    # Public headers say what is asked of the folders, and are no folder of the house.
    inner = {a: {b for b in to if not b.endswith("/ivon")} for a, to in edges.items() if not a.endswith("/ivon")}
    for node in {b for to in inner.values() for b in to}:
        inner.setdefault(node, set())
    sources = collections.Counter(file.folder for file in files if file.path.endswith(".c"))
    return edges, upward, circles(inner), sources


def rank(order, folder):
    """Of the entry that holds a folder; None outside the order."""
    return next((i for i, top in enumerate(order) if folder == top or folder.startswith(top + "/")), None)


def call_circles(files):
    """Files that call one another in a circle."""
    owner = {name: file.path for file in files if file.path.endswith(".c")
             for name, static, *_ in file.functions if not static}
    edges = {file.path: set() for file in files if file.path.endswith(".c")}
    for file in files:
        if not file.path.endswith(".c"):
            continue
        own = {name for name, *_ in file.functions}
        for *_, body in file.functions:
            for name in re.findall(r"\b([A-Za-z_]\w*)\s*\(", body):
                if name not in own and owner.get(name, file.path) != file.path and name not in KEYWORDS:
                    edges[file.path].add(owner[name])
    return circles(edges)


def relative_clauses(file):
    """First lines of comments that begin with What, Whether or Where."""
    for found in re.finditer(r"/\*+\s*(?:\*\s*)?(What|Whether|Where|Which|Who)\b[^\n]*", file.text):
        yield f"{file.path}:{file.text.count(chr(10), 0, found.start()) + 1}: {found.group()[:80]}"


def main():
    parser = argparse.ArgumentParser(prog="house.py", description="Measures the house of lib, formats and cmd.")
    parser.add_argument("--list", action="store_true", help="name each finding")
    parser.add_argument("folder", nargs="?", default=os.path.join(os.path.dirname(os.path.abspath(__file__)), "../.."))
    options = parser.parse_args()
    files = read(options.folder)
    edges, upward, folder_circles, sources = folder_findings(files)
    names = collections.defaultdict(set)
    definitions = 0
    for file in files:
        for name, *_ in file.functions:
            names[name].add(file.path)
            definitions += 1
    shared = {name: paths for name, paths in names.items() if len(paths) > 1}
    in_shared = sum(len(paths) for paths in shared.values())
    findings = {
        "folders of more than 45 sources": [f"{folder}: {n}" for folder, n in sources.items() if n > SOURCES],
        "includes of what is above": upward,
        "circles of folders by includes": [" ".join(group) for group in folder_circles],
        "circles of files by calls": [" ".join(group) for group in call_circles(files)],
        "function names of several files": [f"{name}: {' '.join(sorted(paths))}" for name, paths in sorted(shared.items())],
        "lines over 100 columns": [f"{file.path}:{i + 1}" for file in files
                                   for i, line in enumerate(file.text.split("\n")) if len(line) > COLUMNS],
        "functions over 60 lines": [f"{file.path}:{first}: {name}, {lines}" for file in files
                                    for name, _, first, lines, _ in file.functions if lines > LINES],
        "comments that begin with a relative clause": [c for file in files for c in relative_clauses(file)],
    }
    print(f"{len(files)} files in {len({file.folder for file in files})} folders, {definitions} functions")
    print(f"{sum(len(to) for to in edges.values())} pairs of folders of which one includes the other")
    for what, found in findings.items():
        print(f"{len(found):6} {what}")
        if what == "function names of several files":
            print(f"{'':6} in {in_shared} definitions, {100 * in_shared / max(1, definitions):.1f} % of all")
        if options.list:
            print("".join(f"       {line}\n" for line in found), end="")
    passed = [what for what, limit in LIMITS.items() if len(findings[what]) > limit]
    for what in passed:
        print(f"more than {LIMITS[what]}: {what}")
    return 1 if passed else 0


if __name__ == "__main__":
    sys.exit(main())
