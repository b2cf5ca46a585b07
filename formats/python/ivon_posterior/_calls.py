"""The computations of libivon on posteriors and data in files or in memory."""
from __future__ import annotations

import ctypes
import difflib
import os
import threading
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, fields
from typing import Any, Callable, Dict, Iterable, List, Optional, Sequence, Tuple, Union

import numpy

from . import _library as lib
from ._arrays import PosteriorError, is_torch, temperature_of
from ._posterior import Path, Posterior
from ._sources import (TARGETS, Data, Given, Wanted, examples, made, network_inputs, opened,
                       posterior_of, read_source, room)

Arrays = Dict[str, Any]
NAN = float("nan")
LINKS = ("identity", "softmax", "logistic")  # in the order of enum ivon_link


@dataclass
class Task:
    """The keywords that every call takes which runs a network.

    likelihood      what the outputs are to the targets: "categorical", "bernoulli", "gaussian",
                    "poisson" or "heteroscedastic"
    noise_std       of gaussian targets
    ignore_label    the label of what does not count; None: none
    graph           the network, an ONNX file or its bytes; default: the posterior's own
    graph_output    the name of its output; default: the first
    probabilities   its outputs are probabilities, not logits
    inputs          the array of the data that it takes, by name, or several, or a dictionary of
                    them by its inputs' names; default: "x", or where there are several inputs,
                    arrays of their names
    targets         the name of the array of targets
    target_column   of a CSV file
    classes         the names of the classes, by their numbers from 0, where targets are names
    batch           examples at a time in one thread
    memory          bytes beside the weights
    threads         default: one for each processor
    """

    likelihood: str = "categorical"
    noise_std: Optional[float] = None
    ignore_label: Optional[int] = -100
    graph: Union[None, bytes, Path] = None
    graph_output: Optional[str] = None
    probabilities: bool = False
    inputs: Union[None, str, Sequence[str], Mapping[str, str]] = None
    targets: str = TARGETS
    target_column: Optional[str] = None
    classes: Optional[Sequence[str]] = None
    batch: int = 0
    memory: int = 0
    threads: int = 0
    held: List[Any] = field(default_factory=list, init=False, repr=False)

    def fill(self, options: Any) -> None:
        task = options.task
        task.likelihood = lib.choice("likelihood", self.likelihood)
        task.noise_std = NAN if self.noise_std is None else self.noise_std
        task.ignored = -2**63 if self.ignore_label is None else self.ignore_label
        pairs = [(name.encode(), array.encode()) for name, array in self.inputs.items()] \
            if isinstance(self.inputs, Mapping) else []
        feeds = (lib.ivon_feed_name * len(pairs))(*(lib.ivon_feed_name(*pair) for pair in pairs))
        self.held.append(feeds)
        task.inputs = ctypes.cast(feeds, ctypes.POINTER(lib.ivon_feed_name))
        task.input_count = len(pairs)
        options.batch = self.batch
        options.resources.threads = self.threads
        options.resources.memory = self.memory

    @property
    def traits(self) -> Any:
        """What the likelihood is like."""
        return lib.library().ivon_likelihood_traits(
            lib.choice("likelihood", self.likelihood)).contents

    def means(self, outputs: int) -> int:
        """How many means a regression predicts in a row of so many outputs."""
        return lib.library().ivon_likelihood_targets(
            lib.choice("likelihood", self.likelihood), outputs)

    def network(self, stack: ExitStack, source: ctypes.c_void_p) -> ctypes.c_void_p:
        """The graph, adapted and bound to the source."""
        free = "ivon_network_free"
        if self.graph is None:
            network = stack.enter_context(made(free, "ivon_onnx_from_checkpoint", source))
        elif isinstance(self.graph, bytes):
            network = stack.enter_context(made(free, "ivon_onnx_from_memory", b"the graph",
                                               self.graph, len(self.graph)))
        else:
            network = stack.enter_context(made(free, "ivon_onnx_open", os.fsencode(self.graph)))
        adapt = lib.options(lib.ivon_adapt_options)
        traits = self.traits
        adapt.link = LINKS.index("identity" if traits.regression else
                                 "softmax" if traits.classes else "logistic")
        adapt.probabilities = self.probabilities
        adapt.output = None if self.graph_output is None else self.graph_output.encode()
        lib.call("ivon_network_adapt", network, source, adapt, lib.ivon_adaptation())
        lib.call("ivon_network_bind", network, source, None, lib.ivon_unbound())
        return network

    def examples(self, stack: ExitStack, data: Data, network: ctypes.c_void_p) -> ctypes.c_void_p:
        names = self.inputs
        if names is not None:
            names = [names] if isinstance(names, str) else list(
                names.values() if isinstance(names, Mapping) else names)
        wanted = Wanted(self.targets, self.target_column, names, self.classes)
        return stack.enter_context(examples(data, wanted, network_inputs(network)))


