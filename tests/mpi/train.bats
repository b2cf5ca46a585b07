#!/usr/bin/env bats
# ivon-train by ranks: the files of one process, to the byte, also where it was interrupted.
load mpi.bash

# Images, and a graph with a batch norm, beside what all tests of ranks have.
setup_file() {
  make_model
  /usr/bin/python3 - "$BATS_FILE_TMPDIR" << 'END'
import sys
import h5py
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

random = np.random.default_rng(1)
with h5py.File(sys.argv[1] + "/images.h5", "w") as f:
    f["x"] = random.standard_normal((64, 1, 28, 28)).astype("f4")
    f["y"] = random.integers(0, 10, 64)
values = {"scale": np.ones(6), "shift": np.zeros(6), "mean": np.zeros(6), "variance": np.ones(6),
          "fc1.weight": random.standard_normal((6, 5)), "fc2.weight": random.standard_normal((4, 6))}
nodes = [helper.make_node("Gemm", ["x", "fc1.weight"], ["h"], transB=1),
         helper.make_node("BatchNormalization", ["h", "scale", "shift", "mean", "variance"], ["n"]),
         helper.make_node("Gemm", ["n", "fc2.weight"], ["f"], transB=1)]
graph = helper.make_graph(nodes, "norm", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 5])],
                          [helper.make_tensor_value_info("f", TensorProto.FLOAT, ["n", 4])],
                          [numpy_helper.from_array(v.astype("f4"), k) for k, v in values.items()])
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)]), sys.argv[1] + "/norm.onnx")
END
}

# What most trainings below have.
NET=(--arch=mlp:5,12,4 --data=train.h5 --batch=140)
MLP=("${NET[@]}" --lr=.05 --no-provenance)

# one ARGUMENT...: the directory `one`, by one process
one() {
  rm -rf one
  ivon-train -q -o one "$@"
}

# one_mpi COUNT: one of the MPIs, another for another count: what one does not say anew takes one
one_mpi() {
  local all
  read -ra all <<< "$(each_mpi)"
  echo "${all[$(($1 % ${#all[@]}))]}"
}

# by COUNT ARGUMENT...: leaves the files in `one`
by() {
  by_each "$(one_mpi "$1")" "$@"
}

# by_each "MPI..." COUNT ARGUMENT...
by_each() {
  local count=$2
  for name in $1; do
    rm -rf by
    mpi "$name" "$count" ivon-train -q -o by --threads="$((count % 2 + 1))" "${@:3}"
    diff -r one by
  done
}

@test "any number of ranks leaves the files of one process" {
  local more=(--steps=4 --lanes=8 --test=test.h5 --eval-every=2 --loo --loo-every=2 --loo-rows=50 --patience=3)
  one "${MLP[@]}" "${more[@]}"
  for count in 1 4; do
    by "$count" "${MLP[@]}" "${more[@]}"
  done
  for count in 2 3; do
    by_each "$(each_mpi)" "$count" "${MLP[@]}" "${more[@]}"
  done
}

@test "so do all methods" {
  local count=1
  for method in evon bbb adamw soap sgd; do
    one "${MLP[@]}" --steps=3 --optimizer="$method" --held-out=.2
    by "$((count++ % 3 + 2))" "${MLP[@]}" --steps=3 --optimizer="$method" --held-out=.2
  done
}

@test "so do batch norms, augmentation, dropout, several samples, accumulation, averages and factors" {
  local images=(--arch=lenet:1,10,28 --data=images.h5 --lr=.05 --steps=2 --batch=32 --accumulate=2 --augment=crop2,flip --no-provenance)
  one "${images[@]}"
  by 3 "${images[@]}"
  local norm=(--model="$BATS_FILE_TMPDIR/norm.onnx" --data=train.h5 --lr=.05 --steps=5 --batch=96 --lanes=6 --no-provenance)
  one "${norm[@]}"
  by 4 "${norm[@]}"
  local draws=(--steps=3 --lanes=5 --dropout=.3 --mc-samples=2 --antithetic --clip-norm=1 --average=.5 --dtype=bf16)
  one "${MLP[@]}" "${draws[@]}"
  by 2 "${MLP[@]}" "${draws[@]}"
  mv one base
  local lora=(--from=base/posterior-00000003.h5 --lora='*:2' --data=train.h5 --lr=.05 --steps=3 --lanes=3 --no-provenance)
  one "${lora[@]}"
  by 3 "${lora[@]}"
}

