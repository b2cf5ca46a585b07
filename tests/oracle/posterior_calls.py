"""posterior_calls.py DIRECTORY: the calls of ivon_posterior on the small networks that lie there
(tests/cli/common.bash), from files and from memory, have the bits of the commands (on PATH)."""
import ctypes
import os
import signal
import subprocess
import sys
import time
import warnings

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.environ.get("IVON_PYTHON", os.path.join(HERE, "../../formats/python")))
import h5py  # noqa: E402
import numpy as np  # noqa: E402
import onnx  # noqa: E402

import ivon_posterior as ip  # noqa: E402
from ivon_posterior import _library, _sources  # noqa: E402


def command(name, *arguments):
    subprocess.run([f"ivon-{name}", "-q", *arguments, "-fo", "told.h5"], check=True,
                   stdout=subprocess.DEVNULL)
    return "told.h5"


def table(name, *arguments):
    with h5py.File(command(name, *arguments)) as file:
        return {name: item[()] for name, item in file.items() if isinstance(item, h5py.Dataset)}


def same(found, told, names):
    for name in names:
        one, other = found[name], told[name]
        assert one.shape == other.shape and np.array_equal(one, other), (
            name, one.shape, other.shape, np.ravel(one)[:3], np.ravel(other)[:3])


def same_posterior(one, other):
    for part in ("mean", "hessian", "buffers", *ip.STRUCTURAL):
        a, b = getattr(one, part), getattr(other, part)
        assert a.keys() == b.keys(), (part, a.keys(), b.keys())
        for name in a:
            assert a[name].dtype == b[name].dtype and np.array_equal(a[name], b[name]), (part, name)
    for key in ("ess", "weight_decay", "own_ess", "own_weight_decay", "graph"):
        assert getattr(one, key) == getattr(other, key), key
    assert one.structure.get("blocks") == other.structure.get("blocks")


def refused(part, action, kind=ip.PosteriorError):
    try:
        action()
    except kind as error:
        assert part in str(error), error
    else:
        raise AssertionError("was not refused: " + part)


def check_predict(data):
    x, both, tokens = data["x"], data["both"], data["tokens"]
    told = table("predict", "events.h5", "--data=data.h5", "--targets=both", "--samples=5",
                 "--seed=3", "--logits", "--likelihood=bernoulli")
    names = ["probabilities", "prediction", "entropy", "expected_entropy", "mutual_information",
             "max_probability", "logits"]
    assert set(names) <= set(told), told.keys()
    options = dict(samples=5, seed=3, logits=True, likelihood="bernoulli")
    for posterior in "events.h5", ip.load("events.h5"):
        for given in "data.h5", (x, both), {"x": x, "both": both}:
            found = ip.predict(posterior, given, targets="both", **options)
            same(found, told, names + ["loss"])
            assert found["prediction"].shape == (80, 2) and 0 < found["errors"]["nll"] < 1
            assert found["metrics"]["accuracy"] == (found["prediction"] == both).mean()
    alone = ip.predict("events.h5", x.astype("f8"), **options)
    same(alone, told, names)
    assert "metrics" not in alone and alone.keys() == set(names)
    told = table("predict", "number.h5", "--data=data.h5", "--targets=number",
                 "--likelihood=gaussian", "--method=linear", "--noise-std=0.5")
    found = ip.predict("number.h5", "data.h5", targets="number", likelihood="gaussian",
                       method="linear", noise_std=0.5)
    same(found, told, ["mean", "epistemic_std", "aleatoric_std", "loss"])
    told = table("predict", "events.h5", "--data=data.h5", "--targets=number",
                 "--likelihood=heteroscedastic", "--samples=3")
    found = ip.predict("events.h5", "data.h5", targets="number", likelihood="heteroscedastic",
                       samples=3)
    same(found, told, ["mean", "epistemic_std", "aleatoric_std", "loss"])
    assert found["mean"].shape == (80, 1), found["mean"].shape
    told = table("predict", "tokens.h5", "tokens.h5", "--weights=1,3", "--data=data.h5",
                 "--inputs=tokens", "--targets=tokens", "--samples=2", "--posterior-temperature=0.5")
    found = ip.predict(["tokens.h5", ip.load("tokens.h5")], tokens, weights=[1, 3], samples=2,
                       posterior_temperature=0.5)
    same(found, told, ["probabilities", "prediction", "mutual_information"])
    assert found["probabilities"].shape == (80, 6, 7), found["probabilities"].shape
    bytes_of = (x * 10 + 128).astype("u1")
    same(ip.predict("events.h5", bytes_of, **options),
         ip.predict("events.h5", (bytes_of / 255).astype("f4"), **options), ["logits"])
    unknown = ip.predict("number.h5", "data.h5", targets="number", likelihood="gaussian", samples=2)
    assert "metrics" not in unknown and "aleatoric_std" not in unknown
    assert "metrics" not in ip.predict("events.h5", "data.h5", targets="both", metrics=False,
                                       **options)
    assert np.shares_memory(_sources.Memory({"x": x}, "y").held[0].data, x)  # and is no copy
    graph = ip.load("events.h5").graph
    ended = onnx.load_from_string(graph)  # by what the likelihood applies itself, which is cut off
    ended.graph.node.append(onnx.helper.make_node("Sigmoid", [ended.graph.output[0].name], ["p"]))
    ended.graph.output[0].name = "p"
    ended = ip.predict("events.h5", x, graph=ended.SerializeToString(), **options)
    same(ended, alone, ["logits", "probabilities"])
    bare = ip.load("events.h5")
    bare.graph = None
    refused("the posterior: holds no graph", lambda: ip.predict(bare, x, **options))
    same(ip.predict(bare, x, graph=graph, **options), alone, ["logits"])


