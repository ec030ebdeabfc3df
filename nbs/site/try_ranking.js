// Chapter 08d: the ranking of maps as a table to sort, to filter, and to compare with any of its rows. checks/tries/ranking.py makes the data.
"use strict";
{
const VERDICTS = {B: ["▲", "better, also after Holm’s correction"], b: ["△", "better, but not after Holm’s correction"], s: ["=", "no clear difference"],
  w: ["▽", "worse, but not after Holm’s correction"], W: ["▼", "worse, also after Holm’s correction"],
  "+": ["⊕", "better, a control against a control"], "-": ["⊖", "worse, a control against a control"]};
const WORTH = {B: 1, b: 1, "+": 1, s: 0, "-": -1, w: -1, W: -1};

Book.attempt("ranking", {}, (box, data, redraw) => {
  const {make, choice} = Book, tests = Object.keys(data.tests);
  const state = {target: "predicted", group: Object.keys(data.groups)[0], test: tests[0], every: false, cheap: false, sort: "lead", falling: true, rivals: {}};
  for (const [target, table] of Object.entries(data.tables)) state.rivals[target] = table.rival;
  const signed = v => `${v <= -0.05 ? "−" : v >= 0.05 ? "+" : ""}${Math.abs(v).toFixed(1)}`;
  const called = row => row.layers ? `${row.name}, ${row.layers}` : `the ${row.name}`.replace("the random", "random");
  const table = () => data.tables[state.target], rival = () => state.rivals[state.target];

  // How far row i is ahead of row c, in points, with the ends of its interval. Positive is better in every test.
  function lead(i, c) {
    if (i === c) return {mean: 0, low: 0, high: 0};
    const {rows, results} = table(), {means, low, high} = results[state.group][state.test];
    const [a, b] = i < c ? [i, c] : [c, i], k = a * rows.length - a * (a + 1) / 2 + b - a - 1;
    const own = means[rows[i].images.all === rows[c].images.all ? 0 : 1], mean = data.signs[state.test] * (own[i] - own[c]);
    return i < c ? {mean, low: low[k] / 100, high: high[k] / 100} : {mean, low: -high[k] / 100, high: -low[k] / 100};
  }
  const are = (n, of = "") => `${n || "none"}${of} ${n > 1 ? "are" : "is"}`;
  const letter = (i, test = state.test) => table().results[state.group][test].letters[rival()][i];

  // ---- The columns
  const columns = {
    map: {head: "Map", order: i => `${table().rows[i].name} ${table().rows[i].layers}`},
    lead: {head: "Lead, in points", order: i => lead(i, rival()).mean},
    score: {head: "Score", order: i => table().results[state.group][state.test].means[0][i] * data.signs[state.test]},
    tests: {head: "All tests", order: i => tests.reduce((total, test) => total + WORTH[letter(i, test)], 0)},
    passes: {head: "Passes", order: i => -table().rows[i].passes},
  };
  const sheet = make("table", "rk"), head = make("tr"), body = make("tbody"), thead = make("thead"), said = make("p", "try-said"), hint = make("p", "try-quiet rk-hint"), marks = make("p", "try-quiet rk-hint"), key = make("p", "try-quiet"), ticks = make("span", "rk-ticks");
  const caption = make("caption", "rk-hidden", "Maps and controls, compared with one of them");
  for (const [name, column] of Object.entries(columns)) {
    const cell = make("th", `rk-${name}`), button = make("button", "", column.head);
    cell.scope = "col";
    button.type = "button";
    button.addEventListener("click", () => {
      state.falling = state.sort === name ? !state.falling : name !== "map";
      state.sort = name;
      show();
    });
    cell.append(button);
    if (name === "lead") { ticks.setAttribute("aria-hidden", "true"); cell.append(ticks); cell.colSpan = 2; }
    column.cell = cell;
    head.append(cell);
  }
  const widths = make("colgroup");
  widths.append(...["map", "drawing", "number", "score", "tests", "passes"].map(name => make("col", `rk-${name}`)));
  thead.append(head);
  sheet.append(caption, widths, thead, body);

  function line(i, place) {
    const row = table().rows[i], {mean, low, high} = lead(i, rival()), own = i === rival(), kind = own ? "own" : letter(i), line = make("tr", `rk-row rk-${WORTH[kind] > 0 ? "better" : WORTH[kind] < 0 ? "worse" : "same"}${own ? " rk-own" : ""}`);
    const name = make("th", "rk-map"), pick = make("button", "", row.name), drawing = make("td", "rk-drawing"), number = make("td", "rk-number"), score = make("td", "rk-score"), all = make("td", "rk-tests"), passes = make("td", "rk-passes", `${row.passes}`);
    name.scope = "row";
    pick.type = "button";
    pick.setAttribute("aria-pressed", own);
    if (row.layers) pick.append(make("small", "", row.layers));
    pick.addEventListener("click", () => { state.rivals[state.target] = i; show(); body.querySelector("[aria-pressed=true]")?.focus(); });
    name.append(pick);
    drawing.setAttribute("aria-hidden", "true");
    const bar = make("span", "rk-line"), dot = make("span", "rk-dot"), zero = make("span", "rk-zero");
    zero.style.left = `${place(0)}%`;
    Object.assign(bar.style, {left: `${place(low)}%`, width: `${place(high) - place(low)}%`});
    dot.style.left = `${place(mean)}%`;
    drawing.append(zero, ...own ? [] : [bar, dot]);
    if (own) number.append("compared");
    else {
      const mark = make("span", "rk-mark", VERDICTS[kind][0]), interval = make("small", "", `${signed(low)} to ${signed(high)}`);
      mark.setAttribute("role", "img");
      mark.setAttribute("aria-label", VERDICTS[kind][1]);
      number.append(mark, ` ${signed(mean)} `, interval);
    }
    score.textContent = table().results[state.group][state.test].means[0][i].toFixed(1).replace("-", "−");
    all.append(...own ? [] : tests.map(test => {
      const mark = make("span", `rk-mark rk-of-${WORTH[letter(i, test)] > 0 ? "better" : WORTH[letter(i, test)] < 0 ? "worse" : "same"}`, VERDICTS[letter(i, test)][0]);
      mark.title = `${data.tests[test]}: ${VERDICTS[letter(i, test)][1]}`;
      mark.setAttribute("role", "img");
      mark.setAttribute("aria-label", mark.title);
      return mark;
    }));
    line.append(name, drawing, number, score, all, passes);
    return line;
  }
  function show() {
    const {rows} = table(), c = rival(), {order} = columns[state.sort];
    const seen = rows.map((_, i) => i).filter(i => i === c || ((state.every || !rows[i].layers || /4$/.test(rows[i].layers)) && (!state.cheap || rows[i].passes <= 2)));
    const value = Object.fromEntries(seen.map(i => [i, order(i)])), compare = (a, b) => typeof value[a] === "string" ? value[a].localeCompare(value[b]) : value[a] - value[b];
    seen.sort((a, b) => (state.falling ? -1 : 1) * compare(a, b) || a - b);
    const leads = seen.map(i => lead(i, c)), low = Math.min(-1, ...leads.map(one => one.low)), high = Math.max(1, ...leads.map(one => one.high)), room = (high - low) * 0.04;
    const place = v => 100 * (v - low + room) / (high - low + 2 * room), step = [1, 2, 5, 10, 20, 50].find(own => (high - low) / own <= (ticks.clientWidth > 120 ? 6 : 3));
    ticks.replaceChildren(...Array.from({length: Math.floor(high / step) - Math.ceil(low / step) + 1}, (_, k) => {
      const v = step * (Math.ceil(low / step) + k), tick = make("span", "", v ? `${v < 0 ? "−" : "+"}${Math.abs(v)}` : "0");
      tick.style.left = `${place(v)}%`;
      return tick;
    }));
    body.replaceChildren(...seen.map(i => line(i, place)));
    for (const [name, {cell}] of Object.entries(columns)) {
      if (name === state.sort) cell.setAttribute("aria-sort", state.falling ? "descending" : "ascending"); else cell.removeAttribute("aria-sort");
    }
    const controls = seen.filter(i => i !== c && !rows[i].layers), others = seen.filter(i => i !== c && (rows[c].layers || rows[i].layers));  // as Holm's correction counts
    const count = worth => others.filter(i => WORTH[letter(i)] === worth).length, sure = others.filter(i => letter(i) === "B").length, n = rows[c].images[state.group];
    said.textContent = `Compared with ${called(rows[c])}, on ${n} ${state.group === "all" ? "images" : state.group}, by ${data.tests[state.test]}: ${are(count(1), ` of the ${others.length} ${rows[c].layers ? "other rows" : "maps"}`)} better, ` +
      `${are(count(-1))} worse, and ${are(count(0))} too close to call. After Holm’s correction for all rows, ${are(sure)} still better.${rows[c].layers ? "" : ` The ${controls.length} other controls are not counted.`}`;
  }

  // ---- What one chooses
  const group = choice({name: "Images", value: state.group, options: Object.entries(data.groups).map(([name, n]) => [name, name === "all" ? `all ${n}` : name])}, name => { state.group = name; show(); });
  const test = choice({name: "Test", value: state.test, options: Object.entries(data.tests)}, name => { state.test = name; show(); });
  const target = choice({name: "Question", value: state.target, options: [["predicted", "Why this answer?"], ["contrast", "Why not the other class?"]]}, name => { state.target = name; show(); });
  const layers = choice({name: "Layers", value: "last", options: [["last", "last block or fused"], ["every", "all"]]}, name => { state.every = name === "every"; show(); });
  const cost = choice({name: "Cost", value: "any", options: [["any", "any"], ["cheap", "at most two passes"]]}, name => { state.cheap = name === "cheap"; show(); });
  const choices = make("div", "rk-choices");
  const folded = make("details", "rk-folded"), wide = matchMedia("(min-width: 601px)"), fold = () => { folded.open = wide.matches; };
  folded.append(make("summary", "", "More choices"), target, layers, cost);
  wide.addEventListener("change", fold);  // on a phone the table comes first
  fold();
  choices.append(group, test, folded);
  said.setAttribute("aria-live", "polite");
  hint.textContent = "Press a map to compare all others with it, and a column head to sort.";
  marks.textContent = "▲\u00a0△ better, = no clear difference, ▽\u00a0▼ worse (filled: also after Holm’s correction), ⊕\u00a0⊖ among controls.";
  key.textContent = "Each line is the 95 % interval of the mean difference over the images. If it contains 0, the row is grey and hatched. " +
    "▲ and ▼ hold for all rows at once (Holm’s correction), △ and ▽ for that row alone. If a row did not really differ, it would still get △ by luck in one case in forty, and ▽ in one in forty. ⊕ and ⊖: one control against another, to which Holm’s correction is not applied. All tests: ROAD, then insertion and deletion with the mean colour, then both with the blur. " +
    "Passes: the most forward and backward passes that one map needs. ScoreCAM and AblationCAM were measured on the first 100 images, and differences from them use only these images.";
  box.append(make("style", "", STYLE), choices, said, hint, marks, sheet, key);
  redraw(show);
});

const STYLE = `
.rk-choices { display: flex; flex-wrap: wrap; gap: .3rem 1.4rem; } .rk-choices .try-choice { margin: .1rem 0; }
.rk-folded[open] { display: block; } .rk-folded .try-choice { margin-right: 1.4rem; } .rk-folded summary { min-height: 32px; padding: .3rem 0; color: inherit; }
@media (min-width: 601px) { .rk-folded summary { display: none; } .rk-folded .try-choice { display: inline-flex; } }
#try-ranking .try-choice { font-size: 15px; gap: .3rem; } #try-ranking .try-choice span { min-height: 32px; padding: .15rem .5rem; }
#try-ranking .rk { display: table; overflow: visible; width: 100%; border-collapse: collapse; margin: .7rem 0; font-size: 14px; table-layout: fixed; font-variant-numeric: tabular-nums; }
.rk-hint { margin: .2rem 0 0; }
.rk-hidden { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
.rk th, .rk td { padding: 0 .4rem; border: 0; border-bottom: 1px solid var(--line); text-align: left; vertical-align: middle; height: 30px; font-weight: 400; background: none; color: inherit; }
.rk thead th { vertical-align: top; border-bottom: 2px solid var(--line); }
.rk thead button { border: 0; background: none; padding: .2rem 0; min-height: 32px; font-weight: 600; white-space: nowrap; }
.rk thead button::after { content: " ↕"; color: var(--quiet); font-weight: 400; }
.rk [aria-sort=descending] button::after { content: " ↓"; color: var(--link); font-weight: 700; } .rk [aria-sort=ascending] button::after { content: " ↑"; color: var(--link); font-weight: 700; }
col.rk-map { width: 27% !important; } col.rk-drawing { width: 21.5% !important; } col.rk-number { width: 21% !important; } col.rk-score { width: 9% !important; } col.rk-tests { width: 11.2% !important; } col.rk-passes { width: 10.3% !important; } .rk-number, td.rk-tests { white-space: nowrap; } .rk td.rk-score, .rk td.rk-passes { text-align: right; padding-right: 1rem; }
.rk-map button { width: 100%; min-height: 28px; padding: .1rem .3rem; border: 1px solid transparent; border-radius: 4px; background: none; text-align: left; }
.rk tbody .rk-map button:hover { border-color: var(--link); }
.rk small { font-size: 12.5px; color: var(--quiet); margin-left: .4rem; }
.rk-own { background: var(--box); } .rk-own button { font-weight: 700 !important; border-color: var(--link) !important; }
.rk td.rk-drawing { position: relative; padding: 0; } .rk-drawing span, .rk-ticks span { position: absolute; }
.rk-zero { top: 0; bottom: 0; border-left: 1px dashed var(--quiet); }
.rk-line { height: 3px; top: calc(50% - 1.5px); background: var(--colour); border-radius: 2px; } .rk-dot { width: 9px; height: 9px; margin-left: -4.5px; top: calc(50% - 4.5px); border-radius: 50%; background: var(--colour); }
.rk-row { --colour: var(--quiet); } .rk-better { --colour: var(--one); } .rk-worse { --colour: var(--two); }
.rk-mark { display: inline-block; width: 1.05em; text-align: center; color: var(--colour); font-weight: 700; } .rk-of-better { --colour: var(--one); } .rk-of-worse { --colour: var(--two); } .rk-of-same { --colour: var(--quiet); }
.rk-same:not(.rk-own) { background: repeating-linear-gradient(135deg, transparent 0 7px, var(--box) 7px 14px); }
.rk-ticks { display: block; position: relative; height: 18px; width: calc((100% + .8rem) * 21.5 / 42.5); margin-left: -.4rem; font-size: 12px; font-weight: 400; color: var(--quiet); } .rk-ticks span { transform: translateX(-50%); }
@media (max-width: 600px) {
  .rk .rk-score, .rk .rk-passes, .rk .rk-number small { display: none; }
  .rk th, .rk td { padding: 0 .15rem; height: 40px; } col.rk-map { width: 34% !important; } col.rk-drawing { width: 25% !important; } col.rk-number { width: 19% !important; } col.rk-tests { width: 22% !important; } #try-ranking .rk { font-size: 13px; } .rk-map button { white-space: nowrap; } .rk-own .rk-map button { white-space: normal; } .rk-dot { width: 7px; height: 7px; margin-left: -3.5px; top: calc(50% - 3.5px); }
  .rk thead button::after { content: ""; }
  .rk tbody .rk-map small { display: block; margin: 0; } .rk-map button { padding: .1rem 0; } .rk-mark { width: .9em; } .rk td.rk-number { padding-right: 0; } .rk td.rk-tests { padding-left: .5rem; letter-spacing: -.03em; } .rk-ticks { margin-left: -.15rem; width: calc((100% + .3rem) * 25 / 44); }
}
`;
}
