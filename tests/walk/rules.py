"""What the walk knows of each command: how a call begins, and for each option what may stand behind it.

A rule is a function of a Call; it returns the arguments that it adds, or None where the option has no sense
there. The options themselves are read from the programs: one without a rule here ends the walk."""
import world

EDGES = ("0", "-1", "1e308", "", "x", "nan", "inf", "18446744073709551616", "1.5", "1e-320")


class Call:
    """One command line in the making."""

    def __init__(self, random, command):
        self.random, self.command, self.arguments = random, command, []
        self.kind = random.choice(world.KINDS)
        self.likelihood = world.LIKELIHOODS[self.kind]
        self.tokens = self.kind in world.HAS_TOKENS
        self.output = None  # how the output is named, where it has a name
        self.chosen = set()
        self.bad = False  # something is wrong on purpose

    def has_input(self, suffix):
        return any(a.split(",")[0].endswith(suffix) for a in self.inputs())

    def has_data(self, end):
        return any(a.startswith("--data=") and a.endswith(end) for a in self.arguments)

    def inputs(self):
        return [a for a in self.arguments if not a.startswith("-")]

    def has(self, option):
        return any(a.split("=")[0] == "--" + option for a in self.arguments)

    def has_value(self, option, value):
        return f"--{option}={value}" in self.arguments

    def some(self, *choices):
        return self.random.choice(choices)

    def chance(self, probability):
        return self.random.random() < probability

    def file(self, name):
        """An input of this kind of network."""
        return f"../world/{self.kind}-{name}"

    def of_quality(self, good, odd, bad):
        lot = self.random.random()
        self.bad |= lot >= 0.97
        return self.some(*(good if lot < 0.75 else odd if lot < 0.97 else bad))

    def posterior(self):
        """A posterior, and what has to be said with it."""
        name = self.of_quality(world.GOOD_POSTERIORS, world.ODD_POSTERIORS, world.BAD_POSTERIORS)
        if self.kind == "norm" and name == "huge.h5" and self.chance(0.5):
            name = "graph.h5"
        more = []
        if name == "means.h5" and self.chance(0.6):
            more = ["--hessian=" + self.file("fisher.safetensors")]
            self.chosen.add("hessian")
        if name == "adam.pt":
            more = ["--hessian-from=adam", f"--batch-size={self.some(1, 32)}"]
            self.chosen |= {"hessian-from", "batch-size"}
        return self.file(name), more

    def graph_for(self, path):
        inside = path.endswith(".h5") and not path.endswith("bare.h5")
        self.chosen.add("model")
        return [] if inside and self.chance(0.9) else ["--model=" + self.file("model.onnx")]

    def group(self):
        """Data in HDF5; the group is good mostly."""
        group = self.of_quality(world.GOOD_GROUPS, world.ODD_GROUPS, world.BAD_GROUPS)
        return self.file(f"data.h5:/{group}")

    def data(self):
        """(the data, what has to be said with them)."""
        if self.chance(0.6):
            return self.group(), []
        forms = ["data.h5", "data.npz", "deflated.npz", "pair"]
        if self.kind in ("plain", "norm"):
            forms += ["data.csv", "named.csv", "idx", "images"]
        if self.kind == "text":
            forms += ["data.txt", "data.txt:train", "tokens.npy"]
        form = self.some(*forms)
        if form == "pair":
            return self.file("x.npy") + "," + self.file("y.npy"), []
        if form == "idx":
            return self.file("x.idx") + "," + self.file("y.idx"), []
        if form == "data.csv":
            self.chosen.add("target-column")
            return self.file(form), ["--target-column=" + self.some("label", "4")]
        if form == "named.csv":
            self.chosen |= {"target-column", "classes"}
            return self.file(form), ["--target-column=4", "--classes=../world/classes.txt"]
        if form.startswith("data.txt") or form == "tokens.npy":
            self.chosen |= {"tokens", "context"}
            more = [f"--context={self.some(1, 3, 8)}"]
            return self.file(form), more + (["--tokens=char"] if "txt" in form else [])
        return self.file(form), []

    def loss(self):
        """The likelihood: the right one mostly, and with numbers their noise."""
        self.chosen |= {"likelihood", "noise-std"}
        name = self.likelihood
        if self.chance(0.02):
            name, self.bad = self.some("categorical", "bernoulli", "gaussian", "poisson", "heteroscedastic", "weibull"), True
        arguments = [f"--likelihood={name}"] if name != "categorical" or self.chance(0.1) else []
        if name == "gaussian" and not self.chance(0.06):
            arguments.append(f"--noise-std={self.some('0.5', '1', '1e-3', '1e6')}")
        return arguments


def flag(call):
    return ["--" + call.option]


def values(*choices, wrong=(), edge=0.03):
    """Right values mostly; rarely one that is wrong here, or would be wrong anywhere."""
    def rule(call):
        value = call.some(*choices)
        if wrong and call.chance(0.07):
            value, call.bad = call.some(*wrong), True
        if call.chance(edge):
            value, call.bad = call.some(*EDGES), True
        return [f"--{call.option}={value}"]
    return rule


def rarely(rule, probability=0.04):
    """For what makes no sense in most calls, and is to be refused there."""
    return lambda call: rule(call) if call.chance(probability) else None


def when(condition, rule):
    return lambda call: rule(call) if condition(call) else rarely(rule, 0.03)(call)


def pattern(call):
    known = ("weight", "bias", "w*", "*ias", "[bw]*")
    return [f"--{call.option}=" + (call.some(*known) if call.chance(0.9)
                                   else call.some("*", "nothing", "[", "norm.*"))]


def parameters(call):
    name = "names.txt"
    if call.chance(0.1):
        name, call.bad = call.some("fewer.txt", "blank.txt", "nowhere.txt"), True
    return ["--parameters=" + call.file(name)]


def buffers(call):
    """Those that are no parameters are named; others lose their Hessian a mean."""
    return ["--buffers=" + (call.some("norm.running*", "nothing") if call.chance(0.85) else "bias")]


def other_file(call):
    """A tensor file, or one that is no such thing."""
    return [f"--{call.option}=" + call.file(call.some("fisher.safetensors", "fisher.safetensors",
                                                      "graph.h5",
                                                       "words.h5"))]


def more_data(call):
    return [f"--{call.option}={call.group()}"]


def file_output(*names):
    """An output once; the call then makes it."""
    def rule(call):
        call.output = call.some(*names) if call.chance(0.97) else "out"
        if call.output.endswith(".h5") and call.has("json"):
            call.output = "out.jsonl"
        return [f"--output={call.output}"]
    return rule


def sampling(call):
    if call.has("mean") and not call.chance(0.05):
        return None
    return [f"--samples={call.some(2, 3, 5, 20)}" if call.chance(0.95) else "--samples=1"]


def importance(call):
    """With enough samples, mostly."""
    if not call.has("samples") and not call.chance(0.05):
        return None
    if call.chance(0.9):
        call.arguments = [a for a in call.arguments if not a.startswith("--samples")] + ["--samples=24"]
    return ["--importance"]


