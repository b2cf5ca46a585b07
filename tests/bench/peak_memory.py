"""peak_memory.py LABEL COMMAND...: runs it, prints seconds, processor seconds, the greatest memory resident in it and its
descendants together, in MiB, and how much of that was of no file. Pages that they share count for each.
Exits with the command's code."""
import glob
import resource
import subprocess
import sys
import time


def resident(process):
    """kB in all, and kB of no file, of the process's descendants too; 0 of what has ended."""
    try:
        with open(f"/proc/{process}/status") as file:
            lines = [line.split() for line in file]
        found = {line[0]: int(line[1]) for line in lines if line and line[0] in ("VmRSS:", "RssAnon:")}
        total, anonymous = found.get("VmRSS:", 0), found.get("RssAnon:", 0)
        for path in glob.glob(f"/proc/{process}/task/*/children"):
            with open(path) as file:
                for child in file.read().split():
                    more = resident(child)
                    total, anonymous = total + more[0], anonymous + more[1]
        return total, anonymous
    except OSError:
        return 0, 0


start, peak, anonymous = time.time(), 0, 0
running = subprocess.Popen(sys.argv[2:], stdout=subprocess.DEVNULL)
while running.poll() is None:
    now = resident(running.pid)
    peak, anonymous = max(peak, now[0]), max(anonymous, now[1])
    time.sleep(0.005)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
# The kernel's own maximum, of one process, misses no moment.
peak = max(peak, used.ru_maxrss) / 1024
print(f"{sys.argv[1]}: {time.time() - start:.1f} s, {used.ru_utime + used.ru_stime:.1f} s of "
      f"processors, {peak:.0f} MiB, {anonymous / 1024:.0f} MiB of no file")
sys.exit(running.returncode)
