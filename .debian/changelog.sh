#!/usr/bin/env bash
# changelog.sh NEWS.md MAINTAINER: the news in the form of a Debian changelog, on standard output.
# A version's heading is "## VERSION (YEAR-MONTH-DAY)", its entries are one list. What stands under
# "## Unreleased" is of no version yet.
set -euo pipefail
news=$1 maintainer=$2 date= entry= unreleased=
end_entry() {
  [ -z "$entry" ] || fold -s -w 74 <<< "$entry" | sed 's/ *$//; 1s/^/  * /; 2,$s/^/    /'
  entry=
}
end_version() {
  end_entry
  [ -z "$date" ] || printf '\n -- %s  %s\n' "$maintainer" "$(LC_ALL=C date -u -R -d "$date")"
}
while IFS= read -r line; do
  if [[ $line =~ ^'## '([0-9][0-9.]*)' ('([0-9]{4}-[0-9]{2}-[0-9]{2})')'$ ]]; then
    end_version
    [ -z "$date" ] || echo
    unreleased=
    date=${BASH_REMATCH[2]}
    printf 'ivon (%s) unstable; urgency=medium\n\n' "${BASH_REMATCH[1]}"
  elif [[ $line == '## Unreleased' ]]; then
    unreleased=1
  elif [ -n "$unreleased" ]; then
    continue
  elif [[ $line == '## '* ]]; then
    echo "$news: '$line', expected '## VERSION (YEAR-MONTH-DAY)'" >&2
    exit 65
  elif [[ $line == '- '* ]]; then
    end_entry
    entry=${line#- }
  elif [[ $line == '  '* ]]; then
    entry+=" ${line#  }"
  fi
done < <(tr -d '`' < "$news")
[ -n "$date" ] || { echo "$news: no version" >&2; exit 65; }
end_version
