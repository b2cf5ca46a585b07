#!/usr/bin/env bash
# same.sh BEFORE AFTER: whether two builds say the same. Runs every example of README and of the manuals, the
# demo, and tests/real where IVON_SHARED names its data, with the commands in the folder BEFORE, then with those
# in AFTER; shows each call whose exit status, standard output or messages differ.
set -euo pipefail
(($# == 2)) || { echo "usage: $0 BEFORE AFTER" >&2; exit 64; }
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Programs in front of the commands, which note what they were asked and what they said.
mkdir "$work/bin"
cat > "$work/note" << 'NOTE'
#!/usr/bin/env bash
scratch=$(mktemp -d)
exec 4>&1
{ { "$SAME_BIN/${0##*/}" "$@" 2>&3 3>&-; echo $? > "$scratch/code"; } | tee "$scratch/out" >&4; } 3>&1 |
  tee "$scratch/err" >&2
code=$(< "$scratch/code")
mask='s/[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9:]{8}(\.[0-9]+)?Z?/TIME/g; s#/tmp/[A-Za-z0-9._-]*[^/ "]*#TMP#g'
{
  printf '%s' "${0##*/}"
  printf ' %q' "$@"
  printf ': exit %s, output %s, ' "$code" "$(sed -E "$mask" < "$scratch/out" | sha256sum | cut -c1-16)"
  tr '\n' '|' < "$scratch/err"
  echo
} | sed -E "$mask" | flock "$SAME_LOG.lock" tee -a "$SAME_LOG" > /dev/null
rm -rf "$scratch"
exit $code
NOTE
chmod +x "$work/note"
for name in "$2"/ivon*; do ln -s "$work/note" "$work/bin/$(basename "$name")"; done

try() { # BUILD LOG
  export SAME_BIN=$1 SAME_LOG=$2 IVON_BIN=$work/bin IVON_BUILD=$1/.. IVON_SANITIZE=
  touch "$2"
  bash tests/lint/examples.sh || true
  bash cmd/demo.sh || true
  [ -z "${IVON_SHARED:-}" ] || for script in tests/real/*.sh; do bash "$script" || true; done
}
before=$(cd "$1" && pwd) after=$(cd "$2" && pwd)
try "$before" "$work/before" > /dev/null 2>&1
try "$after" "$work/after" > /dev/null 2>&1
for log in before after; do LC_ALL=C sort "$work/$log" > "$work/$log.sorted"; done
echo "$(wc -l < "$work/before") calls before, $(wc -l < "$work/after") after"
diff "$work/before.sorted" "$work/after.sorted" && echo "all say the same"