def linearised(call):
    """Of one posterior; draws of outputs are as many as there are samples."""
    several = sum(not a.startswith("-") for a in call.arguments) > 1
    if (several or any(map(call.has, ("mean", "recalibrate", "average")))) and not call.chance(0.05):
        return None
    call.chosen |= {"mean", "recalibrate", "average", "linear"}
    draws = any(map(call.has, ("samples", "log-likelihoods"))) or call.likelihood in ("poisson", "heteroscedastic")
    if draws or call.chance(0.5):
        return ["--method=linear", "--linear=draws"]
    call.chosen |= {"samples", "log-likelihoods"}
    return ["--method=linear"] + call.some([], ["--linear=probit"])


def drawn(rule):
    """Not with --mean, which draws nothing."""
    return when(lambda call: not call.has("mean"), rule)


def only_mean(call):
    return None if any(map(call.has, DRAWS)) or call.has("samples") else ["--mean"]


def with_expectation(call):
    call.chosen.add("expectation")
    return ([] if call.has("expectation") else ["--expectation=samples"]) + sampling(call)


def resumed(call):
    if call.output is None:
        call.output = "out.csv"
        return ["--resume", "--output=out.csv"]
    return ["--resume"] if call.output != "-" else None


def from_layers(call):
    return any(a.startswith("--from=") and a.endswith("layers/posterior-00000002.h5") for a in call.arguments)


def unless(option, rule):
    return when(lambda call: not call.has(option), rule)


def compare(call):
    return [f"--compare=../world/{call.some('first.npy', 'second.npy')}"]


def form(call):
    """A stream takes text only; an npy file takes what predictions hold, the others rows."""
    binary = call.output not in (None, "-") or call.chance(0.1)
    names = ["csv", "jsonl"] + binary * ["hdf5"] + (binary and call.command == "predict") * ["npy"]
    return None if call.has("json") else ["--format=" + (call.some(*names) if call.chance(0.97) else "xml")]


def json_lines(call):
    wrong = call.has("format") or (call.output or "").endswith(".h5")
    return None if wrong and not call.chance(0.1) else ["--json"]


def with_samples(rule):
    """For what is drawn: beside an option that draws, which is added where there is none."""
    def added(call):
        draws = call.has("samples") or call.chance(0.05)
        more = ["--expectation=samples"] if call.command == "sensitivity" else sampling(call)
        if not draws:
            call.chosen |= {"samples", "expectation"}
        return rule(call) + ([] if draws else more)
    return added


NUMBERS = world.NUMBERS


def classes(rule):
    return when(lambda call: call.likelihood not in NUMBERS, rule)


def plain(rule):
    """Beside predictions of as many classes and examples as the tables of the world have."""
    return when(lambda call: call.kind in ("plain", "norm"), rule)


def with_base(rule):
    return when(lambda call: call.has("base"), rule)


def regression(rule):
    return when(lambda call: call.likelihood == "gaussian", rule)


MEMORY = values("1M", "16M", "512K", "1G", "65536", wrong=("0.5", "1000000T"))
THREADS = values(1, 2, 3, 7)
INPUT = {
    "key": when(lambda call: call.has_input(".pt"), values("model", wrong=("optimizer", "nowhere"))),
    "hessian": rarely(other_file),
    "hessian-from": when(lambda call: call.has_input("checkpoint.pt"),
                         values("ivon", wrong=("adam", "sgd"))),
    "batch-size": rarely(values(1, 32)),
    "parameters": when(lambda call: call.has_input(".pt"), parameters),
    "buffers": when(lambda call: call.has_input((".pt", ".npz", ".safetensors")), buffers),
    "no-sandbox": flag,
}
COMMON = {"quiet": flag, "verbose": flag, "threads": THREADS}
STANDARD = {"help": rarely(flag, 0.02), "usage": rarely(flag, 0.02), "version": rarely(flag, 0.02)}
FILES = {"force": flag, "no-provenance": flag}


def class_names(call):
    if call.has_data("-images"):  # whose directories have other names
        return None
    right = "vocabulary.txt" if call.kind == "text" else "classes.txt" if call.likelihood == "categorical" \
        else "events.txt"
    name = right if call.chance(0.9) else call.some("double.txt", "absent.txt", *world.NAMES)
    call.bad |= name != right
    return ["--classes=../world/" + name]


DATA = {
    "data": rarely(more_data, 0.02),
    "inputs": values("x=x", "x", wrong=("x=y", "z=x", "x=x,x=x")),
    "targets": values("y", wrong=("group", "x", "nothing", ""), edge=0),
    "target-column": rarely(values("label", "4", "5", "a", edge=0.1)),
    "classes": when(lambda call: call.likelihood not in NUMBERS, class_names),
    "normalize": values("none", "0,1", "0.5,2", wrong=("0,1;0,1;0,1", "1,0", "0,1;", "1e30,1e-30")),
    "resize": lambda call: rarely(values("1", "2,1", "1x1", wrong=("2", "1,2", "3x", "0", "99999")),
                                  0.7 if call.has_data("-images") else 0.02)(call),
    "limit": values(1, 2, 5, 12, 1000),
    "tokens": rarely(values("char", "word", "../world/vocabulary.txt", edge=0)),
    "text-column": rarely(values("a", "2", "9"), 0.02),
    "context": rarely(values(1, 3, 500)),
    "stride": when(lambda call: call.has("context"), values(1, 2, 50)),
    "ignore-label": when(lambda call: call.likelihood not in NUMBERS, values(-100, -1, 0, 1, 77)),
    "likelihood": rarely(values("categorical", "bernoulli", "gaussian", "poisson", "heteroscedastic", edge=0)),
    "noise-std": regression(values(0.5, 2)),
}


def output_axes(call):
    right = ("batch,token,class", "batch,class,token", "token,batch,class") if call.tokens \
        else ("batch,class", "batch,token")
    return values(*right, wrong=("batch", "class", "batch,class,token,token", "batch,batch", "a,b"))(call)


GRAPH = {
    "graph-output": rarely(values("f", wrong=("x", "nothing")), 0.2),
    "output-axes": rarely(output_axes, 0.2),
    "set": rarely(values("x=1", "x=0.5", "weight=1", "bias=1,2,3", "nothing=1", "x", "=1"), 0.05),
    "batch-axis": rarely(values(0, "x=0", "f=0", wrong=(1, "x=1", "x=7", "f=1", "nothing=0")), 0.2),
    "probabilities": lambda call: flag(call) if call.likelihood not in NUMBERS and call.chance(0.1) else None,
}
BIND = {"keep-graph-weights": rarely(flag, 0.1)}
def temperature(call):
    """Rarely by its old name."""
    found = values(0.5, 1, 1e-20, 1e20, wrong=(0, -1))(call)
    return [found[0].replace("--posterior-", "--")] if call.chance(0.1) else found


DRAWS = {"seed": values(0, 1, 2**62), "posterior-temperature": temperature,
         "include": pattern, "exclude": pattern}
