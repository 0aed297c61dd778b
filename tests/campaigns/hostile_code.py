"""Hostile code: text that creates a file as soon as anything runs it, in whatever language that is.

Invariant: each holds the canary's path and would create that file if it were evaluated (Python, sympy, a shell, a
template engine, a loader) or typeset (TeX); so a canary that does not exist shows that nothing was run.
"""

import json
from collections.abc import Callable
from random import Random


def _touch(canary: str) -> str:
    return f"touch {canary}"


def _open(canary: str) -> str:
    return f"open('{canary}','w').close()"


def _system(canary: str) -> str:
    return f"__import__('os').system('{_touch(canary)}')"


def _quoted(rng: Random, program: str) -> str:
    return rng.choice((repr, json.dumps))(program)


def _classes(rng: Random, canary: str) -> str:
    start = rng.choice(("{}", "()", "''", "x", "1", "Integer(1)"))
    classes = f"{start}.__class__.__mro__[-1].__subclasses__()"
    return f"[c for c in {classes} if c.__name__=='Popen'][0](['touch','{canary}'])"


def _globals(rng: Random, canary: str) -> str:
    start = rng.choice(("Integer.__init__", "Symbol.__new__", "sqrt", "x.subs", "latex", "(lambda:0)", "sin(x).evalf"))
    return f"{start}.__globals__['__builtins__']['open']('{canary}','w')"


def _decorators(rng: Random, canary: str) -> str:
    return f"@{rng.choice(('exec', 'eval'))}\n@(lambda _: {_quoted(rng, _open(canary))})\nclass Answer: pass\n"


def _recursive_macro(rng: Random, canary: str) -> str:
    name = rng.choice(("x", "answer", "frac"))
    return (
        rf"\newcommand{{\{name}}}{{\immediate\write18{{{_touch(canary)}}}\{name}\{name}}}"
        rf"\renewcommand{{\boxed}}{{\{name}}}\{name}"
    )