def _task(call: str, own: Sequence[str], given: Dict[str, Any]) -> Task:
    """The Task of a call's other keywords, of which an unknown one names the nearest."""
    known = [member.name for member in fields(Task) if member.init]
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, [*known, *own], 1)
            raise TypeError(f"{call}() has no keyword '{name}'" +
                            (f"; did you mean '{near[0]}'?" if near else ""))
    return Task(**given)


def _keywords(call: Callable[..., Any]) -> List[str]:
    return list(call.__kwdefaults__ or ())


class Run:
    """A computation in a thread of its own, so that an interrupt reaches the caller, who then stops
    it; and the blocks that it hands out."""

    def __init__(self, options: Any, take: Optional[Callable[[int], None]] = None) -> None:
        self.stopped = False
        self.failure: List[BaseException] = []
        self.report = lib.REPORT(lambda context, done, total: int(self.stopped))
        options.resources.progress.report = ctypes.cast(self.report, ctypes.c_void_p)
        self.take = take
        self.on_block = lib.ON_BLOCK(self._block)

    def _block(self, context: Any, block: int, error: Any) -> int:
        try:
            assert self.take is not None
            self.take(block)
        except BaseException as failure:  # which C cannot carry
            self.failure.append(failure)
            return 1
        return int(self.stopped)

    def _work(self, arguments: Tuple[Any, ...], done: threading.Event) -> None:
        try:
            lib.call(*arguments)
        except BaseException as failure:
            self.failure.append(failure)
        finally:
            done.set()

    def __call__(self, *arguments: Any) -> None:
        # Thread.join(), interrupted, takes a thread that goes on for one that has ended.
        done = threading.Event()
        threading.Thread(target=self._work, args=(arguments, done)).start()
        interrupt: Optional[BaseException] = None
        while not done.is_set():
            try:
                done.wait(0.1)
            except BaseException as failure:  # the caller's memory stays until the end
                interrupt, self.stopped = failure, True
        if interrupt or self.failure:
            raise interrupt or self.failure[0]


class Blocks:
    """Arrays over all examples, of the blocks that arrive: members of a struct with the type of an
    element and the shape of an example's part."""

    def __init__(self, kind: Any, count: int, members: Dict[str, Tuple[Any, ...]]) -> None:
        self.kind, self.count, self.members = kind, count, members
        self.arrays: Arrays = {}

    def __call__(self, address: int) -> None:
        block = self.kind.from_address(address)
        for name, shape in self.members.items():
            self.put(name, getattr(block, name), block.first, block.count, shape)

    def put(self, name: str, pointer: Any, first: int, count: int, shape: Tuple[Any, ...]) -> None:
        if not pointer or not count:
            return
        found = numpy.ctypeslib.as_array(pointer, (count, *shape))
        if name not in self.arrays:
            self.arrays[name] = numpy.empty((self.count, *shape), found.dtype)
        self.arrays[name][first:first + count] = found


def _rows(shape: Any) -> Tuple[int, ...]:
    """The axes of an example's rows: that of its tokens, if there are any."""
    return (shape.tokens,) if shape.tokens else ()


def _n_train(given: Optional[int]) -> int:
    if given is not None and given < 1:
        raise PosteriorError(f"n_train is {given}, expected 1 or more")
    return -1 if given is None else given


def _members(given: Any) -> List[Given]:
    return list(given) if isinstance(given, (list, tuple)) else [given]


