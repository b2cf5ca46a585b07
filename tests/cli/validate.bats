load common

# A small problem that a network of two layers can learn, and the run that learnt it.
setup_file() {
  export PATH=$IVON_BIN:$PATH
  cd "$BATS_FILE_TMPDIR"
  /usr/bin/python3 -c '
import h5py, numpy as np
r = np.random.default_rng(0)
with h5py.File("data.h5", "w") as f:
    for name, n in (("train", 61), ("test", 7)):
        x = r.standard_normal((n, 4)).astype("f4")
        f[name + "/x"], f[name + "/y"] = x, 1 * (x[:, 0] + x[:, 1] ** 2 + r.standard_normal(n) / 2 > .5) + (x[:, 2] > 1)'
  ivon-train -q --arch=mlp:4,6,3,tanh "--data=data.h5:/train" --lr=.1 --epochs=4 --batch=10 --seed=5 \
    --clip-norm=1 --save-every=12 -o "the run"
}

# I OPTION...: the influences by the run's last checkpoint.
I() { ivon-influence -f "$BATS_FILE_TMPDIR/the run/posterior-00000024.h5" --data="$D:/train" --queries="$D:/test" "$@"; }

setup() {
  cd "$BATS_TEST_TMPDIR"
  PATH=$IVON_BIN:$PATH
  D=$BATS_FILE_TMPDIR/data.h5
}

# spearman: Python's, by average ranks, and the jackknife over rows; `near` to what is printed.
oracle() {
  /usr/bin/python3 - "$D" <<PYTHON
import sys, csv, h5py, json, numpy as np
def ranks(v):
    return np.array([(v < a).sum() + ((v == a).sum() - 1) / 2 for a in v])
def spearman(a, b):
    return np.corrcoef(ranks(a), ranks(b))[0, 1]
def jackknife(f, n):
    each = np.array([f(np.delete(np.arange(n), i)) for i in range(n)])
    return np.sqrt((n - 1) / n * ((each - each.mean(0)) ** 2).sum(0))
def table(path):
    return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(open(path))]
def near(a, b, tolerance=1e-12):
    assert np.abs(np.float64(a) - np.float64(b)).max() <= tolerance, (a, b)
$1
PYTHON
}

@test "the score is that of trainings by hand" {
  I --validate=4 --seed=3 -j3 -o lds.h5 > lds.csv 2> notes
  I -o all.npy 2> /dev/null
  for half in 0 1 2 3; do
    oracle "
with h5py.File('lds.h5') as f, h5py.File(sys.argv[1]) as d, h5py.File('half.h5', 'w') as h:
    for name in 'xy': h[name] = d['train/' + name][()][f['rows'][$half]]"
    ivon-train -q -f --arch=mlp:4,6,3,tanh --data=half.h5 --lr=.1 --epochs=4 --batch=10 --seed=5 --clip-norm=1 \
      --save-every=0 -o half
    ivon-predict -q -f half/posterior-*.h5 --mean --data="$D:/test" --logits -o "logits-$half.h5"
    rm -r half
  done
  oracle '
f, y = h5py.File("lds.h5"), h5py.File(sys.argv[1])["test/y"][()]
rows, sums, measured = f["rows"][()], f["sum"][()], f["measured"][()]
assert rows.shape == (4, 30) and (np.diff(rows) > 0).all() and rows.max() <= 60
near(sums, [np.float64(np.load("all.npy"))[r].sum(0) for r in rows])
z = np.float64([h5py.File(f"logits-{i}.h5")["logits"][()] for i in range(4)])
loss = np.log(np.exp(z).sum(2)) - z[:, np.arange(7), y]
near(measured, loss, 1e-6) # exponentials of binary32
lines = table("lds.csv")
of = lambda kept, q: spearman(sums[kept, q], -measured[kept, q])
mean = lambda kept: np.mean([of(kept, q) for q in range(7)])
for q in range(7):
    assert spearman(sums[:, q], -loss[:, q]) == of(np.arange(4), q)
    near([lines[q]["lds"], lines[q]["standard_error"]], [of(np.arange(4), q), jackknife(lambda k: of(k, q), 4)])
assert [line["query"] for line in lines] == [*range(7), -1]
near([lines[7]["lds"], lines[7]["standard_error"]], [mean(np.arange(4)), jackknife(mean, 4)])
each = np.array([line["lds"] for line in lines[:7]])
assert open("notes").read().splitlines()[-1] == "ivon-influence: LDS %.3f over 7 queries; standard error %.2g over 4 halves, %.2g over queries" % (
    each.mean(), lines[7]["standard_error"], each.std(ddof=1) / 7 ** .5)'
  # Neither threads nor where the run is found change a bit, and queries do not change each other.
  I -q --validate=4 --seed=3 -j1 --validate-from="$BATS_FILE_TMPDIR/the run" > again.csv
  cmp lds.csv again.csv
  I -q --validate=4 --seed=3 --rows=2,5 --json > rows.jsonl
  oracle '
lines, some = table("lds.csv"), [json.loads(line) for line in open("rows.jsonl")]
assert some[:2] == [lines[2], lines[5]] and some[2]["query"] == -1
near(some[2]["lds"], (lines[2]["lds"] + lines[5]["lds"]) / 2)'
  I -q --validate=4 --seed=4 > other.csv
  run -1 cmp -s lds.csv other.csv
}