def check_sensitivity(data):
    scores = ["deviation", "mpe", "self-influence", "loo-loss"]
    told = table("sensitivity", "events.h5", "--data=data.h5", "--targets=both",
                 "--likelihood=bernoulli", "--vectors", "--score=" + ",".join(scores))
    names = ["loss", "residual", "deviation", "mpe", "self_influence", "loo_loss", "prediction"]
    given = {"x": data["x"], "both": data["both"]}
    for one in "data.h5", given:
        found = ip.sensitivity("events.h5", one, targets="both", likelihood="bernoulli",
                               scores=scores, vectors=True, variances=True)
        same(found, told, [name for name in names if name in told])
        assert np.array_equal(found["residual_vector"], told["residual_vector"])
        assert found["variance"].shape == (80, 2) and (found["variance"] > 0).all()
    diagonal = ip.sensitivity("events.h5", given, targets="both", likelihood="bernoulli",
                              covariance="diagonal", scores="deviation", n_train=160)
    told = table("sensitivity", "events.h5", "--data=data.h5", "--targets=both",
                 "--likelihood=bernoulli", "--covariance=diag", "--n-train=160")
    same(diagonal, told, ["deviation"])
    moved = ip.sensitivity("events.h5", given, targets="both", likelihood="bernoulli",
                           scores=["loo_loss"], leverage="newton")
    told = table("sensitivity", "events.h5", "--data=data.h5", "--targets=both",
                 "--likelihood=bernoulli", "--leverage=newton", "--score=loo-loss")
    same(moved, told, ["loo_loss"])
    sized = ip.sensitivity("events.h5", given, targets="both", likelihood="bernoulli", rho=0.5,
                           samples=3, seed=5)
    told = table("sensitivity", "events.h5", "--data=data.h5", "--targets=both",
                 "--likelihood=bernoulli", "--rho=0.5", "--expectation=samples", "--samples=3",
                 "--seed=5")
    same(sized, told, ["deviation", "residual"])
    told = table("sensitivity", "tokens.h5", "--data=data.h5", "--inputs=tokens",
                 "--targets=tokens", "--per-token", "--score=loo-loss", "--ignore-label=3")
    found = ip.sensitivity("tokens.h5", (data["tokens"], data["tokens"]), scores="loo_loss",
                           ignore_label=3)
    assert found["row_loo_loss"].shape == (80, 6) == found["row_loss"].shape
    for name in "loo_loss", "loss":
        same({name: found["row_" + name].ravel()}, told, [name])
    assert np.allclose(found["row_loss"].sum(1), found["loss"], rtol=1e-12)


