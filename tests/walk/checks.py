"""What has to hold for every call, whatever its options: each check raises Finding."""
import csv
import io
import json
import math
import os
import re

import h5py
import numpy as np

import world

MANUALS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "man")
SANITIZER = re.compile(r"Sanitizer|runtime error:|SUMMARY:")
# What is said on the way, not to be taken for the line that says why a call failed.
NOTE = re.compile(r"(removing (one|groups?|each|\d+)|influence of .*)\b.* N = |Hessian (mapped|from)|"
                  r": (wrote|keeping|merged|read|kept) |^ |: LDS -?\d|"
                  r"of memory for factors|passes (over|for) |more than 128 outputs: |weight decay .*: NLL |"
                  r": \d+ of \d+, |: \S+( [a-zA-Z])? parameters, \d+ examples, |: the least .* loss is that of: |: .* has chosen, and tests it no more|: try --lr=|"
                  r"validation: |no leverage: | was least at step \d+: |: \d+ steps?, |: temperature .* fitted to |: threshold ")
WORDS = re.compile(r"warning: .*(finite|not a number|\bnan\b|no standard error|no rest|too wide|too badly|undefined)")
WARNING = re.compile(r"^ivon-[a-z-]+: (warning: |.*: warning: )")
# ivon(1): nan where it is not known; ivon-merge(1): null of means alone
UNKNOWN = re.compile(r"(_se|standard_error|monte_carlo_error|approximation_k)$|^(ess|weight_decay)$")
COLUMNS = {
    "predict": r"index|token|prediction|max_probability|entropy|expected_entropy|mutual_information|"
               r"probabilities|logits|label|loss|mean|(epistemic|aleatoric)_std|set_size|prediction_set|lower|upper|rank|score|"
               r"path|shift|level|(accuracy|rmse|nll|brier|crps|ece|aurc|coverage(_90|_at_risk)?|set_size|width)(_se)?",
    "sensitivity": r"index|token|label|prediction|loss|residual|deviation|mpe|self_influence|loo_loss|"
                   r"influence|logits|residual_vector|deviation_vector|variance|covariance|group|count|"
                   r"(own|rest)_(loss|error)(_without)?|(own|rest)_change",
    "influence": r"query|query_token|rank|row|token|group|count|influence|label|tensors/[a-z.0-9]+|"
                 r"lds|standard_error|rows|sum|measured",
    "predict-gen": r"step|(train|loo|lgo|test)_(loss|error)(_se)?|waic|psis_loo(_se)?|pareto_k_bad|approximation_k|"
                   r"hessian_at_start|class|count|(rest_)?(loss|error)(_without)?|loo_diff(_se)?",
    "train": r"step|epoch|loss|learning_rate|test_loss|test_error|loo_loss(_se)?|smoothed_loss|suggested_rate",
}


class Finding(Exception):
    pass


def demand(condition, message):
    if not condition:
        raise Finding(message)


def documented_statuses(command):
    """The numbers of the manual page's section EXIT STATUS."""
    with open(os.path.join(MANUALS, f"ivon-{command}.1")) as file:
        section = file.read().split(".Sh EXIT STATUS")[1].split(".Sh ")[0]
    return {int(number) for number in re.findall(r"(?<![\w.-])(\d+)(?![\w.-])", section)
            if int(number) < 128}


def error_lines(stderr):
    """The lines that are no warning, no note, and no offer of --help."""
    return [line for line in stderr.splitlines()
            if not WARNING.match(line) and not NOTE.search(line) and not line.startswith("Try `ivon-")]


def check_process(call, result, statuses):
    demand(not SANITIZER.search(result.stderr), "a sanitizer has found something")
    demand(result.status >= 0, f"signal {-result.status}")
    demand(result.status in statuses, f"exit status {result.status}, which the manual does not name")
    demand(result.status != 70, "an internal error")
    demand(not re.search(r"(?<![\w.])-nan\b", result.stderr + result.stdout), "-nan")
    for line in result.stderr.splitlines():
        demand(line.startswith(("ivon-" + call.command, "Try `ivon-", " ", "ivon-posterior")),
               f"a line that is not the command's: {line}")
        demand(line.isprintable(), "control characters in a message")


def says_where(call, line):
    """A message about an input names it, or an option."""
    files = {os.path.basename(part.split("=")[-1].split(":")[0]) for argument in call.arguments
             for part in argument.split(",")}
    return "--" in line or any(name and name in line for name in files) or "out" in line or \
        "run" in line or "learning rate" in line


