"""libivon by ctypes: its structs and functions as the headers (ivon/*.h) declare them.

A struct of options may lack members that its header has at the end: the library is told the size,
and these have their defaults. A test compares all this with what the compiler says.
"""
from __future__ import annotations

import ctypes
import os
import sysconfig
from contextlib import contextmanager
from ctypes import (POINTER, c_bool, c_char, c_char_p, c_double, c_float, c_int, c_int64, c_size_t,
                    c_ssize_t, c_uint, c_uint64, c_void_p)
from numbers import Integral
from typing import Any, Dict, Iterator, List, Tuple, Type

from ._arrays import PosteriorError

RANK_MAX = 8
DTYPE_KEEP = -1
# In the order of enum ivon_dtype.
DTYPES = ("f8", "f4", "f2", "bf16", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "b1")
# In the order of enum ivon_part, up to IVON_OPAQUE.
PARTS = ("mean", "hessian", "momentum", "basis_input", "basis_output", "spectrum_input",
         "spectrum_output", "gram", "lowrank_vectors", "buffers", "model.onnx", "structure.json")
# Choices, by the names that the commands give them; the place of each is its enumeration's value.
CHOICES: Dict[str, Tuple[str, ...]] = {
    "predict_method": ("samples", "linear", "linear-draws"),
    "covariance": ("full", "diagonal"),
    "leverage": ("auto", "none", "newton"),
    "mismatch": ("error", "base", "skip"),
    "nonpositive": ("error", "base"),
    "merge_structure": ("keep", "diagonal", "kronecker", "lowrank", "means"),
    "fit_structure": ("diagonal", "kronecker", "posterior"),
    "curvature": ("auto", "ggn", "fisher", "empirical"),
    "measure": ("loss", "logit", "margin", "token-loss"),
}
# Those that the library names itself, by functions of their numbers.
NAMED = {"likelihood": "ivon_likelihood_traits", "score": "ivon_score_traits",
         "merge_method": "ivon_merge_method_traits"}


def choices(of: str) -> Tuple[str, ...]:
    if of not in NAMED:
        return CHOICES[of]
    names: List[str] = []
    traits = getattr(library(), NAMED[of])
    while traits(len(names)):
        names.append(traits(len(names)).contents.name.decode())
    return tuple(names)


def choice(of: str, name: str) -> int:
    names = choices(of)
    if name not in names:
        raise PosteriorError(f"'{name}' is no {of.replace('_', ' ')}, expected one of "
                             f"{', '.join(names)}")
    return names.index(name)


class Structure(ctypes.Structure):
    """A struct whose counts refuse what is below 0, which ctypes would make huge."""

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, Integral) and int(value) < 0 and any(
                own[0] == name and own[1] in (c_size_t, c_uint64) for own in self._fields_):
            raise PosteriorError(f"{name} is {value}, expected 0 or more")
        super().__setattr__(name, value)


class ivon_error(Structure):
    _fields_ = [("code", c_int), ("hint", c_int), ("message", c_char * 1024)]


class ivon_progress(Structure):
    _fields_ = [("report", c_void_p), ("context", c_void_p)]


class ivon_resources(Structure):
    _fields_ = [("threads", c_int), ("memory", c_size_t), ("progress", ivon_progress),
                ("ranks", c_void_p), ("reserved", c_uint64 * 3)]


class ivon_tensor(Structure):
    _fields_ = [("name", c_char_p), ("part", c_int), ("dtype", c_int), ("rank", c_int),
                ("shape", c_int64 * RANK_MAX), ("count", c_size_t), ("stored_as", c_char_p),
                ("ess", c_double), ("weight_decay", c_double)]


class ivon_header(Structure):
    _fields_ = [("ess", c_double), ("weight_decay", c_double), ("step", c_int64),
                ("n_train", c_int64), ("decrement", c_double), ("creator", c_char_p),
                ("provenance", c_char_p), ("mapping", c_char_p), ("warning", c_char_p)]


class ivon_field(Structure):
    _fields_ = [("name", c_char_p), ("dtype", c_int), ("rank", c_int),
                ("shape", c_int64 * RANK_MAX), ("count", c_size_t)]


class ivon_likelihood_traits(Structure):
    _fields_ = [("name", c_char_p), ("classes", c_bool), ("regression", c_bool), ("noise", c_bool)]


class ivon_score_traits(Structure):
    _fields_ = [("name", c_char_p)]


class ivon_merge_method_traits(Structure):
    _fields_ = [("name", c_char_p)]


class ivon_feed_name(Structure):
    _fields_ = [("input", c_char_p), ("field", c_char_p)]


