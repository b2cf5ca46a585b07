#!/usr/bin/env bash
# Every man page passes mandoc's lint, has the sections that its readers look for, and is there in HTML,
# where every link leads to something.
set -euo pipefail
command -v mandoc > /dev/null || { echo "skipped: mandoc is missing"; exit 77; }
mandoc -T lint -W warning man/*.[1357]
# groff, which man runs, tells of tables that are too wide for a terminal.
if command -v man > /dev/null && command -v groff > /dev/null; then
  for page in man/*.[1357]; do
    said=$(MANWIDTH=80 man -l --warnings=all "$page" 2>&1 > /dev/null)
    [ -z "$said" ] || { echo "$page: $said"; exit 1; }
  done
fi
for page in man/*.1; do
  for section in NAME SYNOPSIS DESCRIPTION 'EXIT STATUS' EXAMPLES 'SEE ALSO'; do
    grep -qx "\.Sh $section" "$page" || { echo "$page: no $section"; exit 1; }
  done
done
html=$IVON_BUILD/html
for page in man/*.[1357]; do
  grep -q "href=\"${page#man/}.html\"" "$html/index.html"
  grep -q '^</html>' "$html/${page#man/}.html"
done
[ "$(ls "$html"/*.[1357].html | wc -l)" = "$(ls man/*.[1357] | wc -l)" ]
links=0
while IFS=: read -r file link; do
  target=${link%%#*} anchor=
  [[ $link != *'#'* ]] || anchor=${link#*#}
  target=$html/${target:-$(basename "$file")}
  if [ ! -f "$target" ] || { [ -n "$anchor" ] && ! grep -qF " id=\"$anchor\"" "$target"; }; then
    echo "$file: '$link' leads nowhere"
    exit 1
  fi
  links=$((links + 1))
done < <(grep -oE 'href="[^":]*"' "$html"/*.html | sed -E 's/href="([^"]*)"/\1/')
[ $links -gt 100 ]
# Debian's pages are for the manuals of others.
if grep -E 'manpages\.debian\.org/(lib)?ivon' "$html"/*.html; then exit 1; fi
echo "$(ls man/*.[1357] | wc -l) pages"