def check_influence(data):
    with h5py.File("queries.h5", "w") as file:
        file["x"], file["both"] = data["x"][:7], data["both"][:7]
    matrix = table("influence", "events.h5", "--data=data.h5", "--queries=queries.h5",
                   "--targets=both", "--likelihood=bernoulli")["influence"]
    task = dict(targets="both", likelihood="bernoulli")
    given = {"x": data["x"], "both": data["both"]}
    found = ip.influence("events.h5", given, {"x": data["x"][:7], "both": data["both"][:7]}, **task)
    assert found.shape == (80, 7) and np.array_equal(found, matrix)
    for measure, told in ((dict(measure="margin"), "margin"),
                          (dict(measure="logit", output=1), "logit:1")):
        matrix_of = table("influence", "events.h5", "--data=data.h5", "--queries=queries.h5",
                          "--targets=both", "--likelihood=bernoulli", "--measure=" + told)
        asked = ip.influence("events.h5", given, "queries.h5", **measure, **task)
        assert np.array_equal(asked, matrix_of["influence"]), told
    summed = ip.sensitivity("events.h5", given, scores="influence", test_data="queries.h5", **task)
    # 7 numbers of binary32, summed.
    assert np.allclose(summed["influence"], matrix.sum(1), atol=7 * 2**-24 * np.abs(matrix).max())


def check_fit(data):
    """Fitted to the means alone; merged, with the fit and its files."""
    trained = ip.load("events.h5")
    bare = ip.from_arrays(trained.mean, graph=trained.graph)
    bare.save("bare.h5")
    given, task = {"x": data["x"], "both": data["both"]}, dict(targets="both",
                                                              likelihood="bernoulli")
    shown = ["--data=data.h5", "--targets=both", "--likelihood=bernoulli"]
    for more, told in ((dict(), []),
                       (dict(structure="diagonal", rank=3),
                        ["--structure=lowrank:diagonal", "--rank=3"]),
                       (dict(curvature="fisher", draws=2, seed=3),
                        ["--curvature=fisher", "--fisher-samples=2", "--seed=3"]),
                       (dict(ess=40, weight_decay=0.25), ["--ess=40", "--weight-decay=0.25"])):
        fitted = ip.fit(bare, given, **more, **task)
        same_posterior(fitted, ip.load(command("fit", "bare.h5", *shown, *told)))
        assert fitted.summary["examples"] == 80 and fitted.summary["rank"] == more.get("rank", 0)
    tuned = ip.fit(fitted, "data.h5", tune=True, **task)
    kept = ip.fit(fitted, "data.h5", **task)
    assert kept.weight_decay == 0.25 != tuned.weight_decay
    each = ip.fit(fitted, given, per_tensor=True, structure="diagonal", **task)
    assert len(each.own_weight_decay) > 1, each.own_weight_decay
    each.own_ess[next(iter(each.hessian))] = 5.0
    each.save("each.h5")
    same(ip.predict(each, data["x"], samples=2, **task),
         ip.predict("each.h5", data["x"], samples=2, **task), ["probabilities"])
    fitted.save("fitted.npz")
    for options, told in ((dict(), []),
                          (dict(base="events.h5", method="task-arithmetic", scale=0.5),
                           ["--base=events.h5", "--method=task-arithmetic", "--scale=0.5"]),
                          (dict(base="events.h5", base_scale=2, hessian_scale=0.5),
                           ["--base=events.h5", "--base-scale=2", "--hessian-scale=0.5"]),
                          (dict(base="events.h5", method="dare", seed=5, density=0.5),
                           ["--base=events.h5", "--method=dare", "--seed=5", "--density=0.5"])):
        merged = ip.merge(["events.h5", fitted], weights=[1, 2], **options)
        same_posterior(merged, ip.load(command("merge", "events.h5:1", "fitted.npz:2", *told)))
    diagonal = ip.merge([fitted, fitted], out_structure="diagonal")
    kept = ip.merge([fitted, fitted])
    assert not diagonal.structure.get("blocks") and kept.structure["blocks"]
    check_merges()
    told = ip.info(fitted)
    assert told["parameters"] == told["random"] == sum(m.size for m in fitted.mean.values())
    assert told["weight_decay"] == 0.25 and told["blocks"] == len(fitted.structure["blocks"])


