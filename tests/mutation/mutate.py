"""Small mutations of C sources, found over their tokens.

usage: mutate.py FILE...    lists every mutation, one a line: FILE:LINE, kind, the lines before and after

A mutation replaces one stretch of a file. Kinds: operators of arithmetic, comparison and logic swapped;
constants changed; terms and factors dropped (which is off-by-one of `n - 1` too); `x += y` made an
assignment, reversed, or removed; negations dropped and added; minimum and maximum swapped, as functions
and as `a < b ? a : b`; calls of functions of one number removed.

Left alone is what no number depends on: comments, strings, directives (the bodies of macros with arguments
are code), texts of messages, sizes of allocations, conditions of nothing but running out of memory,
declarations of enumerations and structures, attributes.
"""
import re
import sys

TOKEN = re.compile(r"""
    (?P<space>\s+|\\\n|//[^\n]*|/\*.*?\*/)
  | (?P<text>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')
  | (?P<number>\.?[0-9](?:[eEpP][+-]|[0-9a-zA-Z_.])*)
  | (?P<word>[A-Za-z_]\w*)
  | (?P<sign><<=|>>=|\.\.\.|->|\+\+|--|<<|>>|<=|>=|==|!=|&&|\|\||[-+*/%&|^]=|\#\#|.)
""", re.VERBOSE | re.DOTALL)
DIRECTIVE = re.compile(r"^[ \t]*#[ \t]*(\w+)(?:[^\n\\]|\\.)*?$", re.MULTILINE | re.DOTALL)
MACRO = re.compile(r"^[ \t]*#[ \t]*define[ \t]+(\w+)\(")
PRINTS = {"ivon_error_set", "ivon_error_system", "fprintf", "printf", "snprintf", "vsnprintf", "fputs", "perror",
          "assert", "_Static_assert", "static_assert", "__attribute__"}
ALLOCATES = {"malloc", "calloc", "realloc", "aligned_alloc", "free", "sizeof"}
TYPES = {"void", "char", "short", "int", "long", "float", "double", "signed", "unsigned", "bool", "_Bool", "const",
         "volatile", "restrict", "struct", "union", "enum", "static", "FILE"}
KEYWORDS = {"if", "else", "for", "while", "do", "switch", "case", "default", "return", "break", "continue", "goto",
            "sizeof", "typedef", "inline", "extern"} | TYPES
SWAPPED = {"+": "-", "-": "+", "*": "/", "/": "*", "%": "*", "<": "<=", "<=": "<", ">": ">=", ">=": ">",
           "==": "!=", "!=": "==", "&&": "||", "||": "&&"}
ASSIGNED = {"+=": "-=", "-=": "+=", "*=": "/=", "/=": "*=", "|=": "&=", "&=": "|="}
MINIMA = {"fmin": "fmax", "fmax": "fmin", "fminf": "fmaxf", "fmaxf": "fminf", "MIN": "MAX", "MAX": "MIN",
          "true": "false", "false": "true"}
FUNCTIONS = {name + suffix for suffix in ("", "f") for name in (
    "sqrt", "exp", "log", "log1p", "expm1", "exp2", "log2", "fabs", "floor", "ceil", "trunc", "nearbyint", "rint",
    "tanh", "tan", "sin", "cos", "erf", "erfc", "lgamma", "tgamma", "asinh", "acosh", "atanh", "sinh", "cosh")}
STOPS = {";", ",", ")", "]", "}", "{", ":"}


class Token:
    def __init__(self, kind, text, start, line, macro):
        self.kind, self.text, self.start, self.line, self.macro = kind, text, start, line, macro
        self.end = start + len(text)
        self.left_alone, self.function, self.match = False, macro or "", -1


