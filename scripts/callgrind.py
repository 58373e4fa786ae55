#!/usr/bin/env python3
"""What one loop costs, out of callgrind's file (the format: valgrind's manual, "Callgrind Format Specification").

    callgrind.py loop FILE FUNCTION PROVIDER
    callgrind.py self-test

`loop` prints the instructions of the function, with all that it calls but what lies in the provider's library or is called
by that; then how often it called the provider. FUNCTION is part of a name; `-` is the function that calls the provider
most, which is how a loop is found in a program without symbols.
"""

import re
import sys
from collections import Counter, defaultdict

KEY = re.compile(r"(ob|fl|fi|fe|fn|cob|cfi|cfl|cfn|calls)=(.*)$")
NAMED = re.compile(r"\((\d+)\)(?: (.*))?$")


class Profile:
    """Instructions of each function by itself, and of each arc (caller, callee) the calls and what they took."""

    def __init__(self, lines):
        self.alone, self.arcs = Counter(), defaultdict(lambda: [0, 0])
        names = {}

        def name(kind, text):
            found = NAMED.match(text)
            if not found:
                return text
            if found[2] is not None:
                names[kind, found[1]] = found[2]
            return names[kind, found[1]]

        where, function, callee_in, callee, calls = None, None, None, None, None
        for line in lines:
            line = line.rstrip("\n")
            key = KEY.match(line)
            if key:
                kind, value = key[1], key[2]
                if kind == "ob":
                    where = name("ob", value)
                elif kind == "fn":
                    function = (where, name("fn", value))
                elif kind == "cob":
                    callee_in = name("ob", value)
                elif kind == "cfn":
                    callee = (callee_in or where, name("fn", value))
                elif kind == "calls":
                    calls = int(value.split()[0])
            elif function and re.match(r"[-+*\d]", line):
                # A position and a cost; behind `calls=` the cost is that of the calls.
                cost = int((line.split() + ["0"])[1])
                if calls is None:
                    self.alone[function] += cost
                else:
                    arc = self.arcs[function, callee]
                    arc[0], arc[1] = arc[0] + calls, arc[1] + cost
                    calls, callee_in = None, None

    def functions(self):
        return set(self.alone) | {end for arc in self.arcs for end in arc}

    def busiest(self, provider):
        """The function outside the provider's library that calls it most."""
        calls = Counter()
        for (caller, callee), (n, _) in self.arcs.items():
            if provider in callee[0] and provider not in caller[0]:
                calls[caller] += n
        if not calls:
            raise LookupError(f"nothing calls {provider}")
        return calls.most_common(1)[0][0]

    def named(self, part):
        """The function with this in its name that cost most; several are one that was specialised."""
        found = [f for f in self.functions() if part in f[1]]
        if not found:
            raise LookupError(f"no function has {part} in its name")
        return max(found, key=lambda f: self.alone[f])

    def without(self, function, provider):
        """What a function took with its callees, but the provider; and the calls to that."""
        into = Counter()
        for (_, callee), (_, cost) in self.arcs.items():
            into[callee] += cost

        def visit(one, path):
            took, calls = self.alone[one], 0
            for (caller, callee), (n, cost) in self.arcs.items():
                if caller != one:
                    continue
                if provider in callee[0]:
                    calls += n
                elif callee not in path and into[callee]:
                    # Of a callee with several callers, this one's share.
                    more, theirs = visit(callee, path | {callee})
                    took += more * cost / into[callee]
                    calls += theirs * cost / into[callee]
            return took, calls

        return visit(function, {function})


SAMPLE = """# callgrind format
events: Ir
ob=(1) /usr/bin/program
fl=(1) ???
fn=(1) loop
1 100
cob=(2) /lib/librxe.so
cfn=(2) post
calls=10 0
1 900
cfn=(3) helper
calls=5 0
* 75

fn=(4) other
2 7
cfn=(3)
calls=15 0
2 225

fn=(3)
3 200
cob=(2)
cfn=(2)
calls=1 0
+1 100

ob=(2)
fn=(2)
5 1000
"""


def self_test():
    profile = Profile(SAMPLE.splitlines())
    program = "/usr/bin/program"
    assert profile.alone[program, "helper"] == 200 and profile.alone["/lib/librxe.so", "post"] == 1000
    assert profile.busiest("librxe") == (program, "loop")
    assert profile.named("help") == (program, "helper")
    # A quarter of the helper's 200 is the loop's; of the provider nothing is.
    assert profile.without((program, "loop"), "librxe") == (150.0, 10.25)
    assert profile.without((program, "other"), "librxe") == (157.0, 0.75)
    for lacking in (lambda: profile.busiest("libnone"), lambda: profile.named("none")):
        try:
            lacking()
        except LookupError:
            continue
        raise AssertionError("found what is not there")
    print("callgrind.py: known answers found")
    return 0


def main(arguments):
    match arguments:
        case ["self-test"]:
            return self_test()
        case ["loop", file, function, provider]:
            with open(file, encoding="utf-8", errors="replace") as f:
                profile = Profile(f)
            try:
                loop = profile.busiest(provider) if function == "-" else profile.named(function)
                took, calls = profile.without(loop, provider)
            except LookupError as error:
                print(f"callgrind.py: {file}: {error}", file=sys.stderr)
                return 1
            print(round(took), round(calls))
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
