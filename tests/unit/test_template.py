"""Chat templates: the same text as transformers, one line when a template misbehaves."""

from __future__ import annotations

import json
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from mtpcli.errors import InputError, ModelError
from mtpcli.prompt import template as template_module
from mtpcli.prompt.template import ChatTemplate, Message
from tests.conftest import PATIENCE

DATA = Path(__file__).parent.parent / "data"
GEMMA4 = (DATA / "gemma4_chat_template.jinja").read_text("utf-8")
GOLDEN: list[dict[str, Any]] = json.loads((DATA / "chat_template_golden.json").read_text("utf-8"))[
    "cases"
]
HELLO: list[Message] = [{"role": "user", "content": "Hello"}]


@pytest.fixture(autouse=True)
def no_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time is a limit for templates that have no end, not for those that meet another limit."""
    monkeypatch.setattr(template_module, "MAX_SECONDS", PATIENCE)


def render(source: str, **options: Any) -> str:
    return ChatTemplate(source, "<bos>", "<eos>").render(HELLO, **options)


def render_case(case: dict[str, Any]) -> str:
    return ChatTemplate(GEMMA4, "<bos>", "<eos>").render(
        case["messages"],
        thinking=case.get("thinking", False),
        tools=case.get("tools"),
        add_generation_prompt=case.get("add_generation_prompt", True),
    )


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: case["name"])
def test_gemma4_template_renders_as_in_transformers(case: dict[str, Any]) -> None:
    assert render_case(case) == case["expected"]


@pytest.mark.reference
@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: case["name"])
def test_transformers_still_renders_the_golden_text(case: dict[str, Any]) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    transformers = pytest.importorskip("transformers")
    words = tokenizers.models.WordLevel({"<unk>": 0}, unk_token="<unk>")
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizers.Tokenizer(words),
        bos_token="<bos>",
        eos_token="<eos>",
        unk_token="<unk>",
        chat_template=GEMMA4,
    )
    live = tokenizer.apply_chat_template(
        case["messages"],
        tools=case.get("tools"),
        tokenize=False,
        add_generation_prompt=case.get("add_generation_prompt", True),
        enable_thinking=case.get("thinking", False),
    )
    assert live == case["expected"] == render_case(case)


def test_what_templates_expect_to_find() -> None:
    source = (
        "{{ bos_token }}{{ messages[0].get('role') }} {{ messages[0].missing is defined }}\n"
        "  {% for i in range(9) %}\n"
        "{% if i == 1 %}{% continue %}{% endif %}{% if i == 3 %}{% break %}{% endif %}{{ i }}"
        "{% endfor %}\n"
        "{% generation %}{{ {'a': '<é>'} | tojson }}{% endgeneration %}"
        "{{ strftime_now('%Y') | length }}{{ tools is none }}{{ eos_token }}"
    )
    assert render(source) == '<bos>user False\n02{"a": "<é>"}4True<eos>'


def test_refusal_is_about_the_input() -> None:
    with pytest.raises(InputError) as caught:
        render("{{ raise_exception('roles must\nalternate \x1b[31m') }}")
    assert str(caught.value) == (
        "the model's chat template refuses these messages: roles must alternate ␛[31m"
    )


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("\n{% if %}", "is not valid, line 2"),
        ("{{ undefined.attribute }}", "fails: 'undefined' is undefined"),
        ("{{ 1 // 0 }}", "fails: "),
        ("{{ messages.append(1) }}", "fails: "),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "fails: access to attribute"),
        ("{{ lipsum.__globals__['os'].system('true') }}", "fails: access to attribute"),
        ("{% include 'other' %}", "fails: "),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "fails: "),
        ("{{ 9 ** 999999999 }}", "was stopped: it raises a number to a huge power"),
        ("{{ 'x' * 999999999 }}", "was stopped: it repeats a text too often"),
        ("{{ '%999999999999d' % 1 }}", "was stopped: it takes too much memory"),
        ("{{ '{:9999999999}'.format(1) }}", "was stopped: it takes too much memory"),
        ("{{ 'x' | center(9999999999) }}", "was stopped: it takes too much memory"),
        ("{{ 'x'.ljust(9999999999) }}", "was stopped: it takes too much memory"),
        (
            "{% set n = namespace(s='x' * 9999999) %}"
            "{% for i in range(999) %}{% set n.s = n.s ~ n.s %}{% endfor %}",
            "was stopped: it takes too much memory",
        ),
        (
            "{% set n = namespace(k=3) %}{% for i in range(99) %}{% set n.k = n.k * n.k %}"
            "{% endfor %}",
            "was stopped: it multiplies huge numbers",
        ),
        ("{{ [1] * 999999999 }}", "was stopped: it repeats a text too often"),
        ("{% for i in range(999999) %}x{% endfor %}", "fails: Range too big"),
        (
            "{% for i in range(90000) %}{{ 'x' * 1000 }}{% endfor %}",
            "was stopped: it writes more than 16777216 characters",
        ),
    ],
)
def test_bad_template_is_one_line(source: str, reason: str) -> None:
    with pytest.raises(ModelError) as caught:
        render(source)
    message = str(caught.value)
    assert message.startswith(f"the model's chat template {reason}")
    assert "\n" not in message and len(message) < 300


def test_template_too_large_to_be_one() -> None:
    with pytest.raises(ModelError, match="too large"):
        ChatTemplate("x" * (template_module.MAX_SOURCE + 1), "", "")


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs POSIX timers")
def test_endless_template_is_stopped_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template_module, "MAX_SECONDS", 0.2)
    before = signal.getsignal(signal.SIGPROF)
    with pytest.raises(ModelError, match=r"was stopped: it runs for more than 0\.2 seconds"):
        render("{% for i in range(99999) %}{% for j in range(999) %}{% endfor %}{% endfor %}")
    assert signal.getsignal(signal.SIGPROF) is before
    assert signal.getitimer(signal.ITIMER_PROF) == (0.0, 0.0)


def test_endless_template_is_stopped_in_another_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template_module, "MAX_SECONDS", 0.2)
    loop = "{% for i in range(99999) %}{% for j in range(999) %}{% endfor %}{% endfor %}"
    said: list[str] = []

    def work() -> None:
        with pytest.raises(ModelError) as caught:
            render(loop)
        said.append(str(caught.value))
        said.append(render("{{ messages[0].content }}"))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(PATIENCE)
    reason = "it runs for more than 0.2 seconds"
    assert said == [f"the model's chat template was stopped: {reason}", "Hello"]


def test_limits_are_taken_back() -> None:
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_AS)
    render("{{ messages[0].content }}")
    with pytest.raises(ModelError):
        render("{{ 'x'.ljust(9999999999) }}")
    assert resource.getrlimit(resource.RLIMIT_AS) == before


def test_renders_outside_the_main_thread() -> None:
    result: list[str] = []
    thread = threading.Thread(target=lambda: result.append(render("{{ messages[0].content }}")))
    thread.start()
    thread.join()
    assert result == ["Hello"]
