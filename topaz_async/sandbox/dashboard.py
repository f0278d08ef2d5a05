"""One page for the eye: tasks, credits, the latest requests."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from typing import Final, TypeVar

from aiohttp import web

from .books import Books, SeenRequest, Task

T = TypeVar("T")

#: Rows of each table.
ROWS: Final = 50

_STYLE: Final = """
:root { color-scheme: light dark; --line: #8884; --dim: #888; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; }
h1 { font-size: 1.4rem; margin: 0 } h2 { font-size: 1rem; margin: 2rem 0 .5rem }
p { color: var(--dim); margin: .2rem 0 1rem }
dl { display: flex; gap: 1rem; flex-wrap: wrap; margin: 0 }
dl div { border: 1px solid var(--line); border-radius: .6rem; padding: .5rem 1rem; min-width: 6rem }
dt { color: var(--dim); font-size: .8rem } dd { margin: 0; font-size: 1.3rem; font-weight: 600 }
table { border-collapse: collapse; width: 100%; font-size: .85rem }
th, td { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid var(--line);
  overflow-wrap: anywhere }
th { color: var(--dim); font-weight: 500 } code { font-size: .8rem }
.state { border-radius: 1rem; padding: .05rem .6rem; background: #8883 }
.success { background: #2a83 } .fail { background: #d443 } .generating { background: #47d3 }
"""


def page(books: Books, base_url: str, upload_url: str) -> web.Response:
    """Draw the page; everything a client has sent is escaped."""
    tasks = list(books.tasks.values())
    requests = books.requests
    states = [task.state for task in tasks]
    figures = {
        "credits left": f"{books.credits:g}",
        "tasks": len(tasks),
        "running": sum(not task.ended for task in tasks),
        "success": states.count("success"),
        "fail": states.count("fail"),
        "requests": books.count(),
        "refused (429)": sum(books.refused_429.values()),
    }
    cards = "".join(
        f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in figures.items()
    )
    body = (
        f"<h1>Topaz sandbox</h1><p>API <code>{escape(base_url)}</code> &middot; "
        f"uploads and files <code>{escape(upload_url)}</code></p><dl>{cards}</dl>"
        "<h2>Tasks</h2><table><tr><th>#</th><th>task</th><th>state</th><th>factor</th>"
        f"<th>credits</th><th>input</th><th>result</th></tr>{_rows(_task, tasks)}</table>"
        "<h2>Requests</h2><table><tr><th>#</th><th>route</th><th>request</th><th>HTTP</th>"
        f"<th>code</th><th>fault</th></tr>{_rows(_request, requests)}</table>"
    )
    html = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta http-equiv="refresh" content="2"><title>Topaz sandbox</title>'
        '<meta name="viewport" content="width=device-width">'
        f"<style>{_STYLE}</style></head><body>{body}</body></html>"
    )
    # No script, no other origin: whatever slipped through the escaping could do nothing.
    policy = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    headers = {"Content-Security-Policy": policy, "Cache-Control": "no-store"}
    return web.Response(text=html, content_type="text/html", headers=headers)


def _rows(draw: Callable[[T], tuple[object, ...]], things: list[T]) -> str:
    newest = reversed(things[-ROWS:])
    return "".join(
        f"<tr>{''.join(f'<td>{cell}</td>' for cell in draw(thing))}</tr>" for thing in newest
    )


def _task(task: Task) -> tuple[object, ...]:
    outcome = " ".join(
        f'<a href="{escape(url)}" rel="noreferrer">{escape(url.rpartition("/")[2])}</a>'
        for url in task.result_urls
    )
    if task.state == "fail":
        outcome = escape(f"{task.fail_code} {task.fail_msg} ({task.cause})")
    state = f'<span class="state {escape(task.state)}">{escape(task.state)}</span>'
    return (
        task.number,
        f"<code>{escape(task.task_id)}</code>",
        state,
        f"{task.factor}x",
        f"{task.credits:g}",
        escape(task.source),
        outcome,
    )


def _request(request: SeenRequest) -> tuple[object, ...]:
    return (
        request.number,
        escape(request.route),
        escape(f"{request.method} {request.path}"),
        _or_dash(request.status),
        _or_dash(request.code),
        escape(request.fault.action) if request.fault is not None else "",
    )


def _or_dash(value: int | None) -> str:
    return "&ndash;" if value is None else str(value)