def check_merges():
    """What becomes of tensors that differ, and of precisions that are not positive."""
    one = ip.from_arrays({"w": (np.ones(3, "f4"), np.ones(3, "f4")), "v": np.ones(2, "f4")}, ess=10,
                         weight_decay=1)
    other = ip.from_arrays({"w": (np.zeros(3, "f4"), np.full(3, 3, "f4"))}, ess=10, weight_decay=1)
    refused("'v'", lambda: ip.merge([one, other]))
    merged = ip.merge([one, other], on_mismatch="skip")
    assert list(merged.mean) == ["w"] and np.array_equal(merged.mean["w"], np.full(3, 2 / 6, "f4"))
    away = dict(base=one, weights=[-10], on_mismatch="base")
    refused("not positive", lambda: ip.merge([other], **away))
    kept = ip.merge([other], on_nonpositive="base", **away)
    assert np.array_equal(kept.mean["w"], np.ones(3, "f4"))


def check_files():
    """Other formats, by libivon; errors in its words."""
    for name in "there.safetensors", "there.npz":
        subprocess.run(["ivon-convert", "-qf", "tokens.h5", "-o", name], check=True)
        same_posterior(ip.load(name), ip.load("tokens.h5"))
        assert ip.load(name).step == ip.load("tokens.h5").step > 0
        assert ip.load(name).n_train == ip.load("tokens.h5").n_train > 0
    with h5py.File("data.h5") as file:
        np.savetxt("data.csv", np.hstack([file["x"], file["y"]]), delimiter=",")
    same(ip.sensitivity("event.h5", "data.csv", target_column="5", likelihood="bernoulli"),
         ip.sensitivity("event.h5", "data.h5", likelihood="bernoulli"), ["deviation"])
    for inputs in "tokens", ["tokens"], {"x": "tokens"}:
        same(ip.predict("tokens.h5", "data.h5", targets="tokens", inputs=inputs,
                        probabilities=True, samples=0),
             table("predict", "tokens.h5", "--data=data.h5", "--targets=tokens", "--inputs=tokens",
                   "--mean", "--probabilities"), ["probabilities"])
    counts = np.arange(80).reshape(80, 1) % 5
    task = dict(likelihood="poisson", samples=2)
    with h5py.File("data.h5") as file:
        narrow, wide = (ip.predict("number.h5", (file["x"][()], counts.astype(kind)), **task)
                        for kind in ("u1", "i8"))
    assert narrow["metrics"] == wide["metrics"] and wide["metrics"]["nll"] > 0
    options = _library.options(_library.ivon_fit_options)
    ip.Task(threads=3, memory=5, batch=2).fill(options)
    assert (options.resources.threads, options.resources.memory, options.batch) == (3, 5, 2)
    refused("with 1 threads, and has 1e-06 MB",
            lambda: ip.merge(["tokens.h5"] * 2, memory=1, threads=1))
    refused("1e-06 MB are allowed", lambda: ip.sensitivity(
        "tokens.h5", "data.h5", memory=1, targets="tokens", inputs="tokens"))
    refused("'none'", lambda: ip.predict("tokens.h5", "data.h5", graph_output="none"))
    refused("nowhere.h5: ", lambda: ip.info("nowhere.h5"))
    refused("data.h5: ", lambda: ip.predict("data.h5", "data.h5"))
    refused("has no array 'z'", lambda: ip.predict("events.h5", "data.h5", inputs={"x": "z"}))
    refused("'beta' is no likelihood, expected one of categorical, bernoulli",
            lambda: ip.predict("events.h5", "data.h5", likelihood="beta"))
    refused("'median' is no merge method", lambda: ip.merge(["tokens.h5"], method="median"))
    refused("'sum' is no score", lambda: ip.sensitivity("tokens.h5", "data.h5", scores="sum"))
    refused("go together", lambda: ip.sensitivity("tokens.h5", "data.h5", scores="influence"))
    refused("2 weights are given for 1 models", lambda: ip.merge(["tokens.h5"], weights=[1, 2]))
    refused("2 weights are given for 1 posteriors",
            lambda: ip.predict("tokens.h5", "data.h5", weights=[1, 2]))
    refused("no posterior is given", lambda: ip.predict([], "data.h5"))
    for call, name in ((ip.predict, "samples"), (ip.sensitivity, "samples"), (ip.fit, "batch")):
        refused(f"{name} is -2, expected 0 or more",
                lambda: call("tokens.h5", "data.h5", **{name: np.int64(-2)}))
    for number in 0, -5:
        refused(f"n_train is {number}, expected 1 or more",
                lambda: ip.sensitivity("tokens.h5", "data.h5", n_train=number))
    refused("has no array 'z'", lambda: ip.predict("events.h5", "data.h5", targets="z"))
    refused("there is no array 'z' of targets, but 'x', 'both'", lambda: ip.predict(
        "events.h5", {"x": np.zeros((3, 4), "f4"), "both": np.zeros((3, 2), "i8")}, targets="z"))
    for call, wrong, near in (("predict", "sample", "samples"), ("predict", "classs", "classes"),
                              ("fit", "likelyhood", "likelihood"), ("fit", "structur", "structure"),
                              ("sensitivity", "score", "scores")):
        refused(f"{call}() has no keyword '{wrong}'; did you mean '{near}'?",
                lambda: getattr(ip, call)("tokens.h5", "data.h5", **{wrong: 3}), TypeError)
    refused("influence() has no keyword 'frobnicate'", lambda: ip.influence(
        "tokens.h5", "data.h5", "data.h5", frobnicate=3), TypeError)
    refused("expected one first axis",
            lambda: ip.predict("events.h5", (np.zeros((3, 4), "f4"), np.zeros(2, "i8"))))
    refused("of type <U1, expected numbers", lambda: ip.predict("events.h5", np.array(["a"])))