class Mutation:
    """`source[start:end]` replaced; `before` and `after` are the lines it touches, on one line each."""

    def __init__(self, path, source, token, kind, start, end, new):
        self.path, self.line, self.kind, self.function = path, token.line, kind, token.function
        self.macro, self.start, self.end, self.new = token.macro, start, end, new
        first, last = source.rfind("\n", 0, start) + 1, source.find("\n", end)
        last = len(source) if last < 0 else last
        self.before = squeeze(source[first:last])
        self.after = squeeze(source[first:start] + new + source[end:last])

    def key(self):
        return (self.path, self.function, self.before, self.after)

    def apply(self, source):
        return source[:self.start] + self.new + source[self.end:]


def squeeze(text):
    return " ".join(text.replace("\\\n", " ").split())


def blank(text):
    return re.sub(r"[^\n]", " ", text)


def code_of(source):
    """The source without directives, but for the bodies of macros with arguments; those as (start, name)."""
    macros = []

    def replaced(match):
        macro = MACRO.match(match.group())
        if not macro:
            return blank(match.group())
        close = match.group().index(")") + 1
        macros.append((match.start(), match.end(), macro.group(1)))
        body = match.group()[close:].replace("\\\n", " \n")
        return blank(match.group()[:close]) + body

    # A comment may hold what looks like a directive.
    plain = re.sub(r'/\*.*?\*/|//[^\n]*', lambda m: blank(m.group()), source, flags=re.DOTALL)
    return DIRECTIVE.sub(replaced, plain), macros


def tokens_of(source):
    code, macros = code_of(source)
    tokens, line, position = [], 1, 0
    for match in TOKEN.finditer(code):
        line += code.count("\n", position, match.start())
        position = match.start()
        if match.lastgroup != "space":
            macro = next((name for start, end, name in macros if start <= position < end), None)
            tokens.append(Token(match.lastgroup, match.group(), position, line, macro))
    pair(tokens)
    name_functions(tokens)
    leave_alone(tokens)
    return tokens


def pair(tokens):
    opened, closes = [], {")": "(", "]": "[", "}": "{"}
    for i, token in enumerate(tokens):
        if token.text in ("(", "[", "{"):
            opened.append(i)
        elif token.text in closes:
            while opened and tokens[opened[-1]].text != closes[token.text]:
                opened.pop()
            if opened:
                token.match = opened.pop()
                tokens[token.match].match = i


def name_functions(tokens):
    depth, name = 0, ""
    for i, token in enumerate(tokens):
        if token.macro:
            continue
        if token.text == "{":
            if depth == 0:
                name = ""
                if i and tokens[i - 1].text == ")" and tokens[i - 1].match > 0:
                    name = tokens[tokens[i - 1].match - 1].text
            depth += 1
        token.function = name if depth else ""
        if token.text == "}":
            depth -= 1


def leave_alone(tokens):
    def mark(first, last):
        for token in tokens[first:last + 1]:
            token.left_alone = True

    start = depth = 0
    for i, token in enumerate(tokens):
        following = tokens[i + 1].text if i + 1 < len(tokens) else ""
        if token.text in PRINTS | ALLOCATES and following == "(":
            mark(i, tokens[i + 1].match)
        elif token.text == "sizeof":
            mark(i, operand_end(tokens, i + 1))
        elif token.text in ("enum", "struct", "union"):
            brace = i + 1 if following == "{" else i + 2
            if brace < len(tokens) and tokens[brace].text == "{" and tokens[brace].match > 0:
                mark(i, tokens[brace].match)
        depth += (token.text in ("(", "[")) - (token.text in (")", "]"))
        if token.text in ("{", "}") or (token.text == ";" and depth <= 0):
            if any(t.text == "ivon_error_memory" for t in tokens[start:i]):
                mark(start, i)
            start, depth = i + 1, 0


def is_type(token):
    return token.text in TYPES or token.text.endswith("_t")


def is_cast(tokens, opened):
    """Whether a parenthesis holds nothing but a type."""
    inside = tokens[opened + 1:tokens[opened].match]
    if not inside or tokens[opened].text != "(":
        return False
    named = [t for t in inside if t.text != "*"]
    return all(is_type(t) or (j and named[j - 1].text in ("struct", "union", "enum"))
               for j, t in enumerate(named)) and bool(named) and is_type(named[0])


