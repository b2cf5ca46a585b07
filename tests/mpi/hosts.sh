#!/usr/bin/env bash
# hosts.sh [openmpi|mpich]...: commands by ranks on three hosts, by Open MPI or those named: MPICH 4.0 does not always end
# there (ivon-mpi(7)). Takes about three minutes, most of it waiting; not a part of the test suite:
#
#   sudo IVON_BIN=build/release/bin COMMANDS="sensitivity merge train" tests/mpi/hosts.sh
#
# The hosts are namespaces of network, mounts, names and shared memory on this machine, each with a name, a /tmp, a
# /dev/shm and files of its own, joined by a bridge. All of them lie in a network namespace of this script, so that
# nothing touches the machine's own interfaces, and end with it. They share the directory /mnt/shared; what else is
# below /mnt/own is each one's own. The launcher runs on host-a, and starts its agents on the others by nsenter.
#
# Of each command:
#   - the bytes of one process;
#   - an input that is missing on one host is told in a line with the rank and the host;
#   - an output directory that the hosts do not share is told in a line, or is that of rank 0, if it alone writes;
#   - the link of host-c is cut in the middle of a run: within a minute it ends with a line, and the output is old or
#     whole; so it is when the command has run again, or gone on, on the other two hosts.
set -euo pipefail
cd "$(dirname "$0")/../.."

