#!/usr/bin/env python3
"""Measures how many faults the flows and monitors see: mutants.py [--work DIR] [--sample N --seed S] [PROTOCOL]...

cargo-mutants lists the mutants of the role machines of reference-impl. All of them go into one build of a scratch copy,
each behind a switch (`FLOWPROOF_MUTANT=17`), so that a mutant costs a run of the suite in memory and no build. A mutant
is caught when `flowproof test PROTOCOL` accuses it in some edition (or it dies, or hangs); no unit test is asked.

Left out are settings, `Debug` and `Display`, and code that only a planted fault reaches. A mutant that does not compile
behind its switch is not counted. Mutants that nobody outside could see are named with the reason in mutants.toml. Exit
status 1: a mutant survived that mutants.toml does not explain.
"""
import argparse
import bisect
import collections
import concurrent.futures
import json
import os
import pathlib
import random
import re
import resource
import shutil
import subprocess
import sys
import time
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent
SOURCE = "reference-impl/src"
SWITCH = '''//! Which mutant is alive in this build (corpus/mutants.py).
use std::io::Write as _;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

static ALIVE: OnceLock<(u32, Option<String>)> = OnceLock::new();
static SEEN: [AtomicBool; COUNT] = [const { AtomicBool::new(false) }; COUNT];

pub(crate) fn is(number: u32) -> bool {
    let (alive, notes) = ALIVE.get_or_init(|| {
        let alive = std::env::var("FLOWPROOF_MUTANT").ok().and_then(|text| text.parse().ok());
        (alive.unwrap_or(u32::MAX), std::env::var("FLOWPROOF_MUTANTS_SEEN").ok())
    });
    if let Some(path) = notes
        && !SEEN[number as usize].swap(true, Ordering::Relaxed)
    {
        let mut file = std::fs::OpenOptions::new().append(true).create(true).open(path).expect("the file of notes");
        file.write_all(format!("{number}\\n").as_bytes()).expect("a line of notes");
    }
    *alive == number
}
'''

TOKEN = re.compile(r"""
    (?P<skip>\s+|//[^\n]*|/\*.*?\*/)
  | (?P<string>b?r(?P<hash>\#*)".*?"(?P=hash)|[bc]?"(?:\\.|[^"\\])*")
  | (?P<char>b?'(?:\\(?:x..|u\{[^}]*\}|.)|[^'\\])')
  | (?P<life>'\w+)
  | (?P<word>\w+)
  | (?P<sign><<=|>>=|\.\.=|\.\.\.|=>|->|::|&&|\|\||==|!=|<=|>=|\+=|-=|\*=|/=|%=|\^=|&=|\|=|<<|>>|\.\.|.)
""", re.X | re.S)
PRECEDENCE = {sign: level for level, signs in enumerate(
    ["||", "&&", "== != < > <= >=", "|", "^", "&", "<< >>", "+ -", "* / %"]) for sign in signs.split()}
ASSIGN = {"=", "+=", "-=", "*=", "/=", "%=", "^=", "&=", "|=", "<<=", ">>="}
STARTS = {"(", "[", "{", "}", ",", ";", "=", "=>", "move", "return", "&&", "||", ":", "else", "in", "if", "match", "while"}
HEADS = {"if", "while", "match", "in"}
PAIR = {")": "(", "]": "[", "}": "{"}


