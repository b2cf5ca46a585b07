#!/usr/bin/env bash
# ranks.sh [RUNS]: what ranks of MPI cost here, and by these figures would cost on a cluster:
#   bandwidth of a sum over two ranks of this machine, and seconds of an agreement;
#   two ranks of one thread beside one process of two threads, interleaved, the fastest of RUNS, five by default;
#   seconds of one lane's or block's work on one thread, as what many examples take more than few, and bytes that a
#   step sums or hands to rank 0;
#   from these, for 1 to 1,024 ranks of one thread at 10 and 100 Gbit/s, the speed-up over one rank.
#
# The formula, with R ranks, L lanes (or blocks) of c seconds, b bytes that each step sums, B bytes a second and a
# latency of l = 20 us, which is assumed:
#
#   step(R) = ceil(L / R) c + sum(b, R) + log2(R) l
#   sum(b, R) = (R + ceil(b / p) - 2) (p / B + l) + broadcast, p = b / R, from 16 to 128 kB of floats
#   broadcast = b / B * min(log2(R), 2) + log2(R) l
#
# A sum goes from rank to rank in parts of p bytes, so that it takes the time of one part for each rank and each part;
# then MPI broadcasts it: a tree sends short messages, and scatters long ones (twice the bytes). A block's results go to
# rank 0, one rank after the other: R b / B a round. MPI's own time is in c's measure of two ranks only.
# Measure on an idle machine; a load above 0.5 at the start is said.
set -euo pipefail
cd "$(dirname "$0")"
runs=${1:-5}
root=$PWD/../..
build=${IVON_BUILD:-$root/build/release}
bin=${IVON_BIN:-$build/bin}
. ../mpi/mpi.bash
IVON_BIN=$bin
read -ra mpis <<< "$(each_mpi)"
if [ -z "${IVON_SHARED:-}" ] || [ ${#mpis[@]} = 0 ]; then
  echo "skipped: needs IVON_SHARED, and an MPI for which ivon was built"
  exit 0
fi
work=$(mktemp -d -p "${IVON_BENCH_DIR:-/dev/shm}") # what disks take to have outputs is none of this
trap 'rm -rf "$work"' EXIT
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1

grep -m 1 'model name' /proc/cpuinfo
awk '$1 > 0.5 {print "the load was " $1 ": these figures are not to be quoted"}' /proc/loadavg
mapfile -t objects < <(find "$build/CMakeFiles/ivon-objects.dir" -name '*.o')
read -ra libraries < <(pkg-config --libs hdf5 jansson libcrypto libseccomp openblas libprotobuf-c zlib libpng libjpeg)
# The program looks for the plug-ins where it lies.
mkdir "$work/bin"
ln -s "$(realpath "$build/ivon")" "$work/bin/ivon"
cc -O2 -D_GNU_SOURCE -I"$root" -I"$root/lib" ranks.c "${objects[@]}" -o "$work/bin/ranks" "${libraries[@]}" \
  -lhdf5_hl -lpthread -lm -ldl

network=$IVON_SHARED/reference/cifar-lenet
data=$IVON_SHARED/data/cifar10.h5:/train
# Commands by examples (sensitivity, fit) or steps (train): LeNet-5.
command_of() { # NAME COUNT
  case $1 in
    sensitivity)
      run=("$bin/ivon-sensitivity" -q "$network/posterior.h5" --model="$network/model.onnx" --data="$data" --limit="$2" \
        --n-train=10000 -o "$work/out.h5" -f)
      ;;
    fit)
      run=("$bin/ivon-fit" -q -f "$network/posterior.h5" --model="$network/model.onnx" --data="$data" --limit="$2" \
        -o "$work/out.h5")
      ;;
    train)
      run=("$bin/ivon-train" -q -f --arch=lenet --data="$data" --lr=0.1 --h0=0.1 --batch=64 --steps="$2" --save-every=0 \
        -o "$work/run")
      ;;
  esac
}
declare -A few=([sensitivity]=500 [fit]=200 [train]=20) many=([sensitivity]=9500 [fit]=6200 [train]=420)
# Lanes of a step, or blocks of the table's 50,000 examples by 50, whose time is that of one lane; bytes that a step
# sums, as floats of LeNet's 61,706 weights (the gradient; a fit's diagonal and factors once), or
# that a block hands to rank 0.
declare -A lanes=([sensitivity]=1000 [fit]=1000 [train]=8) unit=([sensitivity]=50 [fit]=50 [train]=0.125)
declare -A bytes=([sensitivity]=1200 [fit]=1000000 [train]=246824) kind=([sensitivity]=map [fit]=once [train]=step)