# Of 140 lanes every rank has more than it works on at a time; of 2 not every rank has one.
@test "lanes are as many as the options say, and change the last bits alone" {
  one "${MLP[@]}" --steps=3
  mv one few
  local pair
  for pair in 140:3 2:4 20:2; do
    one "${MLP[@]}" --steps=3 --lanes="${pair%:*}"
    by "${pair#*:}" "${MLP[@]}" --steps=3 --lanes="${pair%:*}"
  done
  run -1 cmp -s few/posterior-00000003.h5 one/posterior-00000003.h5
  /usr/bin/python3 -c '
import h5py, numpy as np
few, many = (h5py.File(d + "/posterior-00000003.h5") for d in ("few", "one"))
few["mean"].visititems(lambda n, v: isinstance(v, h5py.Dataset) and np.testing.assert_allclose(v[()], many["mean"][n][()], atol=1e-5))'
}

# Of 140 lanes places come in waves; of 3, rank 3 has none. What two ranks left, four go on from.
@test "lanes draw weights of their own whichever rank has them" {
  local own=(--lane-samples --mc-samples=2 --antithetic --hess-every=2 --clip-norm=1 --save-every=2) pair
  for pair in 140:3 8:2 3:4; do
    one "${MLP[@]}" "${own[@]}" --steps=3 --lanes="${pair%:*}"
    by "${pair#*:}" "${MLP[@]}" "${own[@]}" --steps=3 --lanes="${pair%:*}"
  done
  one "${MLP[@]}" "${own[@]}" --steps=4 --lanes=8
  rm -rf by
  mpi "$(one_mpi 2)" 2 ivon-train -q -o by "${MLP[@]}" "${own[@]}" --steps=2 --lanes=8 --threads=1
  mpi "$(one_mpi 3)" 4 ivon-train -q -o by "${MLP[@]}" "${own[@]}" --steps=4 --lanes=8 --threads=1 --resume
  diff -r one by
  run mpi "$(one_mpi 2)" 2 bash -c '
    own=(--lane-samples)
    [ "${OMPI_COMM_WORLD_RANK:-$PMI_RANK}" != 1 ] || own=()
    exec ivon-train -q "$@" "${own[@]}" --steps=2 -o by -f' - "${MLP[@]}"
  [ "$status" = 64 ]
  [[ $output == *"rank 1 on $(hostname): the options are not those of rank 0"* ]]
}

@test "a training goes on by another number of ranks, after signals and kills" {
  local more=(--steps=4000 --save-every=0 --lanes=4 --beta2=.9)
  one "${MLP[@]}" "${more[@]}"
  for name in $(each_mpi); do
    rm -rf by
    run mpi "$name" 3 bash -c '
      [ "${OMPI_COMM_WORLD_RANK:-$PMI_RANK}" != 1 ] || { until [ -e by/log.csv ]; do sleep .05; done; kill -TERM $$; } &
      exec ivon-train -o by "$@"' - "${MLP[@]}" "${more[@]}"
    [ "$status" != 0 ]
    [ "$(grep -c "^ivon-train: interrupted after step" <<< "$output")" = 1 ]
    compgen -G 'by/posterior-*.h5' > /dev/null
    [ ! -e by/done ]
    SECONDS=0
    run mpi "$name" 2 bash -c '
      [ "${OMPI_COMM_WORLD_RANK:-$PMI_RANK}" != 1 ] || { sleep .5; kill -9 $$; } &
      exec ivon-train -q -o by --save-every=20 --resume "$@"' - "${MLP[@]}" "${more[@]}"
    [ "$status" != 0 ]
    ((SECONDS < 15))
    [ ! -e by/done ]
    ivon-train -q -o by --resume "${MLP[@]}" "${more[@]}" --threads=2
    cmp one/posterior-00004000.h5 by/posterior-00004000.h5
    cmp one/log.csv by/log.csv
  done
}

@test "a rank goes on from what another left" {
  local more=(--lanes=4 --save-every=2 --test=test.h5 --eval-every=1)
  one "${MLP[@]}" "${more[@]}" --steps=6
  ivon-train -q -o by "${MLP[@]}" "${more[@]}" --steps=2
  for steps in 4 6; do
    mpi "$(one_mpi "$((steps / 2))")" "$((steps / 2))" ivon-train -q -o by "${MLP[@]}" "${more[@]}" --steps="$steps" --resume --threads=1
  done
  diff -r one by
}

