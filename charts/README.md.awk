# Writes the chart's README.md from its values.yaml: every key at the end of its path, its default
# and the comment above it. A key without a comment, and a default that is not on the key's line,
# are errors.

BEGIN {
  print "<!-- Written by `make chart` from values.yaml. -->"
  print "# The Helm chart of Countersign\n"
  print "    helm install countersign charts/countersign -n countersign --create-namespace --set unmatched=Audit\n"
  print "[docs/install.md](../../docs/install.md) tells what to think of before and after.\n"
  print "| Value | What it is for | Default |"
  print "| --- | --- | --- |"
}

/^ *#/ {
  sub(/^ *# ?/, "")
  comment = comment (comment == "" ? "" : " ") $0
  next
}

/^ *[A-Za-z]+:/ {
  match($0, /^ */)
  depth = RLENGTH / 2
  key = substr($0, RLENGTH + 1)
  value = key
  sub(/:.*/, "", key)
  sub(/^[^:]*: */, "", value)
  path[depth] = key
  if (value == "") next

  name = path[0]
  for (i = 1; i <= depth; i++) name = name "." path[i]
  if (comment == "") fail("line " NR ": " name " has no comment")
  gsub(/\|/, "\\|", comment)
  printf "| `%s` | %s | `%s` |\n", name, comment, value
  comment = ""
  next
}

/^$/ { next }

{ fail("line " NR ": neither a comment nor `key: value`: " $0) }

function fail(text) {
  print "values.yaml, " text > "/dev/stderr"
  exit 1
}
