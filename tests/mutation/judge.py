"""Which mutations of the numeric code the tests notice. See run.sh.

The scratch folder holds a build whose tests and program are linked to the library as a shared one, so that a
mutant costs one compilation and one link; and `covering.json`, which test runs which lines. Both are kept
while the sources stay as they are.
"""
import argparse
import concurrent.futures
import hashlib
import json
import os
import random
import re
import resource
import select
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time

sys.dont_write_bytecode = True  # beside the script
import mutate  # noqa: E402

GROUPS = [
    ("bayes: merging", r"lib/bayes/merge/"),
    ("bayes: prediction", r"lib/bayes/(predict/(?!recalibrate)|outputs|labelled)|lib/metrics/(likelihood/|log_likelihoods)"),
    ("metrics: measures", r"lib/metrics/(metrics|comparison|detection|ratio)|lib/bayes/(predict/recalibrate|transfer)"),
    ("metrics: information", r"lib/metrics/"),
    ("bayes: sensitivity", r"lib/bayes/(sensitivity/|influence/|measure|perturbation)"),
    ("bayes: posteriors", r"lib/bayes/"),
    ("train: optimizers", r"lib/train/(optimizer/|schedule)"),
    ("train: trainer", r"lib/train/(trainer/|order)"),
    ("train: architectures", r"lib/train/"),
    ("ops: elementwise", r"lib/net/ops/(elementwise/|sum)"),
    ("ops: normalization", r"lib/net/ops/(normalize/|reduce/softmax)"),
    ("ops: convolution", r"lib/net/ops/(convolution/|product/panel|window)"),
    ("ops: pooling", r"lib/net/ops/pooling"),
    ("ops: recurrent", r"lib/net/ops/recurrent"),
    ("ops: products", r"lib/net/ops/product/"),
    ("ops: reductions", r"lib/net/ops/reduce/"),
    ("ops: shapes", r"lib/net/ops/"),
]
NUMERIC = ["lib/metrics", "lib/bayes", "lib/train", "lib/net/ops"]
LEAST = 15            # mutants of each group, where it has so many
# Of a mutant; with one clone of a kernel instead of three, which all compute the same (core/dispatch.h).
STRICT = ["-w", "-D__SANITIZE_THREAD__", "-Werror=int-conversion", "-Werror=incompatible-pointer-types"]
SANITIZED = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
# What only some processors run: mutants of the others' variants cannot be noticed here.
VARIANTS = {("lib/net/ops/product/panel.c", "run_avx512"): "avx512f", ("lib/net/ops/product/panel.c", "run_avx2"): "avx2",
            ("lib/net/ops/product/panel.c", "run_plain"): ""}
MEMORY = 12 << 30     # of a test's processes, each
PYTHON = "/usr/bin/python3"


def group_of(path):
    return next((name for name, pattern in GROUPS if re.match(pattern, path)), "other")


def run(command, **options):
    return subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, errors="replace", **options)


def must(command, **options):
    done = run(command, **options)
    if done.returncode:
        sys.exit(f"judge.py: {shlex.join(command)}: exit {done.returncode}\n{done.stdout[-3000:]}")
    return done.stdout