def predict(posterior: Union[Given, Sequence[Given]], data: Data, *, samples: int = 64,
            seed: int = 0, posterior_temperature: float = 1.0, method: str = "samples",
            weights: Optional[Sequence[float]] = None, logits: bool = False, metrics: bool = True,
            **task: Any) -> Arrays:
    """Predictions, averaged over weight samples: what ivon-predict(1) writes.

    `posterior` is a path, a Posterior, or a list of these, an ensemble with `weights`. `data` is a
    path as the commands' --data takes it, one array of inputs, a pair of inputs and targets, or a
    dictionary of arrays by name; arrays are not copied, and bytes are divided by 255. `samples` of
    0 predicts at the mean. `method` is "samples", or of a network linearised at the mean "linear",
    in closed form, or "linear-draws". Other keywords are those of `Task`.

    Returns arrays of N examples, of T tokens where the network has an axis of these, and K outputs:
    probabilities (N x K), prediction, max_probability, entropy, expected_entropy and
    mutual_information in nats (N); of regression mean, epistemic_std and aleatoric_std (N x K);
    logits, those at the mean, where asked for. Where there are targets, loss is -log of their
    averaged density (N), `metrics` a dictionary of numbers, and `errors` of their standard errors
    over examples.
    """
    posterior_temperature = temperature_of("predict", posterior_temperature,
                                           task.pop("temperature", None))
    common = _task("predict", _keywords(predict), task)
    options = lib.options(lib.ivon_predict_options)
    common.fill(options)
    options.samples, options.sample.seed = samples, seed
    options.sample.temperature = posterior_temperature
    options.method = lib.choice("predict_method", method)
    options.logits = logits
    options.metrics = metrics and not (common.traits.noise and common.noise_std is None)
    given = _members(posterior)
    if not given:
        raise PosteriorError("no posterior is given")
    if weights is not None and len(weights) != len(given):
        raise PosteriorError(f"{len(weights)} weights are given for {len(given)} posteriors")
    with ExitStack() as stack:
        members = (lib.ivon_member * len(given))()
        for i, member in enumerate(given):
            members[i].source = stack.enter_context(opened(member)).value
            members[i].network = common.network(stack, members[i].source).value
            members[i].weight = 1.0 if weights is None else weights[i]
        handle = common.examples(stack, data, members[0].network)
        library = lib.library()
        name: Optional[bytes] = common.targets.encode()
        if library.ivon_examples_find(handle, name) < 0:
            name = None
        run = Run(options)
        predictor = stack.enter_context(made(
            "ivon_predictor_free", "ivon_predictor_new", members, len(given), handle, name,
            options))
        shape = library.ivon_predictor_shape(predictor)
        rows = _rows(shape)
        wide, means = (*rows, shape.outputs), (*rows, common.means(shape.outputs))
        one = rows if common.traits.classes else wide
        run.take = blocks = Blocks(
            lib.ivon_predictions, library.ivon_examples_count(handle),
            dict(prediction=one, probabilities=wide, max_probability=rows, entropy=rows,
                 expected_entropy=rows, mutual_information=rows, mean=means, epistemic_std=means,
                 aleatoric_std=means, logits=wide, loss=rows))
        run("ivon_predictor_run", predictor, run.on_block, None)
        found = blocks.arrays
        if name is not None and options.metrics:
            found["metrics"], found["errors"] = _metrics(predictor)
    return found


def _metrics(predictor: ctypes.c_void_p) -> Tuple[Dict[str, float], Dict[str, float]]:
    count = ctypes.c_size_t()
    found = lib.library().ivon_predictor_metrics(predictor, ctypes.byref(count))
    metrics = [found[i].metric for i in range(count.value)] if found else []
    return ({metric.name.decode(): metric.value for metric in metrics},
            {metric.name.decode(): metric.standard_error for metric in metrics})