if [ -z "${HOSTS_INSIDE:-}" ]; then
  skip() { echo "skipped: $*"; exit 0; }
  [ "$(id -u)" = 0 ] || skip "needs root, for namespaces"
  for tool in ip nsenter unshare; do command -v $tool > /dev/null || skip "needs $tool (iproute2, util-linux)"; done
  IVON_BIN=$(realpath "${IVON_BIN:-build/release/bin}")
  [[ $IVON_BIN != /tmp/* && $IVON_BIN != /mnt/* ]] || skip "each host has a /tmp and a /mnt of its own: build elsewhere"
  inside=(--net --mount --uts --ipc --pid --fork --kill-child --mount-proc)
  unshare "${inside[@]}" true 2> /dev/null || skip "no namespaces can be made here"
  HOSTS_INSIDE=1 IVON_BIN=$IVON_BIN exec unshare "${inside[@]}" "$0" "$@"
fi

hosts=(host-a host-b host-c)
agent=/mnt/agent
declare -A pids

# A host is a process that sleeps in its namespaces. The launchers' agent may get options, such as -x, before the host.
make_hosts() {
  local host number=0
  mount -t tmpfs none /mnt
  mkdir /mnt/shared /mnt/own /mnt/pids
  ip link set lo up
  ip link add switch type bridge
  ip link set switch up
  echo "127.0.0.1 localhost" > /mnt/names
  for host in "${hosts[@]}"; do echo "10.0.0.$((++number)) $host" >> /mnt/names; done
  number=0
  for host in "${hosts[@]}"; do
    mkdir "/mnt/$host"
    unshare --net --mount --uts --ipc bash -ec "
      hostname $host
      mount -t tmpfs none /tmp
      mount -t tmpfs none /dev/shm
      mount --bind /mnt/$host /mnt/own
      mount --bind /mnt/names /etc/hosts
      ip link set lo up
      touch /mnt/pids/$host
      exec sleep infinity" &
    pids[$host]=$!
    until [ -s "/mnt/pids/$host" ]; do
      [ ! -e "/mnt/pids/$host" ] || echo $! > "/mnt/pids/$host"
      sleep .02
    done
    ip link add "to-$host" type veth peer name eth0 netns $!
    ip link set "to-$host" master switch up
    on "$host" ip addr add "10.0.0.$((++number))/24" dev eth0
    on "$host" ip link set eth0 up
  done
  printf '%s\n' '#!/bin/bash' 'while [[ $1 == -* ]]; do shift; done' 'host=$1' 'shift' \
    'exec nsenter --target="$(cat "/mnt/pids/$host")" --net --mount --uts --ipc --wdns=/ bash -c "$*"' > $agent
  chmod +x $agent
  # The launcher's own waits: see ivon-mpi(7).
  on host-a sysctl -q net.ipv4.tcp_retries2=5
}

on() { # HOST COMMAND...
  nsenter --target="${pids[$1]}" --net --mount --uts --ipc --wdns=/mnt/own "${@:2}"
}

# by MPI HOSTS COMMAND...: two ranks on each of those
by() {
  local list=${2// /:2,}:2 count
  count=$(($(wc -w <<< "$2") * 2))
  case $1 in
    openmpi)
      on host-a timeout 120 mpirun.openmpi --allow-run-as-root --mca plm_rsh_agent $agent -host "$list" -n $count \
        --wdir /mnt/own -x IVON_MPI_TIMEOUT=10 -x OMP_NUM_THREADS=1 --bind-to none -q \
        --mca oob_tcp_keepalive_time 5 --mca oob_tcp_keepalive_intvl 3 --mca oob_tcp_keepalive_probes 3 "${@:3}"
      ;;
    mpich)
      on host-a env IVON_MPI_TIMEOUT=10 OMP_NUM_THREADS=1 timeout 120 mpirun.mpich -launcher rsh \
        -launcher-exec $agent -hosts "$list" -n $count -wdir /mnt/own "${@:3}"
      ;;
  esac
}

# Commands: a short run, and a longer one to be cut, which write OUTPUT; where ranks other than the first write, too,
# they have to share its directory. Add one here.
read -ra commands <<< "${COMMANDS:-sensitivity merge train}"
all_write=(merge)
inputs=(posterior.h5 one.h5 train.h5) # that a command cannot do without
make_inputs() {
  PYTHONPATH=tests/oracle PYTHONDONTWRITEBYTECODE=1 /usr/bin/python3 tests/oracle/softmax_regression.py make "$1"
  /usr/bin/python3 -c '
import h5py, numpy as np, sys
random = np.random.default_rng(0)
for name in ("base", "one", "two"):
    with h5py.File(f"{sys.argv[1]}/{name}.h5", "w", track_order=True) as f:
        f.attrs.update(format="ivon-posterior", format_version=1, ess=1e4, weight_decay=1e-4)
        for tensor, shape in ("large", (8000, 1000)), ("bias", (1000,)), ("small", (40, 30)):
            f["mean/" + tensor] = random.standard_normal(shape, "f4")
            f["hessian/" + tensor] = random.random(shape, "f4")' "$1"
}
command_of() { # NAME short|long OUTPUT: sets `run`
  local more=()
  case $1 in
    sensitivity)
      [ "$2" = short ] || more=(--expectation=samples -n 30000)
      run=(ivon-sensitivity -q posterior.h5 --data=train.h5 --batch=2 --no-provenance -f "${more[@]}" -o "$3")
      ;;
    merge) run=(ivon-merge -q --no-provenance --base base.h5 one.h5 two.h5 -f -o "$3") ;;
    train)
      [ "$2" = long ] && more=(--steps=400 --save-every=20 --resume) || more=(--steps=200 -f)
      run=(ivon-train -q --arch=mlp:5,12,4 --data=train.h5 --lr=.05 --batch=140 --no-provenance "${more[@]}" -o "$3")
      ;;
  esac
  run[0]=$IVON_BIN/${run[0]}
}

fail() { echo "FAILED: $*"; [ ! -s /mnt/said ] || cat /mnt/said; exit 1; }
# The program's own lines, without the launcher's: one, and that matches.
one_line() { # WHAT PATTERN
  [ "$(grep -c '^ivon-' /mnt/said)" = 1 ] && grep -qE "^ivon-$2" /mnt/said || fail "$1: expected one line ivon-$2"
}
digest() { # OUTPUT: of the files, without what a run that was ended left beside them
  find "$1" -type f ! -name '.*.ivon-tmp' ! -name '*.part' ! -name log.csv -printf '%P\n' | LC_ALL=C sort \
    | while read -r file; do echo "$file $(sha256sum < "$1${file:+/$file}")"; done
}
old() { # OUTPUT
  rm -rf /mnt/shared/*  /mnt/shared/.[!.]*
  [[ $1 == *.h5 || $1 == *.csv ]] && echo old > "$1" || true
}

# The rank of host-c waits, so that no run is over too soon, while its link is cut.
cut_in_the_middle() { # NAME MPI OUTPUT WHOLE
  local launched rank stopped="" before
  command_of "$1" long "$3"
  old "$3"
  before=$(digest "$3" 2> /dev/null || true)
  touch /mnt/begun
  by "$2" "${hosts[*]}" "${run[@]}" > /mnt/said 2>&1 &
  launched=$!
  until [ -n "$(find /mnt/shared -type f -newer /mnt/begun)" ]; do
    kill -0 $launched 2> /dev/null || fail "the run was over before it could be cut"
  done
  for rank in $(pgrep -f "^$IVON_BIN/ivon-$1 "); do
    [ "$(readlink "/proc/$rank/ns/net")" != "$(readlink "/proc/${pids[host-c]}/ns/net")" ] \
      || { kill -STOP "$rank" && stopped+=" $rank"; }
  done
  ip link set to-host-c down
  SECONDS=0
  [ -z "$stopped" ] || kill -CONT $stopped
  ! wait $launched || fail "the run succeeded without host-c"
  local taken=$SECONDS
  ((taken < 60)) || fail "the run went on for $taken s"
  grep -qE "^ivon-$1: rank [0-9]+ on host-[ab]: 10\.0\.0\.3 has not answered for" /mnt/said || fail "no line of the cut"
  case $1 in
    train) ;; # its checkpoints are compared when it has gone on
    *) [[ $(digest "$3") == "$before" || $(digest "$3") == "$4" ]] || fail "the output is neither old nor whole" ;;
  esac
  echo "$2, $1: cut off, ended after $taken s"
  wait_for_the_lost $stopped
  by "$2" "host-a host-b" "${run[@]}" > /mnt/said 2>&1 || fail "the run on two hosts"
  [ "$(digest "$3")" = "$4" ] || fail "the run on two hosts wrote other bytes"
  echo "$2, $1: the bytes of one process when it was run again on two hosts"
  ip link set to-host-c up
}
# Those that are cut off end, too.
wait_for_the_lost() { # RANK...
  local rank
  for rank in "$@"; do
    for ((i = 0; i < 300; i++)); do
      kill -0 "$rank" 2> /dev/null && ! grep -q 'State:.Z' "/proc/$rank/status" 2> /dev/null || continue 2
      sleep .1
    done
    fail "a rank on the host that was cut off still runs"
  done
}

# What one process writes, to the same place, as names of outputs may be in them.
whole() { # NAME LENGTH OUTPUT
  command_of "$@"
  rm -rf "$3"
  on host-a env OMP_NUM_THREADS=1 "${run[@]}"
  digest "$3"
}

test_command() { # NAME MPI
  local output=/mnt/shared/out.h5 private=/mnt/own/out.h5 input whole long
  case $1 in train) output=/mnt/shared/run private=/mnt/own/run ;; esac
  command_of "$1" short "$output"
  if ! by "$2" host-a "${run[@]}" > /mnt/said 2>&1 && grep -q 'does not share its work' /mnt/said; then
    echo "$2, $1: skipped, it is one process"
    return
  fi
  whole=$(whole "$1" short "$output")
  long=$(whole "$1" long "$output")
  [ -n "$whole" ] && [ -n "$long" ] || fail "one process wrote nothing"

  command_of "$1" short "$output"
  old "$output"
  by "$2" "${hosts[*]}" "${run[@]}" > /mnt/said 2>&1 || fail "three hosts"
  [ "$(digest "$output")" = "$whole" ] || fail "three hosts wrote other bytes"
  echo "$2, $1: the bytes of one process"

  for input in "${inputs[@]}"; do
    [[ " ${run[*]} " == *[\ =]$input\ * ]] || continue
    mv "/mnt/host-b/$input" /mnt/host-b/moved
    old "$output"
    ! by "$2" "${hosts[*]}" "${run[@]}" > /mnt/said 2>&1 || fail "$input is missing"
    mv /mnt/host-b/moved "/mnt/host-b/$input"
    one_line "$input is missing" "$1: rank [0-9]+ on host-b: $input: "
    ! grep -q "^ivon-$1: rank 0" /mnt/said || fail "$input is missing: the rank"
  done
  echo "$2, $1: an input that is missing on one host: $(grep '^ivon-' /mnt/said)"

  command_of "$1" short "$private"
  if [[ " ${all_write[*]} " == *" $1 "* ]]; then
    ! by "$2" "${hosts[*]}" "${run[@]}" > /mnt/said 2>&1 || fail "the hosts share no directory"
    one_line "the hosts share no directory" "$1: .*rank [0-9]+ on host-[bc].* directory"
    [ ! -e /mnt/host-a/out.h5 ] || fail "an output is there"
    echo "$2, $1: a directory that hosts do not share: $(grep '^ivon-' /mnt/said)"
  else
    by "$2" "${hosts[*]}" "${run[@]}" > /mnt/said 2>&1 || fail "a directory of rank 0"
    [ "$(digest "/mnt/host-a/${private##*/}")" = "$whole" ] || fail "a directory of rank 0: other bytes"
    [ ! -e "/mnt/host-b/${private##*/}" ] || fail "a directory of rank 0: another one wrote, too"
    rm -rf "/mnt/host-a/${private##*/}"
  fi
  cut_in_the_middle "$1" "$2" "$output" "$long"
}

make_hosts
make_inputs /mnt/host-a
for host in host-b host-c; do cp /mnt/host-a/*.h5 "/mnt/$host"; done
mpis=("${@:-openmpi}")
for mpi in "${mpis[@]}"; do
  [ -e "$IVON_BIN/../ivon/ranks-$mpi.so" ] && type "mpirun.$mpi" > /dev/null 2>&1 || { echo "$mpi: skipped, it is not there"; continue; }
  for name in "${commands[@]}"; do test_command "$name" "$mpi"; done
done