class Tree:
    """The scratch copy of the sources and its build."""

    def __init__(self, root, scratch):
        self.root, self.scratch = root, scratch
        self.source, self.build = os.path.join(scratch, "source"), os.path.join(scratch, "build")
        self.objects = {}    # source file: (command, directory, object)
        self.programs = {}   # name: path
        self.libraries, self.library_objects = [], []

    def copy(self):
        """Only what changed is written, so that what did not is not built again."""
        wanted = must(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
                      cwd=self.root).split("\0")
        wanted = {path for path in wanted if path and os.path.isfile(os.path.join(self.root, path))}
        for folder, _, files in os.walk(self.source):
            for name in files:
                path = os.path.join(folder, name)
                if os.path.relpath(path, self.source) not in wanted:
                    os.unlink(path)
        for path in sorted(wanted):
            old, new = os.path.join(self.root, path), os.path.join(self.source, path)
            os.makedirs(os.path.dirname(new), exist_ok=True)
            if not (os.path.exists(new) and read(old, "rb") == read(new, "rb")):
                shutil.copy(old, new)

    def prepare(self, jobs):
        self.copy()
        must(["cmake", "-S", self.source, "-B", self.build, "-G", "Unix Makefiles", "-DCMAKE_BUILD_TYPE=Debug",
              "-DCMAKE_C_FLAGS_DEBUG=-O1 -DNDEBUG"])
        link = read(os.path.join(self.build, "tests/unit/CMakeFiles/unit-text.dir/link.txt"), "r").split()
        self.libraries = [word for word in link if word.startswith(("-l", "-Wl,-rpath")) or
                          (word.startswith("/") and ".so" in word)] + ["-lpthread"]
        owners = {}
        for entry in json.loads(read(os.path.join(self.build, "compile_commands.json"), "r")):
            path = os.path.relpath(entry["file"], self.source)
            command = [w for w in shlex.split(entry["command"]) if w != "-fvisibility=hidden" and w[:2] != "-W"]
            made = os.path.join(entry["directory"], command[command.index("-o") + 1])
            owner = re.search(r"([^/]+)\.dir/", made).group(1)
            command[command.index("-o") + 1] = made
            # Tests call each other's nothing: all position independent, none inlined across files.
            command += ["-fno-semantic-interposition"] + STRICT[:1]
            if "/generated/" not in entry["file"]:
                self.objects.setdefault(path if owner == "ivon-objects" else f"{owner}:{path}",
                                        (command, entry["directory"], made))
            if owner == "ivon-objects":
                self.library_objects.append((command, entry["directory"], made))
            elif owner.startswith(("unit-", "property-", "conformance", "ivon-program", "fuzz-derivative")):
                owners.setdefault(owner, []).append((command, entry["directory"], made))
        generated = os.path.join(self.build, "generated/onnx/onnx.pb-c.c")
        if not os.path.exists(generated):
            must(["make", "-s", "-f", "CMakeFiles/ivon-objects.dir/build.make", "generated/onnx/onnx.pb-c.c"],
                 cwd=self.build)
        self.compile_all([e for part in [self.library_objects, *owners.values()] for e in part], jobs)
        self.link_library(os.path.join(self.scratch, "plain"), {})
        for owner, entries in owners.items():
            program = os.path.join(self.build, "bin/ivon" if owner == "ivon-program" else owner)
            self.programs[owner] = program
            os.makedirs(os.path.dirname(program), exist_ok=True)
            if os.path.exists(program) and all(os.path.getmtime(made) < os.path.getmtime(program)
                                               for _, _, made in entries):
                continue
            must(["cc", "-o", program, *(made for _, _, made in entries),
                  os.path.join(self.scratch, "plain/libivon-mutant.so"), *self.libraries, "-lcmocka", "-lm"])
        for name in re.search(r"set\(IVON_COMMANDS ([^)]*)\)", read(self.source + "/CMakeLists.txt", "r")) \
                .group(1).split():
            link = os.path.join(self.build, "bin/ivon-" + name)
            if not os.path.lexists(link):
                os.symlink("ivon", link)

    def compile_all(self, entries, jobs):
        newest = {part: max(os.path.getmtime(os.path.join(folder, name)) for folder, _, files in
                            os.walk(os.path.join(self.source, part)) for name in files if name.endswith(".h"))
                  for part in ("lib", "formats", "cmd")}

        def one(entry):
            command, directory, made = entry
            path = command[command.index("-c") + 1]
            sources = included(self.source, os.path.relpath(path, self.source)) if "/tests/" in path else [path]
            times = [os.path.getmtime(os.path.join(self.source, source)) for source in sources]
            if os.path.exists(made) and os.path.getmtime(made) > max(*newest.values(), *times):
                return
            os.makedirs(os.path.dirname(made), exist_ok=True)
            must(command, cwd=directory)

        with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
            list(pool.map(one, entries))

    def link_library(self, folder, replaced):
        """A library of all objects, some replaced, as FOLDER/libivon-mutant.so."""
        os.makedirs(folder, exist_ok=True)
        objects = [replaced.get(made, made) for _, _, made in self.library_objects]
        listed = os.path.join(folder, "objects.list")
        with open(listed, "w", encoding="utf-8") as file:
            file.write("\n".join(objects))
        return run(["cc", "-shared", "-o", os.path.join(folder, "libivon-mutant.so"), "-Wl,-soname,libivon-mutant.so",
                    "-Wl,-Bsymbolic-functions",  # the program may have functions of the same names
                    *(["-fuse-ld=gold"] if shutil.which("ld.gold") else []),
                    "@" + listed, *self.libraries]).returncode == 0


