"""Makes a built site lighter, and loses nothing that is seen: `slim(folder)`, which `site_check.build` calls.

- Stylesheets keep the rules whose classes and ids occur in a page or a script. Quarto layers the dark theme on the light one, so
  the dark one keeps what differs.
- The font of icons keeps the icons that are used.
- Pictures of the chapters, and those inside of SVG files, become lossless WebP where that is smaller.
- A formula stands in the index of the search once: its TeX goes.
"""
import base64
import io
import json
import re
from html import unescape

from PIL import Image

CSS_PART = re.compile(r'"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])*\'|url\([^)"\']*\)|/\*.*?\*/|[{};]|[^"\'{};/u]+|.', re.S)
PNG = re.compile(rb'data:image/png;base64,\s*([A-Za-z0-9+/=\s]+)')
FORMULA = re.compile(r'<math\b[^>]*>(.*?)<annotation encoding="application/x-tex">(.*?)</annotation>', re.S)


def blocks(css):
    "The rules of a stylesheet: (what stands before the braces, what is in them); (statement, None) without braces."
    depth, head, body = 0, "", ""
    for part in CSS_PART.findall(css):
        if part.startswith("/*"): continue
        if part == "{" and (depth := depth + 1) == 1: continue
        if part == "}" and (depth := depth - 1) == 0:
            yield head.strip(), body
            head = body = ""
        elif depth: body += part
        elif part == ";":
            yield head.strip(), None
            head = ""
        else: head += part


def split(text, mark):
    "Parts between marks that are not in brackets or strings."
    if not set("([\"'\\") & set(text): return [part.strip() for part in text.split(mark) if part.strip()]
    parts, depth = [""], 0
    for piece in re.findall(r'"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])*\'|\\.|.', text, re.S):
        depth += (piece in "([") - (piece in ")]") if len(piece) == 1 else 0
        if piece == mark and not depth: parts.append("")
        else: parts[-1] += piece
    return [part.strip() for part in parts if part.strip()]


def flat(css, around=()):
    "All rules as (the @-rules around it, selector, {property: value}); of what is no plain rule, its text as the selector."
    for head, body in blocks(css):
        if body is None or head.startswith(("@font-face", "@keyframes", "@-webkit-keyframes", "@page", "@property")):
            yield around, head if body is None else f"{head}{{{body}}}", None
        elif head.startswith("@"): yield from flat(body, (*around, head))
        else:
            # A property that stands twice has a value for old browsers: both stay.
            yield around, head, [tuple(x.strip() for x in part.split(":", 1)) for part in split(body, ";") if ":" in part]


def used(selector, words):
    "Whether something in the site may be meant."
    plain = re.sub(r":(?:not|where|has)\((?:[^()]|\([^()]*\))*\)|\[[^\]]*\]", "", selector)
    return all(re.sub(r"\\(.)", r"\1", name) in words for name in re.findall(r"[.#]((?:[\w-]|\\.)+)", plain))


def written(rules):
    "The text of a stylesheet from its rules."
    text, last = [], ()
    for around, head, body in rules:
        if around != last:
            text += ["}" * len(last), *(f"{rule}{{" for rule in around)]
            last = around
        text.append(head + ";" * (not head.endswith("}")) if body is None else f"{head}{{{';'.join(f'{n}:{v}' for n, v in body)}}}")
    return "".join([*text, "}" * len(last)])


def purged(css, words):
    "The rules that something in the site may need."
    for around, head, body in flat(css):
        if body is not None:
            head = ",".join(one for one in split(head, ",") if used(one, words))
            if not head: continue
        yield around, head, body


def family(name):
    "Properties that set each other: border and border-color."
    return name if name.startswith("--") else name.lstrip("-").removeprefix("webkit-").split("-")[0]


def beyond(dark, light):
    """What a theme that is layered on another says that the other has not said.

    A declaration that both have stays only if an earlier one that differs could win over it.
    """
    def values(rules):
        found = {}
        for around, head, body in rules:
            for name, value in body or ():
                for one in split(head, ","): found.setdefault((around, one, name), []).append(value)
        return found
    texts, ours, theirs, differ = {(a, h) for a, h, b in light if b is None}, values(dark), values(light), set()
    for around, head, body in dark:
        if body is None:
            if (around, head) not in texts: yield around, head, None
            continue
        kept = []
        for name, value in body:
            same = all(ours[key] == theirs.get(key) for one in split(head, ",") for key in [(around, one, name)])
            if same and family(name) not in differ: continue
            if not same: differ.add(family(name))
            kept.append((name, value))
        if kept: yield around, head, kept


