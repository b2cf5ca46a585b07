"""bats.py [FOLDER]: finds checks in the bats files below FOLDER (tests) that cannot fail their test.

    A && B     if A fails, and more follows, bash goes on: one check a line
    ! A        if A succeeds, and more follows, bash goes on: `run ! A`, or `run -1 A`, which tells "no" from "cannot"
    run A      ends well whatever A does: `run -0 A`, or a look at $status before the next run

The last of a function may be `A && B`, as its status is the function's; so may what `||` follows, a condition,
and what B is only the way on for (break, continue, return, an assignment). Exits with 1 where some are found.
"""
import glob
import os
import re
import sys

ENDS = {'"': '"', "$(": ")", "(": ")", "${": "}", "[[ ": " ]]"}
HIDDEN, HIDDEN_END_OF_LINE = "\0", "\1"
# In front of a command on its line: how blocks begin.
HEADS = re.compile(r"(?:\s|@test[^\n]*\{$|[\w-]+\(\)\s*\{|do\b|then\b|else\b|\{(?=\s))*", re.M)


def quoted_end(text, at):
    """Behind the single quotes, or $'...', that open at `at`."""
    within = r"(?:\\.|[^'\\])*" if text[at - 1] == "$" else "[^']*"
    return re.compile(f"'{within}'", re.S).match(text, at).end()


def documents_end(text, at, words):
    """Behind the here-documents that begin at `at` and end with lines of `words`."""
    for word in words:
        at = re.compile(rf"^\t*{word}$", re.M).search(text, at).end()
    return at


def opening(text, at, within):
    """What opens at `at`, if anything does: a key of ENDS."""
    if within == '"':
        return next((key for key in ("$(", "${") if text.startswith(key, at)), None)
    if within == "${":
        return next((key for key in ("$(", "${", '"') if text.startswith(key, at)), None)
    if text.startswith("()", at):
        return None
    return next((key for key in ("$(", "${", "[[ ", "(", '"') if text.startswith(key, at)), None)


def skipped(text, at, within, words):
    """Behind what is no code at `at`: (end, what to put in its place); `at` where there is nothing such.
    The words that end here-documents are taken off `words`."""
    if text[at] == "\\":
        return at + 2, HIDDEN
    if within == '"':
        return at, ""
    if text[at] == "'" and within != "${":
        return quoted_end(text, at), HIDDEN
    if text[at] == "#" and within not in ("${", "[[ ") and (at == 0 or text[at - 1] in " \t\n;"):
        end = text.find("\n", at)
        return (end if end >= 0 else len(text)), " "
    if text[at] == "\n" and words:
        end = documents_end(text, at + 1, words)
        words.clear()
        return end, HIDDEN
    return at, ""


def bare(text):
    """The script, as long as it was, without what stands in quotes, brackets, comments and here-documents."""
    out, stack, words, at = [], [], [], 0
    while at < len(text):
        within = stack[-1] if stack else None
        end, sign = skipped(text, at, within, words)
        if end > at:
            kept = "\n" if text[at] == "\n" and not stack else ""
            out.append(kept + re.sub(r"[^\n]", sign, text[at + len(kept):end]).replace("\n", HIDDEN_END_OF_LINE))
            at = end
            continue
        document = re.compile(r"<<-?\s*(['\"]?)(\w+)\1").match(text, at)
        if document and within != '"' and text[at - 1] != "<" and text[at + 2] != "<":
            words.append(document[2])
        key = opening(text, at, within)
        if key:
            stack.append(key)
        elif within and text.startswith(ENDS[within], at):
            key = ENDS[stack.pop()]
        if key or stack:
            length = len(key or text[at])
            out.append(HIDDEN_END_OF_LINE if text[at] == "\n" else HIDDEN * length)
            at += length
        else:
            length = 2 if text.startswith("()", at) else 1
            out.append(text[at:at + length])
            at += length
    if stack:
        raise ValueError(f"'{stack[-1]}' is not closed")
    return "".join(out)


def commands(text):
    """(where, the bare command, what follows it up to the next) of each line, and of each part between ';'."""
    script = re.sub(r"(&&|\|\||\|)( *)\n", lambda found: found[1] + found[2] + HIDDEN_END_OF_LINE, bare(text))
    parts = [(found.start() + HEADS.match(found[0]).end(), found.end()) for found in re.finditer(r"[^\n;]+", script)]
    parts = [(start, end) for start, end in parts if script[start:end].strip(" " + HIDDEN_END_OF_LINE)]
    for i, (start, end) in enumerate(parts):
        following = script[parts[i + 1][0]:] if i + 1 < len(parts) else "}"
        yield start, script[start:end], following


def loses(command, following):
    """The command has a first half whose failure is lost."""
    if re.match(r"(if|elif|while|until)\b", command) or following.startswith("}"):
        return False
    if command.startswith("! ") and "||" not in command:
        return True
    last = command.split("||")[-1]
    way_on = re.match(r"\s*(break|continue|return|exit|\w+\+?=)", last.split("&&")[-1])
    return "&&" in last and not way_on


def unseen(text, start):
    """The `run` at `start` names no status that it expects, and none is looked at before the next."""
    if re.compile(r'run( +--[\w-]+)* +(!|"?-["$\d])').match(text, start):
        return False
    end = re.compile(r"^\s*run\s|^}", re.M).search(text, start + 3)
    return "status" not in text[start:end.start() if end else len(text)]


def findings(text):
    for start, command, following in commands(text):
        if loses(command, following):
            yield start, "its first half cannot fail the test"
        elif re.match(r"run\s", command) and unseen(text, start):
            yield start, "no status is expected"


def main():
    folder = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
    paths = [path for end in ("bats", "bash") for path in glob.glob(f"{folder}/**/*.{end}", recursive=True)]
    found = 0
    for path in sorted(paths):
        with open(path, encoding="utf-8") as file:
            text = file.read()
        for start, what in findings(text):
            line = text[start:text.find("\n", start)]
            print(f"{os.path.relpath(path)}:{text.count(chr(10), 0, start) + 1}: {what}: {line}")
            found += 1
    print(f"{len(paths)} files, {found} findings")
    return 1 if found or not paths else 0


if __name__ == "__main__":
    sys.exit(main())
