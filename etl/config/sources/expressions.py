"""JMESPath expressions that cannot be used as `records`."""

import difflib
from typing import Any

import jmespath
from jmespath.functions import Functions

from etl.readings.text import plural

MAX_DEPTH = 50
"""Levels of nesting in an expression, which jmespath compiles and evaluates recursively."""


def expression_mistake(expression: str) -> str | None:
    """What is wrong with an expression; None if it can be evaluated."""
    try:
        parsed = jmespath.compile(expression).parsed
    except jmespath.exceptions.JMESPathError as error:
        return str(error).splitlines()[0]
    except RecursionError:
        return "nested too deeply"
    except Exception:  # jmespath converts numbers unchecked
        return "it cannot be compiled"
    if _depth(parsed) > MAX_DEPTH:
        return f"nested more than {MAX_DEPTH} levels deep"
    return _function_mistake(parsed)


def _depth(node: Any) -> int:
    """The levels of nesting of a compiled expression."""
    depth, level = 0, [node]
    while level:
        depth += 1
        level = [child for node in level for child in _children(node)]
    return depth


def _children(node: Any) -> list[Any]:
    """The nodes below a node; the children of a slice are its bounds, which are no nodes."""
    return [child for child in node["children"] if isinstance(child, dict)]


def _function_mistake(node: Any) -> str | None:
    """The first call of a function that does not exist or takes another number of arguments; JMESPath only parses."""
    if node["type"] == "function_expression":
        function = Functions.FUNCTION_TABLE.get(node["value"])
        if function is None:
            near = difflib.get_close_matches(node["value"], Functions.FUNCTION_TABLE, 1)
            return f"there is no function {node['value']}" + (f", did you mean {near[0]}?" if near else "")
        unknown_key_hints, given = len(function["signature"]), len(node["children"])
        if given < unknown_key_hints or (given > unknown_key_hints and not function["signature"][-1].get("variadic")):
            return f"{node['value']} takes {plural(unknown_key_hints, 'argument')}, not {given}"
    return next(filter(None, map(_function_mistake, _children(node))), None)