def included(source, path):
    """A file of the tests, and the headers beside it and in tests/ that it includes."""
    found, left = set(), [path]
    while left:
        path = left.pop()
        if path not in found and os.path.isfile(os.path.join(source, path)):
            found.add(path)
            for name in re.findall(r'^#include "(.*)"', read(os.path.join(source, path), "r"), re.MULTILINE):
                left += [os.path.join(os.path.dirname(path), name), *([name] if name.startswith("tests/") else [])]
    return sorted(found)


def read(path, mode):
    with open(path, mode) as file:  # pylint: disable=unspecified-encoding
        return file.read()


class Test:
    def __init__(self, name, command, rank):
        self.name, self.command, self.rank = name, command, rank
        self.seconds, self.processor = 0.0, 0.0


def tests_of(tree, scripts):
    """Every test that runs numeric code, by kind: unit, conformance, property, fuzz, then the commands'."""
    tests, cases, seeds = [], os.path.join(tree.scratch, "cases"), os.path.join(tree.scratch, "seeds")
    for name in sorted(tree.programs):
        if name.startswith("unit-"):
            tests.append(Test(name, [tree.programs[name]], 0))
        elif name.startswith("property-"):
            tests.append(Test(name, [tree.programs[name]], 2))
    for folder, script in ((cases, "tests/oracle/onnx_cases.py"), (seeds, "tests/fuzz/seeds_derivative.py")):
        if not os.path.isdir(folder):
            os.makedirs(folder + ".new", exist_ok=True)
            must([PYTHON, "-W", "ignore", os.path.join(tree.source, script), folder + ".new"])
            os.rename(folder + ".new", folder)
    tests.append(Test("conformance", [tree.programs["conformance"], cases], 1))
    inputs = sorted(os.path.join(seeds, name) for name in os.listdir(seeds))
    tests.append(Test("fuzz-derivative", [tree.programs["fuzz-derivative"], "250", "1", *inputs], 2))
    folder = os.path.join(tree.source, "tests/cli")
    for script in sorted(os.listdir(folder)):
        if script.endswith(".bats") and re.match(scripts, script):
            path = os.path.join(folder, script)
            for title in re.findall(r'^@test "(.*)" \{$', read(path, "r"), re.MULTILINE):
                title = title.replace('\\"', '"')
                pattern = "^" + re.sub(r"([][\\.^$*+?(){}|])", r"\\\1", title) + "$"
                tests.append(Test(f"{script}: {title}", ["bats", "-f", pattern, path], 3))
    return tests


def run_test(tree, test, library, scratch, more=None, limit=None, shadow=False):
    """(passed, seconds, processor seconds). The limit is of each process's processor time; of waiting, eight
    times that, as the machine may be busy."""
    shutil.rmtree(scratch, ignore_errors=True)
    os.makedirs(scratch)
    environment = {**os.environ, "LD_LIBRARY_PATH": library, "TMPDIR": scratch,
                   "IVON_BIN": os.path.join(tree.build, "bin"), "IVON_BUILD": tree.build, **(more or {})}
    environment.pop("IVON_SHARED", None)

    def limits():
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if not shadow:  # a sanitizer's takes all addresses
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_FSIZE, (4 << 30, 4 << 30))
        if limit:
            resource.setrlimit(resource.RLIMIT_CPU, (int(limit) + 1, int(limit) + 2))

    start = time.monotonic()
    process = subprocess.Popen(test.command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL, cwd=scratch, env=environment, preexec_fn=limits,
                               start_new_session=True)
    try:
        wait_for(process.pid, 8 * limit if limit else 900)
        _, status, usage = os.wait4(process.pid, 0)
    except subprocess.TimeoutExpired:
        end_group(process.pid)
        _, status, usage = os.wait4(process.pid, 0)
        status = -1
    end_group(process.pid)  # what it left running
    process.returncode = status
    shutil.rmtree(scratch, ignore_errors=True)
    return status == 0, time.monotonic() - start, usage.ru_utime + usage.ru_stime


def wait_for(pid, seconds):
    """Waits without taking the status away, at most so long."""
    fd = os.pidfd_open(pid)
    try:
        if not select.select([fd], [], [], seconds)[0]:
            raise subprocess.TimeoutExpired("", seconds)
    finally:
        os.close(fd)