def sensitivity(posterior: Given, data: Data, *, scores: Union[str, Iterable[str]] = "deviation",
                covariance: str = "full", leverage: str = "auto", samples: int = 0, seed: int = 0,
                rho: Optional[float] = None, n_train: Optional[int] = None,
                test_data: Optional[Data] = None, vectors: bool = False, variances: bool = False,
                **task: Any) -> Arrays:
    """What removing each training example changes: what ivon-sensitivity(1) writes.

    `scores` are of "deviation", "mpe", "self_influence", "loo_loss" and "influence", which needs
    `test_data`. `posterior`, `data` and other keywords are as predict() takes them; data need
    targets.

    Returns arrays of N examples: loss, residual and each score (N), and where there are tokens
    row_loss and the scores' row_NAME (N x T); prediction; with `vectors` residual_vector and
    deviation_vector (N x K), with `variances` variance (N x K).
    """
    names = [name.replace("-", "_") for name in (
        [scores] if isinstance(scores, str) else scores)]
    common = _task("sensitivity", _keywords(sensitivity), task)
    options = lib.options(lib.ivon_sensitivity_options)
    common.fill(options)
    options.scores = 0
    for name in names:
        options.scores |= 1 << lib.choice("score", name)
    if ("influence" in names) != (test_data is not None):
        raise PosteriorError("the score 'influence' and test_data go together")
    options.covariance = lib.choice("covariance", covariance)
    options.leverage = lib.choice("leverage", leverage)
    options.samples, options.sample.seed = samples, seed
    options.rho = NAN if rho is None else rho
    options.n_train = _n_train(n_train)
    options.vectors, options.variances = vectors, variances
    with ExitStack() as stack:
        source = stack.enter_context(opened(posterior))
        network = common.network(stack, source)
        handle = common.examples(stack, data, network)
        run, targets, library = Run(options), common.targets.encode(), lib.library()
        made_of = stack.enter_context(made(
            "ivon_sensitivity_free", "ivon_sensitivity_new", network, source, handle, targets,
            options))
        if test_data is not None:
            test = common.examples(stack, test_data, network)
            lib.call("ivon_sensitivity_set_test_data", made_of, test, targets)
        shape = library.ivon_sensitivity_shape(made_of)
        run.take = blocks = _Scores(shape, names, common.traits.classes)
        run("ivon_sensitivity_run", made_of, 0, run.on_block, None)
    return blocks.arrays


class _Scores(Blocks):
    """The blocks of a sensitivity, whose scores are arrays of their own."""

    def __init__(self, shape: Any, names: List[str], classes: bool) -> None:
        rows = _rows(shape)
        wide = (*rows, shape.outputs)
        one = rows if classes else wide
        super().__init__(lib.ivon_sensitivities, shape.examples,
                         dict(prediction=one, loss=(), residual=(), residual_vector=wide,
                              deviation_vector=wide, variance=wide,
                              **({"row_loss": rows} if rows else {})))
        self.names, self.rows = names, rows

    def __call__(self, address: int) -> None:
        super().__call__(address)
        block = self.kind.from_address(address)
        for name in self.names:
            score = lib.choice("score", name)
            self.put(name, block.scores[score], block.first, block.count, ())
            if self.rows:
                self.put("row_" + name, block.row_scores[score], block.first, block.count,
                         self.rows)


def influence(posterior: Given, data: Data, queries: Data, *, measure: str = "loss",
              output: int = 0, rho: Optional[float] = None, n_train: Optional[int] = None,
              **task: Any) -> numpy.ndarray:
    """The influence of each training example on each query, N x Q: by how much removing the example
    raises the measure of the query. The matrix that ivon-influence(1) writes.

    `measure` is "loss", "logit" (the negative of one `output`), "margin", or "token-loss", of which
    each token is a query. Other arguments are as sensitivity() takes them.
    """
    common = _task("influence", _keywords(influence), task)
    options = lib.options(lib.ivon_influence_options)
    common.fill(options)
    options.measure, options.output = lib.choice("measure", measure), output
    options.rho = NAN if rho is None else rho
    options.n_train = _n_train(n_train)
    with ExitStack() as stack:
        source = stack.enter_context(opened(posterior))
        network = common.network(stack, source)
        handle = common.examples(stack, data, network)
        asked = common.examples(stack, queries, network)
        run, targets = Run(options), common.targets.encode()
        made_of = stack.enter_context(made(
            "ivon_influence_free", "ivon_influence_new", network, source, handle, targets,
            options))
        lib.call("ivon_influence_add_queries", made_of, asked, targets)
        shape = lib.library().ivon_influence_shape(made_of)
        matrix = numpy.empty((shape.examples, shape.queries), "f4")

        def take(address: int) -> None:
            block = lib.ivon_influences.from_address(address)
            found = numpy.ctypeslib.as_array(block.influence, (block.count, block.query_count))
            matrix[block.first:block.first + block.count,
                   block.first_query:block.first_query + block.query_count] = found

        run.take = take
        run("ivon_influence_run", made_of, run.on_block, None)
    return matrix


