"""Writes checkpoints as PyTorch has them, without PyTorch: to mutate, and hostile-*.pt that no
reader may accept, into a directory."""
import io
import os
import pickle
import struct
import sys
import types
import zipfile
from collections import OrderedDict, defaultdict

os.chdir(sys.argv[1])

# Stand-ins that a pickle refers to by name.
torch, utils, storage_module = (types.ModuleType(name) for name in
                                ("torch", "torch._utils", "torch.storage"))
sys.modules.update({"torch": torch, "torch._utils": utils, "torch.storage": storage_module})
for module, names in [
        (torch, "Double Float Half BFloat16 Long Int Short Char Byte Bool ComplexFloat".split()),
        (storage_module, ["Untyped"])]:
    for name in names:
        name += "Storage"
        setattr(module, name, type(name, (), {"__module__": module.__name__}))
SIZES = {"Double": 8, "Long": 8, "Float": 4, "Int": 4, "Half": 2, "BFloat16": 2, "Short": 2,
         "ComplexFloat": 8}


class Dtype:
    def __reduce__(self):
        return "uint16"


torch.uint16 = Dtype()
Dtype.__module__ = "torch"


def function(module, name):
    def stand_in():
        pass
    stand_in.__module__, stand_in.__name__, stand_in.__qualname__ = module.__name__, name, name
    setattr(module, name, stand_in)
    return stand_in


rebuild = function(utils, "_rebuild_tensor_v2")
rebuild_typed = function(utils, "_rebuild_tensor_v3")
rebuild_parameter = function(utils, "_rebuild_parameter")


class Storage:
    def __init__(self, count, kind="Float", key=None, claimed=None):
        self.kind, self.count, self.key = kind, count, key
        self.claimed = count if claimed is None else claimed

    def bytes(self):
        return bytes((i * 37) % 251 & 0x3f for i in range(self.count * SIZES.get(self.kind, 1)))


class Tensor:
    def __init__(self, storage, shape, offset=0, strides=None, typed=False):
        self.storage, self.shape, self.offset, self.typed = storage, shape, offset, typed
        if strides is None:
            strides, step = [], 1
            for extent in reversed(shape):
                strides.insert(0, step)
                step *= extent
        self.strides = tuple(strides)

    def __reduce__(self):
        common = self.storage, self.offset, self.shape, self.strides, False, OrderedDict()
        return (rebuild_typed, common + (torch.uint16,)) if self.typed else (rebuild, common)


class Parameter:
    def __init__(self, tensor):
        self.tensor = tensor

    def __reduce__(self):
        return rebuild_parameter, (self.tensor, True, OrderedDict())


class Call:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


class Pickler(pickle.Pickler):
    def __init__(self, file, protocol, storages):
        super().__init__(file, protocol)
        self.storages = storages

    def persistent_id(self, thing):
        if not isinstance(thing, Storage):
            return None
        if thing not in self.storages:
            self.storages.append(thing)
        key = str(self.storages.index(thing)) if thing.key is None else thing.key
        module = storage_module if thing.kind == "Untyped" else torch
        return "storage", getattr(module, thing.kind + "Storage"), key, "cpu", thing.claimed


def archive(name, data, storages=(), extra=(), method=zipfile.ZIP_STORED, prefix="archive/"):
    with zipfile.ZipFile(name + ".pt", "w", method) as file:
        file.writestr(prefix + "data.pkl", data)
        for i, storage in enumerate(storages):
            file.writestr(f"{prefix}data/{i}", storage.bytes())
        for path, content in (("version", "3\n"), *extra):
            file.writestr(prefix + path, content)


def save(name, value, protocol=2, **more):
    stream, storages = io.BytesIO(), []
    Pickler(stream, protocol, storages).dump(value)
    archive(name, stream.getvalue(), storages, **more)


def state(storage, transposed=False, wrap=lambda tensor: tensor):
    """Three parameters in a row, and two buffers."""
    return OrderedDict([
        ("a.weight", wrap(Tensor(storage, (3, 4), 0, (1, 3) if transposed else None))),
        ("a.bias", Tensor(storage, (3,), 12)),
        ("a.running_mean", Tensor(Storage(3), (3,))),
        ("a.num_batches_tracked", Tensor(Storage(1, "Long"), ())),
        ("b.weight", Tensor(storage, (5,), 15))])


def optimizer(sizes=(20,), counts=(3,), **more):
    groups, index = [], 0
    for size, count in zip(sizes, counts):
        groups.append(dict(lr=0.1, ess=100.0, weight_decay=1e-3, hess_init=1.0, numel=size,
                           hess=Tensor(Storage(size), (size,)),
                           momentum=Tensor(Storage(size), (size,)),
                           params=list(range(index, index + count)), **more))
        index += count
    return {"state": {"count": 0}, "param_groups": groups}


