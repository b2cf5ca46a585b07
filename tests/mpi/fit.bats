#!/usr/bin/env bats
# ivon-fit by ranks: the bytes of one process, also where another number of ranks goes on.
load mpi.bash

# Networks: one of two layers; two whose vectors have two pieces and more, of three layers and of weights that lie the
# other way round in a graph; and many examples beside the 150 of train.h5.
setup_file() {
  make_model
  cd "$BATS_FILE_TMPDIR"
  PATH=$IVON_BIN:$PATH
  ivon-train -q --arch=mlp:5,16,4 --data=train.h5 --targets=y --lr=.1 --steps=100 --batch=10 --save-every=0 -o run
  mv run/posterior-*.h5 mlp.h5
  ivon-train -q --arch=mlp:5,100,80,4 --data=train.h5 --targets=y --lr=.05 --steps=50 --batch=10 --save-every=0 -f -o run
  mv run/posterior-*.h5 wide.h5
  /usr/bin/python3 -c "
import numpy as np, onnx
from onnx import helper, numpy_helper
random = np.random.default_rng(0)
sizes = {'w': (5, 100), 'b': (100,), 'v': (160, 100), 'c': (160,), 's': (160,), 'u': (160, 4)}
weights = [numpy_helper.from_array((.2 * random.normal(size=size)).astype('f'), name) for name, size in sizes.items()]
nodes = [helper.make_node(*node, **more) for node, more in [
    (('MatMul', ['x', 'w'], ['1']), {}), (('Add', ['1', 'b'], ['2']), {}), (('Relu', ['2'], ['3']), {}),
    (('Gemm', ['3', 'v', 'c'], ['4']), {'transB': 1}), (('Mul', ['4', 's'], ['5']), {}),
    (('MatMul', ['5', 'u'], ['y']), {})]]
ends = [helper.make_tensor_value_info(name, 1, ['N', size]) for name, size in [('x', 5), ('y', 4)]]
graph = helper.make_graph(nodes, 'graph', ends[:1], ends[1:], weights)
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid('', 13)], ir_version=8), 'graph.onnx')"
  /usr/bin/python3 -c "
import h5py, numpy as np
with h5py.File('train.h5') as f, h5py.File('many.h5', 'w') as g:
    for name in ('x', 'y'):
        g[name] = np.concatenate([f[name][()]] * 14)"
}

# Where tiles are of two examples, every rank has several chunks.
fit=(ivon-fit --targets=y --no-provenance -f)

# same COUNT ARGUMENT...: each MPI writes the bytes of one process, and prints what it does.
same() { one_and_by "$1" by.h5 "${fit[@]}" "${@:2}"; }

@test "any number of ranks writes the same bytes, and prints the same" {
  for count in 1 2 3 4; do
    same "$count" mlp.h5 --data=train.h5 --batch=2 --structure=lowrank --rank=2
  done
}

@test "so does every structure and prior" {
  same 4 mlp.h5 --data=train.h5 --batch=2 --structure=diagonal --curvature=fisher --json
  same 3 mlp.h5 --data=train.h5 --batch=2 --gram
  same 2 posterior.h5 --data=train.h5 --batch=2 --structure=lowrank:posterior --rank=2
  same 3 mlp.h5 --data=train.h5 --batch=2 --moments=factors --tune=marginal:per-tensor
  same 2 mlp.h5 --data=train.h5 --batch=8 --structure=diagonal --tune=validation --validation=test.h5
}

@test "chunks of several waves, data beyond memory, and more ranks than chunks change nothing" {
  same 3 mlp.h5 --data=many.h5 --batch=1
  same 2 mlp.h5 --data=many.h5 --batch=8 --memory=32K --structure=lowrank --rank=1
  same 4 mlp.h5 --data=train.h5 --batch=16
}

@test "vectors of a correction are shared, whatever layers they are of" {
  local graph=("$BATS_FILE_TMPDIR/graph.onnx" --data=train.h5 --batch=32 --rank=3)
  same 3 "${graph[@]}" --structure=lowrank
  same 4 "${graph[@]}" --structure=lowrank:diagonal
  same 2 "${graph[@]}" --structure=lowrank --max-factor=90 # some layers have no basis
}

# peak PROGRAM...: the greatest memory of it, in kB.
peak() {
  /usr/bin/python3 -c '
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:], close_fds=False)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)' "$@"
}
export -f peak

@test "each rank holds its part of the vectors alone" {
  local vectors=$((60 * 255000 * 4 / 1024)) # kB: of 40 steps and 20 values, 255,000 parameters each
  ivon-train -q --arch=mlp:5,500,500,4 --data=train.h5 --targets=y --lr=.1 --steps=1 --batch=10 --save-every=0 -o run
  local command=(ivon-fit -q run/posterior-*.h5 --data=train.h5 --targets=y --no-provenance -f --limit=8 --structure=lowrank:diagonal
    --rank=20 --threads=1)
  local alone most
  alone=$(peak "${command[@]}" -o one.h5)
  most=$(mpi "$(each_mpi | cut -d' ' -f1)" 4 bash -c 'peak "$@"' peak "${command[@]}" -o by.h5 | sort -n | tail -n 1)
  echo "alone $alone kB, most of 4 ranks $most kB"
  cmp by.h5 one.h5
  ((most < alone - vectors / 4)) # MPI takes some of the three quarters that a rank has less
}