class Text:
    """A source file as tokens, with the partner of every bracket, turbofish and closure head."""

    def __init__(self, text):
        self.text = text
        self.lines = [0]
        for line in text.splitlines(keepends=True):
            self.lines.append(self.lines[-1] + len(line))
        self.tokens = [(found.start(), found.end(), found.group()) for found in TOKEN.finditer(text)
                       if found.lastgroup != "skip"]
        self.starts = [token[0] for token in self.tokens]
        self.partner = {}
        opened, closure, angle = [], {}, None
        for place, (_, _, word) in enumerate(self.tokens):
            before = self.tokens[place - 1][2] if place else ";"
            if angle is not None:
                depth = angle[1] + word.count("<") * (word in "<<") - word.count(">") * (word in (">", ">>"))
                angle = (angle[0], depth)
                if depth == 0:
                    self.partner[place], self.partner[angle[0]] = angle[0], place
                    angle = None
            elif word == "<" and before == "::":
                angle = (place, 1)
            elif word in "([{":
                opened.append(place)
            elif word in PAIR:
                other = opened.pop()
                self.partner[place], self.partner[other] = other, place
            elif word == "|":
                depth = len(opened)
                if closure.get(depth) is not None:
                    self.partner[place], self.partner[closure[depth]] = closure[depth], place
                    closure[depth] = None
                elif before in STARTS:
                    closure[depth] = place
            elif word == "||" and before in STARTS:
                self.partner[place] = place

    def offset(self, place):
        return self.lines[place["line"] - 1] + place["column"] - 1

    def word(self, place):
        return self.tokens[place][2] if 0 <= place < len(self.tokens) else ";"

    def left(self, place, level):
        """The first token of the operand that ends before the operator at `place`."""
        place -= 1
        while place >= 0:
            word, after = self.word(place), self.word(place + 1)
            if word in PAIR:
                if word == "}" and after not in (".", "?") and after not in PRECEDENCE:
                    break
                place = self.partner[place] - 1
                continue
            if word == ">" and place in self.partner or word == ">>" and place in self.partner:
                place = self.partner[place] - 1
                continue
            if word in "([{" or word in ASSIGN or word in ("|", "||") and place in self.partner:
                break
            if word in (",", ";", "=>", "..", "..=", "return", "break", "else", "move", "let") or word in HEADS:
                break
            if PRECEDENCE.get(word, 99) < level and not (word in "&*-" and self.unary(place)):
                break
            place -= 1
        return place + 1

    def unary(self, place):
        before = self.word(place - 1)
        return before in PRECEDENCE or before in STARTS or before in ASSIGN or before in ("!", "return", "..")

    def head(self, place):
        """Whether a brace after the expression at `place` opens the block of an `if`, `while`, `match` or `for`."""
        while True:
            place = self.left(place, -1) - 1
            word = self.word(place)
            if word == "=":
                while place >= 0 and self.word(place) not in ("let", ";"):
                    place = (self.partner[place] if self.word(place) in PAIR else place) - 1
                before = self.word(place - 1)
                if self.word(place) == "let" and before == "&&":
                    place -= 1
                    continue
                return self.word(place) == "let" and before in HEADS
            return word in HEADS

    def right(self, place, level):
        """One past the last token of the operand that begins after the operator at `place`."""
        head, start, waiting = self.head(place), place + 1, 0
        place = start
        while place < len(self.tokens):
            word = self.word(place)
            if word in ("match", "if") and (place == start or self.word(place - 1) == "else"):
                waiting += 1
            elif word == "{":
                if waiting:
                    waiting -= 1
                    place = self.partner[place] + 1
                    if self.word(place) == "else":
                        place += 1
                        if self.word(place) == "{":
                            waiting += 1
                        continue
                    if self.word(place) != ".":
                        break
                    continue
                if head or not self.word(place - 1)[:1].isupper():
                    break
                place = self.partner[place]
            elif word in "([" or word == "<" and place in self.partner:
                place = self.partner[place]
            elif word in PAIR or word in (",", ";", "=>", "else", "..", "..=") or word in ASSIGN:
                break
            elif word in PRECEDENCE and PRECEDENCE[word] <= level and not self.unary(place):
                break
            place += 1
        return place

    def asks(self, place):
        """Whether the brackets that end or begin here hold a planted fault, and no `!` stands before."""
        begin, end = sorted((place, self.partner[place]))
        if not any(self.word(inner) == "Fault" for inner in range(begin, end)):
            return False
        before = begin - 1
        while self.word(before) == "." or re.match(r"\w", self.word(before)):
            before -= 1
        return self.word(before) != "!"

    def planted(self, offset):
        """Whether a place lies behind a condition that asks for a planted fault, or in such a condition."""
        start = bisect.bisect_right(self.starts, offset) - 1
        place = start + 1
        while place < len(self.tokens):
            word = self.word(place)
            if word in ("{", ";", ",", "=>", "||") or word in PAIR:
                break
            if word in ("(", "["):
                if self.asks(place):
                    return True
                place = self.partner[place]
            place += 1
        place, elsewhere = start, False
        while place >= 0:
            word = self.word(place)
            if word in PAIR:
                if not elsewhere and word != "}" and self.asks(place):
                    return True
                elsewhere |= word == "}"
                place = self.partner[place]
            elif word == "Fault" and not elsewhere:
                return True
            elif word == "fn":
                return False
            elif word in (";", ",", "else"):
                elsewhere = True
            elif word in tuple("([{"):
                elsewhere = False
            place -= 1
        return False