def check_failure(call, result, before, after):
    several = call.command == "info" or any("follow" in a for a in call.arguments)
    if call.command == "info" and result.status == 1:
        return
    lines = error_lines(result.stderr)
    demand(lines, "a failure without a word")
    demand(several or len(lines) == 1, f"{len(lines)} lines of a failure: {lines}")
    demand(all(line.startswith(f"ivon-{call.command}: ") for line in lines),
           f"the error is not the last: {lines}")
    if result.status in (65, 66, 73):
        demand(says_where(call, lines[-1]), f"a message that names neither file nor option: {lines[-1]}")
    streams = several or call.command == "predict-gen" and len(call.inputs()) > 1
    demand(streams or not result.stdout, "a failure after something was printed")
    diverged = re.search(r"diverged: |never finite: ", result.stderr)  # its log stays
    if call.command == "train" and (diverged or any(re.match("run/(.*/)?posterior", key) for key in after)):
        after = {key: value for key, value in after.items()
                 if not key.startswith("run/")}  # it diverged later
    demand(after == before, f"a failure has left {sorted(set(after) ^ set(before)) or 'another file'}")


def no_constants(text):
    raise Finding(f"{text} in JSON")


def parse_json(text):
    return json.loads(text, parse_constant=no_constants)


def column_of(name):
    """The column of the data set that this one is a part of, as p2 is of probabilities."""
    if re.fullmatch(r"p\d+", name):
        return "probabilities"
    if re.fullmatch(r"set\d+", name):
        return "prediction_set"
    return re.sub(r"logit$", "logits", re.sub(r"(_?\d+)+$", "", name))


def members(text):
    """The set of a row, by the names of the classes in it, as numbers."""
    names = world.NAMES["vocabulary.txt" if text.startswith("word") else "classes.txt"]
    return [float(name in text.split("|")) for name in names]


def cell(text):
    return math.nan if not text else float(world.NUMBER_OF.get(text, text))


def gather(names, rows):
    """Rows of text to arrays by column, one row each."""
    table = {}
    for i, name in enumerate(names):
        if name == "prediction_set":
            table[name] = np.array([members(row[i]) for row in rows]).T
        else:
            table.setdefault(column_of(name), []).append([cell(row[i]) for row in rows])
    return {name: np.array(columns).T.reshape(len(rows), -1) for name, columns in table.items()}


def read_csv(text):
    rows = list(csv.reader(io.StringIO(text)))
    demand(rows, "no header")
    demand(len(set(rows[0])) == len(rows[0]), f"a column occurs twice: {rows[0]}")
    demand(all(len(row) == len(rows[0]) for row in rows), "rows of different lengths")
    demand("\n" == text[-1:], "no newline at the end")
    return gather(rows[0], rows[1:])


def numbers_of(value):
    """JSON has no number for what is infinite, or not known."""
    if isinstance(value, list):
        return [number for part in value for number in numbers_of(part)]
    value = world.NUMBER_OF.get(value, value)
    return [math.nan if value is None else float(value.replace("Infinity", "inf") if isinstance(value, str)
                                                 else value)]


def read_jsonl(text):
    rows = [parse_json(line) for line in text.splitlines()]
    keys = list(rows[0]) if rows else []
    demand(all(list(row) == keys for row in rows), "lines with different keys")
    for row in rows:
        found = row.get("prediction_set", [0])
        if not found or isinstance(found[0], str):
            row["prediction_set"] = members("|".join(found))
    return {key: np.array([numbers_of(row[key]) for row in rows]).reshape(len(rows), -1) for key in keys}


def read_hdf5(path):
    table = {}
    with h5py.File(path, "r") as f:
        def visit(name, item):
            if isinstance(item, h5py.Dataset) and item.dtype.kind in "fiub":
                table[name] = item[()]
        f.visititems(visit)
    return table


def read_npy(path):
    return {"probabilities": np.load(path)}


def read_table(path=None, text=None):
    """A result in whatever format it is."""
    if text is None:
        with open(path, "rb") as file:
            start = file.read(8)
        if start.startswith(b"\x89HDF"):
            return read_hdf5(path)
        if start.startswith(b"\x93NUMPY"):
            return read_npy(path)
        with open(path) as file:
            text = file.read()
    return read_jsonl(text) if text.startswith("{") else read_csv(text)


def check_numbers(name, array, stderr):
    """`stderr` is None where --quiet has asked for no word."""
    array = np.asarray(array, float)
    excused = UNKNOWN.search(name) or stderr is None or WORDS.search(stderr)
    demand(excused or not np.isnan(array).any(), f"{name} is nan, without a word")
    demand(excused or not np.isinf(array).any(), f"{name} is infinite, without a word")


SHARES = re.compile(r"probabilities|max_probability|accuracy|.*_error(_without)?|error(_without)?|"
                    r"(compare\.)?agreement|(compare\.)?total_variation|ece.*|"
                    r".*\.(auroc|aupr_in|aupr_out|fpr95|detection_error)")