TABLES = {"output": file_output("out.csv", "out.jsonl", "out.h5", "-")}
DRAWS_OF_SAMPLES = {"seed": with_samples(DRAWS["seed"]), "posterior-temperature": with_samples(DRAWS["posterior-temperature"])}


def leverage(call):
    if "--covariance=diag" in call.arguments:
        return values("auto", "none", wrong=("newton",), edge=0)(call)
    return values("auto", "none", "newton", edge=0.02)(call)


SENSITIVITIES = {
    "model": rarely(lambda call: ["--model=" + call.file("model.onnx")]),
    "covariance": values("full", "diag", edge=0.02), "leverage": leverage,
    "rho": values(1, 0.1, 5, 1e6), "n-train": values(1, 14, 56, 10**9),
    "batch": values(1, 2, 5, 64), "memory": MEMORY,
    "format": form, "json": json_lines,
}


def influence_weights(call):
    """As many as there are posteriors, mostly."""
    count = len(call.inputs()) + (call.chance(0.05))
    return ["--weights=" + ",".join(call.some("1", "0.5", "3") for _ in range(count))]


def sums(call):
    """Of rows, which take their place."""
    if call.has("per-token") or call.has("by"):
        return None
    call.chosen |= {"per-token", "by"} if call.chance(0.9) else set()
    return values("group", "lonely", wrong=("y", "real", "x", "nothing"), edge=0)(call)


def of_itself(call):
    """In place of queries."""
    if any(map(call.has, ("rows", "groups", "per-token", "by", "validate", "measure"))) and not call.chance(0.05):
        return None
    if call.chance(0.97):
        call.arguments = [a for a in call.arguments if not a.startswith("--queries=")]
        call.chosen |= {"queries", "rows", "groups", "per-token", "by", "validate", "measure"}
    return ["--self"]


def validate(call):
    """By the run that the world has; of one posterior, with a table of its own."""
    several = sum(not a.startswith("-") for a in call.arguments) > 1
    if (several or any(map(call.has, ("groups", "per-token", "by", "top")))) and not call.chance(0.05):
        return None
    call.chosen |= {"groups", "per-token", "by", "top", "weights", "validate-from"} if call.chance(0.9) else set()
    more = ["--noise-std=0.5"] if call.likelihood == "gaussian" else []
    return values(3, 4, wrong=(2, "x"))(call) + ["--validate-from=" + call.file("run.h5")] + more


def measure(call):
    names = ["loss", "logit:0", "logit:1"] + (call.likelihood not in NUMBERS) * ["margin"] + call.tokens * ["token-loss"]
    return values(*names, wrong=("margin", "logit", "logit:99", "token-loss", "x"))(call)


def parts(call):
    """With HDF5 alone."""
    fits = (call.output or "").endswith(".h5") and len(call.inputs()) == 1
    return values("tensor", wrong=("layer",))(call) if fits or call.chance(0.05) else None


def matrix_form(call):
    """What the suffix says, mostly: text and matrices are different things."""
    if call.has("json") or call.has("by"):
        return None
    suffix = (call.output or "").rpartition(".")[2]
    name = {"h5": "hdf5", "": "csv", "-": "csv"}.get(suffix, suffix)
    return ["--format=" + (name if call.chance(0.9) else call.some("csv", "jsonl", "hdf5", "npy", "xml"))]


def scores(call):
    known = ["deviation", "mpe", "self-influence", "loo-loss"]
    if call.chance(0.05):
        known = ["residual", "nonsense", ""]
    return ["--score=" + ",".join(call.random.sample(known, call.some(1, 2, 3)))]


def groups(call):
    """Rows of their own, with which few other options go."""
    if call.has("score") or call.has("sort") or call.has("on"):
        return None
    call.chosen |= {"on", "score", "covariance", "expectation", "vectors", "per-token", "sort", "top",
                    "resume", "samples", "seed", "posterior-temperature"} if call.chance(0.9) else set()
    return values("group", "lonely", wrong=("y", "real", "x", "nothing"), edge=0)(call)


def remove(call):
    """It writes a posterior, with which few other options go."""
    alone = {"on", "groups", "score", "covariance", "expectation", "samples", "seed", "posterior-temperature", "vectors",
             "per-token", "sort", "top", "format", "json", "resume", "limit", "output"}
    if any(map(call.has, alone)):
        return None
    call.chosen |= alone if call.chance(0.95) else set()
    call.output = call.some("out.h5", "out.npz", "out.safetensors")
    rows = values("0", "1,3", "2-4,0", wrong=("100000", "3-2", ""), edge=0.02)(call)
    return rows + [f"--output={call.output}"] + call.some([], [], ["--json"])


def suspects(call):
    """Rows of their own, of labels."""
    if call.likelihood in NUMBERS + ("bernoulli",) or call.tokens:
        return None
    others = {"on", "groups", "remove", "score", "vectors", "per-token", "sort", "ascending", "resume"}
    if any(map(call.has, others)) or (call.has("top") and not call.chance(0.5)):
        return None
    call.chosen |= others if call.chance(0.95) else set()
    return [call.some("--suspects", "--suspects", "--suspects=classes") if call.chance(0.97) else "--suspects=x"]


def acquire(call):
    """Examples to label, in place of predictions."""
    others = {"metrics", "json", "logits", "log-likelihoods", "ood", "compare", "risk", "by-class", "groups"}
    if any(map(call.has, others)) or call.has_value("format", "npy") or (call.output or "").endswith(".npy"):
        return None
    call.chosen |= others if call.chance(0.95) else set()
    names = ["entropy", "variation-ratio", "margin"]
    samples = not any(map(call.has, ("mean", "average", "calibration", "method")))
    names += (samples or call.chance(0.1)) * ["bald", "bald", "batchbald", "batchbald"]
    name = call.some(*names) if call.chance(0.97) else "x"
    return ["--acquire=" + name] + call.some([], [f"--top={call.some(1, 3, 100)}"])


def sheet(call):
    """Whether a row of metrics for each of several predictions goes with what is there."""
    others = {"each", "shift", "average", "ood", "compare", "by-class", "groups", "log-likelihoods", "logits", "acquire"}
    if any(map(call.has, others)) or call.has("format") or call.output not in (None, "-", "out.csv"):
        return False
    if call.has("json") and call.output == "out.csv":
        return False
    call.chosen |= {*others, "format", *["json"] * (call.output == "out.csv")} if call.chance(0.95) else set()
    return True


def each(call):
    if call.has("weights") or not sheet(call):
        return None
    call.chosen |= {"weights"} if call.chance(0.95) else set()
    return ["--metrics", "--each"]


def shift(call):
    """Of inputs that are images, or are said to be."""
    if not sheet(call):
        return None
    name = call.some("noise", "impulse:0..3", "blur:1,5", "pixelate:5", "contrast:2", "brightness:0", "all:4")
    name = name if call.chance(0.95) else call.some("fog", "noise:6", "blur:3..1", "")
    more = [] if call.chance(0.1) else ["--image-shape=" + call.some("1x3", "3x1", "1x1x3", "3x1x1", "3x3", "0x3")]
    return ["--metrics", f"--shift={name}"] + more