def slim_styles(site):
    "Stylesheets of the libraries without what no page uses; the dark theme without what the light one says."
    texts = [path.read_text(encoding="utf-8") for kind in ("html", "js", "mjs") for path in site.rglob(f"*.{kind}")]
    words = {word for text in texts for word in re.findall(r"[\w-]+", text)}
    libraries = site / "site_libs"
    sheets = {path: [*purged(path.read_text(encoding="utf-8"), words)] for path in libraries.rglob("*.css")}
    for path in sheets:
        if (lit := next((p for p in sheets if path.match("bootstrap-dark-*") and p.match("bootstrap-*.min.css") and not p.match("bootstrap-dark-*")), None)):
            sheets[path] = [*beyond(sheets[path], sheets[lit])]
    for path, rules in sheets.items(): path.write_text(written(rules), encoding="utf-8")
    slim_icons(libraries / "bootstrap", texts + [path.read_text(encoding="utf-8") for path in sheets])


def slim_icons(folder, texts):
    "The font of icons with those that a stylesheet, a page or a script names."
    from fontTools import subset
    font = folder / "bootstrap-icons.woff"
    codes = {int(code, 16) for text in texts for code in re.findall(r"\\(f[0-9a-f]{3})\b", text)}
    codes |= {ord(letter) for text in texts for letter in re.findall(r"[\ue000-\uf8ff]", text)}
    whole = subset.load_font(font, subset.Options())
    options = subset.Options(flavor="woff")
    subsetter = subset.Subsetter(options)
    subsetter.populate(unicodes=codes)
    subsetter.subset(whole)
    subset.save_font(whole, font, options)


def as_webp(data):
    "The bytes of a PNG as lossless WebP."
    picture, file = Image.open(io.BytesIO(data)).convert("RGBA"), io.BytesIO()
    if picture.getextrema()[3] == (255, 255): picture = picture.convert("RGB")
    picture.save(file, "webp", lossless=True, quality=50, method=4)
    return file.getvalue()


def smaller(found):
    "A picture in an SVG: as WebP if that is smaller."
    data = base64.b64decode(found[1])
    made = as_webp(data)
    return found[0] if len(made) >= len(data) else b"data:image/webp;base64," + base64.b64encode(made)


def slim_pictures(site):
    "Pictures of the chapters as WebP, and the pages that show them."
    gone = []
    for path in site.glob("*_files/**/*.png"):
        if len(made := as_webp(path.read_bytes())) >= path.stat().st_size: continue
        path.with_suffix(".webp").write_bytes(made)
        path.unlink()
        gone.append(path.relative_to(site).as_posix())
    for page in site.glob("*.html"):
        text = page.read_text(encoding="utf-8")
        for name in gone: text = text.replace(name, name.removesuffix(".png") + ".webp")
        page.write_text(text, encoding="utf-8")


def without_tex(index, page):
    "The texts of a page in the index of the search, its formulas without their TeX."
    at = [0, 0]  # which text, and where in it
    for formula in FORMULA.finditer(page):
        shown, tex = (unescape(re.sub(r"<[^>]+>", "", part)) for part in formula.groups())
        for k in range(at[0], len(index)):
            place = index[k]["text"].find(shown + tex, at[1] if k == at[0] else 0)
            if place < 0: continue
            end = place + len(shown)
            index[k]["text"] = index[k]["text"][:end] + index[k]["text"][end + len(tex):]
            at = [k, end]
            break


def slim_search(site):
    path = site / "search.json"
    entries = json.loads(path.read_text(encoding="utf-8"))
    for page in site.glob("*.html"):
        own = [entry for entry in entries if entry["href"].split("#")[0] == page.name]
        without_tex(own, page.read_text(encoding="utf-8"))
    path.write_text(json.dumps(entries, ensure_ascii=False, separators=(",", ":")), encoding="utf-8")


def slim(site):
    "All of it, in place."
    for path in site.rglob("*.svg"): path.write_bytes(PNG.sub(smaller, path.read_bytes()))
    slim_pictures(site)
    slim_styles(site)
    slim_search(site)