def end_group(pid):
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def digest(tree, *parts):
    """Of all sources below these files and folders."""
    total = hashlib.sha256()
    for part in parts:
        path = os.path.join(tree.source, part)
        files = [path] if os.path.isfile(path) else sorted(
            os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names)
        for file in files:
            total.update(os.path.relpath(file, tree.source).encode() + read(file, "rb"))
    return total.hexdigest()


def key_of(tree, test, common):
    """Of all that a test's measurements depend on, but for this machine."""
    if test.rank == 3:
        return common + digest(tree, os.path.relpath(test.command[-1], tree.source), "tests/cli/common.bash")
    kind, _, name = test.name.partition("-")
    path = "tests/conformance/run.c" if kind == "conformance" else f"tests/{kind}/{name}.c"
    return common + digest(tree, *included(tree.source, path))


def measure(tree, tests, files, jobs, log):
    """{"tests": {name: [passed, seconds, processor]}, "lines": {file: {line: [name]}}}. What each test gave is kept
    in the scratch folder. Only the numeric files are compiled to count lines."""
    kept = os.path.join(tree.scratch, "covered")
    os.makedirs(kept, exist_ok=True)
    common, results, lines, missing = digest(tree, "lib", "formats", "cmd"), {}, {}, []

    def take(test, known):
        results[test.name] = known["result"]
        for file, numbers in known["lines"].items():
            for line, runs in numbers.items():
                names = lines.setdefault(file, {}).setdefault(line, [])
                if runs:
                    names.append(test.name)

    for test in tests:
        path = os.path.join(kept, hashlib.sha256(test.name.encode()).hexdigest()[:24])
        known = json.loads(read(path, "r")) if os.path.exists(path) else {}
        if known.get("key") == key_of(tree, test, common):
            take(test, known)
        else:
            missing.append((test, path))
    if missing:
        log(f"measuring which lines {len(missing)} tests run")
        folder, lock, cache = count_lines(tree, files, jobs), threading.Lock(), {}

    def one(test_path):
        test, path = test_path
        name = os.path.basename(path)
        data, scratch = os.path.join(folder, "data-" + name), os.path.join(tree.scratch, "tmp-" + name)
        shutil.rmtree(data, ignore_errors=True)
        os.makedirs(data)
        passed, seconds, processor = run_test(tree, test, folder, scratch, {
            "GCOV_PREFIX": data, "LD_PRELOAD": os.path.join(folder, "unconfined.so")})
        known = {"key": key_of(tree, test, common), "lines": {}}
        if passed:
            known["lines"] = lines_run(data, folder, cache, lock)
        shutil.rmtree(data, ignore_errors=True)
        if test.rank < 3:  # counting slows computations down, those of the commands' tests less than the rest
            passed, seconds, processor = run_test(tree, test, os.path.join(tree.scratch, "plain"), scratch)
        known["result"] = [passed, seconds, processor]
        with open(path + ".new", "w", encoding="utf-8") as file:
            json.dump(known, file)
        os.rename(path + ".new", path)
        with lock:
            take(test, known)
        log(f"  {test.name}: {'passed' if passed else 'FAILS unmutated, left out'}, {processor:.1f} s")

    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        list(pool.map(one, missing))
    return {"tests": results, "lines": lines}


def count_lines(tree, files, jobs):
    """A library, in a folder that is returned, that counts how often lines of these files run."""
    counted, folder = {}, os.path.join(tree.scratch, "counting")
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder + "/objects", exist_ok=True)

    def count(path):
        command, directory, made = tree.objects[path]
        new = os.path.join(folder, "objects", path.replace("/", "+") + ".o")
        command = [w for w in command if w not in ("-O1", "-O3")]
        command[command.index("-o") + 1] = new
        must([*command, "-O0", "--coverage", "-fprofile-update=atomic"], cwd=directory)
        counted[made] = new

    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        list(pool.map(count, files))
    tree.libraries.append("--coverage")
    if not tree.link_library(folder, counted):
        sys.exit("judge.py: the library does not link with --coverage")
    tree.libraries.pop()
    # A command does not confine itself where it sees this function: counts are written elsewhere.
    with open(folder + "/unconfined.c", "w", encoding="utf-8") as file:
        file.write("void __gcov_dump(void);\nvoid __gcov_dump(void)\n{\n}\n")
    must(["gcc", "-shared", "-fPIC", "-o", "unconfined.so", "unconfined.c"], cwd=folder)
    return folder


