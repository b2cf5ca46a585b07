#!/usr/bin/env bash
# predict.sh: ivon-predict beside PyTorch on two threads, interleaved, medians of three:
#   LeNet-5 on 2,000 images with 64 weight samples, and ResNet-20 at the mean (ours: the whole
#   command; PyTorch: its computation alone);
#   a 4-layer 1024-wide MLP in batches of 256 on one thread, beside the rate of the matrix product
#   itself (what twelve samples more cost, drawing and averaging included);
#   Gaussians drawn by one thread; start to first result beside `import torch`;
#   memory for a network of 100 million parameters.
# Measure on an idle machine: PyTorch's threads suffer more from company than ours, which flatters
# us; a load above 0.5 at the start is said.
# BLAS takes the kernels that OPENBLAS_CORETYPE names, or those it finds fit.
set -euo pipefail
cd "$(dirname "$0")"
if [ -z "${IVON_SHARED:-}" ] || ! /usr/bin/python3 -c 'import torch' 2> /dev/null; then
  echo "skipped: needs IVON_SHARED and PyTorch"
  exit 0
fi
root=$PWD/../..
bin=${IVON_BIN:-$root/build/release/bin}
work=$(mktemp -d -p "${IVON_BENCH_DIR:-/var/tmp}")
trap 'rm -rf "$work"' EXIT
python=/usr/bin/python3
lenet=$IVON_SHARED/reference/cifar-lenet

cp /proc/loadavg "$work/load"
$python torch_predict.py make "$work" 2> /dev/null
for program in draw sgemm; do
  cc -O3 -fno-math-errno -ffp-contract=off -I"$root" -I"$root/lib" $program.c \
    "$root"/lib/core/{random,blas,error,utf8}.c -o "$work/$program" -lopenblas -lm
done
grep -m 1 'model name' /proc/cpuinfo
awk '$1 > 0.5 {print "the load was " $1 ": these figures are not to be quoted"}' "$work/load"

seconds() { # COMMAND...
  local start=$EPOCHREALTIME
  "$@" > /dev/null
  awk "BEGIN {print $EPOCHREALTIME - $start}"
}
median() { sort -g "$work/$1.times" | sed -n 2p; }
row() { # WHAT OURS PEER UNIT
  awk -v what="$1" -v a="$2" -v b="$3" -v unit="$4" \
    'BEGIN {printf "%-44s %10.3f %10.3f %s  %6.2f\n", what, a, b, unit, b / a}'
}
predict() { "$bin/ivon-predict" -q -f -o "$work/out.h5" "$@"; }

for i in 1 2 3; do
  seconds predict "$lenet/posterior.h5" --model="$lenet/model.onnx" \
    --data="$IVON_SHARED/data/cifar10.h5:/test" >> "$work/lenet.times"
  $python torch_predict.py lenet "$IVON_SHARED" >> "$work/torch-lenet.times"
  seconds predict "$work/resnet.h5" --model="$work/resnet.onnx" --data="$work/images.npy" --mean \
    >> "$work/resnet.times"
  $python torch_predict.py resnet "$work" >> "$work/torch-resnet.times"
  for n in 4 16; do
    seconds predict -j1 "$work/mlp.h5" --model="$work/mlp.onnx" --data="$work/rows.npy" \
      --batch=256 -n $n >> "$work/mlp-$n.times"
  done
  "$work/sgemm" | cut -d' ' -f1 >> "$work/sgemm.times"
  seconds "$bin/ivon-predict" "$IVON_SHARED/reference/digits-mlp/posterior.h5" --mean --limit=1 \
    --model="$IVON_SHARED/reference/digits-mlp/model.onnx" \
    --data="$IVON_SHARED/data/digits.h5:/test" >> "$work/start.times"
  seconds $python -c 'import torch' >> "$work/torch-start.times"
done

printf '%-44s %10s %10s\n' '' ivon PyTorch
row "LeNet-5, 2,000 images x 64 samples" "$(median lenet)" "$(median torch-lenet)" s
row "ResNet-20, 2,000 images" "$(median resnet)" "$(median torch-resnet)" s
row "start to first result | import torch" "$(median start)" "$(median torch-start)" s
awk -v few="$(median mlp-4)" -v many="$(median mlp-16)" -v sgemm="$(median sgemm)" \
  -v core="$("$work/sgemm" | cut -d' ' -f2)" 'BEGIN {
    rate = 12 * 16384 * 4 * 2 * 1024 * 1024 / (many - few) / 1e9
    printf "MLP, one thread: %.1f GFLOP/s, %.0f %% of the %.1f of sgemm (%s kernels)\n",
           rate, 100 * rate / sgemm, sgemm, core}'
echo "Gaussians: $("$work/draw") million per second and thread"

$python - "$work" <<'PYTHON'
import sys
import h5py, numpy as np, onnx
from onnx import TensorProto as T, helper as o
work, n, layers = sys.argv[1], 5000, 4
info, names = o.make_tensor_value_info, [f"w{i}" for i in range(layers)]
nodes = [o.make_node("Gemm", [f"a{i}", w], [f"a{i + 1}"], transB=1) for i, w in enumerate(names)]
graph = o.make_graph(nodes, "wide", [info("a0", T.FLOAT, ["n", n])] +
                     [info(w, T.FLOAT, [n, n]) for w in names],
                     [info(f"a{layers}", T.FLOAT, ["n", n])])
onnx.save(o.make_model(graph, opset_imports=[o.make_opsetid("", 13)]), work + "/wide.onnx")
r = np.random.default_rng(0)
np.save(work + "/wide.npy", r.random((64, n), "f4"))
with h5py.File(work + "/wide.h5", "w") as f:
    f.attrs.update(format="ivon-posterior", format_version=1, ess=1e6, weight_decay=1e-3)
    for w in names:
        f["mean/" + w] = (r.standard_normal((n, n)) / n**.5).astype("f4")
        f["hessian/" + w] = np.full((n, n), .1, "f4")
PYTHON
/usr/bin/time -f '100 million parameters, 64 samples: %e s, %M kB resident' \
  "$bin/ivon-predict" -q -f -o "$work/out.npy" "$work/wide.h5" --model="$work/wide.onnx" \
  --data="$work/wide.npy" 2>&1
echo "(mean, Hessian and one sample are 1,200,000 kB, two samples 1,600,000)"
