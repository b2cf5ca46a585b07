#!/usr/bin/env bash
# A command's options are the same in its help, its man page, and the completions of all shells.
set -euo pipefail
failed=0
for command in $("$IVON_BIN/ivon" help | sed -n 's/^  \([a-z-]*\)  .*/\1/p' | grep -vE '^(help|completion)$'); do
  "$IVON_BIN/ivon-$command" --help | grep -oE '^ +(-., )?--[a-z0-9-]+|^ +-., --[a-z0-9-]+|, --[a-z0-9-]+' \
    | grep -oE '\-\-[a-z0-9-]+' | sort -u > "${TMPDIR:-/tmp}/options.$$"
  compare() { # WHERE, options on standard input
    if ! diff <(sort -u) "${TMPDIR:-/tmp}/options.$$"; then
      echo "$1 of ivon-$command differs from its --help"
      failed=1
    fi
  }
  sed -n '/^\.It Fl/p' "man/ivon-$command.1" | grep -oE 'Fl -[a-z0-9-]+' | sed 's/Fl -/--/' \
    | compare "the man page"
  "$IVON_BIN/ivon" completion bash | grep -E "^    $command\) words=' --" | grep -oE '\-\-[a-z0-9-]+' \
    | compare "bash completion"
  "$IVON_BIN/ivon" completion zsh | sed -n "/^_ivon_$command()/,/^}/p" \
    | grep -oE "^    '--[a-z0-9-]+" | tr -d " '" | compare "zsh completion"
  "$IVON_BIN/ivon" completion fish | grep "^complete -c ivon-$command " | grep -oE ' -l [a-z0-9-]+' \
    | sed 's/ -l /--/' | compare "fish completion"
  echo "ivon-$command: $(wc -l < "${TMPDIR:-/tmp}/options.$$") options"
done
rm -f "${TMPDIR:-/tmp}/options.$$"
exit $failed
