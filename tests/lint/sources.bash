# recent_sources: the names of what a slow analysis looks at, with a null byte behind each: sources that the last
# thirty commits changed; all, where IVON_ANALYZE is set or git does not know so many.
recent_sources() {
  if [ -z "${IVON_ANALYZE:-}" ] && git rev-parse -q --verify HEAD~30 > /dev/null 2>&1; then
    git diff -z --name-only --diff-filter=d HEAD~30 -- 'lib/*.c' 'formats/*.c' 'cmd/*.c'
  else
    find lib formats cmd -name '*.c' -print0
  fi
}
