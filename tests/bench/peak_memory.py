"""peak_memory.py LABEL COMMAND...: runs it, prints seconds, processor seconds and the greatest
memory resident in it and its descendants together, in MiB. Pages that they share count for each.
Exits with the command's code."""
import glob
import resource
import subprocess
import sys
import time


def resident(process):
    """kB, of the process's descendants too; 0 of what has ended."""
    try:
        with open(f"/proc/{process}/status") as file:
            total = sum(int(line.split()[1]) for line in file if line.startswith("VmRSS"))
        for path in glob.glob(f"/proc/{process}/task/*/children"):
            with open(path) as file:
                total += sum(resident(child) for child in file.read().split())
        return total
    except OSError:
        return 0


start, peak = time.time(), 0
running = subprocess.Popen(sys.argv[2:], stdout=subprocess.DEVNULL)
while running.poll() is None:
    peak = max(peak, resident(running.pid))
    time.sleep(0.005)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
# The kernel's own maximum, of one process, misses no moment.
peak = max(peak, used.ru_maxrss) / 1024
print(f"{sys.argv[1]}: {time.time() - start:.1f} s, {used.ru_utime + used.ru_stime:.1f} s of "
      f"processors, {peak:.0f} MiB")
sys.exit(running.returncode)