seconds() { # COMMAND...
  local start=$EPOCHREALTIME
  "$@" > /dev/null 2> "$work/said" || return 1
  awk "BEGIN {print $EPOCHREALTIME - $start}"
}
fastest() { sort -g "$work/$1" | head -n 1; }
more() { awk "BEGIN {print $(fastest "$1-many") - $(fastest "$1-few")}"; }

for name in "${mpis[@]}"; do
  read -r rate agreement < <(mpi "$name" 2 "$work/bin/ranks")
  awk -v name="$name" -v rate="$rate" -v agreement="$agreement" 'BEGIN {
    printf "%s: two ranks of this machine sum %.2f GB/s, and agree in %.1f us\n", name, rate / 1e9, 1e6 * agreement}'
done

measured=()
echo
printf '%-12s %-8s %12s %12s %8s\n' "seconds" MPI "2 threads" "2 ranks" ratio
for command in sensitivity fit train; do
  command_of $command "${few[$command]}"
  if ! seconds mpi "${mpis[0]}" 2 "${run[@]}" --threads=1 > /dev/null; then
    grep -q 'does not share its work' "$work/said" || { cat "$work/said"; exit 1; }
    echo "$command is one process: skipped"
    continue
  fi
  measured+=("$command")
  for ((i = 0; i < runs; i++)); do
    for count in few many; do
      declare -n counts=$count
      command_of $command "${counts[$command]}"
      seconds "${run[@]}" --threads=1 >> "$work/$command-1-$count"
      seconds "${run[@]}" --threads=2 >> "$work/$command-2-$count"
      for name in "${mpis[@]}"; do
        seconds mpi "$name" 2 "${run[@]}" --threads=1 >> "$work/$command-$name-$count"
      done
    done
  done
  for name in "${mpis[@]}"; do
    awk -v what=$command -v name="$name" -v threads="$(more $command-2)" -v ranks="$(more $command-$name)" \
      'BEGIN {printf "%-12s %-8s %12.3f %12.3f %8.2f\n", what, name, threads, ranks, ranks / threads}'
  done
done

for command in "${measured[@]}"; do
  lane=$(awk "BEGIN {print $(more $command-1) / (${many[$command]} - ${few[$command]}) * ${unit[$command]}}")
  echo
  awk -v what=$command -v L="${lanes[$command]}" -v c="$lane" -v b="${bytes[$command]}" -v kind="${kind[$command]}" '
    function ceil(x) { return x == int(x) ? x : int(x) + 1 }
    function log2(x) { return log(x) / log(2) }
    function sum(R, B,    p, broadcast) {
      p = b / R < 4 * 4096 ? 4 * 4096 : b / R > 4 * 32768 ? 4 * 32768 : b / R
      broadcast = b / B * (log2(R) < 2 ? log2(R) : 2) + log2(R) * latency
      return R == 1 ? 0 : (R + ceil(b / p) - 2) * (p / B + latency) + broadcast
    }
    function step(R, B) {
      if (kind == "map") # results reach rank 0 while no rank computes
        return ceil(lanes / R) * (c + (R > 1) * ((R < lanes ? R : lanes) * (b / B + latency) + log2(R) * latency))
      return ceil(lanes / R) * c + sum(R, B) + log2(R) * latency
    }
    BEGIN {
      latency = 20e-6
      for (wide = 0; wide < (kind == "step" ? 2 : 1); wide++) {
        lanes = wide ? 1024 : L
        printf "%s: %d %s of %.3g ms, %d bytes %s; speed-up over one rank\n", what, lanes,
               kind == "step" ? "lanes" : "blocks", 1e3 * c, b,
               kind == "step" ? "a step" : kind == "once" ? "in all" : "a block"
        printf "%12s %12s %12s\n", "ranks", "10 Gbit/s", "100 Gbit/s"
        for (R = 1; R <= 1024; R *= 2)
          printf "%12d %12.1f %12.1f\n", R, step(1, 1) / step(R, 1.25e9), step(1, 1) / step(R, 12.5e9)
      }
    }'
done
cut -d' ' -f1-3 /proc/loadavg | sed 's/^/load at the end: /'
