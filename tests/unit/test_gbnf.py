"""Grammars that llama.cpp follows, and those that it would abort, hang or stay silent on."""

from __future__ import annotations

import pytest

from mtpcli.errors import InputError
from mtpcli.llama.gbnf import check

# Every r_i may begin in twice as many ways as the one below it.
EXPONENTIAL = "".join(f"r{i} ::= r{i + 1} r{i + 1}\n" for i in range(30))


@pytest.mark.parametrize(
    "grammar",
    [
        'root ::= "yes" | "no"',
        'root ::= ("a" | [b-d] "\\"" . )+ # all\n\n\tx ::= [^"\\\\\\x00-\\x1F\\u00e9]{2,3}',
        'root ::=\n  "a" |\n  b\nb ::= (\n "c"\n "d"\n )?\r\nc ::= "é"{3} d* d{0,2}\nd ::= "-"',
        # Names with a dash, comments at both ends, a set that ends in a dash.
        "# first\nroot ::= an-item # last\nan-item ::= [a-z-]{1,}",
        # Right recursion, and an empty thing that is repeated without growing.
        'root ::= "x" root | "y"',
        'root ::= (" "* "\\n"*)* "x"',
        'root ::= ""',
    ],
)
def test_grammars_that_are_fine(grammar: str) -> None:
    check(grammar)


@pytest.mark.parametrize(
    ("grammar", "says"),
    [
        ("", "no rule `root`"),
        ('rot ::= "x"', "no rule `root`"),
        ('root ::= "x"\nroot ::= "y"', "line 2 of the grammar: the rule `root` is there twice"),
        ('root ::= "x"\n\n  thing', "line 3 of the grammar: expected `::=` after `thing`"),
        ('root ::= "x" thing', "`thing` is no rule"),
        ('root ::= "x', "ends inside"),
        ("root ::= [a", "ends inside"),
        ("root ::= []", "empty set"),
        ('root ::= ("x"', "expected `)`"),
        ('root ::= "x")', "expected the end of the line"),
        ('root ::= "\\q"', "escape"),
        ('root ::= "\\U00110000"', "no character"),
        ("root ::= *", "nothing to repeat"),
        ('root ::= "x"{2,1}', "at least 2 and at most 1"),
        ('root ::= "x"{a}', "expected `{n}`"),
        # llama.cpp would take it for no limit at all.
        ('root ::= "x"{0,5000}', "more than 2000 repetitions"),
        ('root ::= ("x"? "y"?){1500}', "more than 2000 rules"),
        ('root ::= "' + "x" * 3000 + '"{2000}', "too large"),
        ("root ::= " + "(" * 5000, "100 groups"),
        ('root ::= "' + "x" * 500_000 + '"', "400000 characters"),
        ('root ::= "a\0b"', "NUL"),
        ('root ::= root "x" | "y"', "`root` can begin with itself"),
        # llama.cpp does not see that `blank` may be empty, and takes memory without end.
        ('root ::= blank root "x" | "y"\nblank ::= space\nspace ::= " " | ""', "itself"),
        ('root ::= (" "? root "x")* "y"', "itself"),
        # A token after characters ends llama.cpp's process when one token spans both.
        ('root ::= "a" !<[5]>', "tokens"),
        ("root ::= <think>", "tokens"),
        ('root ::= r0\nr30 ::= "x"?\n' + EXPONENTIAL, "in more than 10000 ways"),
    ],
)
def test_grammars_that_are_refused(grammar: str, says: str) -> None:
    with pytest.raises(InputError) as caught:
        check(grammar)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_long_chain_of_rules_is_read_in_no_time() -> None:
    chain = "".join(f"r{i} ::= r{i + 1}\n" for i in range(9000))
    check(f'root ::= r0\n{chain}r9000 ::= "x"?')