class ivon_task(Structure):
    _fields_ = [("likelihood", c_int), ("noise_std", c_double), ("ignored", c_int64),
                ("inputs", POINTER(ivon_feed_name)), ("input_count", c_size_t),
                ("reserved", c_uint64 * 4)]


class ivon_sample_options(Structure):
    _fields_ = [("size", c_size_t), ("seed", c_uint64), ("temperature", c_double),
                ("selected", c_void_p), ("selected_context", c_void_p), ("dtype", c_int),
                ("resources", ivon_resources), ("reserved", c_uint64 * 4)]


class ivon_dataset_options(Structure):
    _fields_ = [("size", c_size_t), ("inputs", POINTER(c_char_p)), ("input_count", c_size_t),
                ("targets", c_char_p), ("target_column", c_char_p), ("named", c_bool),
                ("targets_optional", c_bool), ("column_prefix", c_char_p), ("no_scaling", c_bool),
                ("mean", POINTER(c_double)), ("std", POINTER(c_double)),
                ("channel_count", c_size_t), ("characters", c_bool), ("context", c_size_t),
                ("stride", c_size_t), ("limit", c_uint64), ("no_sandbox", c_bool),
                ("resources", ivon_resources), ("vocabulary", c_char_p), ("text_column", c_char_p),
                ("image_channels", c_size_t), ("image_height", c_size_t), ("image_width", c_size_t),
                ("image_short_side", c_size_t), ("classes", POINTER(c_char_p)),
                ("class_count", c_size_t)]


class ivon_adapt_options(Structure):
    _fields_ = [("size", c_size_t), ("output", c_char_p), ("link", c_int),
                ("probabilities", c_bool)]


class ivon_adaptation(Structure):
    _fields_ = [("output", c_char_p), ("passed_over", c_char_p), ("cut", c_char_p)]


class ivon_bind_options(Structure):
    _fields_ = [("size", c_size_t), ("keep_graph_weights", c_bool), ("reserved", c_char * 7)]


class ivon_unbound(Structure):
    _fields_ = [("means", c_size_t), ("mean", c_char_p), ("initializers", c_size_t),
                ("initializer", c_char_p), ("unused", c_size_t), ("unused_mean", c_char_p),
                ("recognised", c_size_t), ("recognised_weight", c_char_p),
                ("recognised_mean", c_char_p)]


class ivon_metric(Structure):
    _fields_ = [("name", c_char_p), ("value", c_double), ("standard_error", c_double)]


class ivon_member(Structure):
    _fields_ = [("network", c_void_p), ("source", c_void_p), ("weight", c_double)]


class ivon_predict_options(Structure):
    _fields_ = [("size", c_size_t), ("task", ivon_task), ("samples", c_size_t),
                ("sample", ivon_sample_options), ("bins", c_int), ("logits", c_bool),
                ("nll_at_mean", c_bool), ("log_likelihoods", c_bool), ("batch", c_size_t),
                ("recalibrate", c_void_p), ("resources", ivon_resources), ("metrics", c_bool),
                ("descriptions", c_bool), ("method", c_int)]


class ivon_predict_shape(Structure):
    _fields_ = [("tokens", c_int64), ("outputs", c_size_t), ("targets", c_bool),
                ("losses", c_bool)]


class ivon_predict_metric(Structure):
    _fields_ = [("metric", ivon_metric), ("monte_carlo_error", c_double)]


class ivon_predictions(Structure):
    _fields_ = [("first", c_uint64), ("count", c_size_t), ("prediction", POINTER(c_int64)),
                ("probabilities", POINTER(c_float)), ("max_probability", POINTER(c_float)),
                ("entropy", POINTER(c_float)), ("expected_entropy", POINTER(c_float)),
                ("mutual_information", POINTER(c_float)), ("mean", POINTER(c_float)),
                ("epistemic_std", POINTER(c_float)), ("aleatoric_std", POINTER(c_float)),
                ("logits", POINTER(c_float)), ("loss", POINTER(c_double))]


class ivon_sensitivity_options(Structure):
    _fields_ = [("size", c_size_t), ("task", ivon_task), ("covariance", c_int), ("scores", c_uint),
                ("vectors", c_bool), ("variances", c_bool), ("covariances", c_bool),
                ("rho", c_double), ("n_train", c_int64), ("whole", c_void_p),
                ("samples", c_size_t), ("sample", ivon_sample_options), ("batch", c_size_t),
                ("resources", ivon_resources), ("leverage", c_int)]