def lines_run(data, folder, cache, lock):
    """{file: {line: whether it ran}} of the counts in a folder. Equal counts are read once."""
    lines = {}
    for at, _, names in os.walk(data):
        for name in names:
            if not name.endswith(".gcda"):
                continue
            path = name[:-len(".o.gcda")].replace("+", "/") if name.endswith(".o.gcda") else \
                name[:-len(".gcda")].replace("+", "/")
            content = read(os.path.join(at, name), "rb")
            # Without the summary: how many processes ran, and the greatest count.
            content = re.sub(rb"(\x00\x00\x00\xa1\x08\x00\x00\x00).{8}", rb"\1", content, count=1, flags=re.DOTALL)
            key = (path, hashlib.sha256(content).digest())
            with lock:
                known = cache.get(key)
            if known is None:
                notes = os.path.join(folder, "objects", name[:-5] + ".gcno")
                shutil.copy(notes, at)
                out = run(["gcov", "--json-format", "--stdout", os.path.join(at, name)], cwd=at).stdout
                known = {}
                for line in out.splitlines():
                    if line.startswith("{"):
                        for file in json.loads(line)["files"]:
                            if file["file"].endswith("/" + path) or file["file"] == path:
                                for one in file["lines"]:
                                    number = str(one["line_number"])
                                    known[number] = known.get(number, False) or one["count"] > 0
                with lock:
                    cache[key] = known
            lines[path] = known
    return lines


def covering_tests(covering, mutation):
    """Names of the tests that run a mutation's line; of a macro's body, of any line of the file."""
    lines = covering["lines"].get(mutation.path, {})
    if mutation.macro:
        return sorted({name for names in lines.values() for name in names})
    # A statement's further lines need not be known: the nearest before is its own.
    for line in range(mutation.line, max(0, mutation.line - 12), -1):
        if str(line) in lines:
            found = set(lines[str(line)])
            if line == mutation.line and not found:  # the rest of a statement may be counted elsewhere
                continue
            return sorted(found)
    return sorted({name for names in lines.values() for name in names}) if not mutation.function else []


def equivalents(path):
    """{key: reason} of a file of paragraphs: FILE FUNCTION, the line before, the line after, the reason."""
    known = {}
    if os.path.exists(path):
        text = re.sub(r"^#.*\n", "", read(path, "r"), flags=re.MULTILINE)
        for paragraph in filter(None, re.split(r"\n\s*\n", text.strip())):
            lines = paragraph.strip().split("\n")
            if len(lines) < 4:
                sys.exit(f"{path}: expected a file and function, two lines and a reason, found: {paragraph!r}")
            file, _, function = lines[0].partition(" ")
            known[(file, function.strip(), squeezed(lines[1], "from "), squeezed(lines[2], "to "))] = \
                " ".join(lines[3:])
    return known


def stale(known, root):
    """The keys of equivalents that are no mutation of their file any more."""
    existing = {m.key() for file in {key[0] for key in known} if os.path.exists(os.path.join(root, file))
                for m in mutate.mutations(file, read(os.path.join(root, file), "r"))}
    return [key for key in known if key not in existing]


def squeezed(line, prefix):
    line = mutate.squeeze(line)
    if not (line + " ").startswith(prefix):
        sys.exit(f"equivalent.txt: expected a line that begins with '{prefix}', found '{line}'")
    return line[len(prefix):].strip()


class Trial:
    def __init__(self, mutation, made):
        self.mutation, self.made = mutation, made
        self.name = " ".join(map(str, (mutation.path, mutation.start, mutation.end, mutation.new)))
        self.verdict, self.by, self.tried, self.left_out, self.processor = "", "", 0, 0, 0.0