@test "what is measured may be a margin, a logit, or single tokens" {
  I -q --validate=3 -o loss.h5 > /dev/null
  I -q --validate=3 --measure=margin -o margin.h5 > margin.csv
  for c in 0 1 2; do I -q --validate=3 --measure=logit:$c -o "logit-$c.h5" > /dev/null; done
  oracle '
y = h5py.File(sys.argv[1])["test/y"][()]
f = -np.stack([h5py.File(f"logit-{c}.h5")["measured"][()] for c in range(3)], 2)
p = (np.exp(f) / np.exp(f).sum(2, keepdims=True))[:, np.arange(7), y]
margin = h5py.File("margin.h5")
near(margin["measured"], -np.log(p / (1 - p)), 1e-9)
near(h5py.File("loss.h5")["measured"], -np.log(p), 1e-6)
near(table("margin.csv")[0]["lds"], spearman(margin["sum"][:, 0], -margin["measured"][:, 0]))'
  /usr/bin/python3 -c '
import h5py, numpy as np
r = np.random.default_rng(3)
with h5py.File("tokens.h5", "w") as f:
    f["x"], y = r.integers(0, 7, (20, 5)), r.integers(0, 7, (20, 5))
    y[:, 3] = -100
    f["y"] = y'
  ivon-train -q --arch=gpt:7,5,8,2,1 --data=tokens.h5 --lr=.1 --steps=5 --batch=4 --save-every=0 -o run
  T() { ivon-influence run/posterior-*.h5 --data=tokens.h5 --queries=tokens.h5 --rows=0-1 --validate=5 "$@"; }
  T -q -o whole.h5 > whole.csv
  T --measure=token-loss -o apart.h5 > apart.csv 2> notes
  grep -qx "ivon-influence: warning: 2 of 10 queries have no score: their influences, or what was measured, are the same in all halves, or not a number" notes
  oracle '
whole, apart = h5py.File("whole.h5"), h5py.File("apart.h5")
near(apart["measured"][()].reshape(5, 2, 5).sum(2), whole["measured"])
near(apart["sum"][()].reshape(5, 2, 5).sum(2), whole["sum"], 1e-5)
lines = table("apart.csv")
assert [(l["query"], l["query_token"]) for l in lines] == [(q, t) for q in range(2) for t in range(5)] + [(-1, -1)]
assert [np.isnan(l["lds"]) for l in lines[:5]] == [False] * 3 + [True, False]
assert np.isfinite(lines[-1]["lds"])'
}

@test "a posterior that was fitted names its run, and what that began with" {
  cp -r "$BATS_FILE_TMPDIR/the run" "it's a run"
  cp "$D" data.h5
  D=data.h5
  begin=(--prior=posterior '--freeze=*bias' --lr=.05 --steps=6 --batch=10)
  ivon-train -q --from="it's a run/posterior-00000024.h5" "${begin[@]}" --data=data.h5:/train -o more
  ivon-fit -q more/posterior-00000006.h5 --data=data.h5:/train -o fitted.h5
  F() { ivon-influence -f fitted.h5 --data=data.h5:/train --queries=data.h5:/test --validate=3 "$@"; }
  F -q --validate-from=more -o lds.h5 > lds.csv
  mv "it's a run" moved
  run -66 F --validate-from=more
  [[ $output == *"ivon-influence: it's a run/posterior-00000024.h5: cannot open it: No such file or directory; the training began with it: name it by --from=POSTERIOR" ]]
  F -q --validate-from=more/posterior-00000006.h5 --from=moved/posterior-00000024.h5 > again.csv
  cmp lds.csv again.csv
  oracle '
with h5py.File("lds.h5") as f, h5py.File("data.h5") as d, h5py.File("half.h5", "w") as h:
    for name in "xy": h[name] = d["train/" + name][()][f["rows"][1]]'
  ivon-train -q --from=moved/posterior-00000024.h5 "${begin[@]}" --data=half.h5 --save-every=0 -o half
  ivon-predict -q half/posterior-*.h5 --mean --data="$D:/test" --logits -o logits.h5
  oracle '
z, y = np.float64(h5py.File("logits.h5")["logits"][()]), h5py.File("data.h5")["test/y"][()]
near(h5py.File("lds.h5")["measured"][1], np.log(np.exp(z).sum(1)) - z[np.arange(7), y], 1e-6)'
  rm lds.h5
  # Nothing is left of what was interrupted.
  run -130 timeout --preserve-status -s INT 0.7 ivon-influence -q fitted.h5 --data=data.h5:/train --queries=data.h5:/test \
    --validate=100000 --validate-from=moved -o lds.h5
  echo "$output"
  [[ -z $output || $output == "ivon-influence: interrupted" ]] # nothing where the signal came before all else
  [ ! -e lds.h5 ]
}

