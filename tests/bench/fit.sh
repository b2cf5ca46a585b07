#!/usr/bin/env bash
# fit.sh: ivon-fit on two threads, beside PyTorch, interleaved, the fastest of three, as company only
# adds:
#   the EK-FAC posterior (exact GGN of ten classes, two passes) of LeNet-5 on 10,000 images, and of
#   the digits' MLP on 140,000 rows: the whole command, and PyTorch's computation alone, in the way
#   and the batch that were fastest in a first run of each;
#   a low-rank correction of 200 pairs of LeNet-5's;
#   a product with the GGN beside two forward passes and a backward one, on one thread;
#   memory for a transformer of 124 million parameters.
# Measure on an idle machine: PyTorch's threads suffer more from company than ours, which flatters
# us; a load above 0.5 at the start is said.
# BLAS takes the kernels that OPENBLAS_CORETYPE names, or those it finds fit.
set -euo pipefail
cd "$(dirname "$0")"
if [ -z "${IVON_SHARED:-}" ] || ! /usr/bin/python3 -c 'import functorch' 2> /dev/null; then
  echo "skipped: needs IVON_SHARED and PyTorch with functorch"
  exit 0
fi
root=$PWD/../..
build=${IVON_BUILD:-$root/build/release}
bin=${IVON_BIN:-$build/bin}
work=$(mktemp -d -p "${IVON_BENCH_DIR:-/var/tmp}")
trap 'rm -rf "$work"' EXIT
python=/usr/bin/python3
export PYTHONDONTWRITEBYTECODE=1

cp /proc/loadavg "$work/load"
$python torch_sensitivity.py make "$IVON_SHARED" "$work"
mapfile -t objects < <(find "$build/CMakeFiles/ivon-objects.dir" -name '*.o')
read -ra libraries < <(pkg-config --libs hdf5 jansson libcrypto libseccomp openblas libprotobuf-c zlib libpng libjpeg)
cc -O2 -D_GNU_SOURCE -I"$root" -I"$root/lib" -I"$root/formats" -I"$build/generated" ggn.c \
  "${objects[@]}" -o "$work/ggn" "${libraries[@]}" -lhdf5_hl -lpthread -lm
grep -m 1 'model name' /proc/cpuinfo
awk '$1 > 0.5 {print "the load was " $1 ": these figures are not to be quoted"}' "$work/load"

network() { # NETWORK: its arguments
  echo "$IVON_SHARED/reference/$1/posterior.h5" "--model=$IVON_SHARED/reference/$1/model.onnx"
}
fit() { # NETWORK OPTION...
  local arguments
  read -ra arguments < <(network "$1")
  "$bin/ivon-fit" -q -f -j2 "${arguments[@]}" -o "$work/out.h5" "${@:2}"
}
seconds() { # COMMAND...
  local start=$EPOCHREALTIME
  "$@" > /dev/null
  awk "BEGIN {print $EPOCHREALTIME - $start}"
}
fastest() { sort -g "$work/$1.times" | head -n 1; }
# A posterior is compared first: PyTorch computes what ours did.
declare -A data=([cifar-lenet]=$work/cifar10.h5 [digits-mlp]=$work/digits.h5) way
for name in cifar-lenet digits-mlp; do
  fit $name --data="${data[$name]}"
  echo "$name: factors and traces differ by" \
    "$($python torch_fit.py check $name "${data[$name]}" "$IVON_SHARED" "$work/out.h5" 2> /dev/null)"
  for how in 'hooks 250' 'hooks 1000' 'batched 250' 'functorch 250' 'functorch 1000'; do
    read -ra choice <<< "$how"
    echo "$($python torch_fit.py "${choice[0]}" $name "${data[$name]}" "$IVON_SHARED" \
      "${choice[1]}" 2> /dev/null) $how"
  done > "$work/ways"
  way[$name]=$(sort -g "$work/ways" | head -n 1 | cut -d' ' -f2-)
done

for i in 1 2 3; do
  for name in cifar-lenet digits-mlp; do
    seconds fit $name --data="${data[$name]}" >> "$work/$name.times"
    read -ra choice <<< "${way[$name]}"
    $python torch_fit.py "${choice[0]}" $name "${data[$name]}" "$IVON_SHARED" "${choice[1]}" \
      2> /dev/null >> "$work/$name-torch.times"
  done
done
printf '%-40s %10s %12s %8s\n' '' 'whole, s' 'PyTorch, s' ratio
for name in cifar-lenet digits-mlp; do
  awk -v what="$name, ${way[$name]}" -v own="$(fastest $name)" -v torch="$(fastest $name-torch)" \
    'BEGIN {printf "%-40s %10.3f %12.3f %8.1f\n", what, own, torch, torch / own}'
done

echo
echo "LeNet-5, 10,000 images, 200 pairs: $(seconds fit cifar-lenet --data="${data[cifar-lenet]}" \
  --structure=lowrank) s, expected below 180"
for name in cifar-lenet digits-mlp; do
  read -ra arguments < <(network $name)
  limit=1000
  [ $name = cifar-lenet ] || limit=20000
  read -ra found < <("$work/ggn" "${arguments[0]}" "${arguments[1]#--model=}" "${data[$name]}" $limit)
  echo "$name: forward ${found[0]} s, backward ${found[1]} s, a product ${found[2]} s:" \
    "${found[3]} of two forward and one backward passes, expected below 1.18"
done

echo
mkdir "$work/gpt2"
$python large_networks.py gpt2-small "$work/gpt2"
$python peak_memory.py "a Kronecker fit, expected below 4096 MiB beside 475 MiB of weights" \
  "$bin/ivon-fit" -q -j2 --max-factor=4096 --memory=1600M --weight-decay=1e-4 --limit=4 \
  "$work/gpt2/posterior.h5" --model="$work/gpt2/model.onnx" --data="$work/gpt2/data.h5" \
  -o "$work/gpt2/fit.h5"
cut -d' ' -f1-3 /proc/loadavg | sed 's/^/load at the end: /'