class ivon_sensitivities(Structure):
    _fields_ = [("first", c_uint64), ("count", c_size_t), ("labels", POINTER(c_int64)),
                ("targets", POINTER(c_float)), ("prediction", POINTER(c_int64)),
                ("outputs", POINTER(c_float)), ("means", POINTER(c_float)),
                ("loss", POINTER(c_double)), ("residual", POINTER(c_double)),
                ("row_loss", POINTER(c_double)), ("row_residual", POINTER(c_double)),
                ("scores", POINTER(POINTER(c_double))), ("row_scores", POINTER(POINTER(c_double))),
                ("counts", POINTER(c_bool)), ("positions", POINTER(c_size_t)),
                ("row_error", POINTER(c_float)), ("row_loo_error", POINTER(c_float)),
                ("residual_vector", POINTER(c_float)), ("deviation_vector", POINTER(c_float)),
                ("variance", POINTER(c_float))]


class ivon_sensitivity_shape(Structure):
    _fields_ = [("tokens", c_int64), ("outputs", c_size_t), ("examples", c_uint64),
                ("rho", c_double), ("n_train", c_double), ("fixed", c_size_t), ("tile", c_size_t)]


class ivon_influence_options(Structure):
    _fields_ = [("size", c_size_t), ("task", ivon_task), ("measure", c_int), ("output", c_size_t),
                ("rho", c_double), ("n_train", c_int64), ("whole", c_void_p),
                ("per_token", c_bool), ("by_tensor", c_bool), ("sample", ivon_sample_options),
                ("batch", c_size_t), ("resources", ivon_resources)]


class ivon_influence_shape(Structure):
    _fields_ = [("tokens", c_int64), ("outputs", c_size_t), ("examples", c_uint64),
                ("rows", c_size_t), ("queries", c_uint64), ("rho", c_double),
                ("n_train", c_double), ("tensors", c_size_t), ("fixed", c_size_t),
                ("tile", c_size_t), ("passes", c_uint64)]


class ivon_influences(Structure):
    _fields_ = [("first", c_uint64), ("first_query", c_uint64), ("count", c_size_t),
                ("query_count", c_size_t), ("rows", c_size_t), ("influence", POINTER(c_float))]


class ivon_merge_model(Structure):
    _fields_ = [("source", c_void_p), ("weight", c_double)]


class ivon_merge_options(Structure):
    _fields_ = [("size", c_size_t), ("method", c_int), ("delta0", c_double),
                ("base_scale", c_double), ("hessian_scale", c_double), ("ess", c_double),
                ("dtype", c_int), ("on_mismatch", c_int), ("vocabulary", c_int),
                ("on_nonpositive", c_int), ("selected", c_void_p), ("selected_context", c_void_p),
                ("carries", c_void_p), ("carries_context", c_void_p), ("weight", c_void_p),
                ("weight_context", c_void_p), ("scales", POINTER(c_double)),
                ("scale_count", c_size_t), ("vectors", POINTER(c_double)),
                ("vector_count", c_size_t), ("shrink", c_double), ("out_structure", c_int),
                ("movement", c_bool), ("resources", ivon_resources), ("density", c_double),
                ("outliers", c_double), ("seed", c_uint64)]


class ivon_fit_options(Structure):
    _fields_ = [("size", c_size_t), ("task", ivon_task), ("structure", c_int), ("rank", c_size_t),
                ("curvature", c_int), ("draws", c_size_t), ("seed", c_uint64), ("reduce", c_bool),
                ("factor_moments", c_bool), ("gram", c_bool), ("factor_rows", c_size_t),
                ("ess", c_double), ("weight_decay", c_double), ("each", c_bool),
                ("selected", c_void_p), ("selected_context", c_void_p), ("batch", c_size_t),
                ("resources", ivon_resources)]


class ivon_fit_summary(Structure):
    _fields_ = [("examples", c_uint64), ("n_train", c_double), ("ess", c_double),
                ("weight_decay", c_double), ("noise_std", c_double), ("curvature", c_int),
                ("loss", c_double), ("parameters", c_size_t), ("effective", c_double),
                ("squares", c_double), ("evidence", c_double), ("decrement", c_double),
                ("blocks", c_size_t), ("rank", c_size_t), ("first", c_double), ("last", c_double),
                ("bytes", c_size_t), ("passes", c_size_t), ("columns", c_size_t),
                ("products", c_size_t), ("tile", c_size_t), ("passes_done", c_size_t),
                ("examples_done", c_uint64)]


