#!/usr/bin/python3
"""walk.py [OPTION...]: a random walk over the commands' options; --help lists the walk's own.

Draws N calls (2,000 if nothing else is said) of the commands in $IVON_BIN: options as the commands' --help
lists them, with values that are right mostly, on small inputs of all kinds (world.py, rules.py). For each it
is checked (checks.py) that it ends with a status that its manual page names, that no sanitizer reports, that
a failure says why in one line and leaves nothing, that results parse, have the columns that are documented,
and hold no nan without a word; for every tenth also that threads change no byte and that formats agree.

What is found is printed as a command that can be called again, in a directory that is kept; then the exit
status is 1. --at runs one call of a walk again.
"""
import argparse
import collections
import hashlib
import os
import random
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
try:
    import checks  # noqa: E402
    import rules  # noqa: E402
    import world  # noqa: E402
except ModuleNotFoundError as missing:
    print(f"skipped: {missing}", file=sys.stderr)
    sys.exit(77)

TIMEOUT = 120
Result = collections.namedtuple("Result", "status stdout stderr")
OPTION = re.compile(r"^\s+(?:-\S, )?--([a-z0-9-]+)(\[?=\S+)?")


def run(arguments, directory, timeout=TIMEOUT):
    environment = {**os.environ, "SOURCE_DATE_EPOCH": "0", "LC_ALL": "C.UTF-8"}
    try:
        done = subprocess.run(arguments, cwd=directory, env=environment, stdin=subprocess.DEVNULL,
                              capture_output=True, timeout=timeout)
    except subprocess.TimeoutExpired:
        raise checks.Finding(f"still running after {timeout} s") from None
    return Result(done.returncode, done.stdout.decode("utf-8", "replace"),
                  done.stderr.decode("utf-8", "replace"))


def read_options(binaries):
    """Of each command, the options that its --help lists: all that are listed have a rule."""
    options = {}
    for command in rules.RULES:
        text = run([os.path.join(binaries, "ivon-" + command), "--help"], ".").stdout
        names = [match[1] for match in map(OPTION.match, text.splitlines()) if match]
        if not names:
            sys.exit(f"walk: ivon-{command} --help lists no option")
        options[command] = names
        for name in names:
            if name not in rules.RULES[command]:
                sys.exit(f"walk: option --{name} of ivon-{command} is unknown to the walk: "
                         "give it a rule in rules.py")
        for name in rules.RULES[command]:
            if name not in names:
                sys.exit(f"walk: ivon-{command} has no option --{name} any more: "
                         "take its rule out of rules.py")
    return options


def commands_without_rules(binaries):
    text = run([os.path.join(binaries, "ivon"), "help"], ".").stdout
    listed = re.findall(r"^  ([a-z-]+) ", text, re.M)
    return [name for name in listed if name not in rules.RULES and name not in ("help", "completion")]


def contents(directory):
    """Digest by name of all files; a named pipe or a link would be one, too."""
    found = {}
    for root, _, names in os.walk(directory):
        for name in names:
            path = os.path.join(root, name)
            with open(path, "rb") as file:
                found[os.path.relpath(path, directory)] = hashlib.sha256(file.read()).hexdigest()
    return found