def vectors(call):
    return [call.some("--vectors", "--vectors=covariance") if call.chance(0.96) else "--vectors=x"]


def sort(call):
    return ["--sort=nothing" if call.chance(0.05) else call.some("--sort", "--sort=loss", "--sort=index")]


def follow(call):
    """In place of the checkpoints that were named."""
    if not call.chance(0.4):
        return None
    call.arguments = [a for a in call.arguments if a.startswith("-")]
    call.chosen |= {"until", "idle-timeout"}
    return (["--follow=../world/run-" + call.kind] +
            ([f"--until={call.some(3, 7)}"] if call.chance(0.3) else []) +
            ([f"--idle-timeout={call.some(30, 0.5, 0)}"] if call.chance(0.2) else []))


def average(call):
    """Files of predictions in place of posteriors."""
    if call.likelihood != "categorical" or call.tokens:
        return None
    kept = ("--data", "--target-column", "--classes", "--output", "--format", "--metrics", "--json", "--bins", "--limit",
            "--risk", "--by-class", "--groups", "--calibration", "--acquire", "--top")
    call.arguments = [a for a in call.arguments if a.startswith(kept)]
    call.chosen |= set(GRAPH)
    call.chosen |= set(DRAWS) | set(INPUT) | {"mean", "samples", "method", "linear", "logits",
                                              "log-likelihoods", "ood",
                                              "recalibrate",
                                              "model", "batch", "weights"}
    return ["--average", "../world/first.npy", "../world/second.npy"]


def weights(call):
    count = sum(not a.startswith("-") for a in call.arguments)
    if call.chance(0.05):
        return ["--weights=" + call.some("1", "0,1", "-1,1", "1,,2", "nan,1", "1,2,3,4")]
    return ["--weights=" + ",".join(call.some("1", "2.5", "0.1") for _ in range(count))]


def merge_policy(*names):
    """What takes from the base needs one."""
    return lambda call: values(*names, *["base"] * call.has("base"), wrong=("base",))(call)


def method(call):
    models = sum(not a.startswith("-") for a in call.arguments)
    based, free = ["gradient-matching", "task-arithmetic"] + MASKS, ["hessian", "average", "regmean"]
    others = ["slerp"] * (models + call.has("base") == 2) + ["passthrough"] * (models == 1)
    others += ["model-stock"] * (call.has("base") and models > 1
                                 and not any(":" in a for a in call.arguments))
    return values(*based * call.has("base"), *free, *others,
                  wrong=("gradient-matching", "ties", "model-stock", "slerp"))(call)


MASKS = ["ties", "dare", "dare-ties", "breadcrumbs"]


def of_methods(rule, *names):
    """What only these methods take, of which one is chosen with it."""
    def made(call):
        fits = any(a == "--method=" + name for a in call.arguments for name in names)
        if not fits and call.has("base") and "method" not in call.chosen:
            call.chosen.add("method")
            return ["--method=" + call.some(*names)] + rule(call)
        return rule(call) if fits or call.chance(0.03) else None
    return made


def recipe(call):
    """In place of models and a method."""
    if call.has("method") or not call.chance(0.3):
        return None
    if call.chance(0.9):
        call.arguments = [a for a in call.arguments if a.startswith("-")]
        call.chosen.add("method")
    return ["--recipe=" + call.file("recipe.yml" if call.chance(0.95) else "words.h5")]


def shrink(call):
    if "--method=regmean" in call.arguments or call.chance(0.05):
        return values(1, 0.9, 0, wrong=("2",))(call)
    return None


def sweep(call):
    if not call.has("base") and not call.chance(0.1):
        return None
    call.arguments = ["--output=" + ("out-%g.h5" if not call.chance(0.1) else "out.h5")
                      if a.startswith("--output") else a for a in call.arguments]
    call.output = "out-%g.h5"
    wrong = ("1:0:0.5", "0:1:0", "0:1e9:1e-9", "x")
    return ["--sweep=" + (call.some(*wrong) if call.chance(0.1)
                          else call.some("0:1:0.5", "0.25:0.75:0.25"))]


def weight_vectors(call):
    if call.has("sweep") and not call.chance(0.05):
        return None
    if not call.has("evaluate"):
        call.arguments = ["--output=out-%d.h5" if a.startswith("--output") and not call.chance(0.1) else a
                          for a in call.arguments]
        call.output = "out-%d.h5"
    return values("grid:1", "grid:2", "simplex:3", "grid:0.5:1:0.5", wrong=("grid:1:0:1", "grid", "2", "grid:1e9"),
                  edge=0.02)(call)


def evaluate(call):
    """All that is said of data comes with it."""
    arguments = []
    for _ in range(call.some(1, 1, 2)):
        arguments.append("--evaluate=" + call.group())
    return arguments + call.loss()


def evaluated(rule):
    return when(lambda call: call.has("evaluate"), rule)


def samples_of_sample(call):
    count = call.some(1, 2, 3)
    if not call.chance(0.1):
        call.arguments = [a.replace("=out.", "=out-%d.") for a in call.arguments]
        call.output = call.output.replace("out.", "out-%d.")
    return [f"--samples={count}"]


def to_directory(rule):
    return when(lambda call: call.output.endswith("/"), rule)


def labelled(rule):
    return when(lambda call: call.has("data"), rule)


def pictured(*kinds, rule):
    """For these kinds of pictures."""
    return when(lambda call: call.arguments[0] in kinds, rule)


def leaves_out(call):
    """The training has a leave-one-out loss."""
    return call.has("loo") or call.has("patience")


def has_posterior(call):
    return not any(call.has_value("optimizer", method) for method in ("adamw", "soap", "sgd"))


def hessian_estimate(call):
    return ["--hessian=" + call.some("price", "gradsq")]


def param_group(call):
    """Of all names mostly, as which there are depends on the network."""
    keys = [f"lr={call.some(0, 0.01, 0.1)}", f"weight-decay={call.some(0, 0.1)}"]
    keys += [f"ess={call.some(14, 1e6)}", f"h0={call.some(0.1, 1)}"] * call.chance(0.5)
    chosen = [key for key in keys if call.chance(0.5)] or keys[:1]
    if call.chance(0.05):
        chosen, call.bad = call.some(["x"], ["lr"], ["lr=x"], ["rate=1"], ["lr=-1"]), True
    return [f"--param-group={call.some('*', '*', '*e*', '*bias', 'nothing')}:{','.join(chosen)}"]


def restarts(call):
    """Of a rate that falls."""
    if not any(a in call.arguments for a in ("--schedule=cosine", "--schedule=linear")) and not call.chance(0.05):
        return None
    return values("2", "1,2", "3,1", wrong=("0", "2,0", ",2", "2,2,2"))(call)


def structure(call):
    names = ["diagonal", "kronecker", "lowrank", "lowrank:kronecker", "lowrank:diagonal"]
    if call.chance(0.1):
        names = ["lowrank:posterior"]
    return values(*names)(call)


