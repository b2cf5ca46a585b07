load common

# A network of four classes, whose names need quotes and are not ASCII; its data with labels as numbers
# and as names, in CSV with a header and without, and in HDF5.
setup_file() {
  cd "$BATS_FILE_TMPDIR"
  PATH=$IVON_BIN:$PATH
  /usr/bin/python3 - << 'PYTHON'
import csv, h5py, numpy as np
r = np.random.default_rng(1)
names = ["cat", "polar bear", 'a "b", c', "ωx"]
open("names.txt", "w").write("\r\n".join(names) + "\n")
open("three.txt", "w").write("a\nb\nc\n")
open("shifted.txt", "w").write("\ufeff1\n2\n3\n0\n")
y = np.arange(60) % 4
x = r.integers(0, 256, (60, 3, 2), dtype="u1")
x[:, 0] = 60 * y[:, None]
with h5py.File("data.h5", "w") as f:
    f["x"], f["y"], f["named/x"], f["odd/x"] = x, y, x, x
    f.create_dataset("named/y", data=[names[i] for i in y], dtype=h5py.string_dtype())
    f.create_dataset("odd/y", data=["cat"] * 59 + ["dog"], dtype=h5py.string_dtype())
named = [names[i] for i in y]
as_bytes = np.array([n.encode() for n in named])
np.save("x.npy", x), np.save("U.npy", np.array(named)), np.save("S.npy", as_bytes)
np.savez("U.npz", x=x, y=np.array(named).astype(">U30")), np.savez_compressed("S.npz", x=x, y=as_bytes)
np.savez("dog.npz", x=x, y=np.array(["cat"] * 59 + ["dog"]))
np.savez("pairs.npz", x=x, y=np.array(named).reshape(60, 1)), np.savez("long.npz", x=x, y=as_bytes.astype("S1025"))
np.savez("words.npz", x=np.array(named), y=y)
for path, labels, header in (("number", y, 1), ("name", [names[i] for i in y], 1), ("bare", [names[i] for i in y], 0),
                             ("two", ["cat", "wolf"], 1)):
    with open(path + ".csv", "w", newline="") as f:
        rows = csv.writer(f, lineterminator="\n")
        rows.writerows([[*"abcdef", "kind"]] * header)
        rows.writerows([*map(repr, (p.ravel() / 255).tolist()), label] for p, label in zip(x, labels))
PYTHON
  ivon-train -q --no-provenance --arch=mlp:6,8,4 --data=name.csv --target-column=kind --classes=names.txt --lr=.1 --epochs=6 \
    --batch=20 --save-every=0 -o run
  ivon-train -q --no-provenance --arch=mlp:6,8,4 --data=number.csv --target-column=kind --lr=.1 --epochs=6 --batch=20 \
    --save-every=0 -o other
  mv run/posterior-*.h5 p.h5
  mv other/posterior-*.h5 other.h5
}
here() { cd "$BATS_FILE_TMPDIR"; }

# names FILE COLUMN...: the columns of a CSV have names of classes; prints it with numbers in their place.
numbers() {
  $python - "$@" << 'PYTHON'
import csv, sys
names = ["cat", "polar bear", 'a "b", c', "ωx"]
rows = list(csv.reader(open(sys.argv[1])))
for row in rows[1:]:
    for column in sys.argv[2:]:
        row[rows[0].index(column)] = names.index(row[rows[0].index(column)])
csv.writer(sys.stdout, lineterminator="\n").writerows(rows)
PYTHON
}

@test "names are the numbers of the lines, in every form of data" {
  here
  cmp p.h5 other.h5
  ivon-sensitivity -q p.h5 --data=data.h5 > plain.csv
  for data in "data.h5" "data.h5:/named" x.npy,U.npy x.npy,S.npy U.npz S.npz "number.csv --target-column=kind" "name.csv --target-column=kind" "bare.csv --target-column=7"; do
    ivon-sensitivity -q p.h5 --data=$data --classes=names.txt > named.csv
    numbers named.csv label prediction | cmp - plain.csv
  done
  ivon-sensitivity -q p.h5 --data=data.h5:/named --classes=names.txt -o t.h5
  $python -c '
import h5py, csv
with h5py.File("t.h5") as f:
    assert f["label"][()].tolist() == [int(r["label"]) for r in csv.DictReader(open("plain.csv"))]'
}