class Walk:
    def __init__(self, binaries, scratch, seed):
        self.binaries, self.scratch, self.seed = binaries, scratch, seed
        self.options = read_options(binaries)
        unknown = commands_without_rules(binaries)
        if unknown:
            sys.exit(f"walk: command '{unknown[0]}' is unknown to the walk: give it rules in rules.py")
        self.statuses = {command: checks.documented_statuses(command) for command in rules.RULES}
        self.world = world.build(self.directory("world"))
        self.prepare_world()
        self.state = contents(self.world)
        self.summary = collections.Counter()
        self.compared = collections.Counter()
        self.succeeded = collections.defaultdict(set)  # options, by command
        self.findings, self.messages = 0, False

    def directory(self, name):
        path = os.path.join(self.scratch, name)
        os.makedirs(path)
        return path

    def ivon(self, command, *arguments):
        return [os.path.join(self.binaries, "ivon-" + command), *arguments]

    def prepare_world(self):
        """A tokenizer, directories for --follow, structured posteriors, and what ivon-plot draws."""
        with open(os.path.join(self.world, "tokenizer.json"), "w") as file:
            file.write("{}")
        for kind in world.KINDS:
            path = os.path.join(self.world, "run-" + kind)
            os.makedirs(path)
            for name in ("graph.h5", "other.h5"):
                shutil.copy(os.path.join(self.world, f"{kind}-{name}"), path)
            with open(os.path.join(path, "done"), "w"):
                pass
            noise = ["--noise-std=0.5"] * (world.LIKELIHOODS[kind] == "gaussian")
            self.make(self.ivon("fit", kind + "-graph.h5", f"--data={kind}-data.h5:/train", "--rank=4",
                                "--structure=lowrank", "--likelihood=" + world.LIKELIHOODS[kind], *noise,
                                "--no-provenance", f"--output={kind}-low.h5"))
            score = "normalised" if world.LIKELIHOODS[kind] in world.NUMBERS else \
                "aps" if world.LIKELIHOODS[kind] == "categorical" else None
            self.make(self.ivon("calibrate", kind + "-graph.h5", f"--data={kind}-data.h5:/train", *noise,
                                "--likelihood=" + world.LIKELIHOODS[kind],
                                *([f"--conformal={score}", "--coverage=0.6"] if score else []),
                                "--no-provenance", f"--output={kind}-calibration.json"))
        for command, output in (("predict", "predictions.csv"), ("sensitivity", "sensitivity.csv")):
            self.make(self.ivon(command, "plain-graph.h5", "--data=plain-data.h5", "--output=" + output))

        self.make(self.ivon("train", "--arch=mlp:3,4,3", "--data=plain-data.h5:/train", "--lr=0.1", "--steps=2",
                            "--no-provenance", "-q", "--output=plain-layers"))

    def make(self, command):
        made = run(command, self.world)
        if made.status:
            sys.exit("walk: " + made.stderr)

    def draw(self, index, only):
        source = random.Random(f"{self.seed} {index}")
        while True:
            call = rules.make(source, self.options)
            if only in (None, call.command):
                return source, call

    def step(self, index, only, deeper):
        source, call = self.draw(index, only)
        directory = self.directory(f"call-{index}")
        named = call.output and call.output not in ("-", "run") and not re.search("%|/$", call.output)
        stale = named and source.random() < 0.1
        if stale:
            with open(os.path.join(directory, call.output), "w") as file:
                file.write("what was here before\n")
        command = self.ivon(call.command, *call.arguments)
        before = contents(directory)
        try:
            result = run(command, directory)
            self.summary[call.command, result.status] += 1
            checks.check_process(call, result, self.statuses[call.command])
            if result.status:
                if self.messages:
                    print(f"{index} {call.kind} {result.status}{' bad' * call.bad} {result.stderr.strip()}")
                checks.check_failure(call, result, before, contents(directory))
            else:
                self.succeeded[call.command] |= {a.split("=")[0][2:] for a in call.arguments}
                self.check_success(call, result, directory)
                if deeper and not stale:
                    self.check_deeper(source, call, result, directory)
        except checks.Finding as finding:
            self.report(index, call, directory, command, finding)
        except (OSError, ValueError, KeyError, IndexError) as error:  # of a result that does not parse
            self.report(index, call, directory, command, f"{type(error).__name__}: {error}")
        else:
            shutil.rmtree(directory)

    def report(self, index, call, directory, command, finding):
        self.findings += 1
        print(f"call {index} of seed {self.seed}, {call.kind}: {finding}\n"
              f"  (cd {directory} && {shlex.join(command)})", flush=True)

    def check_success(self, call, result, directory):
        given = {a.split("=")[0][2:] for a in call.arguments if a.startswith("--")}
        if given & {"help", "usage", "version"}:
            return
        asked = ["out"] * bool(call.output) + ["ll"] * ("log-likelihoods" in given)
        asked += ["run"] * (call.command == "train") + ["table"] * ("table" in given) + ["p."] * ("pointwise" in given)
        for name in os.listdir(directory):
            checks.demand(any(map(name.startswith, asked)) and not name.endswith((".ivon-tmp", ".part")),
                          f"{name} is left")
        if given & {"quiet"} or any(a == "-q" for a in call.arguments):
            result = result._replace(stderr=None)
        getattr(self, "success_" + call.command.replace("-", "_"))(call, result, directory, given)

    def table(self, call, result, directory):
        """Of a command that prints rows: those that it wrote, wherever."""
        if call.output and call.output != "-":
            checks.demand(not result.stdout or "metrics" in " ".join(call.arguments),
                          "rows are printed, too")
            return checks.read_table(os.path.join(directory, call.output))
        if any(name in call.arguments for name in ("--format=hdf5", "--format=npy")):
            return {}
        return checks.read_table(text=result.stdout)

    def success_predict(self, call, result, directory, given):
        if "log-likelihoods" in given:
            self.check_likelihoods(call, result, directory)
        if "shift" in given or "each" in given:
            self.check_sheet(call, result, directory)
            return
        if "metrics" in given:
            checks.demand(result.stdout, "no metrics are printed")
            text = result.stdout
            if call.output == "-":
                return
            (checks.check_json if "json" in given else checks.check_metrics_text)(text, result.stderr)
            if not call.output:
                return
        checks.check_table(call, self.table(call, result, directory), result.stderr)

    def check_sheet(self, call, result, directory):
        text = result.stdout
        if call.output and call.output != "-":
            checks.demand(not text, "rows are printed, too")
            with open(os.path.join(directory, call.output)) as file:
                text = file.read()
        # What a row is of, a corruption or a path, comes first, and is no number.
        numbers = re.sub(r'(?m)^(\{"\w+":)"[^"]*"|^(?!path,|shift,)[^{,][^,]*',
                         lambda found: (found[1] or "") + "0", text)
        checks.check_table(call, checks.read_table(text=numbers), result.stderr)

    def success_calibrate(self, call, result, directory, given):
        if "json" in given:
            checks.check_json(result.stdout, None)
        else:
            lines = [line.split() for line in result.stdout.splitlines()]
            checks.demand(lines[0] == ["metric", "before", "standard_error", "after", "standard_error"],
                          f"the header {lines[0]}")
        if call.output:
            with open(os.path.join(directory, call.output)) as file:
                checks.parse_json(file.read())

    def check_likelihoods(self, call, result, directory):
        given = [a.split("=")[1] for a in call.arguments if a.startswith("--log-likelihoods=")]
        for name, array in checks.read_hdf5(os.path.join(directory, given[-1])).items():
            checks.check_numbers(name, array, result.stderr)

    def success_sensitivity(self, call, result, directory, given):
        if "remove" in given:
            self.check_checkpoints(call, result, directory, given)
            return
        table = self.table(call, result, directory)
        checks.check_table(call, table, result.stderr)
        wanted = {"--groups=group": {0, 1, 2}, "--groups=lonely": {0, 1}, "--groups=nothing": set()}
        for argument in set(call.arguments) & set(wanted):
            if "group" in table:
                checks.demand(set(table["group"].ravel()) <= wanted[argument],
                              f"{argument} has found other groups")

    def success_influence(self, call, result, directory, given):
        """A matrix, the greatest of it, or both."""
        text = result.stdout
        if call.output and call.output != "-":
            with open(os.path.join(directory, call.output), "rb") as file:
                start = file.read(8)
            path = os.path.join(directory, call.output)
            if start.startswith(b"\x93NUMPY"):
                checks.check_numbers("influence", checks.read_npy(path)["probabilities"], result.stderr)
            elif start.startswith(b"\x89HDF"):
                checks.check_table(call, checks.read_table(path), result.stderr)
            else:
                checks.demand(not text, "rows are printed, too")
                with open(path) as file:
                    text = file.read()
        if text.count("\n") == 1 and not text.startswith("{"):  # the header alone: nothing helps or harms
            said = result.stderr is None or re.search("warning: .*influences are (0|not finite)", result.stderr)
            checks.demand(said, "an empty table, without a word")
        elif text:
            checks.check_table(call, checks.read_table(text=text), result.stderr)

    def success_predict_gen(self, call, result, directory, given):
        checks.check_table(call, self.table(call, result, directory), result.stderr)

    def success_train(self, call, result, directory, given):
        if "find-lr" in given:
            table = checks.read_table(text=result.stdout)
            checks.check_table(call, table, result.stderr, ("suggested_rate",))
        elif "grid" in given:
            rows = checks.check_grid(result.stdout)
            checks.demand(any(rows), "no combination was trained")
            for checkpoint in filter(None, rows):
                self.check_run(call, result, os.path.dirname(os.path.join(directory, checkpoint)))
        else:
            self.check_run(call, result, os.path.join(directory, "run"))

    def check_run(self, call, result, directory):
        with open(os.path.join(directory, "log.csv")) as file:
            log = checks.read_csv(file.read())
        checks.check_table(call, log, result.stderr, ("test_loss", "test_error", "loo_loss", "loo_loss_se"))
        checkpoints = [name for name in os.listdir(directory) if name.endswith(".h5")]
        checks.demand(checkpoints, "no checkpoint")
        for name in checkpoints:
            checks.check_tensors(os.path.join(directory, name), result.stderr)
        if any(argument.startswith("--lora=") for argument in call.arguments):
            checks.check_tensors(os.path.join(directory, "adapter_model.safetensors"), result.stderr)

    def check_checkpoints(self, call, result, directory, given):
        if "json" in given:
            checks.check_json(result.stdout, result.stderr)
        written = [name for name in os.listdir(directory) if "." in name]
        if call.output.endswith("/") and "sweep" not in given and "dry-run" not in given:
            written.append(call.output + "adapter_" * ("lora-rank" in given) + "model.safetensors")
        checks.demand(written or "dry-run" in given, "nothing was written")
        for name in written:
            if name.startswith("out") and "dry-run" not in given and "to" not in given:
                path = os.path.join(directory, name)
                checks.check_tensors(path + "/adapter_model.safetensors" * os.path.isdir(path), result.stderr)

    success_merge = success_prune = success_convert = success_sample = success_fit = check_checkpoints

    def success_info(self, call, result, directory, given):
        if "json" in given and "check" not in given:
            for line in result.stdout.splitlines():
                checks.parse_json(line)

    def success_plot(self, call, result, directory, given):
        with open(os.path.join(directory, call.output), "rb") as file:
            start = file.read(100)
        checks.demand(start.startswith((b"<?xml", b"\x89PNG")), "no picture")
        checks.demand(b"nan" not in start, "nan in a picture")

    def again(self, call, name, options, drop=()):
        """The same call with other options, in a directory of its own."""
        directory = self.directory(name)
        kept = [a for a in call.arguments if a.split("=")[0][2:] not in drop]
        result = run(self.ivon(call.command, *kept, *options), directory)
        checks.demand(result.status == 0,
                      f"with {' '.join(options)}: exit status {result.status}: {result.stderr}")
        return result, directory

    def check_deeper(self, source, call, result, directory):
        if {"--help", "--usage", "--version", "--resume"} & set(call.arguments):
            return
        made = []
        if "threads" in self.options[call.command]:
            drop = ("threads", "no-provenance", "quiet", "verbose")
            for i, threads in enumerate(source.sample((1, 2, 3, 5), 2)):
                plain = [f"--threads={threads}", "--quiet"]
                if "no-provenance" in self.options[call.command]:
                    plain.append("--no-provenance")
                made.append(self.again(call, os.path.basename(directory) + f"-threads-{i}", plain, drop))
            checks.demand(made[0][0].stdout == made[1][0].stdout, "threads change what is printed")
            checks.demand(contents(made[0][1]) == contents(made[1][1]), "threads change a file")
            self.compared["threads"] += 1
        if call.command in ("predict", "sensitivity", "predict-gen") and not call.has("remove"):
            made += self.check_formats(call, directory)
        for _, path in made:
            shutil.rmtree(path)

    def check_formats(self, call, directory):
        if any(word in " ".join(call.arguments)
               for word in ("--metrics", "npy")) and call.command == "predict":
            return []
        if any(a.startswith("--follow") for a in call.arguments):
            return []
        made, tables = [], []
        counted = "--by-class" not in call.arguments  # HDF5 holds a known number of rows
        for form, name in (("csv", "f.csv"), ("jsonl", "f.jsonl"), ("hdf5", "f.h5"))[:2 + counted]:
            made.append(self.again(call, f"{os.path.basename(directory)}-{form}",
                                   [f"--output={name}", f"--format={form}"], ("output", "format", "json")))
            tables.append(checks.read_table(os.path.join(made[-1][1], name)))
        checks.check_agreement(tables)
        self.compared["formats"] += 1
        return made

    def print_summary(self, count, seconds):
        statuses = sorted({status for _, status in self.summary})
        print("command      calls  success " + "".join(f"{status:>6}" for status in statuses))
        for command in [*rules.RULES, "all"]:
            row = [sum(n for (c, s), n in self.summary.items() if command in (c, "all") and s == status)
                   for status in statuses]
            good = sum(n for n, status in zip(row, statuses) if status == 0)
            share = f"{100 * good / sum(row):.0f} %" if sum(row) else ""
            print(f"{command:12} {sum(row):5}  {share:>7} " + "".join(f"{n:6}" for n in row))
        for command, names in self.options.items():
            never = sorted(set(names) - self.succeeded[command])
            if never and count >= 1000:
                print(f"{command}: no call succeeded with --{', --'.join(never)}")
        print(f"{count} calls in {seconds:.0f} s; threads compared {self.compared['threads']} times, formats "
              f"{self.compared['formats']} times; {self.findings} findings")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0, help="begin the walk at this call")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only")
    parser.add_argument("--at", type=int)
    parser.add_argument("--keep")
    parser.add_argument("--messages", action="store_true", help="print what each call that fails says")
    parser.add_argument("--least-success", type=float, default=0.6)
    given = parser.parse_args()
    binaries = os.environ["IVON_BIN"]
    scratch = given.keep or tempfile.mkdtemp(prefix="ivon-walk-")
    walk, start = Walk(binaries, scratch, given.seed), time.time()
    walk.messages = given.messages
    indices = range(given.first, given.count) if given.at is None else [given.at]
    for index in indices:
        walk.step(index, given.only, index % 10 == 0 or given.at is not None)
        if (index + 1) % 100 == 0:
            print(f"{index + 1} calls, {time.time() - start:.0f} s", flush=True)
    if contents(walk.world) != walk.state:
        walk.findings += 1
        print("an input was changed, or something was left beside one")
    walk.print_summary(len(indices), time.time() - start)
    good = sum(n for (_, status), n in walk.summary.items() if status == 0)
    few = given.at is None and given.only is None and good < given.least_success * len(indices)
    if few:
        print(f"only {good} calls succeeded: such a walk tests little")
    if not walk.findings and not given.keep:
        shutil.rmtree(scratch)
    sys.exit(bool(walk.findings or few))


if __name__ == "__main__":
    main()