def check_classes(data):
    """Targets that are names are what their numbers are, of arrays and of files."""
    names, labels = ["cat", "dog"], data["both"][:, 0]
    texts = np.array(names)[labels]
    with open("named.csv", "w") as file:
        file.write("a,b,c,d,kind\n")
        for row, name in zip(data["x"], texts):
            file.write(",".join(map(repr, map(float, row))) + f",{name}\n")
    told = ip.predict("events.h5", (data["x"], labels), samples=0)
    for given in (data["x"], texts), (data["x"], texts.astype("S")), (data["x"], labels):
        same(ip.predict("events.h5", given, samples=0, classes=names), told, ["loss"])
    same(ip.predict("events.h5", "named.csv", samples=0, classes=names, target_column="kind"), told,
         ["loss"])
    refused("target 0 is '", lambda: ip.predict("events.h5", (data["x"], texts), classes=["bird"]))


def check_old_names(data):
    """What keywords were called before goes on, and says so."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        old = ip.predict("events.h5", data["x"], samples=2, temperature=0.5)
        drawn = ip.load("events.h5").sample(seed=1, temperature=0.5)
    assert [(w.category, w.filename) for w in said] == [(DeprecationWarning, __file__)] * 2, said
    same(ip.predict("events.h5", data["x"], samples=2, posterior_temperature=0.5), old,
         ["probabilities"])
    new = ip.load("events.h5").sample(seed=1, posterior_temperature=0.5)
    same(new, drawn, list(drawn))


def check_blas(data):
    """numpy goes on with its threads, if it has the library's OpenBLAS."""
    blas = ctypes.CDLL(os.environ["IVON_LIBRARY"])
    blas.openblas_set_num_threads(2)
    ip.fit("bare.h5", (data["x"], data["both"][:, 0]))
    assert blas.openblas_get_num_threads() == 2


def check_interrupt(data):
    """An interrupt of the caller ends a run that would take hours."""
    def interrupt(*_):
        raise KeyboardInterrupt

    signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    start = time.monotonic()
    refused("", lambda: ip.predict("events.h5", data["x"], samples=10**9, metrics=False),
            KeyboardInterrupt)
    assert time.monotonic() - start < 20


def main(directory):
    os.chdir(directory)
    with h5py.File("data.h5") as file:
        data = {name: file[name][()] for name in file}
    check_predict(data)
    check_sensitivity(data)
    check_influence(data)
    check_fit(data)
    check_files()
    check_classes(data)
    check_old_names(data)
    check_blas(data)
    check_interrupt(data)
    print("the calls have the bits of the commands")


main(sys.argv[1])
