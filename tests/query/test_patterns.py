"""Patterns: Java's dialect on RE2, what is refused and how it is named, and the bounds."""

import re
import sys

import pytest
import strategies
from hypothesis import given
from hypothesis import strategies as st

from flowkit import limits
from flowkit.errors import FilterError, LimitError
from flowkit.query import Filter, any_of, mem, patterns
from flowkit.query.match import predicate
from flowkit.query.parse import parse

FOUND = [
    # pattern, flags, texts that hold it, texts that do not
    ("quake", "", ["earthquake"], ["QUAKE", ""]),
    ("^/nora", "", ["/nora/a"], ["x/nora"]),
    ("", "", ["", "a"], []),
    ("a||b", "", ["z"], []),
    ("k", "i", ["K", "k"], ["\u212a"]),
    ("k", "iu", ["K", "\u212a"], ["q"]),
    ("É", "i", ["É"], ["é"]),
    ("É", "iu", ["É", "é"], ["e"]),
    ("[a-c]x", "i", ["BX", "ax"], ["dx"]),
    ("[^a]", "i", ["b"], ["A", "a"]),
    ("[X-b]", "i", ["B", "x", "Y", "_"], ["c"]),
    ("(?i)a(?-i)b", "", ["Ab", "ab"], ["aB"]),
    ("(?i:a)b", "", ["Ab"], ["AB"]),
    ("a(?s).b", "", ["a\nb"], []),
    (".", "", ["x", "\t"], ["\n", "\r", "\x85", "\u2028", "\u2029"]),
    (".", "s", ["\n", "\u2028"], [""]),
    ("a$", "", ["a", "ba", "a\n", "a\r\n", "a\u2028"], ["a\nb", "a\n\n"]),
    (r"a\Z", "", ["a", "a\n"], ["ab"]),
    (r"a\z", "", ["a"], ["a\n"]),
    ("^b", "", ["b"], ["a\nb"]),
    ("^b$", "m", ["a\nb\nc"], ["ab"]),
    ("a b # c", "x", ["ab"], ["a b"]),
    (r"a\ b[ c ]", "x", ["a bc"], ["a b "]),
    (r"\s", "", [" ", "\t", "\x0b"], ["\xa0"]),
    (r"\S", "", ["x", "\xa0"], [" ", "\x0b"]),
    (r"\w\d", "", ["a1"], ["é1", "a٣"]),
    (r"[^\W\d]", "", ["a", "_"], ["1", "-"]),
    (r"\h", "", ["\t", "\u3000"], ["\n"]),
    (r"\v", "", ["\n", "\u2029"], ["\t"]),
    (r"\R", "", ["\r\n", "\x0b"], ["x"]),
    (r"\bcat\b", "", ["a cat"], ["concat"]),
    (r"\p{Alpha}", "", ["e"], ["é"]),
    (r"\P{Alpha}", "", ["é", "1"], ["e"]),
    (r"\p{Punct}", "", ["~", "!"], ["a"]),
    (r"\p{L}\pL", "", ["éa"], ["1a"]),
    (r"\p{IsGreek}", "", ["\u03b1"], ["a"]),
    (r"\p{Lu}", "", ["A", "É"], ["a"]),
    (r"[\w-z]", "", ["-", "z"], ["!"]),
    ("[]a]", "", ["]", "a"], ["b"]),
    ("[a-]", "", ["-"], ["b"]),
    ("[a[bc]]d", "", ["cd"], ["]d"]),
    (r"\QA.b\E+", "", ["A.bb"], ["Axb"]),
    (r"[\Q^]\E]", "", ["^", "]"], ["Q"]),
    (r"\x41\u0042\x{43}\0104", "", ["ABCD"], ["abcd"]),
    (r"\uD83D\uDE00", "", ["😀"], ["x"]),
    (r"\t\n\r\f\a\e\cA", "", ["\t\n\r\f\a\x1b\x01"], ["x"]),
    ("(?<year>[0-9]{4})", "", ["in 2018"], ["201"]),
    ("a{2}b{1,}c{0,1}d??", "", ["aab"], ["ab"]),
    ("}", "", ["}"], ["{"]),
    ("]", "", ["]"], ["["]),
    (r"\{\/\"\-", "", ['{/"-'], [""]),
    ("a", "g", ["xa"], ["b"]),
    ("a\x00b", "", ["xa\x00b"], ["ab"]),
]