# The second combination diverges; the judges are the last checkpoint, the best, and what it left out.
@test "a grid leaves the files and prints the table of one process, and goes on" {
  local grid=("${NET[@]}" --steps=4 --lanes=2 --no-provenance -q -o by) count=2
  for judge in "--grid=lr=.05,1e30 --test=test.h5" "--grid=lr=.05,1e30 --test=test.h5 --eval-every=1 --patience=2 --stop-by=test" \
    "--grid=lr=.05,.1 --judge=loo --loo"; do
    rm -rf one by
    ivon-train "${grid[@]}" $judge > one.csv
    mv by one
    mpi "$(one_mpi "$count")" "$((count++))" ivon-train "${grid[@]}" $judge > by.csv
    diff -r one by
    cmp one.csv by.csv
  done
  rm by/grid.csv by/lr=.05/done
  mpi "$(one_mpi 2)" 2 ivon-train "${grid[@]}" $judge --resume > by.csv
  diff -r one by
  cmp one.csv by.csv
}

@test "a full disk and what one rank cannot read end all with one line, and the training goes on" {
  mkdir small
  mount -t tmpfs -o size=64k tmpfs small || skip "cannot mount"
  local wide=("${MLP[@]/12/300}" --steps=40 --save-every=10 --lanes=4)
  one "${wide[@]}"
  run mpi "$(one_mpi 3)" 3 ivon-train -q -o small/by "${wide[@]}"
  [ "$status" = 74 ]
  [ "$(grep -c "^ivon-train: small/by/posterior-.*No space left" <<< "$output")" = 1 ]
  cp -a small/by by
  mpi "$(one_mpi 2)" 2 ivon-train -q -o by "${wide[@]}" --resume
  diff -r one by
  run mpi "$(one_mpi 2)" 3 bash -c '
    data=train.h5
    [ "${OMPI_COMM_WORLD_RANK:-$PMI_RANK}" != 2 ] || data=missing.h5
    exec ivon-train -q "$@" --data="$data" -o by -f' - "${wide[@]}"
  [ "$status" = 66 ]
  [ "$(grep -c "^ivon-train: rank 2 on $(hostname): missing.h5: " <<< "$output")" = 1 ]
  diff -r one by
  umount small
}

@test "a sweep of rates prints the table of one process; other weights and what makes no sense are refused" {
  ivon-train --find-lr=20 "${NET[@]}" --lanes=4 > one.csv
  mpi "$(one_mpi 3)" 3 ivon-train --find-lr=20 "${NET[@]}" --lanes=4 2> /dev/null > by.csv
  cmp one.csv by.csv
  run mpi "$(one_mpi 2)" 2 ivon-train "${MLP[@]}" --steps=2 --lanes=141 -o by
  [ "$status" = 64 ]
  [ "$(grep -c "^ivon-train: " <<< "$output")" = 1 ]
  [ ! -e by ]
  run mpi "$(one_mpi 3)" 3 bash -c '
    exec ivon-train -q "$@" --seed="$((${OMPI_COMM_WORLD_RANK:-$PMI_RANK} / 2))" -o by' - "${MLP[@]}" --steps=2 --threads=1
  [ "$status" = 64 ]
  [[ $output == *"rank 2 on $(hostname): the options are not those of rank 0"* ]]
  [ ! -e by ]
  one "${MLP[@]/12/300}" --steps=1
  mv one/posterior-00000001.h5 0.h5
  /usr/bin/python3 -c '
import h5py, shutil
shutil.copy("0.h5", "1.h5")
with h5py.File("1.h5", "r+") as f:
    f["mean/fc1.weight"][299, 4] += 1'
  run mpi "$(one_mpi 2)" 2 bash -c '
    exec ivon-train -q "$@" --from="${OMPI_COMM_WORLD_RANK:-$PMI_RANK}.h5" -o by' - "${MLP[@]/12/300}" --steps=2 --threads=1
  [ "$status" = 70 ]
  [[ $output == *"step 1: rank 1 has other weights than rank 0: are their processors of one kind?"* ]]
  run -64 ivon-train --model="$BATS_FILE_TMPDIR/norm.onnx" --data=train.h5 --lr=.05 --steps=5 --batch=96 --lanes=5 -o by
  [[ $output == *"5 lanes of the 96 examples of a step, expected a number that divides them"* ]]
}
