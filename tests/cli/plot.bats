load common

setup_file() {
  export PYTHONPATH=$BATS_TEST_DIRNAME/../oracle PYTHONDONTWRITEBYTECODE=1
  cd "$BATS_FILE_TMPDIR"
  /usr/bin/python3 - <<'PYTHON'
import csv, h5py, json, numpy as np
r = np.random.default_rng(0)
def table(path, names, rows):
    with open(path, "w") as f:
        csv.writer(f).writerows([names, *rows])

table("gen.csv", ["step", "train_loss", "train_error", "loo_loss", "loo_loss_se", "loo_error", "test_loss",
                  "test_error", "hessian_at_start"],
      [[s, 1 / s, 1 / (2 * s), 1.1 / s + 0.1, 0.05, 0.6 / s, 1.05 / s, 0.55 / s, 0] for s in (4, 1, 2, 10, 7)])
table("sweep.csv", ["method", "scale", "accuracy", "accuracy_se", "nll"],
      [[m, s, 0.5 + i / 10 + s / 9, 0.01, 0.7 - s / 9] for i, m in enumerate(["average, plain", 'of "both"'])
       for s in (0.2, 0.6, 1)])
table("front.csv", ["index", "weight0", "weight1", "accuracy.one", "nll.one", "nll.one_se", "nll.two", "front", "pick"],
      [[0, 0, 1, 0.5, 5, 0.1, 1, 1, 0], [1, 0.5, 0.5, 0.6, 2.5, 0.1, 2, 1, 1], [2, 1, 1, 0.6, 3, 0.1, 4, 0, 0],
       [3, 0.5, 0, 0.6, 4, 0.1, 3, 0, 0], [4, 1, 0, 0.7, 1, 0.1, 6, 1, 0], [5, 0, 0, 0.1, "inf", 0.1, 7, 0, 0]])
table("shift.csv", ["shift", "level", "accuracy", "accuracy_se", "nll", "ece", "method"],
      [[n, l, 0.9 - (i + 1) * l / 50, 0.01, 0.3 + l, 0.05, l] for i, n in enumerate(["noise", "blur"]) for l in range(6)])
table("rates.csv", ["learning_rate", "loss", "smoothed_loss", "suggested_rate"],
      [[10.0 ** (i - 6), 1e9, y, 1e-3] for i, y in enumerate([2.5, 2.4, 2.6, 2, 1, 0.5, 0.4, 1, 1e6])])
table("samples.csv", ["samples", "accuracy"], [[n, 0.7 + 0.01 * np.log2(n)] for n in (1, 2, 4, 8, 16, 32)])

n = 200
labels, prediction = r.integers(0, 3, n), r.integers(0, 3, n)
prediction[:120] = labels[:120]
confidence = np.float32(r.uniform(1 / 3, 1, n))
confidence[0] = 1
table("p.csv", ["index", "prediction", "max_probability"], zip(range(n), prediction, confidence))
order = r.permutation(n)
table("shuffled.csv", ["max_probability", "index", "prediction"],
      zip(confidence[order], order, prediction[order]))
table("labelled.csv", ["label", "prediction", "max_probability"], zip(labels, prediction, confidence))
table("tokens.csv", ["index", "token", "prediction", "max_probability"],
      [[i // 2, i % 2, p, c] for i, (p, c) in enumerate(zip(prediction, confidence))])
with open("tokens.jsonl", "w") as f: # a line for each sequence, as those of tokens are written
    for k, i in enumerate(range(0, n, 2)):
        json.dump({"index": k, "prediction": prediction[i:i + 2].tolist(), "probabilities": [[0, 1]] * 2,
                   "max_probability": confidence[i:i + 2].tolist()}, f)
        f.write("\n")
with h5py.File("tokens.h5", "w") as f:
    f["prediction"], f["max_probability"] = prediction.reshape(-1, 2), confidence.reshape(-1, 2)
    f["probabilities"], f["pooled"] = np.zeros((n // 2, 2, 3)), np.zeros((n // 2, 7))
with h5py.File("p.h5", "w") as f:
    f["prediction"], f["max_probability"], f["probabilities"] = prediction, confidence, np.zeros((n, 3))
with h5py.File("data.h5", "w") as f:
    f["x"], f["y"] = r.integers(0, 256, (n, 3, 5, 4), dtype="u1"), labels
    f["tokens/x"], f["tokens/y"] = np.zeros((n // 2, 2)), labels.reshape(-1, 2)
    f["gray/x"] = r.standard_normal((n, 16)).astype("f4")
    f["flat/x"] = np.zeros((n, 7))

table("scores.csv", ["index", "label", "prediction", "loss", "deviation"],
      zip(range(n), labels, prediction, r.uniform(0, 1, n), np.exp(2 * r.standard_normal(n))))

words = ["<pad>", "<unk>", "it's", "good", "bad", "b\\ad", "{x}", "film", "`touch pwned`", "\'.system(\'touch pwned\').\'"]
with h5py.File("asked.h5", "w") as f: # smaller images, of another type, than those of the training data
    f["x"], f["y"] = r.standard_normal((6, 4, 3)).astype("f4"), np.arange(6.) / 2
    f["texts/x"], f["texts/y"] = r.integers(1, len(words), (6, 5)), np.arange(6)
    f["texts/x"][2] = [7, 2, 3, 0, 0]
with h5py.File("data.h5", "a") as f:
    f["texts/x"], f["texts/y"] = r.integers(1, len(words), (n, 30)), labels
    f["texts/x"][33, 20:] = 0
with open("words.txt", "w") as f:
    f.write("\n".join(words))
# In no order: two of each sign for query 4; more than are shown for query 2, and none that harm.
rows = [[4, -2, 11, -0.5], [2, 6, 19, 0.01], [4, 1, 5, 2], [2, 1, 33, 0.123456], [4, -1, 7, -1e-6], [4, 2, 5, 1],
        *([2, k, 20 + k, 0.1 / k] for k in range(2, 6)), [3, -1, 0, -7]]
table("influence.csv", ["query", "rank", "row", "influence", "label"], [[*row, labels[row[2]]] for row in rows])
table("tokens_of.csv", ["influence", "token", "row", "rank", "query_token", "query"],
      [[0.5, 19, 33, 1, 2, 2], [-0.5, 3, 33, -1, 2, 2], [0.25, 0, 34, 1, 0, 2]])
PYTHON
}

plot() { ivon-plot "$@"; }

# check FILE CODE: Python with `texts`, `points` (x, y of each symbol, by its number), `bars` (heights).
check() {
  $python - "$BATS_FILE_TMPDIR" "$@" <<'PYTHON'
import sys, re, csv, zlib, base64, struct, xml.dom.minidom, h5py, numpy as np
d, path, code = sys.argv[1:4]
document = xml.dom.minidom.parse(path)
texts = [t.firstChild.data.strip() for t in document.getElementsByTagName("text") if t.firstChild]
points = {}
for use in document.getElementsByTagName("use"):
    found = re.match(r"translate\(([\d.]+),([\d.]+)\)", use.getAttribute("transform"))
    if found: # not a part of a symbol's definition
        points.setdefault(use.getAttribute("xlink:href"), []).append([float(v) for v in found.groups()])
points = {k: np.array(v) for k, v in points.items()}
polygons = [np.array([[float(v) for v in p.split(",")] for p in q.getAttribute("points").split()])
            for q in document.getElementsByTagName("polygon") if q.getAttribute("fill-opacity")]
images = [i.getAttribute("xlink:href") for i in document.getElementsByTagName("image")]
def decode(uri): # PNG of eight bits, as rows of red, green, blue
    data = base64.b64decode(uri.split(",", 1)[1])
    at, pixels = 8, b""
    while at < len(data):
        size, kind = struct.unpack(">I4s", data[at:at + 8])
        if kind == b"IHDR":
            width, height, depth, colour = struct.unpack(">IIBB", data[at + 8:at + 18])
        if kind == b"IDAT":
            pixels += data[at + 8:at + 8 + size]
        at += size + 12
    n = {2: 3, 6: 4}[colour]
    assert depth == 8
    rows = np.frombuffer(zlib.decompress(pixels), "u1").reshape(height, 1 + n * width).astype(int)
    image = np.zeros((height + 1, n * (width + 1)), int)
    for y in range(height):
        for x in range(n * width):
            a, b, c = image[y + 1, x], image[y, x + n], image[y, x]
            p = a + b - c
            paeth = min((abs(p - a), 0, a), (abs(p - b), 1, b), (abs(p - c), 2, c))[2]
            image[y + 1, x + n] = (rows[y, 1 + x] + [0, a, b, (a + b) // 2, paeth][rows[y, 0]]) % 256
    return image[1:, n:].reshape(height, width, n)[:, :, :3]
def table(path):
    rows = list(csv.DictReader(open(path)))
    return {k: np.array([float(r[k]) for r in rows]) for k in rows[0]}
def has(*wanted):
    for text in wanted:
        assert text in texts, (text, texts)
# The sheet has two decimals: positions are those of numbers but for 0.01, on an axis of any scale.
def on_axis(positions, numbers):
    slope, offset = np.polyfit(numbers, positions, 1)
    assert np.abs(slope * numbers + offset - positions).max() <= 0.02, (positions, numbers)
    return slope
exec(code)
PYTHON
}

@test "losses and errors along a training, in the order of the steps, with a band" {
  plot generalization "$BATS_FILE_TMPDIR/gen.csv" -o gen.svg
  check gen.svg '
t = table(d + "/gen.csv")
order = np.argsort(t["step"])
has("Loss on unseen data, predicted from the training data", "training step", "mean loss (nats)",
    "error (share of wrong predictions)")
assert all(texts.count(name) == 2 for name in ("training data", "leave-one-out", "test data")), texts
assert sorted(points) == ["#gpPt4", "#gpPt6", "#gpPt8"], sorted(points)
for symbol, curve in (("#gpPt6", "train"), ("#gpPt4", "loo"), ("#gpPt8", "test")):
    assert len(points[symbol]) == 12 # of two panels: five, and one in the key
    for panel, kind in ((points[symbol][:6], "loss"), (points[symbol][6:], "error")):
        key = [i for i in range(6) if panel[i][1] < 75]
        curve_points = np.delete(panel, key, 0)
        assert len(key) == 1
        assert on_axis(curve_points[:, 0], t["step"][order]) > 0
        assert on_axis(curve_points[:, 1], t[f"{curve}_{kind}"][order]) < 0
band = [p for p in polygons if len(p) == 11 or len(p) == 10]
assert len(band) == 1
assert "0.20" in open(sys.argv[2]).read()'
  # Several files have their names in the key.
  cp "$BATS_FILE_TMPDIR/gen.csv" other.csv
  plot generalization "$BATS_FILE_TMPDIR/gen.csv" other.csv -o two.svg
  check two.svg 'has("gen.csv: training data", "other.csv: leave-one-out")'
}

@test "where steps are not known, rows are numbered" {
  printf 'step,train_loss\n-1,3\n-1,1\n-1,2\n' > rows.csv
  plot generalization rows.csv -o rows.svg
  check rows.svg '
has("checkpoint, in the order of the rows", "1", "2", "3")
(symbol, found), = points.items()
assert len(found) == 4
on_axis(found[np.argsort(found[:, 1])][1:][:, 1], np.array([3, 2, 1]))'
}

@test "sweeps have a curve for each method, samples a logarithmic axis" {
  plot sweep "$BATS_FILE_TMPDIR/sweep.csv" --title='Merged _models_' -o sweep.svg
  check sweep.svg '
has("Merged _models_", "average, plain", "of \"both\"", "scaling of the task vectors",
    "accuracy (share of right predictions)", "negative log-likelihood (nats)")
assert sorted(len(p) for p in points.values()) == [8, 8]'
  plot samples "$BATS_FILE_TMPDIR/samples.csv" -o samples.svg
  check samples.svg '
has("weight samples", "1", "2", "4", "8", "16", "32")
(symbol, found), = points.items()
found = found[np.argsort(found[:, 0])]
on_axis(found[:, 0], np.arange(6))
on_axis(found[:, 1], np.arange(6))'
}

@test "rates have a logarithmic axis in powers of ten" {
  plot rates "$BATS_FILE_TMPDIR/rates.csv" -o rates.svg
  check rates.svg '
has("learning rate", "smoothed loss (nats)", "A sweep of the learning rate", "0.01", "100")
(symbol, found), = points.items()
found = found[np.argsort(found[:, 0])]
on_axis(found[:, 0], np.arange(8)) # but for the last, which is far above the beginning
on_axis(found[:, 1], np.array([2.5, 2.4, 2.6, 2, 1, 0.5, 0.4, 1]))'
}

@test "corruptions have a curve each, in a panel for each metric" {
  plot shift "$BATS_FILE_TMPDIR/shift.csv" -o shift.svg
  check shift.svg '
has("Predictions of corrupted images", "noise", "blur", "level of the corruption", "expected calibration error",
    "accuracy (share of right predictions)", "negative log-likelihood (nats)")
assert "root mean squared error" not in texts
assert sorted(len(p) for p in points.values()) == [21, 21] and len(polygons) == 2'
}

@test "a front is joined, the pick and single models are marked" {
  plot front "$BATS_FILE_TMPDIR/front.csv" -o front.svg
  check front.svg '
has("Merged models, on two data sets", "negative log-likelihood on one (nats)", "negative log-likelihood on two (nats)",
    "other weights", "front", "one model alone", "picked", "weight0=1", "weight1=1")
key = 1 # of each symbol one is in the key
counts = {symbol: len(found) - key for symbol, found in points.items()}
assert sorted(counts.values()) == [1, 2, 2, 3], counts
def drawn(symbol): # without the key, which is above
    return points[symbol][np.argsort(points[symbol][:, 1])][1:]
front, = (drawn(s) for s in counts if counts[s] == 3)
front = front[np.argsort(front[:, 0])]
x = on_axis(front[:, 0], np.array([1, 2.5, 5]))
y = on_axis(front[:, 1], np.array([6, 2, 1]))
assert x > 0 > y
pick, = (drawn(s)[0] for s in counts if counts[s] == 1)
assert np.abs(pick - front[1]).max() <= 0.02
ends = [d for d in (drawn(s) for s in counts if counts[s] == 2) if np.abs(d[:, 0].max() - front[-1, 0]) < 0.1]
assert len(ends) == 1 and np.abs(ends[0][np.argsort(ends[0][:, 0])] - front[[0, 2]]).max() <= 0.02'
  cp "$BATS_FILE_TMPDIR/front.csv" other.csv
  plot front "$BATS_FILE_TMPDIR/front.csv" other.csv -o two.svg
  check two.svg '
has("front.csv", "other.csv")
assert texts.count("picked") == 1, texts'
}

@test "reliability is that of the bins, with labels in any order and place" {
  cd "$BATS_FILE_TMPDIR"
  at=$BATS_TEST_TMPDIR
  plot reliability p.csv --data=data.h5 -o "$at/p.svg"
  check "$at/p.svg" '
t = table(d + "/p.csv")
y = h5py.File(d + "/data.h5")["y"][()]
right, conf = t["prediction"] == y, t["max_probability"]
bin = np.minimum(14, np.floor(15 * conf))
used = [b for b in range(15) if (bin == b).any()]
accuracy = np.array([right[bin == b].mean() for b in used])
middle = np.array([conf[bin == b].mean() for b in used])
count = np.array([(bin == b).sum() for b in used])
error = (count * np.abs(accuracy - middle)).sum() / len(y)
has("Reliability", f"calibration error {error:.3f}", "accuracy", "confidence (maximum probability)",
    "predictions", "as confident as right")
symbol, = (s for s in points if len(points[s]) == len(used) + 1)
found = np.array([p for p in points[symbol] if p[1] > 80]) # not that of the key
on_axis(found[:, 0], middle)
on_axis(found[:, 1], accuracy)
bars = [np.ptp(p[:, 1]) for p in polygons]
assert len(bars) == len(used)
on_axis(np.array(bars), count)'
  plot reliability shuffled.csv --data=data.h5 -o "$at/shuffled.svg"
  plot reliability labelled.csv -o "$at/labelled.svg"
  for kind in csv jsonl h5; do plot reliability tokens.$kind --data=data.h5:/tokens -o "$at/tokens-$kind.svg"; done
  plot reliability p.h5 --data=data.h5 -o "$at/hdf5.svg"
  for name in shuffled labelled tokens-csv tokens-jsonl tokens-h5 hdf5; do cmp "$at/p.svg" "$at/$name.svg"; done
  plot reliability p.csv p.csv --data=data.h5 --bins=5 -o "$at/two.svg"
  check "$at/two.svg" 'assert sum("p.csv: calibration error" in t for t in texts) == 2'
}

@test "histograms count every example, on the scale that suits them" {
  plot sensitivity "$BATS_FILE_TMPDIR/scores.csv" -o deviation.svg
  check deviation.svg '
v = np.log(table(d + "/scores.csv")["deviation"])
has("Dependence on each training example", "deviation", "number of examples (200 in all)", "0.01", "1")
counts = np.histogram(v, 40)[0]
bars = np.array([np.ptp(p[:, 1]) for p in polygons])
bars, counts = bars[bars > 0.5], counts[counts > 0]
assert len(bars) == len(counts)
on_axis(bars, counts)'
  plot sensitivity "$BATS_FILE_TMPDIR/scores.csv" --column=loss --bins=7 -o loss.svg
  check loss.svg '
v = table(d + "/scores.csv")["loss"]
has("loss (nats)", "0.2")
bars = np.array([np.ptp(p[:, 1]) for p in polygons])
assert len(bars) == 7
on_axis(bars, np.histogram(v, 7)[0])'
  { echo mpe; seq -10 10 | sed 's/^/1e/'; echo 0; echo nan; echo 1e300; } > wide.csv
  plot sensitivity wide.csv -o wide.svg
  check wide.svg '
has("mpe (3 that are zero or not finite are left out)", "number of examples (21 in all)", "1e-05", "1e+10")'
  { echo influence; seq 1 999; echo -1e6; } > outlier.csv
  plot sensitivity outlier.csv -o outlier.svg
  check outlier.svg 'has("1", "10", "100", "1000", "number of examples (1000 in all)")'
  for values in '0 0' '5 5' '1e-300 2e-300' '1e99 -1e99' '1 1.0000000000000002'; do
    printf 'mpe\n%s\n%s\n' $values > degenerate.csv
    plot sensitivity degenerate.csv -o degenerate.svg --force
    check degenerate.svg 'has("number of examples (2 in all)")'
  done
}

@test "images are those of the greatest scores, as they are, with their captions" {
  plot images "$BATS_FILE_TMPDIR/scores.csv" --data="$BATS_FILE_TMPDIR/data.h5" --top=5 -o images.svg
  check images.svg '
t = table(d + "/scores.csv")
top = np.argsort(-t["deviation"])[:5]
has("The 5 examples of greatest deviation")
captions = [f"{i}:  {t['"'deviation'"'][i]:.4g}" for i in top]
found = [c for c in texts if ":" in c]
assert [c.replace(" ", "") for c in found] == [c.replace(" ", "") for c in captions], (found, captions)
found = [c for c in texts if c.startswith("label")]
assert found == [f"label {t['"'label'"'][i]:.0f}, pred. {t['"'prediction'"'][i]:.0f}" for i in top]
x = h5py.File(d + "/data.h5")["x"][()]
assert len(images) == 5
for uri, i in zip(images, top):
    assert (decode(uri) == x[i].transpose(1, 2, 0)).all()'
  plot images "$BATS_FILE_TMPDIR/scores.csv" --data="$BATS_FILE_TMPDIR/data.h5:/gray" --column=loss -o gray.svg
  check gray.svg 'assert len(images) == 24; has("The 24 examples of greatest loss")'
}

@test "queries are beside the images of the rows that helped and harmed them" {
  influence() { plot influence "$BATS_FILE_TMPDIR/influence.csv" --data=data.h5 --queries=asked.h5 "$@"; }
  at=$BATS_TEST_TMPDIR
  cd "$BATS_FILE_TMPDIR"
  influence -o "$at/three.svg"
  influence --limit=2 --top=2 -o "$at/two.svg"
  influence --limit=1 -o "$at/one.svg"
  prelude='
f, g = h5py.File(d + "/data.h5"), h5py.File(d + "/asked.h5")
def pixels(x): # as they are on the sheet: bytes as they are, others from black to white
    if x.dtype == "u1":
        return x.transpose(1, 2, 0)
    return np.rint(255 * (x - x.min()).astype("f8") / (np.float64(x.max()) - x.min()))[:, :, None].repeat(3, 2)
t = table(d + "/influence.csv")
places = [tuple(float(i.getAttribute(name)) for name in ("x", "y", "width")) for i in document.getElementsByTagName("image")]
for image in document.getElementsByTagName("image"): # each fills its cell
    assert abs(max(float(image.getAttribute(side)) for side in ("width", "height")) - 92) < 0.05
labelled = {}
for group in document.getElementsByTagName("g"):
    x, y = re.match(r"translate\(([-\d.]+),([-\d.]+)\)", group.getAttribute("transform") or "translate(0,0)").groups()
    for text in [c for c in group.childNodes if c.nodeName == "text"]:
        labelled.setdefault(re.sub(" +", " ", text.firstChild.data.strip()), []).append((float(x), float(y)))
def shown(top, *queries): # lines of images, each with its captions, from left to right
    at = 0
    for line, q in enumerate(queries):
        rows = [[i for i in np.argsort(abs(t["rank"])) if t["query"][i] == q and t["rank"][i] * s > 0][:top] for s in (1, -1)]
        for kind, image, caption, label in [
                ("query", g["x"][q], f"query {q}", g["y"][q]),
                *((("most helpful", "most harmful")[i in rows[1]], f["x"][r], f"{r}: {v:+.3g}", f["y"][r])
                  for i in sum(rows, []) for r, v in [(int(t["row"][i]), t["influence"][i])])]:
            assert np.abs(decode(images[at]) - pixels(image)).max() <= (image.dtype != "u1"), caption
            x, y, width = places[at]
            for wanted in (caption, f"label {label:.6g}"): # below the middle of the image
                assert any(abs(x + width / 2 - a) < 0.1 and y < b < y + 150 for a, b in labelled[wanted]), (wanted, x, y)
            heads = {name: v[0][0] for name, v in labelled.items() if name.startswith("most") or name == "query"}
            assert y > 40 and (at == 0 or places[at - 1][0] < x or y > places[at - 1][1])
            assert kind != "query" or x < min(v for name, v in heads.items())
            assert kind != "most harmful" or x > max([v for name, v in heads.items() if "helpful" in name], default=0)
            assert kind != "most helpful" or x < min([v for name, v in heads.items() if "harmful" in name], default=9e9)
            at += 1
    assert at == len(images), (at, len(images))
'
  check "$at/three.svg" "$prelude"'
shown(5, 2, 3, 4)
has("Training rows that helped and harmed", "most helpful first", "most harmful first")
assert not any("19:" in text for text in texts)'
  check "$at/two.svg" "$prelude"'
shown(2, 2, 3)
has("Training rows that helped and harmed the first 2 of 3 queries", "most helpful first", "most harmful")'
  check "$at/one.svg" "$prelude"'
shown(5, 2)
assert not any("harmful" in text for text in texts)'
}

@test "texts are lines, with the words of a vocabulary" {
  at=$BATS_TEST_TMPDIR
  cd "$BATS_FILE_TMPDIR"
  texts() { plot influence "$1" --data=data.h5:/texts --queries=asked.h5:/texts --vocabulary=words.txt "${@:2}"; }
  texts influence.csv --width=6000 -o "$at/texts.svg"
  prelude='
words = open(d + "/words.txt").read().split("\n")
f, g = h5py.File(d + "/data.h5")["texts"], h5py.File(d + "/asked.h5")["texts"]
def text(tokens):
    return " ".join(words[i] for i in tokens if i).replace("\x27", "\u2019")
t = table(d + "/influence.csv")'
  check "$at/texts.svg" "$prelude"'
lines = []
for q in (2, 3, 4):
    lines += ["query", str(q), str(g["y"][q]), text(g["x"][q])]
    rows = sorted((int(r < 0), abs(r), i) for i, r in enumerate(t["rank"]) if t["query"][i] == q)
    for harmful, rank, i in rows:
        row, value = int(t["row"][i]), t["influence"][i]
        if rank < 6:
            lines += [("helpful", "harmful")[harmful], str(row), f"{value:+.3g}", str(f["y"][row]), text(f["x"][row])]
assert text(g["x"][2]) == "film it\u2019s good" and any("`touch pwned`" in line for line in lines)
assert texts == ["Training rows that helped and harmed", "row", "influence", "label", *lines], (texts, lines)'
  # A token is marked, with a few words before it. Numbers of the table that it lacks are those of the data.
  texts tokens_of.csv --width=6000 -o "$at/tokens.svg"
  check "$at/tokens.svg" "$prelude"'
def marked(x, at):
    before, behind = text(x[max(at - 8, 0):at]), text(x[at + 1:])
    return " ".join(part for part in (before, "[" + text([x[at]]) + "]", behind) if part)
x, q = f["x"], g["x"][2]
assert texts == ["Training rows that helped and harmed", "row", "influence", "label", "token",
    "query", "2", "2", "0", marked(q, 0), "helpful", "34", "+0.25", str(f["y"][34]), "0", marked(x[34], 0),
    "query", "2", "2", "2", marked(q, 2), "helpful", "33", "+0.5", str(f["y"][33]), "19", marked(x[33], 19),
    "harmful", "33", "-0.5", str(f["y"][33]), "3", marked(x[33], 3)], texts'
  [ ! -e pwned ]
  texts influence.csv --width=500 -o "$at/narrow.svg"
  check "$at/narrow.svg" 'assert any(t.endswith("...") for t in texts) and max(map(len, texts)) < 45, texts'
}

@test "a text is its characters, and texts in CSV are their words" {
  cd "$BATS_TEST_TMPDIR"
  printf 'ab\ncdäf]]>g <hij>\n%.0sklmno' {1..5} > text.txt
  printf '%s\n' query,query_token,rank,row,token,influence 1,45,1,0,2,0.5 1,45,-1,0,44,-2 > found.csv
  plot influence found.csv --data=text.txt --queries=text.txt --tokens=char --context=50 --width=6000 -o text.svg
  check text.svg '
whole = open("text.txt").read()
def shown(row, at):
    text = [c.replace("\n", "\u21b5") for c in whole[50 * row:50 * row + 50]]
    text[at] = f"[{text[at]}]"
    return "".join(text[max(at - 40, 0):]).replace("]]>", "]] >")
assert texts == ["Training rows that helped and harmed", "row", "influence", "token",
    "query", "1", "45", shown(1, 45), "helpful", "0", "+0.5", "2", shown(0, 2),
    "harmful", "0", "-2", "44", shown(0, 44)], texts
assert "[\u21b5]" in texts[12] and texts[7].startswith(">g <"), texts'
  printf '%s\n' 'kind,words' '1,a fine film' '0,"a bad, bad one"' > reviews.csv
  printf '%s\n' '<pad>' '<unk>' a bad film fine > vocabulary.txt
  printf '%s\n' query,rank,row,influence 0,1,1,1 > found.csv
  plot influence found.csv --data=reviews.csv --queries=reviews.csv --tokens=vocabulary.txt --text-column=words \
    --context=6 --target-column=kind -o words.svg
  check words.svg 'assert texts == ["Training rows that helped and harmed", "row", "influence", "label",
    "query", "0", "1", "a fine film", "helpful", "1", "+1", "0", "a <unk> bad <unk>"], texts'
  # Labels of such data, too.
  printf '%s\n' prediction,max_probability 1,0.9 1,0.7 > p.csv
  plot reliability p.csv --data=reviews.csv --tokens=vocabulary.txt --context=6 --target-column=kind -o - > one.svg
  printf '%s\n' prediction,max_probability,label 1,0.9,1 1,0.7,0 > p.csv
  plot reliability p.csv -o - > other.svg
  cmp one.svg other.svg
}

@test "names from a file are text, never commands" {
  $python - <<'PYTHON'
import csv
names = ["`touch pwned`", "'; system('touch pwned'); '", "'.system(\"touch pwned\").'", "''''", "'",
         "\"; !touch pwned\n", "$(touch pwned)", "@GPVAL_TERM", "EOD\nsystem 'touch pwned'\n", "a\\",
         "\\'.system('touch pwned').'", "}{", "%s%n", "<script>alert(1)</script>&amp;", "a]]>b",
         "x\\\n!touch pwned", "set output 'pwned'", "#", "\u202e\x1b[31m\x85", "\u20acuro_^{2}"]
with open("names.csv", "w") as f:
    csv.writer(f).writerows([["scale", "method", "accuracy"]] +
                            [[x, m, i + x] for i, m in enumerate(names) for x in (0, 1)])
with open("bytes.csv", "wb") as f:
    f.write(b"scale,method,accuracy\n1,b\xff\xc3\xed\xa0\x80\xef\xbf\xbe\x80\xc0\xaf\xf4\x90\x80\x80e,1\n2,fine,1\n")
with open("columns.csv", "w") as f:
    csv.writer(f).writerows([names, range(len(names)), range(1, len(names) + 1)])
PYTHON
  plot sweep names.csv --title="'; system('touch pwned'); \`touch pwned\`" -o names.svg
  check names.svg '
assert "<script" not in open(sys.argv[2]).read()
has("`touch pwned`", "\u2019; system(\u2019touch pwned\u2019); \u2019", "@GPVAL_TERM", "a\\", "}{", "%s%n",
    "EOD?system \u2019touch pwned\u2019?", "<script>alert(1)</script>&amp;", "a]] >b", "\u20acuro_^{2}",
    "\u2019; system(\u2019touch pwned\u2019); `touch pwned`")'
  plot sweep bytes.csv -o bytes.svg
  check bytes.svg 'assert any(t.startswith("b????") and t.endswith("?e") for t in texts), texts'
  for column in '`touch pwned`' "'; system('touch pwned'); '" "''''" "'" 'a\' '}{' '%s%n' '#' \
    "'.system(\"touch pwned\").'" "set output 'pwned'"; do
    plot sensitivity columns.csv --column="$column" -o column.svg --force
    check column.svg 'has("number of examples (2 in all)")'
    plot sensitivity columns.csv --column="$column" -o column.png --title="$column" --force
  done
  for evil in '`touch pwned`' "';system('touch pwned');'.csv"; do
    cp "$BATS_FILE_TMPDIR/samples.csv" "$evil"
    plot samples "$evil" "$BATS_FILE_TMPDIR/samples.csv" -o evil.svg --force
  done
  [ ! -e pwned ]
}

@test "the settings of gnuplot's user are not read" {
  mkdir home
  echo "system 'touch pwned'; set title 'mine'" | tee home/.gnuplot > .gnuplot
  HOME=$PWD/home plot samples "$BATS_FILE_TMPDIR/samples.csv" -o a.svg
  [ ! -e pwned ]
  run -1 grep -q mine a.svg
}

@test "a picture has the size and format that are asked for, and goes where it should" {
  s=$BATS_FILE_TMPDIR/samples.csv
  plot samples "$s" -o a.png --width=333 --height=444
  [ "$($python -c 'import struct; print(*struct.unpack(">II", open("a.png", "rb").read()[16:24]))')" = "333 444" ]
  plot samples "$s" -o b.svg --width=333 --height=444
  grep -q 'width="333" height="444"' b.svg
  plot samples "$s" -o - > c.svg
  plot samples "$s" -o - > again.svg
  cmp c.svg again.svg
  check c.svg 'has("weight samples")'
  plot samples "$s" --format=png -o picture
  [ "$(head -c 4 picture | tail -c 3)" = PNG ]
  cp c.svg before
  run --separate-stderr plot samples "$s" -o c.svg
  [ $status -eq 73 ]
  [ "$stderr" = "ivon-plot: c.svg: file exists; --force replaces it" ]
  cmp c.svg before
  ls -A > names
  [ "$(grep -c '^\.' names)" = 0 ]
}

@test "without gnuplot, or when it fails, one line tells, and there is no output" {
  stub() { mkdir -p bin; printf '#!/bin/sh\n%s\n' "$1" > bin/gnuplot; chmod +x bin/gnuplot; }
  drawn() { PATH=$PWD/bin "$IVON_BIN/ivon-plot" samples "$1" -o a.svg; }
  s=$BATS_FILE_TMPDIR/samples.csv
  mkdir bin
  run --separate-stderr drawn "$s"
  [ $status -eq 69 ]
  [ "$stderr" = "ivon-plot: gnuplot is not on the PATH; install it: apt-get install gnuplot-nox" ]
  stub 'echo half a picture; echo "line 3: no such terminal" >&2; exit 1'
  run --separate-stderr drawn "$s"
  [ $status -eq 70 ]
  [ "$stderr" = "ivon-plot: gnuplot failed: line 3: no such terminal" ]
  stub 'exit 0'
  run --separate-stderr drawn "$s"
  [ $status -eq 70 ]
  [ "$stderr" = "ivon-plot: gnuplot failed: it drew nothing" ]
  { echo samples,accuracy; seq 1 100000 | sed 's/$/,1/'; } > long.csv # more than a pipe holds
  stub 'exec 0<&-; echo text; kill -9 $$'
  run --separate-stderr drawn long.csv
  [ $status -eq 70 ]
  stub 'while read -r line; do echo "$line"; done' # writes while it is written to
  run --separate-stderr drawn long.csv
  [ $status -eq 0 ]
  [ "$(wc -l < a.svg)" -gt 100000 ]
}

@test "mistakes get one line and the right exit code" {
  expect() {
    local status_wanted=$1 message=$2
    shift 2
    run --separate-stderr "$@"
    [ $status -eq "$status_wanted" ] || { echo "$* exits with $status: $stderr"; return 1; }
    [ "$stderr" = "ivon-plot: $message" ] || { echo "$stderr"; return 1; }
    [ ! -e x.svg ]
  }
  cd "$BATS_FILE_TMPDIR"
  expect 65 "samples.csv: has no column 'scale', but 'samples', 'accuracy'" plot sweep samples.csv -o x.svg
  expect 65 "samples.csv: has no column 'step', but 'samples', 'accuracy'" plot generalization samples.csv -o x.svg
  expect 65 "samples.csv: has no column 'deviation', but 'samples', 'accuracy'" plot sensitivity samples.csv -o x.svg
  expect 65 "samples.csv: has no column 'max_probability', but 'samples', 'accuracy'" \
    plot reliability samples.csv -o x.svg
  expect 65 "p.csv: has no column 'label', but 'index', 'prediction', 'max_probability'; labels may come from --data=DATA" \
    plot reliability p.csv -o x.svg
  expect 65 "scores.csv: has no column 'score', but 'index', 'label', 'prediction', 'loss', 'deviation'" \
    plot images scores.csv --data=data.h5 --column=score -o x.svg
  cd "$BATS_TEST_TMPDIR"
  p=$BATS_FILE_TMPDIR/p.csv data=$BATS_FILE_TMPDIR/data.h5
  printf 'nll.a,nll.a_se,front,pick\n1,1,1,1\n' > one.csv
  expect 65 "one.csv: has 1 columns 'nll.DATA', expected those of two data sets" plot front one.csv -o x.svg
  printf 'nll.a,nll.b,front,pick\n1,nan,1,1\n' > nan.csv
  expect 65 'nan.csv: has no row with finite numbers' plot front nan.csv -o x.svg
  printf 'nll.a,nll.b,front\n1,2,1\n' > few.csv
  expect 65 "few.csv: has no column 'pick', but 'nll.a', 'nll.b', 'front'" plot front few.csv -o x.svg
  echo 'samples' > none.csv
  expect 65 "none.csv: has no column 'accuracy', but 'samples'" plot samples none.csv -o x.svg
  printf 'samples,accuracy\n1,nan\n' > nan.csv
  expect 65 'nan.csv: has no row with finite numbers' plot samples nan.csv -o x.svg
  printf 'samples,accuracy\n1,high\n' > text.csv
  expect 65 "text.csv: row 0 (line 2), column 'accuracy': found 'high', expected a number" \
    plot samples text.csv -o x.svg
  printf 'mpe\nnan\n' > nan.csv
  expect 65 'nan.csv: has no row with finite numbers' plot sensitivity nan.csv -o x.svg
  printf 'index,prediction,max_probability\n200,1,0.5\n' > beyond.csv
  expect 65 'beyond.csv: row 0 is of example 200, label 0, the data have 200 examples of 1' \
    plot reliability beyond.csv --data="$data" -o x.svg
  printf 'label,prediction,max_probability\n1,1,1.5\n' > beyond.csv
  expect 65 "beyond.csv: row 0, column 'max_probability': found 1.5, expected a probability" \
    plot reliability beyond.csv -o x.svg
  printf 'label,prediction,max_probability\n-100,1,0.5\n' > padding.csv
  expect 65 'padding.csv: has no prediction with a label' plot reliability padding.csv -o x.svg
  printf 'prediction,max_probability\n1,0.5\n' > few.csv
  expect 65 'few.csv: 1 predictions, but 200 labels' plot reliability few.csv --data="$data" -o x.svg
  printf 'index,mpe\n1.5,1\n' > half.csv
  expect 65 "half.csv: row 0 has index 1.5, but there are 200 examples in $data" \
    plot images half.csv --data="$data" -o x.svg
  expect 65 "$data:/flat: 'x' has 1 axes and 7 numbers for each example, expected images: height x width, 1 or 3 x height x width, or a square" \
    plot images half.csv --data="$data:/flat" -o x.svg
  influence() { plot influence "$1" --data="$data$2" --queries="$BATS_FILE_TMPDIR/asked.h5$2" -o x.svg "${@:3}"; }
  expect 65 "half.csv: has no column 'query', but 'index', 'mpe'" influence half.csv ""
  printf 'query,rank,group,influence\n0,1,1,1\n' > groups.csv
  expect 65 "groups.csv: has no column 'row', but 'query', 'rank', 'group', 'influence'" influence groups.csv ""
  wrong() { # ROW MESSAGE
    printf 'query,rank,row,influence,label,token\n%s\n' "$1" > wrong.csv
    expect 65 "wrong.csv: $2" influence wrong.csv ""
  }
  printf 'query,rank,row,influence\n' > wrong.csv
  expect 65 'wrong.csv: has no row' influence wrong.csv ""
  wrong 6,1,0,1,, "row 0 is of query 6, but there are 6 examples in $BATS_FILE_TMPDIR/asked.h5"
  wrong 0,1,200,1,, "row 0 is of training row 200, but there are 200 examples in $data"
  wrong 0,1,-1,1,, "row 0 is of training row -1, but there are 200 examples in $data"
  wrong 0,0,1,1,, 'row 0 has rank 0, expected 1, 2, ... or -1, -2, ...'
  wrong 0,,1,1,, 'row 0 has rank nan, expected 1, 2, ... or -1, -2, ...'
  wrong 0,1,1,1,,1e99 'row 0 has tokens -1 and 1e+99, expected numbers of tokens'
  wrong 0,1,1,1,7, "row 0 has label 7, but that of row 1 of $data is $($python -c '
import h5py, sys
print(h5py.File(sys.argv[1])["y"][1])' "$data")"
  good=$BATS_FILE_TMPDIR/influence.csv words=$BATS_FILE_TMPDIR/words.txt
  expect 65 "$data:/flat: 'x' has 1 axes and 7 numbers for each example, expected images: height x width, 1 or 3 x height x width, or a square; texts take --tokens, or --vocabulary=FILE" \
    plot influence "$good" --data="$data:/flat" --queries="$data" -o x.svg
  expect 65 "$BATS_FILE_TMPDIR/asked.h5: 'x' has 2 axes for each example, expected one, of tokens" \
    influence "$good" "" --vocabulary="$words"
  printf '%s\r\n' a b c > few.txt
  expect 65 "$BATS_FILE_TMPDIR/asked.h5:/texts: row 2 has token 7, but few.txt has 3 lines" \
    influence "$good" :/texts --vocabulary=few.txt
  printf 'a\n\0\n' > null.txt
  expect 65 'null.txt: no vocabulary: there is a null byte in it' influence "$good" :/texts --vocabulary=null.txt
  expect 66 'nowhere: cannot open it: No such file or directory' influence "$good" :/texts --vocabulary=nowhere
  expect 64 '1000 x 200 pixels are not enough for 15 lines of text' \
    influence "$good" :/texts --vocabulary="$words" --height=200
  expect 64 'influence: no data given: name them by --data=DATA' plot influence a -o x.svg
  expect 64 'influence: no queries given: name them by --queries=DATA' plot influence a --data=c -o x.svg
  expect 64 '--queries is for influence' plot images a --data=c --queries=c -o x.svg
  expect 64 '--limit is for influence' plot samples a --limit=3 -o x.svg
  { echo samples,method,accuracy; seq 1 25 | sed 's/.*/1,m&,1/'; } > many.csv
  expect 65 'many.csv: more than 24 curves in one picture' plot samples many.csv -o x.svg
  expect 64 '200 pixels are not high enough for 2 curves and their names' \
    plot reliability "$p" "$p" --data="$data" --height=200 -o x.svg
  expect 66 'nowhere: cannot open it: No such file or directory' plot samples nowhere -o x.svg
  expect 73 'no/x.svg: cannot create it: No such file or directory' \
    plot samples "$BATS_FILE_TMPDIR/samples.csv" -o no/x.svg
  expect 64 "KIND: 'pie', expected one of generalization, reliability, sensitivity, images, influence, sweep, samples, shift, rates, front" plot pie a
  expect 64 'no kind of picture given; see --help' plot -o x.svg
  expect 64 'samples: no file given' plot samples -o x.svg
  expect 64 'images: no data given: name them by --data=DATA' plot images a -o x.svg
  expect 64 'images: 2 files given, expected one' plot images a b --data=c -o x.svg
  expect 64 '--data is for reliability, images and influence' plot samples a --data=c -o x.svg
  expect 64 '--top is for images and influence' plot samples a --top=3 -o x.svg
  expect 64 '--bins is for reliability and sensitivity' plot samples a --bins=3 -o x.svg
  expect 64 '--column is for sensitivity and images' plot samples a --column=c -o x.svg
  given=('--inputs, --targets, --target-column, --tokens and --context are for --data')
  expect 64 "${given[0]}" plot reliability a --targets=y -o x.svg
  expect 64 "${given[0]}" plot reliability a --context=3 -o x.svg
  expect 64 '--tokens is for reliability and influence' plot images a --data=c --tokens=char --context=3 -o x.svg
  expect 64 '--context is for reliability and influence' plot images a --data=c --context=3 -o x.svg
  expect 64 '--tokens needs --context=T' plot influence a --data=c --queries=c --tokens=char -o x.svg
  expect 64 '--vocabulary has the words of arrays of tokens; texts have those of --tokens' \
    influence "$good" :/texts --vocabulary="$words" --tokens="$words"
  expect 64 'no output given: name it by -o FILE.svg or FILE.png' plot samples a
  expect 64 "-o: 'x.gif' ends in neither .svg nor .png: name its --format" plot samples a -o x.gif
}
