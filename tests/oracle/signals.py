"""signals.py TRIALS < COMMANDS: stops each command by SIGTERM at TRIALS moments of its run, spread
evenly, and checks that it ends within a second of its own time, with the signal's status or as it
would have, says at most one line, and leaves no temporary file."""
import os
import shlex
import signal
import subprocess
import sys
import time


def run(command, seconds):
    """Status, what it says, and how long it took to end after the signal."""
    with open("signalled.out", "wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.PIPE)
        try:
            _, said = process.communicate(timeout=seconds)
            return process.returncode, said, 0.0
        except subprocess.TimeoutExpired:
            pass
        begin = time.monotonic()
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate()
        return process.returncode, said, time.monotonic() - begin


def main(trials):
    worst, where = 0.0, ""
    for line in sys.stdin:
        command = shlex.split(line)
        begin = time.monotonic()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        whole = time.monotonic() - begin
        for trial in range(trials):
            status, said, late = run(command, whole * (trial + 0.5) / trials)
            moment = f"{line.strip()}: SIGTERM at {(trial + 0.5) / trials:.2f} of {whole:.2f} s"
            assert status in (0, -signal.SIGTERM, 128 + signal.SIGTERM), (moment, status, said)
            assert said.count(b"\n") <= 1, (moment, said)
            left = [name for name in os.listdir(".") if name.endswith(".ivon-tmp")]
            assert not left, (moment, status, left)
            worst, where = max((worst, where), (late, moment))
    print(f"ended at most {worst:.2f} s late: {where}")
    assert worst <= float(os.environ.get("IVON_SIGNAL_SECONDS", "1")), where


if __name__ == "__main__":
    main(int(sys.argv[1]))