SIGNED = re.compile(r"index|token|label|query|query_token|lds|sum|measured|"
                    r"rank|tensors/.*|prediction|step|class|group|logits|mean|.*_vector|influence|"
                    r"covariance|.*_change|(.*\.)?nll|waic|psis_loo|approximation_k|lower|upper|.*overconfidence|calibration_.*|loo_diff|.*_difference")


def check_range(name, array):
    """Shares are from 0 to 1, and what is no difference, vector or label, is not below 0."""
    array = np.asarray(array, float)
    array = array[np.isfinite(array)]
    demand(SIGNED.fullmatch(name) or (array >= 0).all(), f"{name} is negative")
    demand(not SHARES.fullmatch(name) or UNKNOWN.search(name) or (array <= 1 + 1e-6).all(),
           f"{name} is above 1")


def check_sums(call, table):
    """Probabilities of classes add up to 1."""
    p = table.get("probabilities")
    if p is not None and call.likelihood == "categorical" and np.isfinite(p).all():
        classes = world.VOCABULARY if call.kind == "text" else world.CLASSES
        demand(np.allclose(p.reshape(-1, classes).sum(1), 1, atol=1e-4), "probabilities do not add up to 1")


def check_table(call, table, stderr, empty_allowed=()):
    if call.command == "predict":
        check_sums(call, table)
    for name, array in table.items():
        check_range(name, array)
        demand(re.fullmatch(COLUMNS[call.command], name), f"a column {name}, which is not documented")
        if name not in empty_allowed:
            check_numbers(name, array, stderr)


def check_grid(text):
    """The table of a grid: ranks go up and losses with them; what diverged has neither. Returns the last
    checkpoints, None where there is none."""
    rows = list(csv.DictReader(io.StringIO(text)))
    loss = next(name for name in rows[0] if name.endswith("_loss"))
    ranked = [row for row in rows if row["rank"]]
    demand([row["rank"] for row in ranked] == [str(i + 1) for i in range(len(ranked))], "ranks that are not in order")
    losses = [float(row[loss]) for row in ranked]
    demand(losses == sorted(losses) and all(map(math.isfinite, losses)), "losses that are not in order")
    for row in rows:
        demand((row["result"], bool(row["checkpoint"])) in (("trained", True), ("diverged", False)), f"a row {row}")
    return [row["checkpoint"] or None for row in rows]


def check_metrics_text(text, stderr):
    lines = [line.split() for line in text.splitlines()]
    demand(lines[0] == ["metric", "value", "standard_error", "monte_carlo_error"], f"the header {lines[0]}")
    for name, value, *errors in lines[1:]:
        check_numbers(name, float(value), stderr)
        check_range(name, float(value))
        demand(len(errors) == 2 and all(not float(e) < 0 for e in errors),
               f"{name} has the errors {errors}")


def walk_json(value, name=""):
    if isinstance(value, dict):
        for key, part in value.items():
            yield from walk_json(part, key)
    elif isinstance(value, list):
        for part in value:
            yield from walk_json(part, name)
    else:
        yield name, value


def check_json(text, stderr):
    for line in text.splitlines():
        for name, value in walk_json(parse_json(line)):
            unknown = value is None or isinstance(value, str) and value in ("Infinity", "-Infinity")
            if unknown:
                check_numbers(name, math.nan, stderr)


def check_tensors(path, stderr):
    """A checkpoint that was written: every number is finite, or it was said."""
    if path.endswith(".npz"):
        with np.load(path) as file:
            tensors = {name: file[name] for name in file.files}
    elif path.endswith(".safetensors"):
        import safetensors_file
        arrays, _ = safetensors_file.read(path, ordered=False)
        tensors = arrays
    else:
        tensors = read_hdf5(path)
    for name, array in tensors.items():
        if array.dtype.kind == "f":
            demand(stderr is None or WORDS.search(stderr) or np.isfinite(array).all(),
                   f"{path}: {name} is not finite, without a word")


def equal(a, b):
    """Of two formats: what is text rounds to what is binary."""
    a, b = np.asarray(a), np.asarray(b)
    if a.dtype.kind != "f" or (b.dtype.kind == "f" and b.dtype.itemsize < a.dtype.itemsize):
        a, b = b, a
    with np.errstate(over="ignore", invalid="ignore"):
        return a.size == b.size and np.array_equal(a.ravel(), b.ravel().astype(a.dtype),
                                                   equal_nan=a.dtype.kind == "f")


def check_agreement(tables):
    """The same columns, but for those that count rows, hold the same numbers in all formats."""
    first = tables[0]
    for other in tables[1:]:
        counts = {"index", "token"}
        demand(set(first) - counts == set(other) - counts,
               f"formats have columns {sorted(first)} and {sorted(other)}")
        for name in set(first) & set(other) - counts:
            demand(equal(first[name], other[name]), f"formats differ in {name}")