class ivon_summary(Structure):
    _fields_ = [("name", c_char_p), ("mean", c_size_t), ("hessian", c_size_t),
                ("count", c_uint64), ("hessian_count", c_uint64), ("mean_nonfinite", c_uint64),
                ("hessian_nonfinite", c_uint64), ("nonpositive", c_uint64),
                ("mean_norm", c_double), ("hessian_min", c_double), ("hessian_max", c_double),
                ("hessian_quantiles", c_double * 5), ("signal_to_noise", c_double * 5),
                ("shapes_differ", c_bool), ("hessian_at_start", c_bool), ("in_block", c_bool),
                ("effective", c_double)]


class ivon_structure(Structure):
    _fields_ = [("blocks", c_size_t), ("rank", c_size_t), ("fitted", c_bool),
                ("draw_bytes", c_size_t), ("covariance_bytes", c_size_t)]


_out, _error = POINTER(c_void_p), POINTER(ivon_error)

# Result and arguments. Pointers to what is opaque are void pointers.
FUNCTIONS: Dict[str, Tuple[Any, List[Any]]] = {
    "ivon_likelihood_traits": (POINTER(ivon_likelihood_traits), [c_int]),
    "ivon_likelihood_targets": (c_size_t, [c_int, c_size_t]),
    "ivon_score_traits": (POINTER(ivon_score_traits), [c_int]),
    "ivon_merge_method_traits": (POINTER(ivon_merge_method_traits), [c_int]),
    "ivon_checkpoint_open": (c_int, [_out, c_char_p, c_void_p, _error]),
    "ivon_source_from_memory": (c_int, [_out, c_char_p, POINTER(ivon_header),
                                        POINTER(ivon_tensor), _out, c_size_t, _error]),
    "ivon_source_close": (None, [c_void_p]),
    "ivon_source_header": (POINTER(ivon_header), [c_void_p]),
    "ivon_source_tensor_count": (c_size_t, [c_void_p]),
    "ivon_source_tensor": (POINTER(ivon_tensor), [c_void_p, c_size_t]),
    "ivon_source_read": (c_int, [c_void_p, c_size_t, c_size_t, c_size_t, c_void_p, _error]),
    "ivon_sink_to_memory": (c_int, [_out, POINTER(ivon_tensor), _out, c_size_t, _error]),
    "ivon_sink_commit": (c_int, [c_void_p, _error]),
    "ivon_sink_close": (None, [c_void_p]),
    "ivon_dataset_open": (c_int, [_out, c_char_p, POINTER(ivon_dataset_options), _error]),
    "ivon_examples_from_memory": (c_int, [_out, c_char_p, c_uint64, POINTER(ivon_field), _out,
                                          c_size_t, _error]),
    "ivon_examples_close": (None, [c_void_p]),
    "ivon_examples_count": (c_uint64, [c_void_p]),
    "ivon_examples_find": (c_ssize_t, [c_void_p, c_char_p]),
    "ivon_onnx_open": (c_int, [_out, c_char_p, _error]),
    "ivon_onnx_from_memory": (c_int, [_out, c_char_p, c_void_p, c_size_t, _error]),
    "ivon_onnx_from_checkpoint": (c_int, [_out, c_void_p, _error]),
    "ivon_onnx_write": (c_int, [_out, POINTER(c_size_t), c_void_p, c_void_p, _error]),
    "ivon_network_free": (None, [c_void_p]),
    "ivon_network_input": (c_char_p, [c_void_p, c_size_t]),
    "ivon_network_adapt": (c_int, [c_void_p, c_void_p, POINTER(ivon_adapt_options),
                                   POINTER(ivon_adaptation), _error]),
    "ivon_network_bind": (c_int, [c_void_p, c_void_p, POINTER(ivon_bind_options),
                                  POINTER(ivon_unbound), _error]),
    "ivon_predictor_new": (c_int, [_out, POINTER(ivon_member), c_size_t, c_void_p, c_char_p,
                                   POINTER(ivon_predict_options), _error]),
    "ivon_predictor_free": (None, [c_void_p]),
    "ivon_predictor_shape": (ivon_predict_shape, [c_void_p]),
    "ivon_predictor_run": (c_int, [c_void_p, c_void_p, c_void_p, _error]),
    "ivon_predictor_metrics": (POINTER(ivon_predict_metric), [c_void_p, POINTER(c_size_t)]),
    "ivon_sensitivity_new": (c_int, [_out, c_void_p, c_void_p, c_void_p, c_char_p,
                                     POINTER(ivon_sensitivity_options), _error]),
    "ivon_sensitivity_free": (None, [c_void_p]),
    "ivon_sensitivity_shape": (ivon_sensitivity_shape, [c_void_p]),
    "ivon_sensitivity_set_test_data": (c_int, [c_void_p, c_void_p, c_char_p, _error]),
    "ivon_sensitivity_run": (c_int, [c_void_p, c_uint64, c_void_p, c_void_p, _error]),
    "ivon_influence_new": (c_int, [_out, c_void_p, c_void_p, c_void_p, c_char_p,
                                   POINTER(ivon_influence_options), _error]),
    "ivon_influence_free": (None, [c_void_p]),
    "ivon_influence_add_queries": (c_int, [c_void_p, c_void_p, c_char_p, _error]),
    "ivon_influence_shape": (ivon_influence_shape, [c_void_p]),
    "ivon_influence_run": (c_int, [c_void_p, c_void_p, c_void_p, _error]),
    "ivon_merge_plan": (c_int, [_out, c_void_p, POINTER(ivon_merge_model), c_size_t,
                                POINTER(ivon_merge_options), _error]),
    "ivon_merge_free": (None, [c_void_p]),
    "ivon_merge_outputs": (POINTER(ivon_tensor), [c_void_p, POINTER(c_size_t)]),
    "ivon_merge_header": (ivon_header, [c_void_p, c_size_t]),
    "ivon_merge_run": (c_int, [c_void_p, _out, _error]),
    "ivon_fit_new": (c_int, [_out, c_void_p, c_void_p, c_void_p, c_char_p,
                             POINTER(ivon_fit_options), _error]),
    "ivon_fit_free": (None, [c_void_p]),
    "ivon_fit_run": (c_int, [c_void_p, _error]),
    "ivon_fit_correct": (c_int, [c_void_p, _error]),
    "ivon_fit_summary": (ivon_fit_summary, [c_void_p]),
    "ivon_fit_source": (c_int, [_out, c_void_p, c_void_p, c_size_t, _error]),
    "ivon_summary_new": (c_int, [_out, c_void_p, c_void_p, _error]),
    "ivon_summary_free": (None, [c_void_p]),
    "ivon_summary_total": (POINTER(ivon_summary), [c_void_p]),
    "ivon_structure_describe": (c_int, [POINTER(ivon_structure), c_void_p, _error]),
}
OPTIONS = ("dataset", "adapt", "bind", "predict", "sensitivity", "influence", "merge", "fit")
FUNCTIONS.update({f"ivon_{name}_options_init": (None, [c_void_p, c_size_t]) for name in OPTIONS})

