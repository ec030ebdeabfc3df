"""The map of the chapters on the front page, drawn from its tables: a line for each part, a station for each chapter."""
import re
from html import escape

from readme import page_name

CODE = re.compile(r"\[(`[^`]+`)\]\([^()]*\)")  # nbdev makes links of names
PART = re.compile(r"^\*\*(.+?)\.\*\*(?: (.*))?\n\n((?:\|.*\n?)+)", re.M)
ROW = re.compile(r"^\| (\w+) \| \[([^\]]+)\]\((\w+)\.ipynb\) \| (.*?) \|", re.M)
LETTER = 7.8  # pixels that a letter of a title takes, at most about


def parts(text):
    "Parts of the book in the Markdown of the tables: name, how to read it, chapters as (number, title, notebook, what it shows)."
    return [(name, how, ROW.findall(table)) for name, how, table in PART.findall(text)]


def lines(text, width):
    "Words broken into lines."
    done = [""]
    for word in text.split():
        if len(done[-1]) + len(word) + 1 > width and done[-1]: done.append("")
        done[-1] = f"{done[-1]} {word}".strip()
    return done


def station(x, y, chapter, width, beside=False, told=True):
    """A chapter as a link: a disc with its number, its title and what it shows, beneath or beside. Returns it and where it ends.

    The link is one of HTML, in a frame of the drawing: Quarto's script changes the address of every link and does not know those of SVG.
    """
    number, title, notebook, shows = chapter
    shows = re.sub(r"`([^`]*)`", r"\1", CODE.sub(r"\1", shows)) if told else ""
    room = width - (48 if beside else 12)
    height = 18 * len(lines(title, room / LETTER)) + 17 * len(lines(shows, room / LETTER * 1.1)) * bool(told) + (8 if beside else 38)
    kind, more = ' class="beside"' if beside else "", f"<br/>{escape(shows)}" if told else ""
    link = (f'<a xmlns="http://www.w3.org/1999/xhtml" href="{page_name(notebook)}.html"{kind}><b class="disc">{number}</b>'
            f'<span><b>{escape(title)}</b>{more}</span></a>')
    return f'<foreignObject x="{x - 18}" y="{y - 18}" width="{width - 2}" height="{height + 8}">{link}</foreignObject>', y - 18 + height + 10


def wide(found):
    "For a window: the parts below one another, up to six chapters in a row."
    step, x, y, before, drawn, path = 168, 18, 20, 0, [], []
    for k, (name, how, chapters) in enumerate(found):
        body, head, last = [], [c for c in chapters if not c[0][-1].isalpha() or k != 1], k == len(found) - 1
        rows = [chapters[i:i + 6] for i in range(0, len(chapters), 6)] if k != 1 else [head, [c for c in chapters if c not in head]]
        title = f'<text class="part" x="0" y="{y}">{escape(name)}</text><text class="how" x="0" y="{y + 21}">{escape(how)}</text>'
        y += 54
        for n, row in enumerate(rows):
            ends, line = [], f"M{x} {y}H{x + step * (len(row) - 1)}"
            if k == 1 and n == 1:  # the chapters a to f hang on the one before them
                at = x + step * (len(head) - 1)
                line = f"M{at} {before}V{y - 44}Q{at} {y - 32} {at - 12} {y - 32}H{x + 12}Q{x} {y - 32} {x} {y - 20}V{y}H{x + step * (len(row) - 1)}"
            for i, chapter in enumerate(row):
                drawn_one, end = station(x + i * step, y, chapter, step, told=not last)
                body.append(drawn_one)
                ends.append(end)
            path.append(f'<path class="line p{k + 1}{" loose" * last}{" branch" * (k == 1 and n == 1)}" d="{line}"/>')
            before, y = max(ends[len(head) - 1:len(head)] or ends) - 12, max(ends) + (16 if last else 44 if n + 1 < len(rows) else 14)
        drawn.append(f'<g class="p{k + 1}">{title}{path.pop() if len(rows) == 1 else "".join(path)}{"".join(body)}</g>')
        path.clear()
        y += 34
    return f'<svg class="book-map wide" viewBox="0 0 1010 {y - 50:.0f}" role="group" aria-label="Map of the chapters">{"".join(drawn)}</svg>'


def narrow(found):
    "For a phone: one line down the page."
    x, y, drawn, width = 18, 18, [], 350
    for k, (name, how, chapters) in enumerate(found):
        body, last = [], k == len(found) - 1
        for n, row in enumerate(lines(name, 36)): body.append(f'<text class="part" x="0" y="{y + 22 * n}">{escape(row)}</text>')
        y += 22 * (n + 1) + 1
        body.append(f'<text class="how" x="0" y="{y}">{escape(how)}</text>')
        y += 32
        first = stop = y
        branch = []
        for chapter in chapters:
            inner = k == 1 and chapter[0][-1].isalpha()
            at = x + 30 * inner
            (branch if inner else []).append(y)
            one, end = station(at, y, chapter, width - at, beside=True, told=not last)
            body.append(one)
            stop, y = (stop if inner else y), max(end + 12, y + 40)
        lined = f'<path class="line{" loose" * last}" d="M{x} {first}V{stop}"/>'
        if branch: lined += f'<path class="line branch" d="M{x} {stop}V{branch[0] - 34}Q{x} {branch[0] - 22} {x + 12} {branch[0] - 22}H{x + 18}Q{x + 30} {branch[0] - 22} {x + 30} {branch[0] - 10}V{branch[-1]}"/>'
        drawn.append(f'<g class="p{k + 1}">{lined}{"".join(body)}</g>')
        y += 14
    return f'<svg class="book-map narrow" viewBox="0 0 350 {y - 20:.0f}" role="group" aria-label="Map of the chapters">{"".join(drawn)}</svg>'


def with_map(text):
    "The Markdown with the tables of the chapters drawn; other text stays."
    found = parts(text)
    if len(found) < 2: return text
    return PART.sub("", text).rstrip() + f"\n\n```{{=html}}\n{wide(found)}\n{narrow(found)}\n```\n"