@pytest.mark.parametrize(("pattern", "flags", "held", "missed"), FOUND, ids=lambda x: repr(x)[:30])
def test_patterns_mean_what_java_means(pattern, flags, held, missed):
    """Each construct finds the texts that Java's own engine finds."""
    compiled = patterns.compile(pattern, flags)

    assert [text for text in held if not patterns.search(compiled, text)] == []
    assert [text for text in missed if patterns.search(compiled, text)] == []


REFUSED = [
    ("(?=a)", "look-ahead"),
    ("(?!a)", "look-ahead"),
    ("(?<=a)b", "look-behind"),
    ("(?<!a)b", "look-behind"),
    ("(?>a)", "the atomic group"),
    ("a++", "the possessive quantifier ++"),
    ("a{1,2}+", "the possessive quantifier {1,2}+"),
    (r"(a)\1", r"the back-reference \1"),
    (r"(?<n>a)\k<n>", r"the back-reference \k"),
    (r"\G", r"the escape \G"),
    (r"\X", r"the escape \X"),
    (r"\y", r"the escape \y"),
    (r"\b{g}", r"the boundary \b{g}"),
    ("[a&&b]", "the intersection &&"),
    ("[^[^a]]", "a negated class inside a class"),
    (r"\p{javaLowerCase}", r"the property \p{javaLowerCase}"),
    (r"\p{InGreek}", r"the Unicode block \p{InGreek}"),
    (r"\p{Foo}", r"\p{Foo}"),
    (r"\p", r"\p without a property"),
    ("(?P<n>a)", "the group (?P<"),
    ("(?U)a", "the inline flag U"),
    ("(?#a)", "the group (?#a"),
    ("(", "a parenthesis is not closed"),
    ("a)", "a parenthesis closes nothing"),
    ("[a", "a class is not closed"),
    ("[]", "a class is not closed"),
    ("[z-a]", "upside down"),
    ("*", "* repeats nothing"),
    ("a|*", "* repeats nothing"),
    ("a**", "* repeats nothing"),
    ("{", "a brace that is no repeat"),
    ("a{,3}", "a brace that is no repeat"),
    ("\\", "a lone backslash"),
    (r"\ud800", r"the character \ud800"),
    ("a{1001}", "{1001}"),
    ("(a{50}){50}", "{50} makes it 2500 characters with its repeats written out"),
    ("((((a{9}){9}){9}){9})", "6561 characters"),
    ("(?:x{2}y{500}){5}", "2510 characters"),
    ("(?:ab[cd]){700}", "2100 characters"),
    ("a{999}b{999}c{3}", "2001 characters"),
]


@pytest.mark.parametrize(("pattern", "named"), REFUSED, ids=lambda x: repr(x)[:30])
def test_what_the_engine_lacks_is_refused_by_name(pattern, named):
    """The error names the pattern, the construct and its place; it is never another error."""
    with pytest.raises(FilterError) as caught:
        patterns.compile(pattern, "")

    assert named in str(caught.value)
    assert str(caught.value).startswith("filter: the pattern /")


def test_a_long_pattern_is_refused_before_it_is_compiled():
    """The bound on characters comes first."""
    patterns.compile("a" * limits.regex_pattern_chars_max)
    with pytest.raises(LimitError, match="1001 characters"):
        patterns.compile("a" * (limits.regex_pattern_chars_max + 1))


def test_a_program_too_large_is_refused():
    """The bound on memory holds while compiling, for what few characters can ask for."""
    with pytest.raises(FilterError, match="too large"):
        patterns.compile(r"\pL{900}", "")


def test_an_unknown_flag_is_refused():
    """Any letter that is no flag of the language is named."""
    with pytest.raises(FilterError, match="unknown regex flag 'q'"):
        patterns.compile("a", "iq")


def test_no_pattern_can_hang():
    """What makes a backtracking engine run for ages takes no time here."""
    compiled = patterns.compile("(a*)*(a|aa)*b|(x+x+)+y", "")

    assert not patterns.search(compiled, "a" * 100_000 + "x" * 100_000)