def only_planted(texts, mutant):
    """Whether nothing but a planted fault leads to a mutant."""
    if texts[mutant["file"]].planted(texts[mutant["file"]].offset(mutant["span"]["start"])):
        return True
    name = mutant["function"]["function_name"].split("::")[-1]
    calls = called(texts, mutant["protocol"]).get(name, [])
    return bool(calls) and all(text.planted(text.starts[place]) for text, place in calls)


CALLED = {}


def called(texts, protocol):
    """Where the functions of a protocol are called, by name."""
    if protocol not in CALLED:
        calls = CALLED[protocol] = {}
        for file, text in texts.items():
            if file.split("/")[2] == protocol:
                for place in range(1, len(text.tokens) - 1):
                    if text.word(place + 1) == "(" and text.word(place - 1) != "fn":
                        calls.setdefault(text.word(place), []).append((text, place))
    return CALLED[protocol]


def of_the_driver(mutant):
    """What the program around a machine asks it, which has nothing to do with the protocol."""
    name = mutant["function"]["function_name"]
    return "impl Machine" in name and name.split("::")[-1] in ("command", "has_failed", "is_over", "leave") \
        or name.split("::")[-1] in ("has", "from_stimulus", "from_command")


class Unwieldy(Exception):
    """The mutant cannot be put behind a switch."""


def on(number):
    return f"crate::mutant::is({number})"


def chosen(group, shape):
    """`if ... { mutant } else if ...`, each part with the number of its mutant."""
    parts = []
    for each in group:
        parts += [(" else " if parts and shape[0] else "", None),
                  (f"if {on(each['number'])} {{ {shape[1].format(each['replacement'])} }}", each["number"])]
    return parts