def ends_operand(tokens, i):
    """Whether token i may be the last of an operand."""
    if i < 0:
        return False
    token = tokens[i]
    if token.text in (")", "]"):
        return token.match >= 0 and not (token.text == ")" and (
            is_cast(tokens, token.match) or tokens[token.match - 1].text in KEYWORDS - {"sizeof"}))
    return token.kind in ("number", "text") or (token.kind == "word" and token.text not in KEYWORDS)


def is_binary(tokens, i):
    if not ends_operand(tokens, i - 1) or i + 1 >= len(tokens):
        return False
    before, after = tokens[i - 1], tokens[i + 1].text
    if tokens[i].text in ("*", "&"):
        if is_type(before) or tokens[i - 2].text in ("struct", "union", "enum") or after in (")", ",", "*", "const"):
            return False
    return after not in (")", ",", ";", "]")


def operand_start(tokens, i):
    """The first token of the operand that token i ends."""
    while True:
        token = tokens[i]
        if token.text in (")", "]"):
            i = token.match
            if ends_operand(tokens, i - 1):
                i -= 1
                continue
        if tokens[i - 1].text in (".", "->"):
            i -= 2
            continue
        break
    while i > 0:
        if tokens[i - 1].text == ")" and tokens[i - 1].match >= 0 and is_cast(tokens, tokens[i - 1].match):
            i = tokens[i - 1].match
        elif tokens[i - 1].text in ("-", "!", "~", "*", "&") and not is_binary(tokens, i - 1) and \
                not is_type(tokens[i - 2]):
            i -= 1
        else:
            break
    return i


def operand_end(tokens, i):
    """The last token of the operand that token i begins."""
    while i < len(tokens) - 1:
        if tokens[i].text in ("-", "!", "~", "*", "&", "+", "++", "--", "sizeof"):
            i += 1
        elif tokens[i].text == "(" and is_cast(tokens, i):
            i = tokens[i].match + 1
        else:
            break
    if tokens[i].text in ("(", "{") and tokens[i].match > 0:
        i = tokens[i].match
    while i + 1 < len(tokens):
        following = tokens[i + 1]
        if following.text in ("(", "[") and following.match > 0:
            i = following.match
        elif following.text in (".", "->"):
            i += 2
        elif following.text in ("++", "--"):
            i += 1
        else:
            break
    return i


def changed_numbers(text):
    body = re.match(r"0[xX][0-9a-fA-F.]+(?:[pP][+-]?\d+)?|[0-9.]+(?:[eE][+-]?\d+)?", text)
    if not body:
        return []
    number, suffix = body.group(), text[body.end():]
    if number.lower().startswith("0x"):
        if "p" in number.lower():
            return [float.hex(2 * float.fromhex(number)) + suffix]
        return [hex(int(number, 16) + 1) + suffix]
    if re.search(r"[.eE]", number):
        value = float(number)
        return [("1.0" if value == 0 else repr(2 * value)) + suffix]
    value = int(number, 8 if re.fullmatch(r"0[0-7]+", number) else 10)
    return [str(n) + suffix for n in ([0, 2] if value == 1 else [value + 1])]


def chooses(tokens, i):
    """Whether the comparison at i decides a `? :`."""
    depth = 0
    for token in tokens[i + 1:]:
        if token.text in ("(", "["):
            depth += 1
        elif depth == 0 and token.text == "?":
            return True
        elif depth == 0 and (token.text in STOPS or token.text in ("&&", "||")):
            return False
        elif token.text in (")", "]"):
            depth -= 1
    return False