ON_BLOCK = ctypes.CFUNCTYPE(c_int, c_void_p, c_void_p, c_void_p)
REPORT = ctypes.CFUNCTYPE(c_int, c_void_p, c_uint64, c_uint64)

_loaded: Dict[str, ctypes.CDLL] = {}


def _candidates() -> Iterator[str]:
    """The library of the prefix below which this package lies: of lib/python3/dist-packages."""
    folder = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    multiarch = sysconfig.get_config_var("MULTIARCH")
    for _ in range(4):
        for below in ("lib", os.path.join("lib", multiarch or ""), "lib64"):
            yield os.path.join(folder, below, "libivon.so.1")
        folder = os.path.dirname(folder)


def library() -> ctypes.CDLL:
    """libivon: what the environment variable IVON_LIBRARY names, else the library of the prefix
    that this package is installed in, else the loader's."""
    if "" in _loaded:
        return _loaded[""]
    named = os.environ.get("IVON_LIBRARY")
    path = named or next((at for at in _candidates() if os.path.exists(at)), "libivon.so.1")
    try:
        found = ctypes.CDLL(path)
        for name, (result, arguments) in FUNCTIONS.items():
            function = getattr(found, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError) as error:
        raise PosteriorError(f"libivon is not found: {error}. It comes with the ivon commands; "
                             "IVON_LIBRARY may name the file libivon.so.1") from error
    _loaded[""] = found
    return found


@contextmanager
def _blas_kept(found: ctypes.CDLL) -> Iterator[None]:
    """Running a network sets OpenBLAS to one thread, and numpy may have the same OpenBLAS."""
    try:
        threads, set_threads = found.openblas_get_num_threads, found.openblas_set_num_threads
    except AttributeError:  # the library has it within, or under other names
        yield
        return
    before = threads()
    try:
        yield
    finally:
        if threads() != before:
            set_threads(before)


def call(name: str, *arguments: Any) -> None:
    """Calls a function that returns a code and takes a struct ivon_error at the end."""
    error, found = ivon_error(), library()
    with _blas_kept(found):
        code = getattr(found, name)(*arguments, ctypes.byref(error))
    if code:
        raise PosteriorError(error.message.decode(errors="replace"))


def options(kind: Type[Any]) -> Any:
    """The defaults of a struct of options."""
    made = kind()
    getattr(library(), kind.__name__ + "_init")(ctypes.byref(made), ctypes.sizeof(made))
    return made