def merge(models: Sequence[Given], *, base: Optional[Given] = None, method: Optional[str] = None,
          weights: Optional[Sequence[float]] = None, scale: float = 1.0,
          delta0: Optional[float] = None, base_scale: float = 1.0, hessian_scale: float = 1.0,
          ess: Optional[float] = None, on_mismatch: str = "error", on_nonpositive: str = "error",
          out_structure: str = "keep", density: Optional[float] = None,
          outliers: Optional[float] = None, seed: int = 0, memory: int = 0,
          threads: int = 0) -> Posterior:
    """The merged posterior of models that were finetuned from one `base`: see ivon-merge(1), whose
    options the arguments are. Models are paths, Posteriors or dictionaries of arrays, in memory
    without a copy. `method` is by default "gradient-matching" with a base, else "hessian". The
    result has tensors of torch where a Posterior that is given has them.
    """
    options = lib.options(lib.ivon_merge_options)
    options.method = lib.choice("merge_method", method or (
        "hessian" if base is None else "gradient-matching"))
    for key, value in dict(delta0=delta0, ess=ess, density=density, outliers=outliers).items():
        setattr(options, key, NAN if value is None else value)
    options.base_scale, options.hessian_scale, options.seed = base_scale, hessian_scale, seed
    options.on_mismatch = lib.choice("mismatch", on_mismatch)
    options.on_nonpositive = lib.choice("nonpositive", on_nonpositive)
    options.out_structure = lib.choice("merge_structure", out_structure)
    options.scales, options.scale_count = ctypes.pointer(ctypes.c_double(scale)), 1
    options.resources.memory, options.resources.threads = memory, threads
    if weights is not None and len(weights) != len(models):
        raise PosteriorError(f"{len(weights)} weights are given for {len(models)} models")
    library, run = lib.library(), Run(options)
    with ExitStack() as stack:
        inputs = (lib.ivon_merge_model * len(models))()
        for i, model in enumerate(models):
            inputs[i].source = stack.enter_context(opened(model)).value
            inputs[i].weight = 1.0 if weights is None else weights[i]
        ground = None if base is None else stack.enter_context(opened(base))
        plan = stack.enter_context(made("ivon_merge_free", "ivon_merge_plan", ground, inputs,
                                        len(models), options))
        count = ctypes.c_size_t()
        tensors = library.ivon_merge_outputs(plan, ctypes.byref(count))
        contents = [room(tensors[i]) for i in range(count.value)]
        places = (ctypes.c_void_p * count.value)(*(c.data.ctypes.data for c in contents))
        sink = stack.enter_context(made("ivon_sink_close", "ivon_sink_to_memory", tensors, places,
                                        count.value))
        run("ivon_merge_run", plan, (ctypes.c_void_p * 1)(sink))
        lib.call("ivon_sink_commit", sink)
        merged = posterior_of(library.ivon_merge_header(plan, 0),
                              [tensors[i] for i in range(count.value)], contents,
                              any(map(_is_of_torch, models)))
    return merged


def _is_of_torch(given: Given) -> bool:
    """Whether a posterior has tensors of torch, which what is made of it has then, too."""
    return isinstance(given, Posterior) and any(map(is_torch, given.mean.values()))