def low_rank(call):
    """--structure is there, and wants it."""
    return any(a.startswith("--structure=lowrank") for a in call.arguments)


def fisher(call):
    call.chosen.add("curvature")
    more = [] if call.has("curvature") else ["--curvature=fisher"]
    return more + [f"--fisher-samples={call.some(1, 2, 5)}"] if not call.has("gram") else None


def gram(call):
    """With which little else goes."""
    if any(map(call.has, ("structure", "curvature", "moments", "ess", "weight-decay", "tune"))):
        return None
    call.chosen |= {"structure", "curvature", "moments", "ess", "weight-decay", "tune", "rank", "validation"}
    return flag(call)


def tune(call):
    if call.chance(0.2) and not any(map(call.has, OF_A_FIT)):
        return tune_alone(call)
    if any(map(call.has, ("weight-decay", "gram"))) or "--structure=lowrank:posterior" in call.arguments:
        return None
    call.chosen |= {"weight-decay", "validation"}
    if call.chance(0.3) and call.likelihood != "gaussian":
        return ["--tune=validation", f"--validation={call.group()}"]
    return values("marginal", "marginal:per-tensor", edge=0.02)(call)


OF_A_FIT = ("data", "structure", "rank", "curvature", "fisher-samples", "shared", "moments", "gram", "max-factor",
            "weight-decay", "ess", "include", "exclude", "limit")


def tune_alone(call):
    """Without data, and with nothing that says how they are used."""
    call.arguments = [a for a in call.arguments if not a.startswith(("--data=", "--noise-std="))]
    call.chosen |= {*OF_A_FIT, *GRAPH, "model", "validation"}
    if call.chance(0.3) and call.likelihood != "gaussian":
        return ["--tune=validation", f"--validation={call.group()}"]
    call.arguments = [a for a in call.arguments if not a.startswith("--model=")]
    return [call.some("--tune=marginal", "--tune=marginal:per-tensor")]


def calibration(call):
    """One of this kind of network; of another it is refused."""
    kind = call.kind if call.chance(0.95) else call.some("plain", "numbers")
    call.chosen |= {"log-likelihoods"}
    return [f"--calibration=../world/{kind}-calibration.json"]


def conformal(call):
    numbers = call.likelihood in NUMBERS
    right, wrong = ("thr", "aps", "raps"), ("absolute", "normalised")
    if call.likelihood == "bernoulli":
        return values("none", wrong=right)(call)
    return values(*(wrong if numbers else right), wrong=right if numbers else wrong)(call)


def with_data(rule):
    return when(lambda call: call.has("data"), rule)


def class_weights(call):
    known = ["balanced"] if call.kind == "text" else ["balanced", "1,2,3", "0,1,0.5"]
    return when(lambda call: call.likelihood == "categorical",
                values(*known, wrong=("1,2", "1,x,3", "absent.txt", "0,0,0")))(call)