def adam():
    shapes = (3, 4), (3,), (5,)
    states = {i: {"step": 3, **{key: Tensor(Storage(12), s) for key in ("exp_avg", "exp_avg_sq")}}
              for i, s in enumerate(shapes)}
    return {"state": states,
            "param_groups": [dict(lr=1e-3, betas=(0.9, 0.75), params=[0, 1, 2])]}


# What is read.
flat = Storage(20)
save("plain", {"model": state(flat), "optimizer": optimizer()})
for protocol in (3, 4, 5):
    save(f"protocol-{protocol}", {"model": state(flat), "optimizer": optimizer()}, protocol)
save("deflated", {"model": state(flat), "optimizer": optimizer()}, method=zipfile.ZIP_DEFLATED)
save("transposed", {"model": state(flat, True), "optimizer": optimizer()})
save("parameters", {"model": state(flat, wrap=Parameter), "optimizer": optimizer()})
save("little", state(flat), extra=[("byteorder", "little"), (".format_version", "1")])
save("copied", {"model": {f"p.{i}": Tensor(Storage(n), (n,)) for i, n in enumerate((3, 4, 5))},
                "optimizer": optimizer((12,))})
save("groups", {"model": {f"p.{i}": Tensor(Storage(n), (n,)) for i, n in enumerate((3, 4, 5))},
                "optimizer": optimizer((7, 5), (2, 1))})
save("named", {"model": {"module.a": Tensor(flat, (4,)), "module.b": Tensor(Storage(3), (3,))},
               "optimizer": optimizer((7,), (2,), param_names=["b", "a"])})
save("adam", {"model": state(flat), "optimizer": adam()})
save("squares", OrderedDict(a=Tensor(flat, (20,)), tied=Tensor(flat, (20,))))
save("types", {k: Tensor(Storage(2, k), (2,)) for k in
               "Double Float Half BFloat16 Long Int Short Char Byte Bool".split()})
save("typed", {"a": Tensor(flat, (2,)), "b": Tensor(Storage(6, "Untyped"), (3,), typed=True)})
save("strides", {"expanded": Tensor(flat, (2, 3, 4), 1, (0, 4, 0)), "empty": Tensor(flat, (0, 2)),
                 "every": Tensor(flat, (3,), 2, (7,)), "scalar": Tensor(flat, (), 19),
                 "cube": Tensor(flat, (2, 2, 5), 0, (1, 2, 4))})
save("beside", {"args": types.SimpleNamespace(x=1), "call": Call(os.system, "touch called"),
                "more": defaultdict(int, a=1), "set": {1, 2}, "big": 2**100, "model": state(flat)})
# Of two numbers, as the last item on the stack.
TENSOR = (b"ctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\nFloatStorage\n"
          b"X\x01\0\0\x000X\x03\0\0\0cpuK\x02tQK\x00K\x02\x85K\x01\x85\x89NtR")
archive("attributes", b"ccollections\nOrderedDict\n)RX\x01\0\0\0a" + TENSOR +
        b"s}X\x09\0\0\0_metadataNsb.", [Storage(2)])


# What is not.

def hostile(name, value, **more):
    save("hostile-" + name, value, **more)


hostile("call", {"model": Call(os.system, "touch called")})
hostile("call-within", {"model": {**state(flat), "x": Call(os.system, "touch called")}})
hostile("big-endian", state(flat), extra=[("byteorder", "big")])
hostile("byte-order", state(flat), extra=[("byteorder", "l" * 1000)])
hostile("script", state(flat), extra=[("constants.pkl", "")])
hostile("code", state(flat), extra=[("code/a.py", "")])
hostile("transposed", state(flat, True), method=zipfile.ZIP_DEFLATED)
hostile("complex", {"a": Tensor(Storage(2, "ComplexFloat"), (2,))})
hostile("missing", {"a": Tensor(Storage(2, key="9"), (2,))})
hostile("key", {"a": Tensor(Storage(2, key="../" * 2000), (2,))})
hostile("twice", {"state_dict": {"a": Tensor(flat, (2,))}, "module": {"b": Tensor(flat, (2,))}})
hostile("ambiguous", {"model": {k: Tensor(Storage(4), (4,)) for k in "abc"},
                      "optimizer": optimizer((8,), (2,))})