def dropped(tokens, i):
    """Stretches of tokens that leave out an operand of the operator at i: (kind, first, last)."""
    sign = tokens[i].text
    last = operand_end(tokens, i + 1)
    if sign in ("*", "/"):
        yield "factor dropped", i, last
        first = operand_start(tokens, i - 1)
        if sign == "*" and tokens[first - 1].text not in ("/", "%"):
            yield "factor dropped", first, i
        return
    while tokens[last + 1].text in ("*", "/", "%"):
        last = operand_end(tokens, last + 2)
    yield "term dropped", i, last
    if sign == "+":
        first = operand_start(tokens, i - 1)
        while tokens[first - 1].text in ("*", "/", "%") and is_binary(tokens, first - 1):
            first = operand_start(tokens, first - 2)
        if tokens[first - 1].text not in ("+", "-", "<<", ">>"):
            yield "term dropped", first, i


def mutations(path, source):
    """All mutations of a source, in the order of the text; no two with the same result."""
    tokens = tokens_of(source)
    found, seen = [], set()

    def add(i, kind, first, last, new):
        if any(t.left_alone or t.macro != tokens[i].macro for t in tokens[first:last + 1]):
            return
        start, end = tokens[first].start, tokens[last].end
        if "\\\n" in source[start:end]:
            new += " \\\n" * source[start:end].count("\\\n")
        mutation = Mutation(path, source, tokens[i], kind, start, end, new)
        result = (start, end, new)
        if result not in seen and source[start:end] != new:
            seen.add(result)
            found.append(mutation)

    for i, token in enumerate(tokens):
        text = token.text
        following = tokens[i + 1].text if i + 1 < len(tokens) else ""
        if token.left_alone:
            continue
        if token.kind == "number":
            for new in changed_numbers(text):
                add(i, "constant", i, i, new)
        elif text in MINIMA:
            add(i, "choice", i, i, MINIMA[text])
        elif text in FUNCTIONS and following == "(":
            add(i, "call removed", i, i, "")
        elif text in ("+", "-", "*", "/", "%") and is_binary(tokens, i):
            add(i, "operator", i, i, SWAPPED[text])
            if text != "%":
                for kind, first, last in dropped(tokens, i):
                    add(i, kind, first, last, "")
        elif text in ("<", "<=", ">", ">=") and is_binary(tokens, i):
            add(i, "comparison", i, i, SWAPPED[text])
            if chooses(tokens, i):
                add(i, "choice", i, i, ">" if text[0] == "<" else "<")
        elif text in ("==", "!=", "&&", "||"):
            add(i, "comparison" if text in ("==", "!=") else "logic", i, i, SWAPPED[text])
        elif text in ASSIGNED:
            add(i, "operator", i, i, ASSIGNED[text])
            add(i, "assignment", i, i, "=")
            first = operand_start(tokens, i - 1)
            last = next((j for j in range(i, len(tokens)) if tokens[j].text in (";", "}")), i) - 1
            if tokens[first - 1].text in (";", "{", "}", ")", "else", "do") and tokens[last + 1].text == ";" and \
                    not any(t.text == "(" and t.match > last for t in tokens[first:last]):
                add(i, "statement removed", first, last, "")
        elif text == "-" and not is_binary(tokens, i):
            add(i, "negation", i, i, "")
        elif text == "!":
            add(i, "negation", i, i, "")
        elif text == "if" and following == "(":
            close = tokens[i + 1].match
            inside = source[tokens[i + 2].start:tokens[close - 1].end]
            if "\\\n" not in inside and "/*" not in inside:
                add(i, "negation", i + 2, close - 1, "!(" + inside + ")")
    found.sort(key=lambda mutation: (mutation.start, mutation.end, mutation.new))
    return found


def main(paths):
    for path in paths:
        with open(path, encoding="utf-8") as file:
            source = file.read()
        for mutation in mutations(path, source):
            print(f"{path}:{mutation.line}\t{mutation.kind}\t{mutation.before}\t->\t{mutation.after}")


if __name__ == "__main__":
    main(sys.argv[1:])
