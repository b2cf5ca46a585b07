"""recipes.py BUILD: compiles the sources with the code of ivon-hacking(7) in its places, each recipe by itself, links
it with the objects of a build, and looks whether what it adds is there."""
import csv
import io
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile

BUILD = os.path.abspath(sys.argv[1])
OBJECTS = "CMakeFiles/ivon-objects.dir/"


def recipes():
    """{recipe: [(file, "before" or "after", the line, code)]}"""
    found, place, code = {}, None, None
    for line in open("man/ivon-hacking.7", encoding="utf-8").read().split("\n"):
        told = re.fullmatch(r'\.\\" recipe (\S+) (\S+) (before|after) "(.*)"', line)
        if told:
            place = told.groups()
        elif place and line.startswith(".Bd"):
            code = []
        elif place and line == ".Ed":
            found.setdefault(place[0], []).append((*place[1:], "\n".join(code).replace("\\e", "\\")))
            place = code = None
        elif code is not None:
            code.append(line)
    return found


def change(folder, changes):
    """Copies of the files, changed, below `folder`."""
    for file, where, like, code in changes:
        path = os.path.join(folder, file)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        lines = open(path if os.path.exists(path) else file, encoding="utf-8").read().split("\n")
        at = [i for i, line in enumerate(lines) if line.startswith(like) or line.endswith(like)]
        assert len(at) == 1, f"{file}: {len(at)} lines are as '{like}'"
        lines[at[0] + (where == "after"):at[0] + (where == "after")] = code.replace("\\[u0394]", "Δ").split("\n")
        open(path, "w", encoding="utf-8").write("\n".join(lines))


def compile_file(folder, source, commands, like=None):
    """The object of a changed source, or of a new one that is compiled as another is."""
    command = commands[os.path.abspath(like or source)]
    arguments = shlex.split(command["command"])
    output = arguments.index("-o") + 1
    target = os.path.join(folder, os.path.basename(source) + ".o")
    arguments[output] = target
    arguments[arguments.index("-c") + 1] = os.path.join(folder, source)
    includes = [f"-I{folder}/lib", f"-I{folder}", f"-I{os.getcwd()}/lib", f"-I{os.getcwd()}"]
    subprocess.run([arguments[0], *includes, *arguments[1:]], cwd=command["directory"], check=True)
    return target


def link_arguments(folder, name, output):
    """What links a target of a folder, whatever generator the build is of, with whole paths."""
    home, file = os.path.join(BUILD, folder), os.path.join(BUILD, folder, "CMakeFiles", name + ".dir", "link.txt")
    if os.path.exists(file):
        with open(file, encoding="utf-8") as text:
            command = text.read()
    else:
        home = BUILD
        done = subprocess.run(["ninja", "-C", BUILD, "-t", "commands", "-s", output], check=True, capture_output=True,
                              text=True)
        command = next(part for part in done.stdout.split(" && ") if " -o " in part)
    return [os.path.normpath(os.path.join(home, a)) if os.path.exists(os.path.join(home, a)) else a
            for a in shlex.split(command)]


def unit_test(name):
    return link_arguments("tests/unit", name, "tests/unit/" + name)


def link(folder, arguments, replaced, added=(), name="program"):
    """The test or program that these arguments link, with objects that replace those of the library's archive."""
    arguments = [arguments[0], *replaced, *arguments[1:]]
    arguments[arguments.index("-o") + 1] = os.path.join(folder, name)
    subprocess.run([*arguments, *added], cwd=BUILD, check=True)
    return os.path.join(folder, name)


def program(folder, replaced, added=()):
    """The commands, with all objects of the library in them."""
    linked = link_arguments("", "ivon-program", "bin/ivon")
    own = [a for a in linked if a.endswith(".o")]
    libraries = [a for a in linked if re.search(r"\.so$", a) and "/libivon." not in a]
    test = [a for a in unit_test("unit-forward") if not a.endswith("unit-forward.dir/forward.c.o")]
    return link(folder, test, replaced, [*own, *added, *libraries], "ivon")