hostile("other", {"model": state(flat), "optimizer": optimizer((21,))})
hostile("names", {"model": {"a/../b": Tensor(flat, (2,))}})
hostile("zero", {"a\0b": Tensor(flat, (2,))})
hostile("nothing", {})
hostile("list", [1, 2, 3])
for name, tensor in [
        ("beyond", Tensor(flat, (3,), 18)), ("negative", Tensor(flat, (-1,))),
        ("backwards", Tensor(flat, (3,), 5, (-1,))), ("before", Tensor(flat, (3,), -1)),
        ("large", Tensor(flat, (2**40, 2**30))), ("strides", Tensor(flat, (2,), 0, (2**62,))),
        ("offset", Tensor(flat, (2, 2), 2**62, (2**62, 2**62))), ("ranks", Tensor(flat, (1,) * 9)),
        ("expanded", Tensor(flat, (2**40,), 0, (0,))), ("uneven", Tensor(flat, (3,), 0, (1, 1))),
        ("claimed", Tensor(Storage(2, claimed=3), (2,))),
        ("overflow", Tensor(Storage(2, claimed=2**62), (2,))),
        ("below", Tensor(Storage(2, claimed=-1), (2,)))]:
    hostile("tensor-" + name, {"a": tensor})
for name, change in [("numel", dict(numel=3)), ("momentum", dict(momentum=Tensor(flat, (2,)))),
                     ("ess", dict(ess="many")), ("params", dict(params=[])),
                     ("integers", dict(hess=Tensor(Storage(20, "Long"), (20,)))),
                     ("matrix", dict(hess=Tensor(flat, (4, 5)))),
                     ("strange", dict(param_names=["x", "y", "z"])),
                     ("same", dict(params=["a.bias", "a.bias", "a.bias"])),
                     ("buffer", dict(params=["a.running_mean", "a.bias", "b.weight"]))]:
    trained = optimizer()
    trained["param_groups"][0].update(change)
    hostile("group-" + name, {"model": state(flat), "optimizer": trained})

for name, data in [
        ("empty", b""), ("protocol", b"\x80\x09."), ("opcode", b"\x80\x02\xff."),
        ("deep", b"(" * 100000), ("tuples", b")" + b"\x85" * 100000 + b"."),
        ("dicts", b"}q\0" + b"}X\x01\0\0\0ah\0s" * 9 + b"."),
        ("memo", b"Nr\xff\xff\xff\x7f."), ("text", b"X\xff\xff\xff\x7fabc."),
        ("long", b"\x8b\xff\xff\xff\x7f."), ("name", b"c" + b"m" * 5000 + b"\nn\n."),
        # Two references to the level below, forty times.
        ("shared", b"]q\0" + b"0" + b"".join(b"](h\0h\0eq\0" for _ in range(40)) + b"."),
        ("shared-dicts", b"}q\0" + b"".join(b"0}(K\x01h\0K\x02h\0uq\0" for _ in range(40)) + b"."),
        ("itself", b"}q\0X\x01\0\0\0ah\0s."),
        ("long-key", b"}(X" + struct.pack("<I", 100000) + b"k" * 100000 + b"q\0N" +
         b"h\0N" * 50000 + b"u.")]:
    archive("hostile-pickle-" + name, data)


def references(count):
    """A large dict, to which many may refer."""
    return b"(" + b"K\x01N" * count + b"dq\0"


many = 50000
for name, data in [
        ("lists", references(many) + b"0](" + b"h\0" * many + b"e."),
        ("groups", references(many) + b"0}(X\x0c\0\0\0param_groups](" + b"h\0" * many +
         b"eX\x05\0\0\0state}u."),
        ("states", references(many) + b"0}(X\x0c\0\0\0param_groups](}eX\x05\0\0\0state}(" +
         b"K\x01h\0" * many + b"uu.")]:
    archive("hostile-many-" + name, data)
# Many dicts, each of which has the same many groups, and the same many states.
archive("hostile-many-optimizers", b"X\x0c\0\0\0param_groupsq\0X\x05\0\0\0stateq\1](" +
        b"}" * many + b"eq\2(" + b"K\0}" * many + b"dq\x03" + b"](" + b"}(h\0h\2h\1h\3u" * many +
        b"e.")
archive("hostile-many-names", TENSOR + b"q\0000X\xff\xff\0\0" + b"n" * 65535 + b"q\x010}(" +
        b"h\1h\0" * many + b"u.", [Storage(2)])
archive("bomb", b"]" * (1 << 27) + b".", method=zipfile.ZIP_DEFLATED)

whole = open("plain.pt", "rb").read()
open("hostile-cut.pt", "wb").write(whole[:-30])
open("hostile-legacy.pt", "wb").write(bytes.fromhex("80028a0a6cfc9c46f920") + bytes(100))
open("hostile-bare.pt", "wb").write(pickle.dumps({"a": 1}))
with zipfile.ZipFile("hostile-two.pt", "w") as file:
    file.writestr("a/data.pkl", b"N.")
    file.writestr("b/data.pkl", b"N.")
