"""Templates that strangers wrote: they reach nothing outside, and end soon whatever they try."""

import pytest

from blixt.llm.chat.template import ChatTemplate
from blixt.llm.errors import TemplateError

USER = [{"role": "user", "content": "hi"}]

ESCAPES = [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ cycler.__init__.__globals__ }}",
    "{{ namespace.__init__.__globals__ }}",
    "{{ '{0.__class__.__mro__}'.format('') }}",
    "{{ '{x.__class__.__mro__}'.format_map({'x': ''}) }}",
    "{% set ns = namespace() %}{% set ns.__class__ = 1 %}",
    "{% set ns = namespace(__class__=1) %}",
    "{{ raise_exception.__globals__['os'].system('true') }}",
    "{{ messages.append(1) }}",
    "{{ messages[0].update({'role': 'x'}) }}",
    "{% include '/etc/passwd' %}",
    "{% import 'os' as os %}",
    "{{ strftime_now.__globals__.sys.modules }}",
    "{{ lipsum() }}",
    "{{ tojson.__wrapped__.__globals__.x }}",
]
GROWING = (
    "{% set ns = namespace(x=START) %}{% for i in range(200) %}{% set ns.x = NEXT %}{% endfor %}{{ ns.x }}"
)
ENDLESS = [
    "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}"
    "{% endfor %}{% endfor %}{% endfor %}",
    "{% macro f(n) %}{{ f(n - 1) }}{{ f(n - 1) }}{% endmacro %}{{ f(500) }}",
    "{% for x in messages recursive %}{{ loop([1]) }}{{ loop([1]) }}{% endfor %}",
    GROWING.replace("START", "'a'").replace("NEXT", "ns.x ~ ns.x"),
    GROWING.replace("START", "'a'").replace("NEXT", "ns.x + ns.x"),
    GROWING.replace("START", "'ab'").replace("NEXT", "ns.x.replace('a', ns.x)"),
    GROWING.replace("START", "'ab'").replace("NEXT", "ns.x | replace('a', ns.x)"),
    GROWING.replace("START", "'ab'").replace("NEXT", "[ns.x, ns.x] | join(ns.x)"),
    GROWING.replace("START", "[1]").replace("NEXT", "[ns.x, ns.x]"),
    GROWING.replace("START", "{}").replace("NEXT", "{'a': ns.x, 'b': ns.x}"),
    GROWING.replace("START", "{}").replace("NEXT", "dict(a=ns.x, b=ns.x)"),
    GROWING.replace("START", "3").replace("NEXT", "ns.x * ns.x"),
    "{{ 10 ** 10 ** 10 }}",
    "{{ 'a' * 10000000000 }}",
    "{{ ['a'] * 10000000000 }}",
    "{{ '%9999999999d' % 1 }}",
    "{{ '%*d' % (9999999999, 1) }}",
    "{{ '{:9999999999}'.format(1) }}",
    "{{ '{:{}}'.format(1, 9999999999) }}",
    "{{ 'a'.center(9999999999) }}",
    "{{ 'a' | center(9999999999) }}",
    "{{ 'a' | indent(9999999999, true) }}",
    "{{ 'a'.ljust(width=9999999999) }}",
    "{{ ('\\t' * 100000).expandtabs(100000) }}",
    "{{ [1] | batch(9999999999, 0) | list }}",
    "{% for i in range(99999) %}{{ range(99999) | list | length }}{% endfor %}",
    "{% set x = 'a' * 3000000 %}{% for i in range(99999) %}{{ x[1:] | length }}{% endfor %}",
    "{% set x = 'a' * 3000000 %}{% for i in range(99999) %}{% if 'b' in x %}{% endif %}{% endfor %}",
    "{% set x = 'a' * 3000000 %}{% for i in range(99999) %}{% if x is upper %}{% endif %}{% endfor %}",
]


@pytest.mark.parametrize("source", ESCAPES)
def test_a_template_cannot_leave_the_sandbox(source: str) -> None:
    with pytest.raises(TemplateError):
        ChatTemplate(source).render(USER)


@pytest.mark.parametrize("source", ENDLESS)
def test_a_template_cannot_run_for_ever_or_fill_the_memory(source: str, small_memory: None) -> None:
    with pytest.raises(TemplateError, match=r"more work|widths|powers|thousands of digits"):
        ChatTemplate(source).render(USER)


@pytest.fixture
def small_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth of the usual budget: the same bound, reached in a fraction of a second."""
    monkeypatch.setattr("blixt.llm.chat.sandbox.LIMIT", 400_000)


def test_a_long_conversation_stays_far_below_the_bound() -> None:
    template = ChatTemplate(
        "{% for m in messages %}{% if m.role == 'user' and m.content is string %}"
        "{{ '<|' ~ m.role ~ '|>' ~ m.content | trim ~ '\\n' }}{% endif %}{% endfor %}"
    )
    messages = [{"role": "user", "content": "word " * 2000}] * 500
    assert len(template.render(messages)) > 4_000_000