RULES = {
    "calibrate": {
        **COMMON, **STANDARD, **FILES, **INPUT, **DATA, **GRAPH, **BIND, **DRAWS,
        "model": SENSITIVITIES["model"], "batch": SENSITIVITIES["batch"], "memory": MEMORY,
        "samples": sampling, "mean": only_mean, **{name: drawn(rule) for name, rule in DRAWS.items()},
        "output": file_output("out.json"), "json": flag,
        "method": classes(values("none", "temperature", "vector", "isotonic")), "conformal": conformal,
        "coverage": when(lambda call: call.has("conformal"), values(0.5, 0.8, 0.9, 0.999, wrong=(0, 1, 2))),
        "raps-penalty": when(lambda call: call.has_value("conformal", "raps"), values(0, 0.1, wrong=(-1,))),
        "raps-free": when(lambda call: call.has_value("conformal", "raps"), values(0, 1, 100)),
        "folds": values(2, 3, 5, 40, wrong=(1,)),
    },
    "predict": {
        **COMMON, **STANDARD, **FILES, **INPUT, **DATA, **GRAPH, **BIND, **DRAWS, **TABLES,
        "model": SENSITIVITIES["model"], "batch": SENSITIVITIES["batch"], "memory": MEMORY,
        "samples": sampling, "mean": only_mean, **{name: drawn(rule) for name, rule in DRAWS.items()},
        "method": rarely(linearised, 0.3), "linear": rarely(values("probit", "draws", wrong=("x",)), 0.02),
        "weights": weights, "recalibrate": when(lambda call: call.kind == "norm", more_data),
        "average": average, "format": form, "logits": flag,
        "log-likelihoods": values("ll.nc", "ll.h5", "ll", edge=0), "metrics": flag,
        "json": lambda call: ["--metrics", "--json"], "bins": values(1, 2, 15, 1000),
        "ood": classes(lambda call: ["--metrics"] + more_data(call)),
        "compare": plain(lambda call: ["--metrics"] + compare(call)),
        "calibration": rarely(calibration, 0.3),
        "each": rarely(each, 0.3), "shift": rarely(shift, 0.3), "image-shape": rarely(values("1x3", "3x1x1"), 0.02),
        "acquire": rarely(classes(acquire), 0.3), "top": rarely(values(1, 3, 100)),
        "risk": classes(lambda call: ["--metrics"] + values(0, 0.1, 1, wrong=(-1, 2))(call)),
        "by-class": when(lambda call: call.likelihood == "categorical", lambda call: ["--metrics", "--by-class"]),
        "groups": lambda call: ["--metrics"] + values("group", "lonely", wrong=("y", "real", "nothing"), edge=0)(call),
    },
    "sensitivity": {
        **COMMON, **STANDARD, **FILES, **INPUT, **DATA, **GRAPH, **BIND, **DRAWS, **TABLES, **SENSITIVITIES,
        **DRAWS_OF_SAMPLES, "score": scores, "expectation": values("mean", "samples", edge=0.02),
        "samples": with_expectation,
        "on": more_data, "groups": groups, "remove": remove,
        "vectors": vectors, "per-token": when(lambda call: call.tokens, flag), "sort": sort,
        "suspects": rarely(suspects, 0.3), "ascending": lambda call: ["--sort", "--ascending"],
        "top": values(1, 3, 100), "resume": resumed,
    },
    "influence": {
        **COMMON, **STANDARD, **FILES, **INPUT, **DATA, **GRAPH, **BIND,
        "model": SENSITIVITIES["model"], "rho": SENSITIVITIES["rho"], "n-train": SENSITIVITIES["n-train"],
        "batch": SENSITIVITIES["batch"], "memory": MEMORY, "queries": more_data, "weights": influence_weights,
        "rows": values("0", "1,3", "0-2,1", wrong=("99", "3-1", "1,")), "measure": measure,
        "per-token": when(lambda call: call.tokens, flag), "by": parts, "groups": sums,
        "include": pattern, "exclude": pattern, "self": rarely(of_itself, 0.3), "validate": rarely(validate, 0.4),
        "validate-from": rarely(lambda call: ["--validate-from=" + call.file(call.some("graph.h5", "nowhere"))], 0.02),
        "from": when(lambda call: call.has("validate"), lambda call: ["--from=" + call.file("graph.h5")]),
        "seed": when(lambda call: call.has("validate"), DRAWS["seed"]),
        "top": values(1, 3, 100), "output": file_output("out.csv", "out.jsonl", "out.h5", "out.npy", "-"),
        "format": matrix_form, "json": json_lines,
    },
    "predict-gen": {
        **COMMON, **STANDARD, **FILES, **INPUT, **DATA, **GRAPH, **BIND, **DRAWS, **TABLES, **SENSITIVITIES,
        **DRAWS_OF_SAMPLES, "samples": sampling, "test": more_data, "subsample": values(1, 2, 5, 13, 1000),
        "by-class": when(lambda call: call.likelihood == "categorical", flag), "follow": follow,
        "importance": importance,
        "groups": values("group", "lonely", wrong=("y", "real", "x", "nothing"), edge=0),
        "compare": rarely(flag, 0.2), "pointwise": rarely(values("p.csv", "p.jsonl", "p.h5", wrong=("-", "p.npy"), edge=0), 0.2),
        "until": rarely(values(1, 7)), "idle-timeout": rarely(values(1, 0)),
    },
    "fit": {
        **COMMON, **STANDARD, **FILES, **INPUT, **DATA, **GRAPH, **BIND,
        "model": SENSITIVITIES["model"], "batch": SENSITIVITIES["batch"], "memory": MEMORY,
        "structure": structure, "rank": when(low_rank, values(0, 1, 3, 100)),
        "curvature": values("ggn", "fisher", "empirical", edge=0.02), "fisher-samples": fisher,
        "shared": values("expand", "reduce"), "moments": values("exact", "factors"), "gram": gram,
        "max-factor": values(1, 3, 4, 8192, wrong=("50000",)),
        "weight-decay": values(0.01, 1, 1e-6, 0), "tune": tune,
        "validation": rarely(more_data, 0.02), "ess": values(1, 14, 1e6), "seed": DRAWS["seed"],
        "include": pattern, "exclude": pattern, "output": None, "json": flag, "resume": flag,
    },
    "merge": {
        **COMMON, **STANDARD, **FILES, **INPUT,
        "base": lambda call: ["--base=" + call.posterior()[0]],
        "method": method, "recipe": recipe, "vocabulary": values("base", "longest", edge=0.05),
        "delta0": with_base(rarely(values(1, 100, 0), 0.3)), "base-scale": with_base(values(0, 0.5, 2)),
        "shrink": shrink, "out-structure": values("diagonal", "kronecker", "means", wrong=("lowrank", "block")),
        "hessian-scale": values(0, 0.5, 1, 3), "ess": values(1, 50, 1e300),
        "density": of_methods(values(0.2, 0.5, 1, 1e-9, wrong=(0, 2)), *MASKS),
        "outliers": of_methods(values(0, 0.01, 0.5, wrong=(1, -1)), "breadcrumbs"),
        "seed": of_methods(DRAWS["seed"], "dare", "dare-ties"),
        "scale": with_base(values(0.5, 1, 0, -1)),
        "dtype": values("keep", "f64", "f32", "f16", "bf16", edge=0.02), "include": pattern,
        "exclude": pattern,
        "on-mismatch": merge_policy("error", "skip"),
        "on-nonpositive": merge_policy("error"), "output": None, "sweep": sweep, "memory": MEMORY,
        "lora-rank": with_base(rarely(values(1, 3, 1000), 0.2)), "json": flag, "dry-run": flag, "hash": flag,
        "rename": rarely(values("^:head.", "(w)eight:\\1", "(:x", "^x\\.:", edge=0.02), 0.3),
        "tokenizer-from": to_directory(values("../world", wrong=("nowhere",))),
        "no-card": to_directory(flag),
        "evaluate": rarely(evaluate, 0.3), "weights": rarely(weight_vectors, 0.3),
        **{name: evaluated(rule) for name, rule in {**DATA, **GRAPH, **BIND}.items() if name != "data"},
        "model": evaluated(SENSITIVITIES["model"]), "batch": evaluated(SENSITIVITIES["batch"]),
        "pick": evaluated(values("mean", "worst", "1", "1,2", wrong=("0", "x"))),
        "table": evaluated(values("table.csv", "table.jsonl", "table.h5", "-", wrong=("t.npy",), edge=0)),
        "samples": evaluated(values(1, 3)),
    },
    "prune": {
        **COMMON, **STANDARD, **FILES, **INPUT,
        **{name: with_data(rule) for name, rule in {**DATA, **GRAPH, **BIND}.items()},
        "model": with_data(SENSITIVITIES["model"]), "batch": with_data(SENSITIVITIES["batch"]),
        "memory": with_data(MEMORY), "keep": None, "snr": None, "json": flag,
        "by": unless("snr", values("snr", "magnitude", wrong=("x",))), "include": pattern, "exclude": pattern,
        "restore": rarely(flag), "output": None,
    },
    "sample": {
        **COMMON, **STANDARD, **FILES, **INPUT, **DRAWS, "samples": samples_of_sample,
        "first": values(0, 3, 10**6), "output": None,
        "dtype": values("keep", "f64", "f32", "f16", "bf16", edge=0.02),
    },
    "convert": {
        **COMMON, **STANDARD, **FILES, **INPUT, "output": None,
        "to": rarely(values("h5", "safetensors", "npz", "pt", edge=0), 0.4),
        "dtype": values("keep", "f64", "f32", "f16", "bf16", edge=0.02),
        "shard-size": rarely(values("100", "1M"), 0.3),
        "rename": values("^:head.", "(w)eight:\\1", "bias:weight", "(:x", "weight:a/../b", ".*:", "a:b",
                         edge=0.02),
        "include": pattern, "exclude": pattern,
        "structure": values("diagonal", "diagonal:covariance", "diagonal:precision", "base", "means", edge=0.02),
        "model": rarely(lambda call: ["--model=" + call.file(call.some("model.onnx", "words.h5"))], 0.5),
        "graph-output": when(lambda call: call.has("model"), values("f", wrong=("x", "nothing"))),
        "keep-graph-weights": when(lambda call: call.has("model"), rarely(flag, 0.1)),
        "ess": values(1, 50, 1e300), "weight-decay": values(0, 1e-4, 10), "n-train": values(1, 100),
        "step": values(0, 1, 10**15),
    },
    "info": {
        **COMMON, **STANDARD, **INPUT, "tensors": unless("header", flag),
        "header": rarely(flag, 0.3), "check": unless("header", flag), "json": flag,
        "memory": MEMORY,
    },
    "plot": {
        **STANDARD, "force": flag, "no-sandbox": flag, "data": rarely(more_data, 0.1),
        "inputs": labelled(values("x", wrong=("y",))), "targets": labelled(values("y", wrong=("group",))),
        "target-column": rarely(values("label")), "ignore-label": values(-100, 0, 77),
        "resize": rarely(pictured("images", "influence", rule=values("2", "3,2", "x"))),
        "classes": pictured("images", "influence", "reliability", "sensitivity", rule=class_names),
        "column": pictured("sensitivity", "images", rule=values("deviation", "loss", wrong=("nothing",))),
        "bins": pictured("sensitivity", "reliability", rule=values(1, 3, 40)),
        "top": pictured("images", "influence", rule=values(1, 5, 400)),
        "limit": pictured("influence", rule=values(1, 2, 400)), "queries": None, "vocabulary": None,
        "tokens": None, "text-column": None, "context": None, "stride": None,
        "title": values("a title", "it's `date` \\n", "", edge=0),
        "width": values(300, 800), "height": values(300, 600), "output": None,
        "format": rarely(values("svg", "png", "pdf", edge=0), 0.4),
    },
    "train": {
        **COMMON, **STANDARD, **FILES, **DATA, "no-sandbox": flag, "memory": rarely(MEMORY, 0.5),
        **{name: unless("arch", rule) for name, rule in GRAPH.items()},
        "arch": None,
        "model": None, "from": None, "init": rarely(values("keep", "kaiming", "xavier", "normal"), 0.5),
        "freeze": rarely(pattern, 0.5), "seed": DRAWS["seed"],
        "lora": when(from_layers,
                     values("*:1", "fc*:2", "fc2.weight:3", "fc1*:0", "none:2", "*bias:1", wrong=("*", ":1", "*:x"))),
        "lora-alpha": when(lambda call: call.has("lora"), values(0.5, 2, 16)),
        "optimizer": values("ivon", "evon", "bbb", "adamw", "soap", "sgd", edge=0.02),
        "beta3": rarely(values(0, 0.9, 0.99, 1)), "basis-every": rarely(values(1, 2, 10)),
        "max-factor": rarely(values(0, 1, 3, 1024)), "param-group": rarely(param_group, 0.3),
        "dtype": rarely(values("f32", "bf16", "f16", wrong=("f64",)), 0.2),
        "average": rarely(values(0, 0.5, 0.999, wrong=(1, -1)), 0.2),
        "lr": None, "ess": values(1, 14, 1e6), "h0": values(0.01, 0.1, 1, 10),
        "beta1": values(0, 0.5, 0.9, 1),
        "beta2": values(0.5, 0.99, 0.99999, 1), "weight-decay": values(0, 1e-4, 0.1, 1),
        "prior": values("zero", "posterior", edge=0.02),
        "prior-scale": when(lambda call: call.has_value("prior", "posterior"),
                            rarely(values(0.1, 1, 3, 1e300), 0.5)),
        "mc-samples": values(1, 2, 3), "antithetic": rarely(flag),
        "clip-radius": values(1e-3, 1, 100), "hessian": hessian_estimate,
        "hess-every": rarely(values(1, 2, 10), 0.2), "rescale-lr": flag,
        "no-rescale-lr": flag, "debias": flag, "no-debias": flag, "clip-norm": values(1e-3, 1, 100),
        "epochs": None, "steps": None, "batch": values(1, 3, 7, 50), "accumulate": values(1, 2, 3),
        "lanes": rarely(values(1, 2, 3, 7, 20, wrong=(0, 1025)), 0.2),
        "lane-samples": when(lambda call: not call.has("optimizer") or call.has_value("optimizer", "ivon"), rarely(flag, 0.3)),
        "schedule": values("constant", "cosine", "linear", edge=0.02), "warmup": values(0, 1, 3, 100),
        "restarts": restarts,
        "class-weights": class_weights,
        "dropout": when(lambda call: any(a.startswith(("--arch=mlp", "--arch=gpt")) for a in call.arguments),
                        values(0, 0.2, 0.5, wrong=("own", 1))),
        "label-smoothing": when(lambda call: call.likelihood == "categorical", values(0, 0.1, 1, wrong=(1.5,))),
        "augment": rarely(values("crop1", "flip", "crop4,flip", "reflect2,cutout3", "cutout2", "x", edge=0)), "output": None,
        "save-every": values(0, 1, 2), "test": unless("held-out", more_data),
        "held-out": rarely(unless("test", values(0.3, "0.5,7", wrong=(1, "0.1,-1"))), 0.3),
        "eval-every": when(lambda call: call.has("test") or call.has("held-out"), values(1, 2)),
        "find-lr": None, "grid": None, "judge": when(lambda call: call.has("grid"), values("loo", "test", "held-out")),
        "loo": when(has_posterior, flag), "loo-every": when(leaves_out, values(1, 2)), "loo-rows": when(leaves_out, values(1, 5, 1000)),
        "patience": values(1, 2, 5), "stop-by": when(lambda call: call.has("patience"),
                                                     values("loo", "test", edge=0.02)),
        "resume": unless("force", flag),
    },
}
WEIGHTS = {"calibrate": 8, "prune": 7, "predict": 22, "sensitivity": 20, "influence": 10, "predict-gen": 14,
           "fit": 12, "merge": 10, "train": 10, "convert": 7,
           "info": 4, "sample": 4, "plot": 3}


