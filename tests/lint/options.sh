#!/usr/bin/env bash
# A command's options are the same in its help, its man page, and the completions of all shells, which know
# values, too.
set -euo pipefail
failed=0

names() { grep -oE -e '--[a-z0-9-]+' | sort -u; }

in_help() { "$IVON_BIN/ivon-$1" --help | grep -E '^ +(-., )?--[a-z]' | sed -E 's/^( +(-., )?--[a-z0-9-]+).*/\1/' | names; }
in_manual() { grep '^\.It Fl' "man/ivon-$1.1" | grep -oE 'Fl -[a-z0-9-]+' | sed 's/Fl -/--/' | names; }
in_bash() { "$IVON_BIN/ivon" completion bash | grep -E "^    $1\) words=' --" | names; }
in_zsh() { "$IVON_BIN/ivon" completion zsh | sed -n "/^_ivon_$1()/,/^}/p" | grep -oE "^    '--[a-z0-9-]+" | names; }
in_fish() { "$IVON_BIN/ivon" completion fish | grep "^complete -c ivon-$1 " | grep -oE ' -l [a-z0-9-]+' | sed 's/ -l /--/' | names; }

commands=$("$IVON_BIN/ivon" help | sed -n 's/^  \([a-z-]*\)  .*/\1/p' | grep -vE '^(help|completion)$')
for command in $commands; do
  expected=$(in_help "$command")
  # glibc's argp moves an option to the margin of its text, and this to the left, where both together just fill a
  # buffer of 200 bytes: a shorter text does not.
  if "$IVON_BIN/ivon-$command" --help | grep -E '^ {25,}--[a-z-]+='; then
    echo "^ ivon-$command --help: an option at the margin of its text"
    exit 1
  fi
  for place in manual bash zsh fish; do
    if ! diff <(cat <<< "$expected") <("in_$place" "$command"); then
      echo "^ options of ivon-$command: < in its help, > in $place"
      failed=1
    fi
  done
  # ivon(1) has it in the list of commands, and among what to see also.
  if [ "$(grep -cE "^\.(It )?Xr ivon-$command 1( ,)?$" man/ivon.1)" -lt 2 ]; then
    echo "^ man/ivon.1 does not list ivon-$command"
    failed=1
  fi
  echo "ivon-$command: $(wc -l <<< "$expected") options"
done

# What bash offers for the last of WORD...
offers() { # EXPECTED WORD...
  local found
  found=$(COMP_WORDS=("${@:2}") COMP_CWORD=$(($# - 2)) bash -c '
    compopt() { :; }
    . <("$IVON_BIN/ivon" completion bash)
    COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
    _ivon; echo "${COMPREPLY[*]}"' bash "${@:2}")
  if [ "$found" != "$1" ]; then
    echo "^ ${*:2}: bash offers '$found', expected '$1'"
    failed=1
  fi
}
offers "predict predict-gen prune" ivon help pr
offers "zsh" ivon completion z
offers "plot predict predict-gen prune" ivon p
offers "reliability" ivon plot re
offers "images influence" ivon-plot i
offers "gpt:" ivon train --arch = g
offers "resnet20 resnet20-frn resnet20-bn" ivon train --arch = r
offers "batchbald" ivon-predict --acquire = bat
offers "self-influence" ivon-sensitivity --score = s
offers "noise impulse blur pixelate contrast brightness" ivon-predict --shift =
offers "diagonal base means" ivon-convert --structure =
offers "grid: simplex:" ivon-merge --weights =
exit $failed
