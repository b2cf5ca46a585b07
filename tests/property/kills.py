"""kills.py KILLS [SEED]: ends every command that writes at random moments, KILLS times by SIGKILL and
as often by SIGTERM, and checks what is left: of each output the old file, the whole new one or
nothing; after SIGTERM no temporary file, and after SIGKILL none once the command has run again.
Outputs are the same bits whenever they are made, so that "whole" is what a run makes that nobody
disturbs."""
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import time

import h5py
import numpy as np

OLD = b"what was there before\n"
# Each command with a name, and what its outputs are called.
COMMANDS = """
convert-h5: ivon-convert -qf in/p.h5 --dtype=bf16 --no-provenance -o o.h5
convert-npz: ivon-convert -qf in/p.h5 --no-provenance -o o.npz
convert-safetensors: ivon-convert -qf in/p.h5 --no-provenance -o o.safetensors
convert-shards: ivon-convert -qf in/p.h5 --no-provenance --shard-size=1500k -o o.safetensors.index.json
merge: ivon-merge -qf --base=in/p.h5 in/p.h5 in/q.h5 --no-provenance -o o.h5
merge-sweep: ivon-merge -qf --base=in/p.h5 in/q.h5 --sweep=0.5:1:0.5 --no-provenance -o o-%g.h5
merge-adapter: ivon-merge -qf --base=in/p.h5 in/q.h5 --lora-rank=64 --no-provenance -o o/
merge-directory: ivon-merge -qf --base=in/p.h5 in/p.h5 in/q.h5 --no-provenance -o o/
sample: ivon-sample -qf in/p.h5 -n 3 --no-provenance -o o-%d.h5
fit: ivon-fit -qf in/p.h5 --data=in/d.h5 --curvature=empirical --no-provenance -o o.h5
fit-lowrank: ivon-fit -qf in/p.h5 --data=in/d.h5 --structure=lowrank:diagonal --rank=3 --no-provenance -o o.h5
predict: ivon-predict -qf in/p.h5 --data=in/d.h5 -n 5 --no-provenance --log-likelihoods=l.h5 -o o.csv
predict-h5: ivon-predict -qf in/p.h5 --data=in/d.h5 -n 5 --no-provenance -o o.h5
sensitivity: ivon-sensitivity -qf in/p.h5 --data=in/d.h5 --no-provenance -o o.csv
sensitivity-h5: ivon-sensitivity -qf in/p.h5 --data=in/d.h5 --no-provenance --vectors -o o.h5
influence: ivon-influence -qf in/p.h5 --data=in/d.h5 --queries=in/d.h5 --rows=0-3 --no-provenance -o o.csv
influence-h5: ivon-influence -qf in/p.h5 --data=in/d.h5 --queries=in/d.h5 --rows=0-9 --no-provenance -o o.h5
predict-gen: ivon-predict-gen -qf in/p.h5 --data=in/d.h5 --samples=3 --no-provenance -o o.jsonl
plot: ivon-plot -f sensitivity in/s.csv -o o.svg
train: ivon-train -qf --arch=mlp:32,64,10 --data=in/d.h5 --test=in/d.h5 --lr=.1 --batch=50 --epochs=2 --save-every=10 --no-provenance -o run
"""


def write_inputs():
    """A network of 400,000 parameters, so that what is written takes a while; and its data."""
    os.mkdir("in")
    r = np.random.default_rng(0)
    with h5py.File("in/d.h5", "w") as file:
        file["x"], file["y"] = r.standard_normal((600, 32)).astype("f4"), r.integers(0, 10, 600)
    for name, seed in ("p", 1), ("q", 2):
        subprocess.run(["ivon-train", "-q", "--arch=mlp:32,600,600,10", "--data=in/d.h5", "--lr=.1",
                        "--batch=300", "--steps=2", "--save-every=0", f"--seed={seed}", "-o",
                        name], check=True)
        os.rename(f"{name}/posterior-00000002.h5", f"in/{name}.h5")
        shutil.rmtree(name)
    subprocess.run(["ivon-sensitivity", "-q", "in/p.h5", "--data=in/d.h5", "--score=deviation",
                    "--limit=50", "-o", "in/s.csv"], check=True)