class Judge:
    def __init__(self, tree, tests, covering, options, log):
        self.tree, self.options, self.log = tree, options, log
        self.tests = {test.name: test for test in tests}
        for name, (passed, seconds, processor) in covering["tests"].items():
            if name in self.tests:
                self.tests[name].seconds, self.tests[name].processor = seconds, processor
                if not passed:
                    del self.tests[name]
        self.covering, self.killers, self.lock = covering, {}, threading.Lock()
        # What a test noticed it notices again while the library and the test stay as they are.
        self.kept = os.path.join(tree.scratch, "killed.json")
        self.known = json.loads(read(self.kept, "r")) if os.path.exists(self.kept) and not options.fresh else {}
        self.common = digest(tree, "lib", "formats", "cmd")
        self.keys = {}
        self.preload = " ".join(run(["cc", "-print-file-name=" + name]).stdout.strip()
                                for name in ("libasan.so", "libubsan.so"))

    def key(self, name):
        with self.lock:
            if name not in self.keys:
                self.keys[name] = key_of(self.tree, self.tests[name], self.common)
            return self.keys[name]

    def remembered(self, trial):
        with self.lock:
            name, key = self.known.get(trial.name, ("", ""))
        if name in self.tests and key == self.key(name):
            trial.verdict, trial.by = "killed", name
        return trial.verdict == "killed"

    def remember(self, trial):
        key = self.key(trial.by)
        with self.lock:
            self.known[trial.name] = (trial.by, key)
            with open(self.kept + ".new", "w", encoding="utf-8") as file:
                json.dump(self.known, file)
            os.rename(self.kept + ".new", self.kept)

    def sanitized(self, trial, tests, folder):
        """Whether a test notices under AddressSanitizer and UBSan, as all tests are run by tests/run.sh too. Only
        the mutated file is compiled for them: what it writes and reads is checked, on the heap, too."""
        source = read(os.path.join(self.tree.source, trial.mutation.path), "r")
        made = self.compile(trial.mutation, trial.mutation.apply(source), folder, "checked.o", SANITIZED)
        if not made or not self.link(trial.mutation, made, folder):
            return False
        plain = os.path.join(folder, "checked-" + trial.mutation.path.replace("/", "+"))
        environment = {"LD_PRELOAD": self.preload, "ASAN_OPTIONS": "allocator_may_return_null=1"}
        for test in tests:
            limit = max(10, 40 * test.processor)
            if run_test(self.tree, test, folder, os.path.join(folder, "tmp"), environment, limit, True)[0]:
                continue
            if not os.path.isdir(plain):  # the same, unmutated
                os.makedirs(plain)
                original = self.compile(trial.mutation, source, plain, "checked.o", SANITIZED)
                self.link(trial.mutation, original, plain)
            if run_test(self.tree, test, plain, os.path.join(folder, "tmp"), environment, limit, True)[0]:
                trial.verdict, trial.by = "killed", test.name
                self.remember(trial)
                return True
        return False

    def compiled(self, mutation, source, folder):
        """The mutant's object, or None: it does not compile, or is the original's. Also says which."""
        name = mutation.path.replace("/", "+") + ".o"
        plain = os.path.join(folder, "plain-" + name)
        if not os.path.exists(plain) and not self.compile(mutation, source, folder, "plain-" + name, []):
            sys.exit(f"judge.py: {mutation.path} does not compile unmutated")
        out = self.compile(mutation, mutation.apply(source), folder, "mutant.o", [])
        if not out:
            return None, "does not compile"
        return (None, "same object") if read(plain, "rb") == read(out, "rb") else (out, "")

    def compile(self, mutation, text, folder, name, options):
        """FOLDER/NAME, or None: compiled from the text, always as the same file, as objects tell of it."""
        command, directory, _ = self.tree.objects[mutation.path]
        path, out = os.path.join(folder, "source", mutation.path), os.path.join(folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        command = list(command) + STRICT + options
        command[command.index("-c") + 1], command[command.index("-o") + 1] = path, out
        return out if run(command, cwd=directory).returncode == 0 else None

    def link(self, mutation, made, folder):
        return self.tree.link_library(folder, {self.tree.objects[mutation.path][2]: made})

    def order(self, mutation):
        """Fast tests first, those that noticed others of the file before; the commands' at the end, not longer
        than allowed."""
        tests = [self.tests[n] for n in covering_tests(self.covering, mutation) if n in self.tests]
        with self.lock:
            killers = dict(self.killers.get(mutation.path, {}))
        fast = sorted((t for t in tests if t.rank < 3), key=lambda t: (t.rank, t.processor / (1 + killers.get(t.name, 0))))
        # A test that runs more lines of the file looks deeper: so much more of it for the time.
        depth = {}
        for names in self.covering["lines"].get(mutation.path, {}).values():
            for name in names:
                depth[name] = depth.get(name, 0) + 1
        deepest = max((depth[t.name] for t in tests if t.rank == 3), default=0)
        slow, room, out = [], self.options.seconds, 0
        for test in sorted((t for t in tests if t.rank == 3),
                           key=lambda t: t.processor / (1 + 4 * killers.get(t.name, 0)) / depth[t.name] ** 2):
            if test.processor <= room or depth[test.name] == deepest:  # that one in any case
                slow.append(test)
                room = max(0, room - test.processor)
            else:
                out += 1
        return fast + slow, out

    def judge(self, trial, library):
        """By the tests, on a library made in a folder."""
        if self.remembered(trial):
            return
        if not self.link(trial.mutation, trial.made, library):
            trial.verdict, trial.by = "killed", "the linker"
            return
        tests, trial.left_out = self.order(trial.mutation)
        trial.verdict = "survived" if tests else "not run"
        for test in tests:
            passed, _, processor = run_test(self.tree, test, library, os.path.join(library, "tmp"),
                                            limit=max(5, 10 * test.processor))
            trial.tried += 1
            trial.processor += processor
            if not passed:
                trial.verdict, trial.by = "killed", test.name
                with self.lock:
                    killers = self.killers.setdefault(trial.mutation.path, {})
                    killers[test.name] = killers.get(test.name, 0) + 1
                self.remember(trial)
                return
        if tests and self.preload:
            self.sanitized(trial, [test for test in tests if test.rank < 3], library)


def choose(files, seed, count, root, wanted):
    """{group: mutations in the order of drawing}, and how many of each to try."""
    flags = set(re.findall(r"\w+", next((line for line in open("/proc/cpuinfo", encoding="utf-8")
                                         if line.startswith("flags")), "")))
    chosen = next((flag for flag in ("avx512f", "avx2") if flag in flags), "")
    groups, left_out = {}, {}
    for file in files:
        for mutation in mutate.mutations(file, read(os.path.join(root, file), "r")):
            variant = VARIANTS.get((file, mutation.function))
            if variant is not None and variant != chosen:
                left_out[mutation.function] = left_out.get(mutation.function, 0) + 1
            elif not wanted or wanted in mutation.before:
                groups.setdefault(group_of(file), []).append(mutation)
    for name, found in groups.items():
        random.Random(f"{seed} {name}").shuffle(found)
    total = sum(len(found) for found in groups.values())
    quotas = {name: min(len(found), LEAST) for name, found in groups.items()}
    rest = max(0, count - sum(quotas.values()))
    for name, found in groups.items():
        quotas[name] = min(len(found), quotas[name] + rest * len(found) // max(1, total))
    for name in sorted(groups, key=lambda name: -len(groups[name])):  # what rounding left
        if sum(quotas.values()) < count and quotas[name] < len(groups[name]):
            quotas[name] += min(count - sum(quotas.values()), len(groups[name]) - quotas[name], 3)
    return groups, quotas, left_out


def main():
    parser = argparse.ArgumentParser(prog="run.sh", description="Tries the tests on mutants of the numeric code.")
    parser.add_argument("--seed", type=int, default=1, help="of the sample (%(default)s)")
    parser.add_argument("--count", type=int, default=600, help="mutants to try (%(default)s)")
    parser.add_argument("--all", action="store_true", help="every mutant of the files")
    parser.add_argument("--only", metavar="TEXT", default="", help="mutants of lines with this text")
    parser.add_argument("--jobs", type=int, default=2, help="at a time (%(default)s)")
    parser.add_argument("--seconds", type=float, default=15, metavar="S",
                        help="processor time of the commands' tests for each mutant (%(default)s)")
    parser.add_argument("--fresh", action="store_true", help="try again what was noticed before")
    parser.add_argument("--commands", metavar="PATTERN", default="",
                        help="of tests/cli, take the scripts whose names match (all)")
    parser.add_argument("--scratch", default=None, help="folder to build in (build/mutation)")
    parser.add_argument("files", nargs="*", metavar="FILE", help="sources of lib/metrics, lib/bayes, lib/train, lib/net/ops")
    options = parser.parse_args()
    here = os.path.dirname(os.path.abspath(__file__))
    root = os.path.dirname(os.path.dirname(here))
    scratch = os.path.abspath(options.scratch or os.path.join(root, "build/mutation"))
    os.makedirs(scratch, exist_ok=True)
    started, lock = time.monotonic(), threading.Lock()

    def log(text):
        with lock:
            print(f"[{time.monotonic() - started:6.0f} s] {text}", file=sys.stderr, flush=True)

    numeric = sorted(os.path.relpath(os.path.join(folder, name), root) for top in NUMERIC
                     for folder, _, names in os.walk(os.path.join(root, top)) for name in names if name.endswith(".c"))
    files = [os.path.relpath(os.path.abspath(file), root) for file in options.files] or numeric
    tree = Tree(root, scratch)
    log("building")
    tree.prepare(options.jobs)
    tests = tests_of(tree, options.commands)
    covering = measure(tree, tests, sorted(set(numeric) | set(files)), options.jobs, log)
    judge = Judge(tree, tests, covering, options, log)
    count = 1 << 30 if options.all else options.count
    groups, quotas, left_out = choose(files, options.seed, count, tree.source, options.only)
    for function, number in left_out.items():
        log(f"left out: {number} mutants of {function}, which this processor does not run")
    known = equivalents(os.path.join(here, "equivalent.txt"))
    table = {name: {"tried": 0, "killed": 0, "survived": [], "equivalent": 0, "does not compile": 0, "same object": 0}
             for name in groups}
    log(f"trying {sum(quotas.values())} mutants")
    try_groups(judge, groups, quotas, known, table, options, log)
    report(table, time.monotonic() - started)


def try_groups(judge, groups, quotas, known, table, options, log):
    """Draws mutants of each group, in its order, until as many as wanted compile to something else."""
    workers, lock, total = list(range(options.jobs)), threading.Lock(), sum(quotas.values())
    tried = [0]

    def of_group(name):
        with lock:
            worker = workers.pop()
        folder, row = os.path.join(judge.tree.scratch, f"worker{worker}"), table[name]
        for mutation in groups[name]:
            if row["tried"] == quotas[name]:
                break
            source = read(os.path.join(judge.tree.source, mutation.path), "r")
            made, why = judge.compiled(mutation, source, folder)
            if not made:
                row[why] += 1
                continue
            row["tried"] += 1
            trial = Trial(mutation, made)
            if mutation.key() in known:
                trial.verdict, trial.by = "equivalent", known[mutation.key()]
            else:
                judge.judge(trial, folder)
            os.unlink(made)
            with lock:
                tried[0] += 1
                number = tried[0]
            if trial.verdict in ("killed", "equivalent"):
                row[trial.verdict] += 1
            else:
                row["survived"].append(trial)
            log(f"{number}/{total} {trial.verdict} {mutation.path}:{mutation.line} {mutation.kind}: "
                f"{mutation.before}  ->  {mutation.after}  [{trial.by or trial.tried}]")
        with lock:
            workers.append(worker)

    for worker in workers:
        shutil.rmtree(os.path.join(judge.tree.scratch, f"worker{worker}"), ignore_errors=True)
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(of_group, sorted(groups, key=lambda name: -quotas[name])))


def report(table, seconds):
    heads = ["tried", "killed", "survived", "equivalent", "does not compile", "same object"]
    print(f"{'group':24}" + "".join(f"{head:>18}" for head in heads) + f"{'rate':>8}")
    sums = dict.fromkeys(heads, 0)
    for name in [name for name, _ in GROUPS] + ["other"]:
        if name not in table:
            continue
        row = {head: len(n) if isinstance(n, list) else n for head, n in table[name].items()}
        print_row(name, row, heads)
        for head in heads:
            sums[head] += row[head]
    print_row("all", sums, heads)
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"{seconds / 60:.1f} minutes, {(usage.ru_utime + usage.ru_stime) / 60:.1f} of processor time")
    survivors = sorted((t for row in table.values() for t in row["survived"]),
                       key=lambda t: (t.mutation.path, t.mutation.line))
    if survivors:
        print("\nsurvivors:")
    for trial in survivors:
        m = trial.mutation
        told = "no test runs the line" if trial.verdict == "not run" else f"{trial.tried} tests passed" + (
            f", {trial.left_out} of the commands not tried" if trial.left_out else "")
        print(f"{m.path}:{m.line}: {m.kind}, {m.function or 'outside functions'} ({told})\n"
              f"  from {m.before}\n  to   {m.after}")


def print_row(name, row, heads):
    counted = row["killed"] + row["survived"]
    rate = f"{100 * row['killed'] / counted:.1f} %" if counted else "-"
    print(f"{name:24}" + "".join(f"{row[head]:>18}" for head in heads) + f"{rate:>8}")


if __name__ == "__main__":
    main()
