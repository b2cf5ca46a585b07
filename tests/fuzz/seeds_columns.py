"""Writes tables to mutate, some hostile as they are, into a directory."""
import json
import os
import sys

try:
    import h5py
    import numpy as np
except ImportError as missing:
    print(f"skipped: {missing}", file=sys.stderr)
    sys.exit(77)

os.chdir(sys.argv[1])
rows = [{"step": i, "method": f"m{i % 3}", "loss": i / 7, "p": [0.5, 0.25]} for i in range(30)]

for name, options in [("plain", {}), ("chunked", dict(chunks=True, compression="gzip"))]:
    with h5py.File(name + ".h5", "w") as f:
        for key in ("step", "loss"):
            f.create_dataset(key, data=np.array([r[key] for r in rows]), **options)
        f["p"] = np.array([r["p"] for r in rows])
with h5py.File("tokens.h5", "w") as f:
    f["p"], f["loss"], f["step"], f["other"] = np.zeros((3, 4)), np.zeros((3, 4)), np.zeros(3), np.zeros((3, 5))
with h5py.File("no-tokens.h5", "w") as f:
    f["p"], f["step"] = np.zeros((3, 0)), np.zeros(3)
with h5py.File("rows-differ.h5", "w") as f:
    f["a"], f["b"] = np.zeros(3), np.zeros(4)
with h5py.File("no-column.h5", "w") as f:
    f["a"] = np.zeros((2, 2))

lines = [json.dumps(r) for r in rows]
open("rows.jsonl", "w").write("\n".join(lines) + "\n")
open("gaps.jsonl", "w").write("\r\n\n".join(lines))
open("ragged.jsonl", "w").write('{"step":1,"p":[1,2],"q":[3,"x"]}\n{"step":2,"p":[],"q":[]}\n{"step":3,"p":[4]}\n')
csv = ["step,method,\"lo\"\"ss\""] + [f"{r['step']},\"{r['method']}, \"\"x\"\"\",{r['loss']}" for r in rows]
open("rows.csv", "w").write("\n".join(csv) + "\n")
open("windows.csv", "w", newline="").write("\ufeff" + "\r\n".join(csv))
open("no-header.csv", "w").write("1,2\n3,\nnan,-inf\n")
for name, text in [("quote", 'a,b\n1,"2\n'), ("row", "a,b\n1\n"), ("commas", "," * 100000),
                   ("newlines", "\n" * 100000), ("quotes", '"' * 99999), ("blank", ""),
                   ("null", "a,b\n" + "1,2\n" * 2000 + "3,\0\n"), ("deep", '{"a":' * 50000),
                   ("twice", '{"a":1,"a":2}'), ("array", '{"a":1}\n[1]\n'), ("large", '{"a":1e999}'),
                   ("escape", '{"a\\u0000":1}'), ("surrogate", '{"a":"\\ud800"}')]:
    open(f"hostile-{name}", "w").write(text)