def files():
    """Everything but the inputs, by path."""
    found = {}
    for folder, _, names in os.walk("."):
        for name in names:
            path = os.path.relpath(os.path.join(folder, name))
            if not path.startswith("in/"):
                with open(path, "rb") as file:
                    found[path] = file.read()
    return found


def clear():
    for name in os.listdir("."):
        if name != "in":
            shutil.rmtree(name) if os.path.isdir(name) else os.unlink(name)


def temporary(path):
    return any(name.startswith(".") and name.endswith(".ivon-tmp") for name in path.split("/"))


class Command:
    def __init__(self, line):
        self.name, _, text = line.partition(": ")
        self.arguments = shlex.split(text)
        self.trains = self.arguments[0] == "ivon-train"
        clear()
        begin = time.monotonic()
        subprocess.run(self.arguments, check=True)
        self.seconds = time.monotonic() - begin
        self.whole = files()
        assert self.whole, self.name

    def kill(self, moment, how):
        process = subprocess.Popen(self.arguments, stderr=subprocess.PIPE)
        try:
            _, said = process.communicate(timeout=moment)
        except subprocess.TimeoutExpired:
            process.send_signal(how)
            _, said = process.communicate()
        assert process.returncode in (0, -how, 128 + how), (process.returncode, said)
        assert said.count(b"\n") <= 1, said
        return process.returncode

    def check(self, before, how):
        hidden = [name for name in os.listdir(".") if temporary(name)]
        assert how == signal.SIGKILL or not hidden, f"{hidden} is left"
        for path, found in files().items():
            if temporary(path):
                assert how == signal.SIGKILL, f"{path} is left"
            elif path.endswith(".part"):
                continue  # for --resume
            elif self.trains and path.endswith(".csv"):
                assert self.whole[path].startswith(found), f"{path} is no beginning"
            elif self.trains and path not in self.whole:  # saved because of the signal
                subprocess.run(["ivon-info", "--json", path], check=True,
                               stdout=subprocess.DEVNULL)
            else:
                assert found in (before.get(path), self.whole.get(path)), f"{path} is in between"
        if self.name == "merge-directory" and os.path.exists("o") and not before:
            assert "o/README.md" in files() and "o/model.safetensors" in files(), "o is incomplete"
        if self.name == "merge-adapter" and os.path.exists("o") and not before:
            assert set(files()) >= set(self.whole), "o is incomplete"

    def again(self):
        arguments = self.arguments
        if self.trains and files():
            arguments = ["-q" if a == "-qf" else a for a in arguments] + ["--resume"]
        if arguments[0] == "ivon-fit":
            arguments = [*arguments, "--resume"]
        subprocess.run(arguments, check=True)
        found = files()
        if self.trains:  # what a signal made it save stays
            found = {path: content for path, content in found.items()
                     if path in self.whole or not path.endswith(".h5")}
        assert found == self.whole, (sorted(found), sorted(self.whole))

    def trial(self, generator, how):
        clear()
        before = {}
        if not self.trains and generator.random() < 0.5:
            before = {path: OLD for path in self.whole}
        for path, content in before.items():
            os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
            with open(path, "wb") as file:
                file.write(content)
        status = self.kill(generator.uniform(0, 1.2 * self.seconds), how)
        self.check(before, how)
        self.again()
        return status


def main(kills, seed):
    write_inputs()
    commands = [Command(line) for line in COMMANDS.strip().splitlines()]
    generator = random.Random(seed)
    for how in signal.SIGKILL, signal.SIGTERM:
        disturbed = 0
        for trial in range(kills):
            command = commands[trial % len(commands)]
            try:
                disturbed += command.trial(generator, how) != 0
            except (AssertionError, subprocess.CalledProcessError) as error:
                sys.exit(f"{command.name}, trial {trial} of {how.name}, seed {seed}: {error}")
        print(f"{kills} times {how.name}: {disturbed} before the end, all outputs old, new or none")
        assert disturbed >= kills // 3, "most came too late"


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1)