def edits(text, group):
    """Where a mutation of one place begins and ends, what is put before it and after it, and at its sign."""
    mutant, genre = group[0], group[0]["genre"]
    number = mutant["number"]
    begin, end = text.offset(mutant["span"]["start"]), text.offset(mutant["span"]["end"])
    if genre == "FnValue":
        if "impl " in mutant["function"]["return_type"]:
            raise Unwieldy("two values of one opaque type")
        return begin, begin, [*chosen(group, (False, "return {};")), (" ", None)], None, None
    if genre == "MatchArmGuard":
        before = "".join(f"{on(each['number'])} || " for each in group if each["replacement"] == "true")
        before += "".join(f"!{on(each['number'])} && " for each in group if each["replacement"] == "false")
        return begin, end, f"({before}(", "))", None
    if genre == "MatchArm":
        place = bisect.bisect_left(text.starts, begin)
        guard = None
        while text.word(place) != "=>":
            if text.word(place) == "if" and guard is None:
                guard = text.tokens[place + 1][0]
            place = text.partner[place] + 1 if text.word(place) in tuple("([{") else place + 1
        last = text.tokens[place - 1][1]
        if guard is None:
            return last, last, f" if !{on(number)}", None, None
        return guard, last, f"(!{on(number)} && (", "))", None
    if genre == "UnaryOperator" and text.text[begin:end] == "!":
        return begin, begin, f"{on(number)} ^ ", None, None
    if genre != "BinaryOperator":
        raise Unwieldy(genre)
    place = bisect.bisect_left(text.starts, begin)
    sign = text.word(place)
    if text.tokens[place][:2] != (begin, end):
        raise Unwieldy("a sign that is read otherwise")
    level = PRECEDENCE.get(sign, -1)
    left, right = text.left(place, level), text.right(place, level)
    start, stop = text.tokens[left][0], text.tokens[right - 1][1]
    lhs, rhs = text.text[start:begin], text.text[end:stop]
    if text.word(left - 1) == "let" or "let " in lhs or rhs.lstrip().startswith("let "):
        raise Unwieldy("let")
    if sign in ("&&", "||"):
        alive = f"{'' if sign == '&&' else '!'}{on(number)}"
        return (start, stop, f"({{ let m{number} = {alive}; if (", f" }} else {{ m{number} }} }})",
                (begin, end, f") != m{number} {{"))
    if sign in ("==", "!="):
        return start, stop, "((", f") != {on(number)})", None
    if sign in ASSIGN:
        before = chosen(group, (True, f"{lhs}{{}}{rhs}".replace("\n", " ")))
        return start, stop, [*before, (" else { ", None)], " }", None
    take = "&" if sign in ("<", ">", "<=", ">=") else ""
    after = [(")) { (l, r) => ", None), *chosen(group, (True, "l {} r")), (f" else {{ l {sign} r }} }})", None)]
    return start, stop, f"(match ({take}(", after, (begin, end, f"), {take}(")


def switched(text, mutants):
    """A source with its mutants behind switches, and which bytes of it belong to which of them."""
    groups, pieces = collections.OrderedDict(), []
    for mutant in mutants:
        groups.setdefault((mutant["genre"], json.dumps(mutant["span"])), []).append(mutant)
    for group in groups.values():
        try:
            start, stop, before, after, sign = edits(text, group)
        except (Unwieldy, KeyError, IndexError):
            continue
        numbers = [mutant["number"] for mutant in group]
        if after is None:
            # A value goes before all that begins at its place, the rest after it.
            rank = 1 if group[0]["genre"] == "FnValue" else 4
            pieces.append(((start, rank, 0), start, before, numbers, "both"))
            continue
        # An inner end comes before an outer one, an outer beginning before an inner one.
        pieces.append(((start, 3, start - stop), start, before, numbers, "begin"))
        if sign:
            pieces.append(((sign[0], 2, 0), sign[1], sign[2], numbers, "sign"))
        pieces.append(((stop, 0, stop - start), stop, after, numbers, "end"))
    out, done, spans, open_spans, length = [], 0, [], {}, 0
    for (where, _, _), until, piece, numbers, kind in sorted(pieces, key=lambda piece: piece[0]):
        parts = [(text.text[done:where], None), *([(piece, None)] if isinstance(piece, str) else piece)]
        for place, (part, number) in enumerate(parts):
            if place == 1 and kind in ("begin", "both"):
                open_spans[tuple(numbers)] = length
            out.append(part)
            if number is not None:
                spans.append((length, length + len(part.encode()), [number]))
            length += len(part.encode())
        if kind in ("end", "both"):
            spans.append((open_spans.pop(tuple(numbers)), length, numbers))
        done = until
    out.append(text.text[done:])
    return "".join(out), spans


def listed(protocols):
    """The mutants of the role machines, numbered, in the order of their places."""
    command = ["cargo", "mutants", "--list", "--json", "-p", "flowproof-reference"]
    for protocol in protocols:
        command += ["--file", f"{SOURCE}/{protocol}/**"]
    command += ["--exclude", "**/config.rs", "--exclude", "**/planted.rs", "--exclude", "**/setup.rs"]
    mutants = json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout)
    kept = []
    for mutant in mutants:
        function = (mutant["function"] or {}).get("function_name", "")
        if mutant["function"] is None or function.split("::")[-1] in ("fmt", "source", "from_name", "default"):
            continue
        kept.append({**mutant, "number": len(kept), "protocol": mutant["file"].split("/")[2]})
    return kept