def test_a_costly_pattern_is_not_searched_in_a_long_text():
    """Size times length is bounded, so that one search cannot take the time of thousands."""
    compiled = patterns.compile(r"\w{999}!", "")
    longest = limits.regex_work_max // 1000

    assert not patterns.search(compiled, "a" * 900)
    assert patterns.search(patterns.compile("^a"), "a" * (limits.body_bytes_max))
    with pytest.raises(FilterError, match=rf"text of {longest + 1} bytes, it may take {longest}"):
        patterns.search(compiled, "a" * (longest + 1))


def test_a_filter_has_few_patterns():
    """Compiling is bounded too: built and parsed filters alike."""
    many = [mem.a.re(f"x.{n}") for n in range(limits.filter_patterns_max + 1)]

    assert len(any_of(many[1:]).operands) == limits.filter_patterns_max
    with pytest.raises(LimitError, match="51 regular expressions"):
        any_of(many)
    with pytest.raises(LimitError, match="51 regular expressions"):
        Filter.parse(" || ".join(map(str, many)))


@given(st.text(st.characters(), max_size=30), st.sampled_from(["", "i", "s", "m", "imsgux"]))
def test_garbage_is_a_pattern_or_our_error(pattern, flags):
    """Any text is either compiled or refused with a FilterError or LimitError, never another
    error."""
    try:
        compiled = patterns.compile(pattern, flags)
    except (FilterError, LimitError):
        return
    assert patterns.search(compiled, "some text") in (True, False)


@given(st.text("ab1 .*+?|()[]{}^$\\-,dswpQEx&:<=!#", max_size=14), st.text("ab1 \n", max_size=6))
def test_where_python_and_java_speak_alike_they_agree(pattern, text):
    """A pattern that this module and Python's own engine both take finds the same texts.

    Left out is what the two dialects mean differently: ``$``, blanks in ``\\s``, dots and line ends
    beyond the line feed never occur in these texts.
    """
    if re.search(r"\$|\\[^dswb.*+?|()\[\]{}^$\\-]|\[\[|&&|\(\?|x", pattern) or "[^]" in pattern:
        return
    try:
        compiled = patterns.compile(pattern, "")
    except (FilterError, LimitError):
        return
    try:
        expected = re.search(pattern, text, re.ASCII) is not None
    except re.error:
        return

    assert patterns.search(compiled, text) is expected


@given(strategies.texts())
def test_a_quoted_text_finds_itself(text):
    """``\\Q…\\E`` finds exactly what it quotes, whatever that is; half surrogates do not raise."""
    if "\\" in text:
        return
    compiled = patterns.compile(f"^\\Q{text}\\E\\z", "")

    assert patterns.search(compiled, text)
    assert not patterns.search(compiled, text + "x")


def test_a_filter_with_a_bad_pattern_is_refused_before_it_is_asked():
    """Compiling a filter, as a server does when one is sent or stored, compiles every pattern."""
    predicate(parse("a =~ /b/ && NOT (MATCHES /c/ || b == 1)"))

    with pytest.raises(FilterError, match="look-ahead"):
        predicate(parse("a =~ /b/ && NOT (MATCHES /(?=c)/ || b == 1)"))


def test_without_the_engine_the_way_out_is_named(monkeypatch):
    """A client without the extra gets an error that says what to install, on first use only."""
    monkeypatch.setitem(sys.modules, "re2", None)
    patterns.compile.cache_clear()

    with pytest.raises(FilterError, match=r"pip install 'flowkit\[server\]'"):
        patterns.compile("a.pattern of this test", "")


PLAIN = st.text("abK k\u212aé-", max_size=5)
AROUND = st.text("abKk\u212aÉé -", max_size=8)


@given(PLAIN, AROUND, st.sampled_from("ig"))
def test_plain_patterns_need_no_engine_and_mean_the_same(pattern, text, flags):
    """A pattern without special characters is found as the engine finds it quoted."""
    plain = patterns.compile(pattern, flags)
    quoted = patterns.compile(f"(?:{pattern})", flags)

    assert patterns.search(plain, text) is patterns.search(quoted, text)


def test_the_public_call_of_the_engine_serves_as_well(monkeypatch):
    """A release of the engine without the quick call is searched through its public one."""
    monkeypatch.setattr(patterns, "_bare", lambda compiled, re2: None)
    patterns.compile.cache_clear()
    compiled = patterns.compile("qu.ke$", "i")

    assert patterns.search(compiled, "an earthQUAKE")
    assert not patterns.search(compiled, "a \ud800 quak")
    patterns.compile.cache_clear()
