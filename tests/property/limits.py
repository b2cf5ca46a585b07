"""limits.py TRIALS [SEED]: runs every command that writes with too little memory (RLIMIT_AS) and with
files that may not grow (RLIMIT_FSIZE), TRIALS times each at random limits, and checks that it ends
with one line and the right exit code, leaving nothing, or does what it does without a limit."""
import os
import random
import resource
import signal
import subprocess
import sys

import kills

MEMORY = 71  # EX_OSERR
WRITING = 74  # EX_IOERR
PATIENCE = 60


def run(arguments, limit, size):
    def restrict():
        resource.setrlimit(limit, (size, size))
        if limit == resource.RLIMIT_FSIZE:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    process = subprocess.run(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                             preexec_fn=restrict, env=environment, timeout=PATIENCE, check=False)
    return process.returncode, process.stderr


def least_address_space(command):
    """What the program takes before it does anything."""
    low, high = 1 << 20, 4 << 30
    while high - low > 1 << 18:
        middle = (low + high) // 2
        enough = run([command, "--version"], resource.RLIMIT_AS, middle)[0] == 0
        low, high = (low, middle) if enough else (middle, high)
    return high


def trial(command, limit, size, status):
    kills.clear()
    found, said = run(command.arguments, limit, size)
    left = kills.files()
    if found == 0:
        assert left == command.whole, sorted(left)
        return False
    assert found == status, (found, said)
    assert said.count(b"\n") == 1 and said.startswith(command.arguments[0].encode() + b": "), said
    left = [path for path in left if not path.endswith(".part")]  # for --resume
    assert command.trains or not left, left
    return True


def main(trials, seed):
    kills.write_inputs()
    commands = [kills.Command(line) for line in kills.COMMANDS.strip().splitlines()
                if not line.startswith("plot")]  # whose gnuplot says what it likes
    least = least_address_space("ivon-convert")
    generator = random.Random(seed)
    for name, limit, status in (("memory", resource.RLIMIT_AS, MEMORY),
                                ("file size", resource.RLIMIT_FSIZE, WRITING)):
        refused = 0
        for number in range(trials):
            command = commands[number % len(commands)]
            largest = max(len(content) for content in command.whole.values())
            size = (least + int(generator.uniform(0, 48 << 20)) if limit == resource.RLIMIT_AS
                    else int(generator.uniform(0, largest)))
            try:
                refused += trial(command, limit, size, status)
            except (AssertionError, subprocess.TimeoutExpired) as error:
                sys.exit(f"{command.name}, trial {number}, {name} {size}, seed {seed}: {error}")
        print(f"{trials} trials of too little {name}: {refused} refused with one line and {status}")
        assert refused >= trials // 4, "hardly any limit was too small"


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1)