def renew(path, text):
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def build(arguments, mutants):
    """Builds the scratch copy with the mutants behind switches; the numbers of those that are in it."""
    copy, alive = arguments.work / "copy", {mutant["number"] for mutant in mutants}
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True).stdout
    texts = {name: Text((ROOT / name).read_text(encoding="utf-8")) for name in {mutant["file"] for mutant in mutants}}
    # The corpus is given to the command as a folder: the one inside it may be old.
    old = (copy / "corpus").exists()
    # What has switches is written once and only when it differs, lest it be compiled for nothing.
    for name in set(filter(None, tracked.decode().split("\0"))) - {*texts, f"{SOURCE}/lib.rs"}:
        source, target = ROOT / name, copy / name
        if old and name.startswith("corpus/"):
            continue
        if source.is_file() and (not target.exists() or target.read_bytes() != source.read_bytes()):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
    renew(copy / SOURCE / "mutant.rs", SWITCH.replace("COUNT", str(len(mutants))))
    renew(copy / SOURCE / "lib.rs", (ROOT / SOURCE / "lib.rs").read_text(encoding="utf-8") + "\nmod mutant;\n")
    environment = {**os.environ, "CARGO_TARGET_DIR": str(arguments.target), "CARGO_BUILD_JOBS": "2",
                   "CARGO_PROFILE_RELEASE_INCREMENTAL": "true", "CARGO_PROFILE_RELEASE_OPT_LEVEL": "1",
                   "CARGO_PROFILE_RELEASE_DEBUG": "false"}
    cargo = ["nice", "-n", "10", "cargo"]
    flags = ["--release", "--locked", "--message-format", "json"]
    # What did not compile the last time is not tried again.
    memory = arguments.work / "unbuilt.json"
    if memory.exists():
        unbuilt = set(json.loads(memory.read_text(encoding="utf-8")))
        alive -= {mutant["number"] for mutant in mutants if mutant["diff"] in unbuilt}
    uncovered = set()
    while not arguments.as_built:
        spans = {}
        for name, text in texts.items():
            here = [mutant for mutant in mutants if mutant["file"] == name and mutant["number"] in alive]
            made, spans[name] = switched(text, here)
            renew(copy / name, made)
        ran = subprocess.run([*cargo, "check", "-p", "flowproof-reference", "--lib", *flags], cwd=copy, env=environment,
                             capture_output=True, text=True)
        wrong = set()
        messages = [json.loads(line) for line in ran.stdout.splitlines() if line.startswith("{")]
        errors = [message["message"] for message in messages
                  if message["reason"] == "compiler-message" and message["message"]["level"] == "error"]
        for error in errors:
            for span in error["spans"]:
                if not span["is_primary"]:
                    continue
                begin, end = span["byte_start"], span["byte_end"]
                near = spans.get(span["file_name"], [])
                around = [each for each in near if each[0] <= begin and end <= each[1]]
                if (error["code"] or {}).get("code") == "E0004":
                    made = (copy / span["file_name"]).read_bytes()
                    arms = sorted((each for each in near if end <= each[0] < closing(made, end)
                                   and mutants[each[2][0]]["genre"] == "MatchArm"), key=lambda each: each[0])
                    place = (span["file_name"], span["line_start"])
                    wrong.update(*(each[2] for each in (arms if place in uncovered else arms[-1:])))
                    uncovered.add(place)
                    continue
                around = around or [each for each in near if each[0] < end and begin < each[1]]
                if around:
                    wrong.update(min(around, key=lambda each: each[1] - each[0])[2])
        if ran.returncode == 0:
            break
        if not wrong:
            sys.exit("".join(error["rendered"] for error in errors) or ran.stderr)
        arguments.verbose and print(f"{len(wrong)} do not compile", file=sys.stderr)
        if arguments.verbose > 1:
            print("".join(error["rendered"] for error in errors), file=sys.stderr)
        alive -= wrong
        memory.write_text(json.dumps([mutant["diff"] for mutant in mutants if mutant["number"] not in alive]),
                          encoding="utf-8")
    if arguments.as_built:
        spans = {name: switched(text, [mutant for mutant in mutants if mutant["file"] == name
                                       and mutant["number"] in alive])[1] for name, text in texts.items()}
    built = {number for each in spans.values() for _, _, numbers in each for number in numbers}
    if arguments.as_built:
        return built, texts
    subprocess.run([*cargo, "build", "-p", "flowproof", "--bin", "flowproof", "--release", "--locked", "--quiet"],
                   cwd=copy, env=environment, check=True, stderr=subprocess.DEVNULL)
    return built, texts