def try_operator(folder, commands):
    """The sweep finds the row, and asks for a case of it."""
    object_file = compile_file(folder, "lib/net/ops/elementwise/elementwise.c", commands)
    test = link(folder, unit_test("unit-forward"), [object_file])
    done = subprocess.run([test], capture_output=True, text=True, check=False)
    assert done.returncode != 0 and "LogCosh-1 has no case" in done.stdout + done.stderr, done.stdout[-2000:]


def try_score(folder, commands):
    """A table has its column, which is the difference of two others."""
    scores = "lib/bayes/sensitivity/scores.c"
    ivon = program(folder, [compile_file(folder, scores, commands)])
    with open(os.path.join(folder, "data.csv"), "w", encoding="utf-8") as file:
        file.write("a,b,y\n" + "".join(f"{i % 7},{i % 5},{i % 2}\n" for i in range(40)))
    data = ["--data=data.csv", "--target-column=y"]
    subprocess.run([ivon, "train", "-q", "--arch=linear:2,2", *data, "--epochs=2", "--lr=.1", "-o", "run"], cwd=folder,
                   check=True)
    run = os.path.join("run", max(name for name in os.listdir(os.path.join(folder, "run")) if name.endswith(".h5")))
    table = subprocess.run([ivon, "sensitivity", "-q", run, *data, "--score=loo-loss,loss-change"], cwd=folder,
                           check=True, capture_output=True, text=True).stdout
    rows = list(csv.DictReader(io.StringIO(table)))
    assert len(rows) == 40 and any(float(row["loss_change"]) != 0 for row in rows)
    for row in rows:
        change_of = float(row["loo_loss"]) - float(row["loss"])
        assert abs(float(row["loss_change"]) - change_of) <= 1e-12 * float(row["loo_loss"]) + 1e-15, row


def try_likelihood(folder, commands):
    """Options know its name, and its row is found; here it computes as that of counts."""
    with open("lib/metrics/likelihood/poisson.c", encoding="utf-8") as file:
        text = file.read().replace("poisson", "laplace").replace("IVON_POISSON", "IVON_LAPLACE")
    new = "lib/metrics/likelihood/laplace.c"
    with open(os.path.join(folder, new), "w", encoding="utf-8") as file:
        file.write(text)
    objects = [compile_file(folder, new, commands, "lib/metrics/likelihood/poisson.c")]
    kinds = compile_file(folder, "lib/metrics/likelihood/kinds.c", commands)
    ivon = program(folder, [kinds], objects)
    done = subprocess.run([ivon, "predict", "p.h5", "--data=x", "--likelihood=other"], cwd=folder, capture_output=True,
                          text=True, check=False)
    assert done.returncode == 64 and "laplace" in done.stderr, done.stderr
    done = subprocess.run([ivon, "predict", "p.h5", "--data=x", "--likelihood=laplace"], cwd=folder, capture_output=True,
                          text=True, check=False)
    assert done.returncode != 64 and "cannot open it" in done.stderr, done.stderr


def main():
    commands = {}
    with open(os.path.join(BUILD, "compile_commands.json"), encoding="utf-8") as file:
        for command in json.load(file):
            if OBJECTS in command["command"]:
                commands[os.path.normpath(os.path.join(command["directory"], command["file"]))] = command
    found = recipes()
    tried = {"operator": try_operator, "score": try_score, "likelihood": try_likelihood}
    assert set(found) == set(tried), found.keys()
    for name, attempt in tried.items():
        with tempfile.TemporaryDirectory() as folder:
            change(folder, found[name])
            attempt(folder, commands)
            files = {change[0] for change in found[name]}
            lines = sum(change[3].count("\n") + 1 for change in found[name])
            print(f"{name}: {lines} lines in {len(files)} files")


main()