@test "mistakes are one clear line" {
  cp -r "$BATS_FILE_TMPDIR/the run" run
  cp "$D" data.h5
  P=run/posterior-00000024.h5
  V=(ivon-influence -q $P --data=data.h5:/train --queries=data.h5:/test --validate=3)
  refuse() { # STATUS MESSAGE COMMAND...
    run -"$1" "${@:3}"
    [ "${lines[0]}" = "ivon-influence: $2" ] || { echo "$output"; return 1; }
  }
  rows="--validate has rows of its own: --groups, --per-token, --by and --top do not go with it"
  refuse 64 "$rows" "${V[@]}" --groups=y
  refuse 64 "$rows" "${V[@]}" --per-token
  refuse 64 "$rows" "${V[@]}" --by=tensor -o x.h5
  refuse 64 "$rows" "${V[@]}" --top=3
  refuse 64 "--validate is of one posterior" "${V[@]}" $P
  refuse 64 "--validate writes several arrays: name an HDF5 file, or CSV or JSON Lines" "${V[@]}" -o x.npy
  refuse 64 "--validate-from, --from and --seed are for --validate" "${V[@]/--validate=3/}" --seed=3
  refuse 64 "--validate: '2', expected a number from 3 to 1048576" "${V[@]}" --validate=2
  printf 'a,y\n1,1\n-1,0\n2,1\n' > n.csv
  ivon-train -q --arch=linear:1,1 --data=n.csv --target-column=y --likelihood=gaussian --noise-std=0.5 --lr=.1 \
    --steps=2 --save-every=0 -o line
  N=(ivon-influence -q line/posterior-00000002.h5 --data=n.csv --queries=n.csv --target-column=y --validate)
  refuse 64 "line/posterior-00000002.h5: was trained with --likelihood=gaussian, and this is --likelihood=poisson" "${N[@]}" --likelihood=poisson
  refuse 64 "line/posterior-00000002.h5: was trained with --noise-std=0.5, and this is --noise-std=1" "${N[@]}" --likelihood=gaussian --noise-std=1
  refuse 64 "--from: the training did not begin with weights of a file" "${V[@]}" --from=$P
  refuse 66 "nowhere: cannot open it: No such file or directory" "${V[@]}" --validate-from=nowhere
  mkdir empty
  refuse 65 "empty: holds no checkpoint of ivon-train" "${V[@]}" --validate-from=empty
  refuse 65 "data.h5:/train: has one row, of which there is no half" "${V[@]}" --limit=1
  : > x.csv
  run -73 "${V[@]}" -o x.csv
  [ "$output" = "ivon-influence: x.csv: file exists; --force replaces it" ]
  none="holds no provenance of ivon-train, whose training is to be made again: --validate-from=RUN names one"
  ivon-fit -q $P --data=data.h5:/train -o fitted.h5
  refuse 65 "fitted.h5: $none" "${V[@]/$P/fitted.h5}"
  /usr/bin/python3 -c '
import h5py, json, shutil, sys
for name, command in (("other", "ivon-fit x"), ("open", "ivon-train '\''x"), ("empty", ""), ("wrong", "ivon-train --lr=x"), ("early", None)):
    shutil.copy(sys.argv[1], name + ".h5")
    with h5py.File(name + ".h5", "r+") as f:
        p = json.loads(f.attrs["provenance"])
        p["command"] = p["command"] + " --patience=2" if command is None else command
        f.attrs["provenance"] = json.dumps(p)' $P
  for name in other open empty; do
    refuse 65 "$name.h5: its provenance does not hold the command of its training" "${V[@]/$P/$name.h5}"
  done
  refuse 64 "early.h5: was trained with --patience, of which only the one training has the losses: it cannot be made again on other data" \
    "${V[@]/$P/early.h5}"
  run -64 "${V[@]/$P/wrong.h5}"
  [[ ${lines[0]} == "ivon-train: --lr: 'x', expected a "* ]]
  ivon-influence $P --data=data.h5:/train --limit=20 --queries=data.h5:/test --validate=3 2> err > /dev/null
  grep -qx "ivon-influence: warning: $P: was trained on 61 examples, and data.h5:/train has 20: are they those?" err
}