def roles(protocol):
    table = tomllib.loads((ROOT / "corpus" / protocol / "protocol.toml").read_text(encoding="utf-8"))
    return [role["name"] for role in table["role"]]


def closing(made, offset):
    """Where the block ends that begins after a place."""
    text = Text(made.decode())
    start = bisect.bisect_left(text.starts, len(made[:offset].decode()))
    while text.word(start) != "{":
        start += 1
    return len(made.decode()[:text.tokens[text.partner[start]][0]].encode())


def editions(protocol):
    table = tomllib.loads((ROOT / "corpus" / protocol / "protocol.toml").read_text(encoding="utf-8"))
    default = table.get("default-edition")
    return sorted(table.get("editions", [None]), key=lambda edition: edition != default)


def limited():
    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
    os.nice(10)


def suite(arguments, protocol, edition, role, **switches):
    """How the suite of a role ends: `survived`, or how the mutant was caught."""
    command = [arguments.flowproof, "test", protocol, "--role", role, "--format", "json", "--strict", "--bail",
               "--jobs", "1", "--corpus", str(arguments.work / "corpus")]
    command += ["--edition", edition] if edition else []
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=arguments.timeout, preexec_fn=limited,
                             env={**os.environ, **switches})
    except subprocess.TimeoutExpired:
        return "hangs"
    if ran.returncode == 2 and ran.stderr.strip():
        sys.exit(ran.stderr)
    if ran.returncode not in (0, 1, 3):
        return f"died with {ran.returncode}"
    report = json.loads(ran.stdout) if ran.stdout.strip() else {"flows": []}
    flows = [flow for each in (report if isinstance(report, list) else [report]) for flow in each["flows"]]
    found = {str(finding["requirement"]) for flow in flows for finding in flow["findings"]
             if finding["verdict"] in ("broken", "warned")}
    if found:
        return "accused " + " ".join(sorted(found)[:4])
    doubtful = [flow for flow in flows if flow["verdict"] in ("inconclusive", "error")]
    if doubtful and not any(flow["verdict"] == "pass" for flow in flows):
        return f"nothing of the {role} can be judged"
    if doubtful:
        return f"unclear {len(doubtful)} {doubtful[0]['name']} ({doubtful[0]['reason']})"
    return "survived"