@test "every table of classes has the names" {
  here
  named="--data=name.csv --target-column=kind --classes=names.txt" plain="--data=number.csv --target-column=kind"
  both() { # COLUMNS COMMAND ARGUMENT...
    "${@:2}" $plain > plain.csv
    "${@:2}" $named > named.csv
    numbers named.csv $1 | cmp - plain.csv
  }
  both "label suggested" ivon-sensitivity -q p.h5 --suspects
  both "label confused" ivon-sensitivity -q p.h5 --suspects=classes
  both group ivon-sensitivity -q p.h5 --groups=kind
  both 'prediction label' ivon-predict -q p.h5
  both prediction ivon-predict -q p.h5 --acquire=entropy
  both label ivon-influence -q p.h5 --queries=number.csv --rows=3,7
  both group ivon-influence -q p.h5 --queries=number.csv --rows=3,7 --groups=kind
  both class ivon-predict-gen -q p.h5 --by-class
  ivon-predict -q p.h5 $plain > p.csv
  ivon-predict -q --average p.csv --classes=names.txt > named.csv
  numbers named.csv prediction > back.csv
  ivon-predict -q --average p.csv | cmp - back.csv
  ivon-fit -q p.h5 $named --structure=diagonal -o fit.h5 --force
  same() { "$@" $plain | sed 's/number.csv/name.csv/' > plain.txt; "$@" $named | cmp - plain.txt; }
  same ivon-prune -q p.h5 --keep=.5
  same ivon-calibrate -q p.csv
  ivon-merge -q p.h5 other.h5 -o merged.h5 --force --weights=simplex:1 --evaluate=number.csv --target-column=kind > plain.txt
  ivon-merge -q p.h5 other.h5 -o merged.h5 --force --weights=simplex:1 --evaluate=name.csv --target-column=kind --classes=names.txt > named.txt
  cmp <(sed 's/number/name/g' plain.txt) named.txt
  ivon-predict -q p.h5 $plain --metrics --by-class > plain.txt
  ivon-predict -q p.h5 $named --metrics --by-class --groups=kind > named.txt
  grep -q '^group.cat.rows' named.txt
  for k in 0 1 2 3; do name=(cat polar_bear 'a_"b",_c' ωx); echo "${name[k]}"; done > words
  sed -n 's/^class\.\(.*\)\.rows .*/\1/p' named.txt | cmp - words
  [ "$(grep ^class named.txt | awk '{print $NF, $(NF-1), $(NF-2)}')" = "$(grep ^class plain.txt | awk '{print $NF, $(NF-1), $(NF-2)}')" ]
  ivon-predict -q p.h5 $named --metrics --by-class --json | $python -c '
import json, sys
assert list(json.load(sys.stdin)["classes"]) == ["cat", "polar bear", "a \"b\", c", "ωx"]'
}

@test "a prediction set is a list of names" {
  here
  ivon-calibrate -q p.h5 --conformal=aps --data=name.csv --target-column=kind --classes=names.txt -o sets.json --force
  for format in csv jsonl; do
    ivon-predict -q p.h5 --data=data.h5 --calibration=sets.json --format=$format > plain.$format
    ivon-predict -q p.h5 --data=data.h5 --calibration=sets.json --format=$format --classes=names.txt > named.$format
  done
  $python - << 'PYTHON'
import csv, json
names = ["cat", "polar bear", 'a "b", c', "ωx"]
rows = list(csv.DictReader(open("plain.csv")))
sets = [[n for k, n in enumerate(names) if r[f"set{k}"] == "1"] for r in rows]
assert len({len(s) for s in sets}) > 1
assert [r["prediction_set"] for r in csv.DictReader(open("named.csv"))] == ["|".join(s) for s in sets]
assert [json.loads(l)["prediction_set"] for l in open("named.jsonl")] == sets
PYTHON
}

@test "pictures have the names" {
  here
  ivon-sensitivity -q p.h5 --data=data.h5:/named --classes=names.txt > t.csv
  ivon-sensitivity -q p.h5 --data=data.h5 > n.csv
  ivon-influence -q p.h5 --data=data.h5:/named --queries=data.h5:/named --classes=names.txt --rows=3 > i.csv
  for table in t n; do
    ivon-plot images $table.csv --data=data.h5 --classes=names.txt --top=3 -o $table.svg --force
  done
  cmp t.svg n.svg
  grep -q 'label [^<]*, pred\. ' t.svg
  run -1 grep -q 'label [0-9]' t.svg
  ivon-plot influence i.csv --data=data.h5:/named --queries=data.h5:/named --classes=names.txt -o i.svg --force
  grep -q 'label ωx' i.svg
  ivon-plot sensitivity t.csv --classes=names.txt -o s.svg --force
  ivon-plot sensitivity n.csv -o u.svg --force
  cmp s.svg u.svg
  ivon-predict -q p.h5 --data=data.h5 --classes=names.txt > named.csv
  ivon-predict -q p.h5 --data=data.h5 > plain.csv
  ivon-plot reliability named.csv --data=data.h5:/named --classes=names.txt --title= -o r.svg --force
  ivon-plot reliability plain.csv --data=data.h5 --title= -o q.svg --force
  [ "$(sed 's/plain.csv//' q.svg | md5sum)" = "$(sed 's/named.csv//' r.svg | md5sum)" ]
  run -65 ivon-plot images t.csv --data=data.h5 -o x.svg
  [ "$output" = "ivon-plot: t.csv: row 0, column 'label': found 'cat', expected a number; if these are names of classes, list them by --classes=FILE" ]
  run -65 ivon-plot images t.csv --data=data.h5 --classes=three.txt -o x.svg
  [ "$output" = "ivon-plot: t.csv: row 0, column 'label': found 'cat', expected a number, or one of the names in three.txt" ]
}