def begin_network(call):
    path, more = call.posterior()
    data, said = call.data()
    call.arguments = [path, *more, "--data=" + data, *said, *call.graph_for(path), *call.loss()]
    if call.command not in ("sensitivity", "fit") and "hessian" not in call.chosen and call.chance(0.15):
        call.arguments.insert(1, call.file("other.h5"))


def begin_calibrate(call):
    """By a posterior, or by predictions that the world has; seldom of events, which have none."""
    if call.likelihood == "bernoulli" and call.chance(0.9):
        call.kind = call.some("plain", "token", "text", "numbers", "token_numbers", "norm", "rates")
        call.likelihood, call.tokens = world.LIKELIHOODS[call.kind], call.kind in world.HAS_TOKENS
    begin_network(call)
    call.arguments = [a for a in call.arguments if not a.endswith("other.h5")]
    if call.kind == "plain" and call.chance(0.3):
        kept = ("--data", "--target-column", "--classes", "--limit")
        call.arguments = ["../world/first.npy"] + [a for a in call.arguments if a.startswith(kept)]
        call.chosen |= {*GRAPH, *INPUT, *BIND, "mean", "samples", "model", "posterior-temperature", "include", "exclude", "batch"}


def begin_prune(call):
    """With data, which the graph is then run on, or without."""
    if call.chance(0.5):
        begin_network(call)
        call.arguments = [a for a in call.arguments if not a.endswith("other.h5")]
    else:
        begin_checkpoint(call)
        call.arguments = [a for a in call.arguments if not a.startswith("--output")]
    call.output = call.some("out.h5", "out.safetensors", "out.npz")
    call.arguments += ["--output=" + call.output, call.some("--keep=0.5", "--keep=0", "--keep=1", "--snr=2", "--snr=0")]


def begin_influence(call):
    begin_network(call)
    call.arguments.append("--queries=" + call.group())