@test "a row that one rank finds bad is told once, and the old output stays" {
  tells_bad_row 4 "${fit[@]}" mlp.h5 --data=train.h5 --batch=2
}

long=(wide.h5 --data=many.h5 --batch=8 --structure=lowrank:diagonal --rank=30 --threads=1)

# stopped NAME COUNT SIGNAL RANK SECONDS: a long fit of which ranks RANK (a pattern) get the signal so long after they
# have begun to listen to signals (bit 14 is SIGTERM): launchers do not always survive processes that die before.
stopped() {
  run mpi "$1" "$2" bash -c '
    rank=${OMPI_COMM_WORLD_RANK:-$PMI_RANK} signal=$1 seconds=$3
    stop() {
      until (($(sed -n "s/^SigCgt:\t/0x/p" /proc/$$/status) >> 14 & 1)); do [ -d /proc/$$ ] || return; sleep .05; done
      sleep "$seconds"
      kill -"$signal" $$
    }
    [[ $rank != $2 ]] || stop 2> /dev/null &
    shift 3
    exec ivon-fit -q --targets=y --no-provenance "$@" -f -o by.h5 --resume' ranks "$3" "$4" "$5" "${long[@]}"
  [ "$(grep -c ^ivon <<< "$output")" -le 1 ]
}

# leaves NAME COUNT RANK: a fit that is stopped so late that it saves another state than the one there is, of vectors that
# ranks hold together, and does not end.
leaves() {
  local seconds
  [ ! -e by.h5.part ] || cp by.h5.part before
  for seconds in .05 .1 .15 .2 .3 .4 .6 .8 1.2 2 4 8; do
    stopped "$1" "$2" TERM "$3" "$seconds"
    [ "$(cat by.h5)" = old ]
    ! grep -qa lanczos by.h5.part || cmp -s by.h5.part before || return 0
  done
  return 1
}

@test "a fit that is stopped or loses a rank goes on, by another number of ranks, to the same bytes" {
  "${fit[@]}" -q "${long[@]}" -o one.h5
  for name in $(each_mpi); do
    echo old > by.h5
    touch before
    leaves "$name" 3 '*'
    leaves "$name" 2 1 # rank 0 learns of it
    cp by.h5.part before
    SECONDS=0
    stopped "$name" 2 KILL 1 0
    [ "$status" != 0 ]
    ((SECONDS < 15))
    [ "$(cat by.h5)" = old ]
    cmp by.h5.part before
    stopped "$name" 4 TERM none 0
    [ "$status" = 0 ]
    cmp by.h5 one.h5
    [ ! -e by.h5.part ]
  done
}

@test "what one process leaves ranks go on from, and the other way round" {
  "${fit[@]}" -q "${long[@]}" -o one.h5
  local name seconds
  name=$(each_mpi | cut -d' ' -f1)
  for seconds in .05 .1 .2 .4 .8; do
    [ -s by.h5.part ] || timeout -s TERM $seconds ivon-fit -q --targets=y --no-provenance "${long[@]}" -f -o by.h5 2> /dev/null || true
  done
  echo old > by.h5
  leaves "$name" 3 '*'
  "${fit[@]}" -q "${long[@]}" -o by.h5 --resume
  cmp by.h5 one.h5
}

@test "a state that is another fit's, and what is computed without data, are refused once" {
  for name in $(each_mpi); do
    echo mine > by.h5.part
    run mpi "$name" 2 "${fit[@]}" -q mlp.h5 --data=train.h5 -o by.h5
    [ "$status" = 65 ]
    [ "$(grep -c ^ivon-fit: <<< "$output")" = 1 ]
    [[ $output == *"is in the way"* ]]
    rm by.h5.part
    run mpi "$name" 2 ivon-fit mlp.h5 --tune=marginal -o by.h5
    [ "$status" = 64 ]
    [ "$(grep -c "^ivon-fit: --tune without --data does not share its work" <<< "$output")" = 1 ]
    run mpi "$name" 2 ivon-fit step-0.h5 step-3.h5 --structure=swag -o by.h5
    [ "$status" = 64 ]
    [ "$(grep -c "^ivon-fit: --structure=swag does not share its work" <<< "$output")" = 1 ]
    [ ! -e by.h5 ]
  done
}

@test "data other than those of rank 0 are told" {
  run mpi "$(each_mpi | cut -d' ' -f1)" 2 bash -c '
    data=test.h5
    [ "${OMPI_COMM_WORLD_RANK:-$PMI_RANK}" != 1 ] || data=train.h5
    exec ivon-fit -q posterior.h5 --data="$data" --targets=y -f -o by.h5'
  [ "$status" = 65 ]
  [ "$(grep -c "^ivon-fit: rank 1 on .*: train.h5: is not what rank 0 opened" <<< "$output")" = 1 ]
  [ ! -e by.h5 ]
}
