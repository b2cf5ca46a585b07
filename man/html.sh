#!/usr/bin/env bash
# html.sh MANDOC DIRECTORY PAGE...: the manual pages in HTML, and an index of them. References
# between the pages are links; those to pages of others lead to Debian's.
set -euo pipefail
mandoc=$1 directory=$2
shift 2
rm -rf "$directory"
mkdir -p "$directory"
cp "$(dirname "$0")/manual.css" "$directory"
cd "$(dirname "$0")" # mandoc links to the pages that it sees
for page; do
  "$mandoc" -T html -O 'style=manual.css,man=%N.%S.html;https://manpages.debian.org/%N.%S' \
    "$page" > "$directory/$(basename "$page").html"
done

row() { # PAGE
  local name
  name=$(basename "$1")
  printf '<tr><td><a href="%s.html">%s(%s)</a></td><td>%s</td></tr>\n' \
    "$name" "${name%.*}" "${name##*.}" "$(sed -n 's/^\.Nd //p' "$1" | sed 's/&/\&amp;/g; s/</\&lt;/g')"
}
section() { # NUMBER TITLE PAGE...
  printf '<h2>%s</h2>\n<table class="index">\n' "$2"
  for page in "${@:3}"; do
    if [[ $page == *.$1 ]]; then row "$page"; fi
  done
  printf '</table>\n'
}
{
  cat << 'HTML'
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8"/>
<meta name="viewport" content="width=device-width, initial-scale=1.0"/>
<link rel="stylesheet" href="manual.css" type="text/css" media="all"/>
<title>ivon: manual pages</title>
</head>
<body>
<h1>ivon</h1>
<p>What a variational posterior makes possible after training.
A walk through the commands is in <a href="ivon.1.html#TUTORIAL">ivon(1)</a>.</p>
HTML
  section 1 Commands "$@"
  section 3 Library "$@"
  section 5 Files "$@"
  section 7 "Graphs and sources" "$@"
  printf '</body>\n</html>\n'
} > "$directory/index.html"