def begin_merge(call):
    count = call.some(1, 2, 2, 3)
    for _ in range(count):
        path, more = call.posterior()
        if "hessian" in call.chosen:
            path += ",hessian=" + call.file("fisher.safetensors")
        elif more:
            path = call.file("graph.h5")
        call.arguments.append(path + call.some("", "", "", ":0.5", ":2", ":-0.5", ":0")
                              + (call.some(",*.{0..2}.*=0.7", ",[bw]*=0.5,*=2") if call.chance(0.2)
                                 else call.some(",=1", ",w*=x") if call.chance(0.02) else ""))
    call.chosen -= {"hessian-from", "batch-size", "hessian"}
    call.output = call.some("out.h5", "out.safetensors", "out.npz", "outputs/")
    call.arguments.append("--output=" + call.output)


def begin_checkpoint(call):
    path, more = call.posterior()
    call.arguments = [path, *more]
    if call.command == "info":
        if call.chance(0.3):
            call.arguments.append(call.posterior()[0])
        return
    call.output = call.some("out.h5", "out.safetensors", "out.npz")
    call.arguments.append("--output=" + call.output)


def begin_plot(call):
    call.kind, call.tokens = "plain", False
    what = call.some("generalization", "reliability", "sensitivity", "sweep", "samples", "images", "influence",
                     "front")
    if what == "influence" and call.chance(0.4):
        call.kind = "text"
    tables = {"reliability": "predictions.csv", "sensitivity": "sensitivity.csv",
              "images": "sensitivity.csv", "influence": "influence.csv", "front": "front.csv"}
    data = {what: [f"--data={call.file('data.h5')}"] for what in ("reliability", "images", "influence")}
    data["influence"].append(f"--queries={call.group()}")
    if call.kind == "text":
        data["influence"].append("--vocabulary=../world/vocabulary.txt")
    call.output = call.some("out.svg", "out.png")
    call.arguments = [what, "../world/" + tables.get(what, "table.csv"), f"--output={call.output}",
                      *data.get(what, [])]
    call.chosen.add("data")


def begin_train(call):
    call.kind = call.some("plain", "token", "text", "events", "numbers", "token_numbers", "norm",
                          "rates")
    call.likelihood, call.tokens = world.LIKELIHOODS[call.kind], call.kind in world.HAS_TOKENS
    data, said = call.data()
    context = [a.split("=")[1] for a in said if a.startswith("--context")] or [world.LENGTH]
    context = context[0]
    classes = {"plain": "mlp:3,4,3", "norm": "linear:3,3", "events": "mlp:3,4,3,tanh",
               "numbers": "mlp:3,4,3,gelu", "rates": "mlp:3,4,3,relu",
               "text": f"gpt:{world.VOCABULARY},{context},4,1,2"}
    lot = call.random.random()
    if lot < 0.6 and call.kind in classes:
        start = ["--arch=" + classes[call.kind]]
    elif call.kind == "plain" and lot < 0.7:
        start = ["--from=" + call.file("layers/posterior-00000002.h5")]
    elif lot < 0.8:
        start = ["--from=" + call.file(call.some("graph.h5", "other.h5", "half.h5"))]
    else:
        start = ["--model=" + call.file("model.onnx"), "--from=" + call.file("posterior.npz")]
    call.output = "run"
    length = [call.some("--epochs=1", "--epochs=2", "--steps=3", "--steps=5")]
    call.arguments = [*start, "--data=" + data, *said, *call.loss()]
    lot = call.random.random()
    if lot < 0.1:
        call.output = None
        call.arguments.append("--find-lr=" + call.some("20", "30"))
        if call.chance(0.9):
            call.chosen |= {"test", "eval-every", "save-every", "schedule", "warmup", "resume", "force"}
        return
    rate = f"--lr={call.some(0.01, 0.1, 0.3)}"
    if lot < 0.25:
        rate = "--grid=" + call.some("lr=0.1,0.3;h0=0.1,1", "lr=0.1,1e30", "batch=3|5;lr=0.1", "lr=0.1;seed=0,1,2",
                                     "lr=0.1;optimizer=ivon,bbb", "lr=0.1,", "lr=0.1;seed=1", "lr=1;no-debias=yes,no")
    call.arguments += [rate, *length, "--output=run"]


def begin_fit(call):
    if call.chance(0.12):
        begin_swag(call)
        return
    begin_network(call)
    call.output = call.some("out.h5", "out.safetensors", "out.npz")
    call.arguments.append("--output=" + call.output)


def begin_swag(call):
    """Of checkpoints alone, with which few options go."""
    paths = [call.file(call.some("graph.h5", "other.h5", "posterior.npz")) for _ in range(call.some(2, 2, 3))]
    if call.chance(0.05):
        paths.append(call.posterior()[0])
    call.output = call.some("out.h5", "out.safetensors", "out.npz")
    call.arguments = [*paths, "--structure=swag", "--output=" + call.output, *call.some([], ["--rank=0"], ["--rank=2"])]
    kept = {"include", "exclude", "ess", "json", "force", "no-provenance", *COMMON}
    call.chosen |= {"rank", *set(RULES["fit"]) - kept} if call.chance(0.9) else {"structure"}


BEGIN = {"calibrate": begin_calibrate, "prune": begin_prune, "predict": begin_network, "fit": begin_fit,
         "sensitivity": begin_network, "influence": begin_influence, "predict-gen": begin_network,
         "merge": begin_merge, "convert": begin_checkpoint, "sample": begin_checkpoint,
         "info": begin_checkpoint,
         "plot": begin_plot, "train": begin_train}


FAVOURED = {
    "stride": lambda call: call.has("context"),
    "recalibrate": lambda call: call.kind == "norm" and call.command == "predict",
    "average": lambda call: call.kind == "plain",
    "compare": lambda call: call.kind == "plain",
    "key": lambda call: call.has_input(".pt"),
    "hessian-from": lambda call: call.has_input("checkpoint.pt"),
    "buffers": lambda call: call.has_input((".pt", ".npz", ".safetensors")),
    "dtype": lambda call: True, "rename": lambda call: True, "to": lambda call: True,
    "first": lambda call: True, "structure": lambda call: call.command == "fit",
    "leverage": lambda call: call.has_input("low.h5"),
    "remove": lambda call: True,
    "lora": lambda call: call.command == "train" and from_layers(call),
    "on-nonpositive": lambda call: any(":-" in a for a in call.arguments),
}


def make(random, options):
    """A call: its beginning, then some of the `options` that its command says it has."""
    command = random.choices(list(WEIGHTS), WEIGHTS.values())[0]
    call = Call(random, command)
    BEGIN[command](call)
    rules = RULES[command]
    count = call.some(0, 1, 2, 3, 4, 6, 9)
    names = random.sample(sorted(options[command]), count)
    for name, makes_sense in FAVOURED.items():  # few calls have room for these
        if name in options[command] and makes_sense(call) and call.chance(0.3):
            names.insert(0, name)
    if command == "merge" and call.chance(0.6):
        call.arguments += rules["base"](call)
        call.chosen.add("base")
    for name in dict.fromkeys(names):
        if rules[name] is None or name in call.chosen:
            continue
        call.option = name
        added = rules[name](call)
        call.arguments += added or []
        if added and call.chance(0.05):  # the last one counts, or it is one more of several
            call.arguments += rules[name](call) or []
    return call