@test "directories of images are the classes of these names" {
  here
  export PYTHONPATH=$BATS_TEST_DIRNAME/../oracle PYTHONDONTWRITEBYTECODE=1
  $python -c '
import images, numpy as np
images.write_folder("images", np.random.default_rng(0).integers(0, 255, (8, 3, 2, 1)).astype("u1"), np.arange(8) % 4)'
  printf 'class-00%s\n' 2 0 3 1 > turned.txt
  ivon-sensitivity -q p.h5 --data=images --classes=turned.txt | cut -d, -f2 | uniq > labels
  printf '%s\n' label class-000 class-001 class-002 class-003 | cmp - labels
  ivon-sensitivity -q p.h5 --data=images --classes=turned.txt -o turned.h5 --force
  $python -c '
import h5py
with h5py.File("turned.h5") as f:
    assert f["label"][()].tolist() == [1, 1, 3, 3, 0, 0, 2, 2]'
  run -65 ivon-sensitivity -q p.h5 --data=images --classes=names.txt
  [ "$output" = "ivon-sensitivity: images/class-000: is the directory of a class, expected the name of one of the 4 classes" ]
}

@test "what names cannot tell is refused" {
  here
  refused() { # MESSAGE ARGUMENT...
    run -65 --separate-stderr ivon-sensitivity -q p.h5 "${@:2}"
    [ "$stderr" = "ivon-sensitivity: $1" ]
  }
  list="if they are names of classes, list these by --classes=FILE"
  refused "name.csv: row 0 (line 2), column 'kind': found 'cat', expected a number; $list" --data=name.csv --target-column=kind
  refused "data.h5:/named: 'named/y' holds strings, expected numbers; $list" --data=data.h5:/named
  refused "data.h5:/odd: 'odd/y': row 59 is 'dog', expected the name of one of the 4 classes" --data=data.h5:/odd --classes=names.txt
  refused "U.npz: 'y.npy': holds strings, expected numbers; $list" --data=U.npz
  refused "S.npy: holds strings, expected numbers; $list" --data=x.npy,S.npy
  refused "dog.npz: 'y.npy': row 59 is 'dog', expected the name of one of the 4 classes" --data=dog.npz --classes=names.txt
  refused "pairs.npz: 'y.npy': is of type '<U10', expected numbers or booleans of at most 8 dimensions" --data=pairs.npz --classes=names.txt
  refused "long.npz: 'y.npy': is of type '|S1025', expected numbers or booleans of at most 8 dimensions" --data=long.npz --classes=names.txt
  refused "words.npz: 'x.npy': is of type '<U10', expected numbers or booleans of at most 8 dimensions" --data=words.npz --classes=names.txt
  refused "two.csv: row 1 (line 3), column 'kind': found 'wolf', expected the name of one of the 4 classes" \
    --data=two.csv --target-column=kind --classes=names.txt
  refused "three.txt: has the names of 3 classes, expected 4, one for each output of the network" --data=data.h5 --classes=three.txt
  refused "number.csv: row 0 (line 2), column 'kind': found '0', which is a number, and the name of class 3: names of classes that are other classes' numbers cannot be told from them" \
    --data=number.csv --target-column=kind --classes=shifted.txt
  printf 'a\nb\n\nc\n' > gap.txt
  refused "gap.txt: the name of class 2 is empty" --data=data.h5 --classes=gap.txt
  : > empty.txt
  refused "empty.txt: no list of classes: it is empty" --data=data.h5 --classes=empty.txt
  run -66 ivon-predict -q p.h5 --data=data.h5 --classes=absent.txt
  [ "$output" = "ivon-predict: absent.txt: cannot open it: No such file or directory" ]
  run -64 ivon-predict -q p.h5 --data=data.h5 --classes=names.txt --likelihood=gaussian
  [ "$output" = "ivon-predict: --classes is for labels, not for --likelihood=gaussian" ]
  for command in predict predict-gen; do
    run -65 ivon-$command -q p.h5 --data=data.h5 --classes=three.txt
    [ "$output" = "ivon-$command: three.txt: has the names of 3 classes, expected 4, one for each output of the network" ]
  done
  run -65 ivon-influence -q p.h5 --data=data.h5 --queries=data.h5 --classes=three.txt
  [ "$output" = "ivon-influence: three.txt: has the names of 3 classes, expected 4, one for each output of the network" ]
}