def alive(end):
    """Whether a mutant was not caught: no flow accuses it, or it made some of them inconclusive, no more."""
    return end.startswith(("survived", "unreached", "unclear"))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("protocols", nargs="*", metavar="PROTOCOL")
    parser.add_argument("--work", type=pathlib.Path, default=ROOT / "target" / "mutants", help="the scratch folder")
    parser.add_argument("--target", type=pathlib.Path, help="cargo's target folder; in the scratch folder by default")
    parser.add_argument("--sample", type=int, metavar="N", help="so many mutants of each protocol, instead of all")
    parser.add_argument("--seed", type=int, default=1, help="draws the sample")
    parser.add_argument("--only", metavar="REGEX", help="the mutants whose names match")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--timeout", type=float, default=60, help="seconds after which a suite hangs")
    parser.add_argument("--as-built", action="store_true", help="takes what the last run built")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="writes what became of each mutant")
    parser.add_argument("--verbose", "-v", action="count", default=0)
    arguments = parser.parse_args()
    arguments.work = arguments.work.resolve()
    arguments.target = (arguments.target or arguments.work / "target").resolve()
    arguments.flowproof = str(arguments.target / "release" / "flowproof")
    arguments.work.mkdir(parents=True, exist_ok=True)
    known = ["clusterio", "cow", "hangout", "polfan", "ptpchat"]
    protocols = arguments.protocols or known

    mutants = listed(known)
    built, texts = build(arguments, mutants)
    # The corpus may change while this runs.
    shutil.rmtree(arguments.work / "corpus", ignore_errors=True)
    shutil.copytree(ROOT / "corpus", arguments.work / "corpus")
    excuses = tomllib.loads((ROOT / "corpus" / "mutants.toml").read_text(encoding="utf-8")).get("survivor", [])
    wrong = False
    record = []
    for protocol in protocols:
        seen = {}
        for edition, role in ((edition, role) for edition in editions(protocol) for role in roles(protocol)):
            notes = arguments.work / "seen"
            notes.unlink(missing_ok=True)
            ends = suite(arguments, protocol, edition, role, FLOWPROOF_MUTANTS_SEEN=str(notes))
            if ends not in ("survived", f"nothing of the {role} can be judged"):
                sys.exit(f"{protocol} {edition} {role} without a mutant: {ends}")
            for number in set(notes.read_text(encoding="utf-8").split()) if notes.exists() else ():
                seen.setdefault(int(number), []).append((edition, role))
        mine = [mutant for mutant in mutants if mutant["protocol"] == protocol and mutant["number"] in built]
        mine = [mutant for mutant in mine if not only_planted(texts, mutant) and not of_the_driver(mutant)]
        viable = len(mine)
        if arguments.only:
            mine = [mutant for mutant in mine if re.search(arguments.only, mutant["name"])]
        if arguments.sample is not None and arguments.sample < len(mine):
            mine = random.Random(f"{arguments.seed} {protocol}").sample(mine, arguments.sample)

        def judged(mutant):
            unclear = None
            for edition, role in seen.get(mutant["number"], []):
                ends = suite(arguments, protocol, edition, role, FLOWPROOF_MUTANT=str(mutant["number"]))
                if alive(ends):
                    unclear = ends if ends != "survived" else unclear
                else:
                    return ends
            ends = unclear or "survived" if mutant["number"] in seen else "unreached"
            if arguments.verbose:
                print(f"{ends}: {mutant['name']}", file=sys.stderr, flush=True)
            return ends

        began = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
            ends = list(pool.map(judged, mine))
        caught = excused = 0
        for mutant, end in sorted(zip(mine, ends), key=lambda pair: pair[0]["number"]):
            record.append({"name": mutant["name"], "ends": end})
            if not alive(end):
                caught += 1
                arguments.verbose and print(f"{end}: {mutant['name']}")
                continue
            reason = next((each["reason"] for each in excuses if each["file"] == mutant["file"]
                           and re.search(each["mutant"], re.sub(r"^\S+:\d+:\d+: ", "", mutant["name"]))), None)
            excused += reason is not None
            wrong |= reason is None
            if reason is None or arguments.verbose:
                print(f"{end.upper()} {mutant['name']}" + (f" ({reason})" if reason else ""))
        share = 100 * caught / max(1, len(mine) - excused)
        print(f"{protocol}: {caught} of {len(mine)} caught, {excused} explained, {share:.1f} % of the rest caught"
              f" (of {viable} viable; {time.monotonic() - began:.0f} s)", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(record, indent=1), encoding="utf-8")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