CODE: dict[str, Callable[[Random, str], str]] = {
    "python_system": lambda rng, canary: _system(canary),
    "python_open": lambda rng, canary: _open(canary),
    "python_subprocess": lambda rng, canary: (
        f"__import__('subprocess').{rng.choice(('run', 'call', 'Popen'))}(['touch','{canary}'])"
    ),
    "python_pathlib": lambda rng, canary: (
        f"__import__('pathlib').Path('{canary}').{rng.choice(('touch()', 'mkdir()'))}"
    ),
    "python_formatted_string": lambda rng, canary: f'f"{{{_open(canary)}}}" + f"{{1!r:{{{_system(canary)}}}}}"',
    "python_lambda": lambda rng, canary: f"(lambda x=({_open(canary)}): x)()",
    "python_exec": lambda rng, canary: f"{rng.choice(('exec', 'eval'))}({_quoted(rng, _open(canary))})",
    "python_compile": lambda rng, canary: f"exec(compile({_quoted(rng, _system(canary))}, 'answer', 'exec'))",
    "python_classes": _classes,
    "python_decorators": _decorators,
    "python_comprehension": lambda rng, canary: f"[x := {_open(canary)} for _ in range({rng.randint(1, 99)})]",
    "python_try": lambda rng, canary: f"try:\n  5\nfinally:\n  {_system(canary)}",
    "python_doctest": lambda rng, canary: f">>> {_open(canary)}\n>>> {rng.randint(0, 99)}",
    "python_notebook": lambda rng, canary: rng.choice(("!", "%%bash\n", "%sx ")) + _touch(canary),
    "python_fence": lambda rng, canary: f"```python\nimport os\nos.system('{_touch(canary)}')\n```" * rng.randint(1, 9),
    "python_power_of_call": lambda rng, canary: f"2**({_open(canary)} or {rng.randint(2, 9)})",
    "sympy_globals": _globals,
    "sympy_lambda": lambda rng, canary: f"Lambda(x, {_open(canary)})({rng.randint(0, 9)})",
    "sympy_sympify": lambda rng, canary: (
        f"{rng.choice(('sympify', 'S', 'parse_expr', 'Integer'))}({_quoted(rng, _open(canary))})"
    ),
    "sympy_lambdify": lambda rng, canary: f"lambdify([], {_quoted(rng, _open(canary))})()",
    "sympy_symbol": lambda rng, canary: (
        f"Symbol({_quoted(rng, _system(canary))}) + Function({_quoted(rng, _open(canary))})(x)"
    ),
    "sympy_attribute": lambda rng, canary: (
        rf"x.__class__.__init__.__globals__['sys'].modules['os'].system('{_touch(canary)}')"
    ),
    "latex_operator": lambda rng, canary: (
        rf"\operatorname{{{rng.choice(('exec', 'eval', 'sympify'))}}}(\text{{{_open(canary)}}})"
    ),
    "latex_roman": lambda rng, canary: (
        rf"\mathrm{{__import__}}(\text{{'os'}}).\mathrm{{system}}(\text{{'{_touch(canary)}'}})"
    ),
    "latex_escaped_names": lambda rng, canary: _system("CANARY").replace("_", r"\_").replace("CANARY", canary),
    "latex_subscript": lambda rng, canary: f"x_{{{_system(canary)}}}^{{{_open(canary)}}}",
    "latex_text": lambda rng, canary: rf"\text{{{_system(canary)}}}",
    "latex_fraction": lambda rng, canary: rf"\frac{{{_open(canary)}}}{{{_system(canary)}}}",
    "tex_write": lambda rng, canary: rng.choice((r"\immediate", "")) + rf"\write18{{{_touch(canary)}}}",
    "tex_openout": lambda rng, canary: rf"\newwrite\w\immediate\openout\w={canary} \immediate\write\w{{5}}\closeout\w",
    "tex_input": lambda rng, canary: rf"\input{{/etc/passwd}}\input|\"{_touch(canary)}\" \include{{{canary}}}",
    "tex_newcommand": _recursive_macro,
    "tex_def": lambda rng, canary: (
        rf"\def\x{{\write18{{{_touch(canary)}}}\x\x}}\x" + r"\expandafter" * rng.randint(0, 99)
    ),
    "tex_catcode": lambda rng, canary: (
        rf"\catcode`\{rng.choice('@#$&')}=0 \catcode`\{{=13 @write18{{{_touch(canary)}}}"
    ),
    "tex_csname": lambda rng, canary: rf"\csname write\endcsname18{{{_touch(canary)}}}",
    "tex_loop": lambda rng, canary: rf"\loop\write18{{{_touch(canary)}}}\iftrue\repeat",
    "tex_lua": lambda rng, canary: rf"\directlua{{os.execute('{_touch(canary)}')}}",
    "shell_substitution": lambda rng, canary: f"$({_touch(canary)})",
    "shell_backticks": lambda rng, canary: f"`{_touch(canary)}`",
    "shell_sequence": lambda rng, canary: "5" + rng.choice((";", "&&", "||", "|", "\n", "&")) + f" {_touch(canary)} #",
    "shell_redirection": lambda rng, canary: f"5 {rng.choice(('>', '>>', '| tee', '1>&2 >'))} {canary}",
    "shell_quotes": lambda rng, canary: rng.choice(("'", '"', "'\"")) + f"; {_touch(canary)}; echo '",
    "template_braces": lambda rng, canary: (
        f"{{{{ self.__init__.__globals__.__builtins__.__import__('os').popen('{_touch(canary)}').read() }}}}"
    ),
    "template_dollar": lambda rng, canary: f"${{{_system(canary)}}} #{{`{_touch(canary)}`}}",
    "template_percent": lambda rng, canary: f"<%= system('{_touch(canary)}') %> <? system('{_touch(canary)}') ?>",
    "format_string": lambda rng, canary: (
        f"{{0.__class__.__init__.__globals__[{_open(canary)}]}} %n%s%(x)s" * rng.randint(1, 9)
    ),
    "pickle_text": lambda rng, canary: rng.choice(("cos", "cposix")) + f"\nsystem\n(S'{_touch(canary)}'\ntR.",
    "json_object": lambda rng, canary: json.dumps(
        {"py/reduce": [{"py/function": "os.system"}, [_touch(canary)]], "answer": 5}
    ),
    "yaml_object": lambda rng, canary: f"!!python/object/apply:os.system [{_quoted(rng, _touch(canary))}]",
    "sql": lambda rng, canary: f"5'; ATTACH DATABASE '{canary}' AS x; COPY (SELECT 5) TO '{canary}'; --",
}