def fit(model: Given, data: Data, *, structure: str = "kronecker", rank: int = 0,
        curvature: str = "auto", draws: int = 1, seed: int = 0, ess: Optional[float] = None,
        weight_decay: Optional[float] = None, tune: bool = False, per_tensor: bool = False,
        **task: Any) -> Posterior:
    """A posterior for a trained network, whose weights are the mean: see ivon-fit(1).

    `model` is a checkpoint's path, or in memory what from_model(), from_arrays() or load() gave;
    with it goes the graph, its own or the keyword `graph`. `structure` is "diagonal", "kronecker",
    or "posterior", the model's own Hessians, for a low-rank correction of that `rank`; the others
    take one, too. `weight_decay` is by default the model's own; where it has none, or to `tune`,
    the one of greatest evidence, or `per_tensor` of each Hessian its own. Other keywords are those
    of `Task`.

    Returns a Posterior with the graph, of torch where `model` is one, as from_model() gives it; its
    `summary` has the numbers that ivon-fit prints.
    """
    common = _task("fit", _keywords(fit), task)
    options = lib.options(lib.ivon_fit_options)
    common.fill(options)
    if structure == "lowrank":
        raise PosteriorError("structure 'lowrank': it is a rank upon 'kronecker' or 'diagonal', "
                             "such as rank=200")
    options.structure, options.rank = lib.choice("fit_structure", structure), rank
    options.curvature, options.draws, options.seed = lib.choice("curvature", curvature), draws, seed
    options.ess = NAN if ess is None else ess
    options.weight_decay = NAN if weight_decay is None else weight_decay
    options.each = per_tensor
    with ExitStack() as stack:
        source = stack.enter_context(opened(model))
        own = lib.library().ivon_source_header(source).contents.weight_decay
        if weight_decay is None and own >= 0 and structure != "posterior" and not (
                tune or per_tensor):
            options.weight_decay = own
        network = common.network(stack, source)
        handle = common.examples(stack, data, network)
        run = Run(options)
        fitted = stack.enter_context(made("ivon_fit_free", "ivon_fit_new", network, source, handle,
                                          common.targets.encode(), options))
        run("ivon_fit_run", fitted)
        if rank:
            run("ivon_fit_correct", fitted)
        graph = _graph_bytes(network)
        result = stack.enter_context(made("ivon_source_close", "ivon_fit_source", fitted, graph,
                                          len(graph)))
        posterior = read_source(result, _is_of_torch(model))
        posterior.summary = _fit_summary(lib.library().ivon_fit_summary(fitted))
        if not common.traits.noise:
            del posterior.summary["noise_std"]
    return posterior


def _graph_bytes(network: ctypes.c_void_p) -> bytes:
    size, free = ctypes.c_size_t(), ctypes.CDLL(None).free
    free.argtypes, free.restype = [ctypes.c_void_p], None
    place = ctypes.c_void_p()
    lib.call("ivon_onnx_write", ctypes.byref(place), ctypes.byref(size), network, None)
    try:
        return ctypes.string_at(place, size.value)
    finally:
        free(place)


def _fit_summary(summary: Any) -> Dict[str, float]:
    """By the names that ivon-fit --json has."""
    found = dict(examples=summary.examples, n_train=summary.n_train, parameters=summary.parameters,
                 blocks=summary.blocks, rank=summary.rank, loss=summary.loss,
                 squared_norm=summary.squares, ess=summary.ess, weight_decay=summary.weight_decay,
                 noise_std=summary.noise_std, effective_parameters=summary.effective,
                 log_evidence=summary.evidence, newton_decrement=summary.decrement)
    return {name: value for name, value in found.items() if value == value}


def info(posterior: Given) -> Dict[str, Any]:
    """What a posterior is: numbers of its header, counts, norms and quantiles, as ivon-info(1) has
    them. Quantiles are .05, .25, .5, .75 and .95."""
    library = lib.library()
    with ExitStack() as stack:
        source = stack.enter_context(opened(posterior))
        header = library.ivon_source_header(source).contents
        structure = lib.ivon_structure()
        lib.call("ivon_structure_describe", ctypes.byref(structure), source)
        summaries = stack.enter_context(made("ivon_summary_free", "ivon_summary_new", source, None))
        total = library.ivon_summary_total(summaries).contents
        found = dict(ess=header.ess, weight_decay=header.weight_decay, parameters=total.count,
                     random=total.hessian_count, blocks=structure.blocks, rank=structure.rank,
                     mean_norm=total.mean_norm, hessian_min=total.hessian_min,
                     hessian_max=total.hessian_max, effective=total.effective,
                     nonpositive=total.nonpositive, nonfinite=total.mean_nonfinite +
                     total.hessian_nonfinite, hessian_quantiles=list(total.hessian_quantiles),
                     signal_to_noise=list(total.signal_to_noise))
        for key in ("step", "n_train"):
            if getattr(header, key) >= 0:
                found[key] = getattr(header, key)
    return found
