#!/usr/bin/env bash
# kills.sh COUNT RANKS MPI OUTPUT COMMAND...: kills one of the ranks of a command, which writes OUTPUT, a file or a
# directory, COUNT times, at random moments of its run. Each time all end within ten seconds, and the output is the old
# one or the whole; a last run, which nobody disturbs, writes the whole. SEED repeats the moments of another call.
set -euo pipefail
. "$(dirname "$0")/mpi.bash"
count=$1 ranks=$2 name=$3 output=$4
shift 4
RANDOM=${SEED:=$$}
pids=$(mktemp -d)
trap 'rm -rf "$pids"' EXIT

# What the output holds, but for what killed runs left.
digest() { find "$output" -type f ! -name '.*.ivon-tmp' -exec sha256sum {} + | LC_ALL=C sort -k 2 | sha256sum; }
# Waits for the ranks to end, and then for the launcher; that of Open MPI 4 may hang in its own end (a mutex in
# PMIx_server_finalize) when a rank was killed as it started, and is killed itself.
hung=0
ended() { # LAUNCHER
  local rank launcher i
  for rank in "$pids"/*; do
    while readlink "/proc/$(basename "$rank")/exe" > /dev/null; do sleep 0.05; done
  done
  taken=$(($(now) - begin))
  for ((i = 0; i < 50; i++)); do kill -0 "$1" 2> /dev/null || return 0; sleep 0.1; done
  launcher=$(pgrep -P "$(pgrep -P "$1")") && kill -9 "$launcher" && hung=$((hung + 1)) || true
}
run() { mpi "$name" "$ranks" bash -c 'echo > "$0/$$"; exec "$@"' "$pids" "$@"; }
now() { echo "${EPOCHREALTIME/./}"; }

old=$(digest)
cp -a "$output" "$pids.old"
trap 'rm -rf "$pids" "$pids.old"' EXIT
begin=$(now)
run "$@"
length=$(($(now) - begin))
whole=$(digest)
[ "$old" != "$whole" ] || { echo "the command writes what is there already"; exit 1; }

olds=0 wholes=0 longest=0 kills=0
while ((kills < count)); do
  rm -rf "$output" "${pids:?}"/*
  cp -a "$pids.old" "$output"
  run "$@" > /dev/null 2>&1 &
  moment=$((length / 1000 * (RANDOM % 1000)))
  sleep "$((moment / 1000000)).$(printf %06d $((moment % 1000000)))"
  victims=("$pids"/*)
  if kill -9 "$(basename "${victims[RANDOM % ${#victims[@]}]}")" 2> /dev/null; then # else it has not begun, or is over
    begin=$(now)
    ended $!
    kills=$((kills + 1))
    ((taken <= longest)) || longest=$taken
    ((taken < 10000000)) || { echo "seed $SEED: the run went on for $taken us after kill $kills, at $moment us"; exit 1; }
  fi
  wait || true
  case $(digest) in
    "$old") olds=$((olds + 1)) ;;
    "$whole") wholes=$((wholes + 1)) ;;
    *) echo "seed $SEED: kill $kills, after $moment us, left neither the old output nor the whole"; exit 1 ;;
  esac
done
run "$@" > /dev/null
[ "$(digest)" = "$whole" ] || { echo "seed $SEED: the run after the kills did not write the whole"; exit 1; }
echo "$count kills of $ranks ranks of $name, $((olds + wholes - count)) beside: $olds old, $wholes whole, ranks ended within $((longest / 1000)) ms, $hung launchers hung (seed $SEED)"
