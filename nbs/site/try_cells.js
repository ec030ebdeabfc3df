// Chapter 08e: cover cells of a mistake and read the network's answer from the complete table. checks/tries/cells.py makes the data.
"use strict";
Book.attempt("cells", {}, async (box, data) => {
  const {make, byArrows, choice, pictures} = Book, names = data.classes, address = new URL("cells.webp", Book.web);
  const GREY = "rgb(125, 123, 114)";  // the mean colour of the training images
  const sizeOf = s => { let n = 0; for (; s; s &= s - 1) n++; return n; };
  const cells = n => `${n} cell${n === 1 ? "" : "s"}`, percent = share => share > 0 && share < 0.005 ? "under 1\u00a0%" : `${Math.round(100 * share)}\u00a0%`;
  const article = name => /^a/.test(name) ? "an" : "a";
  const signed = v => `${v < 0 ? "−" : "+"}${Math.abs(v).toFixed(2)}`;
  let table, own, wanted, covered = 0, goal = 0, marks = "", walk = null;
  const best = {};  // [picture, goal] -> the fewest cells with which the reader reached it

  const style = make("style", "", `
#try-cells { --answer: var(--two); --truth: #6a43ad; } body.quarto-dark #try-cells { --truth: #bda6f7; }
.cells-work { display: grid; gap: .6rem 1.4rem; grid-template-columns: minmax(0, 1fr); margin-bottom: .7rem; }
.cells-work p, .cells-work fieldset { margin: 0; }
@media (min-width: 700px) {
  .cells-work { grid-template: "left answer" "left task" "left steps" "left said" "left sure" "left ways" 1fr / minmax(0, 360px) minmax(0, 1fr); }
  .cells-left { grid-area: left; } .cells-answer { grid-area: answer; } .cells-task { grid-area: task; } .cells-steps { grid-area: steps; }
  .cells-work > .try-said { grid-area: said; } .cells-sure { grid-area: sure; } .cells-ways { grid-area: ways; }
}
.cells-board { position: relative; width: 100%; max-width: 360px; aspect-ratio: 1; display: grid; grid-template: repeat(4, 1fr) / repeat(4, 1fr);
  touch-action: pan-y; user-select: none; border-radius: 3px; outline: 3px solid transparent; outline-offset: 3px; --answer: #f5a03c; --truth: #bda6f7; }
.cells-board.reached { outline-color: var(--three); }
.cells-board canvas { position: absolute; inset: 0; }
.try .cells-board button { position: relative; min-height: 0; padding: 0; border: 1px solid rgb(255 255 255 / .28); border-radius: 0; background: none; cursor: pointer; display: grid; place-items: center; touch-action: pan-y; }
.try .cells-board button:hover { box-shadow: inset 0 0 0 2px #fff; }
.try .cells-board button:focus-visible { outline: 3px solid #fff; outline-offset: -4px; box-shadow: inset 0 0 0 5px #000; }
.cells-board b { font: 600 12px/1.3 system-ui, sans-serif; color: #fff; background: rgb(0 0 0 / .74); border-radius: 3px; padding: 0 .25em; border-bottom: 3px solid #ddd; }
.cells-answer { font-size: 1.25rem; line-height: 1.3; min-height: 2.6em; }
.cells-work .answer { color: var(--answer); } .cells-work .truth { color: var(--truth); }
.cells-bar { display: flex; height: 14px; border-radius: 3px; overflow: hidden; background: var(--line); }
.cells-bar span { background: var(--quiet); box-shadow: inset -1px 0 var(--box); } .cells-bar span:last-child { background: none; }
.cells-bar .answer { background: var(--answer); } .cells-bar .truth { background: var(--truth); }
.cells-task, .cells-steps { display: flex; flex-wrap: wrap; gap: .4rem; align-items: center; }
.cells-task > :last-child { width: 100%; white-space: pre-line; } .cells-work div > p > * { white-space: nowrap; } .cells-left legend { float: none; width: 100%; padding: 0; margin: 0; } #try-cells .cells-left .try-choice { margin-top: .7rem; gap: .3rem; } #try-cells .cells-left .try-choice span { padding: .3rem .4rem; } .cells-left .try-choice, .cells-steps { font-size: .9rem; } .try .cells-steps button { padding: .3rem .6rem; }
.cells-task select { min-height: 36px; border: 1px solid var(--line); border-radius: 6px; background: var(--box); color: inherit; padding: 0 .4rem; }`);

  // The picture under 16 buttons.
  const board = make("div", "cells-board"), canvas = make("canvas"), sheet = new Image();
  board.setAttribute("role", "group");
  board.setAttribute("aria-label", "16 cells of the picture");
  const buttons = Array.from({length: 16}, (_, k) => {
    const button = make("button");
    button.type = "button";
    button.addEventListener("click", () => { if (dragged) dragged = false; else put(covered ^ 1 << k); });
    return button;
  });
  board.append(canvas, ...buttons);
  byArrows(buttons);
  // Who drags over several cells does to all of them what the first one needs.
  let from = -1, dragged = false;
  board.addEventListener("pointerdown", event => { [from, dragged] = [buttons.indexOf(event.target.closest("button")), false]; });
  board.addEventListener("pointermove", event => {
    if (from < 0 || !event.buttons) return;
    const over = buttons.indexOf(document.elementFromPoint(event.clientX, event.clientY)?.closest("button"));
    if (over < 0 || over === from && !dragged) return;
    if (!dragged) { dragged = covered >> from & 1 ? "off" : "on"; }
    const both = 1 << from | 1 << over;
    const next = dragged === "on" ? covered | both : covered & ~both;
    if (next !== covered) put(next);
  });
  for (const kind of ["pointerup", "pointercancel", "pointerleave"]) board.addEventListener(kind, () => { from = -1; if (dragged) setTimeout(() => { dragged = false; }); });

  // What is said beside it.
  const answer = make("p", "cells-answer"), sure = bar("cells-sure"), ways = bar("cells-ways");
  const colour = c => c === own[1] ? "answer" : c === own[2] ? "truth" : "";
  function bar(name) {
    const part = make("div", name), head = make("p", "try-quiet"), strip = make("div", "cells-bar");
    part.append(head, strip);
    return Object.assign(part, {show(counts, text, whole) {  // by class: the network's answer, the truth, the largest of the others, and the rest
      const third = [...counts.keys()].filter(c => !colour(c)).sort((a, b) => counts[b] - counts[a])[0];
      const parts = counts.length ? [own[1], own[2], third].map(c => [names[c], counts[c], colour(c)]) : [];
      if (parts.length) parts.push(["others", Math.max(0, parts.reduce((left, one) => left - one[1], whole)), ""]);
      const said = parts.filter(one => one[1]).map(([name, count, kind]) => make(kind ? "b" : "span", kind, `${name} ${percent(count / whole)}`));
      head.replaceChildren(text, ...said.flatMap((one, k) => k ? [", ", one] : [one]));
      strip.replaceChildren(...parts.map(([, count, kind]) => { const span = make("span", kind); span.style.width = `${100 * count / whole}%`; return span; }));
      strip.hidden = !counts.length;
    }});
  }
  const task = make("p", "cells-task"), select = make("select"), fewest = make("span"), steps = make("p", "cells-steps");
  const button = (text, pressed) => { const one = make("button", "", text); one.type = "button"; one.addEventListener("click", pressed); return one; };
  const label = make("label", "", "Make it say ");
  label.append(select);
  task.append(label, fewest);
  steps.append(button("Show a smallest cover", () => step("cover")), button("Uncover all", () => put(0)), button("Show the fewest cells that are enough", () => step("keep")));
  select.addEventListener("change", () => { goal = +select.value; put(0); });
  const on = choice({name: "On the cells", options: [["", "nothing"], ["next", "one more"], ["values", "exact values"]], value: ""}, way => { marks = way; draw(); });
  const said = make("p", "try-said"), key = make("p", "try-quiet"), left = make("div", "cells-left"), work = make("div", "cells-work");
  said.setAttribute("aria-live", "polite");
  left.append(board, on);
  work.append(answer, left, task, steps, said, sure, ways);  // what changes its height comes last

  // All covers of the fewest cells that give a class, or of the most cells that keep the answer.
  const covers = (wanted, sign) => {
    let size = sign * 17, found = [];
    table.answers.forEach((c, s) => {
      if (c !== wanted) return;
      const n = sizeOf(s);
      if (sign * n < sign * size || found.length === 0) [size, found] = [n, [s]]; else if (n === size) found.push(s);
    });
    return {size, found};
  };
  function step(kind) {  // the next of these covers, one after the other
    const {size, found} = kind === "cover" ? covers(goal, 1) : covers(own[1], -1), at = walk?.kind === kind ? (walk.at + 1) % found.length : 0;
    put(found[at], {kind, at, size, of: found.length});
  }
  function put(next, walking = null) { [covered, walk] = [next, walking]; draw(); }

  function draw() {
    if (!table) return;  // it has not arrived yet
    const {answers, few} = table, now = answers[covered], n = sizeOf(covered), k = few.get(covered), reached = now === goal;
    canvas.width = canvas.height = 32;
    const pen = canvas.getContext("2d");
    pen.drawImage(sheet, 32 * data.pictures.indexOf(own), 0, 32, 32, 0, 0, 32, 32);
    pen.fillStyle = GREY;
    const largest = Math.max(...table.values.map(Math.abs));
    buttons.forEach((one, c) => {
      if (covered >> c & 1) pen.fillRect(8 * (c % 4), 8 * (c >> 2), 8, 8);
      one.setAttribute("aria-pressed", covered >> c & 1 ? "true" : "false");
      const other = answers[covered ^ 1 << c], v = table.values[c];
      const text = marks === "next" ? (other === now ? "" : names[other]) : marks === "values" ? signed(v) : "";
      one.replaceChildren(...text ? [make("b", "", text)] : []);
      const kind = marks === "next" ? colour(other) : v > 0 ? "answer" : "truth";
      if (text && kind) one.firstChild.style.borderColor = `var(--${kind})`;
      one.style.background = marks === "values" && !(covered >> c & 1) ? `rgb(${v > 0 ? "245 140 30" : "106 50 190"} / ${(0.75 * Math.abs(v) / largest).toFixed(2)})` : "";
      one.setAttribute("aria-label", `Row ${(c >> 2) + 1}, column ${c % 4 + 1}${text && `: ${text}`}`);
    });
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `Test image ${own[0]} with ${n ? cells(n) : "nothing"} covered`);
    board.classList.toggle("reached", reached);

    answer.replaceChildren("The network says ", make("b", colour(now), names[now]), `; the picture shows ${article(names[own[2]])} `, make("b", "truth", names[own[2]]));
    const chances = k === undefined ? [] : table.sure.slice(10 * k, 10 * k + 10);
    sure.show(chances, chances.length ? "How sure it is: " : `For this cover only the answer is stored. Probabilities are stored for up to ${data.most} covered cells and near the covers that the buttons show.`, 100);
    const counts = new Array(10).fill(0), rest = 65535 & ~covered;
    for (let more = rest; ; more = more - 1 & rest) { counts[answers[covered | more]]++; if (!more) break; }
    const whole = 2 ** (16 - n);
    const heading = n ? `With these cells covered, there are ${whole.toLocaleString("en")} ways to cover or leave the others. Answers`
      : `Answers over all ${whole.toLocaleString("en")} ways to cover cells`;
    ways.show(counts, `${heading}: `, whole);
    ways.hidden = whole < data.fewest;

    const least = covers(goal, 1).size, id = `${own[0]} ${goal}`;
    if (reached && !walk) best[id] = Math.min(best[id] ?? 17, n);
    fewest.textContent = `with the fewest cells possible: ${least}.\nYour best: ${best[id] ?? "none yet"}.`;
    const truth = `${cells(n)[0].toUpperCase()}${cells(n).slice(1)} covered: the network says ${names[now]}`;
    let text = n ? `${truth}. ` : "Nothing is covered. ";
    const which = walk?.of > 1 ? ` This is number ${walk.at + 1} of ${walk.of}; press again for the next.` : "", other = size => size === 1 ? "no other single cell" : `no other choice of ${size} cells`;
    if (walk?.kind === "cover") text += `Fewer cells cannot give ${names[goal]}${which ? "" : `, and ${other(n)} does`}.${which}`;
    else if (walk && n === 16) text += `Even the empty grey square is enough for ${names[own[1]]}.`;
    else if (walk) text += (n === 15 ? `The one cell left is enough for ${names[own[1]]}. With no cell left, the answer is not ${names[own[1]]}` : `The ${16 - n} cells left are enough for ${names[own[1]]}. Fewer are never enough`)
      + `${which ? "" : `, and ${other(16 - n)} is${n === 15 ? " enough" : ""}`}.${which}`;
    else if (reached) text += n === least ? `That is ${names[goal]} with the fewest cells there are.` : `That is ${names[goal]}, but ${cells(least)} can do it.`;
    else if (n) text += `It does not say ${names[goal]} yet.`;
    else text += "Tap a cell.";
    said.textContent = text;
    const [first, last] = table.margins;
    key.textContent = marks === "values" ? `Exact Shapley values of the whole picture: what a cell adds to the lead of ${names[own[1]]} over ${names[own[2]]}, in logits, as a mean over all orders of covering. They add up to ${signed(first - last)}: the lead is ${signed(first)} for the whole picture and ${signed(last)} for the grey square (all numbers are rounded).`
      : marks === "next" ? "Each cell shows the answer if you cover or uncover that cell too. Cells without a word change nothing."
        : "Covered cells have the mean colour of the training images, as in training, which hid one square of this size in every picture. With many covered cells a picture is unlike all that the network was trained on.";
  }

  async function pick(place) {
    wanted = place;
    const chosen = data.pictures.find(one => one[0] === place), about = await Book.parts(`cells-${place}.json`);
    if (wanted !== place) return;  // another was picked meanwhile
    if (about.missing) { said.textContent = Book.absent("This picture", about); return; }
    const packed = Uint8Array.from(atob(about.answers), c => c.charCodeAt());
    const bytes = new Uint8Array(await new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"))).arrayBuffer());
    if (wanted !== place) return;  // another was picked meanwhile
    const answers = new Uint8Array(65536), few = new Map(Array.from(new Uint16Array(Book.bytesOf(about.kept).buffer), (s, k) => [s, k]));
    bytes.forEach((pair, k) => { answers[2 * k] = pair >> 4; answers[2 * k + 1] = pair & 15; });
    [own, table] = [chosen, {...about, answers, few, sure: Book.bytesOf(about.sure)}];
    const others = [...new Set(answers)].filter(c => c !== own[1]).sort((a, b) => (b === own[2]) - (a === own[2]) || covers(a, 1).size - covers(b, 1).size);
    select.replaceChildren(...others.map(c => Object.assign(make("option", "", c === own[2] ? `${names[c]} (the truth)` : names[c]), {value: c})));
    goal = others[0];
    put(0);
  }
  sheet.src = address;
  await sheet.decode();
  const [begin] = data.pictures.find(one => one[0] === 95);
  const picker = pictures({name: "Picture", sheet: address, value: begin, options: data.pictures.map(([place, wrong, right]) => [place, `Test image ${place}: ${names[right]}, taken for ${names[wrong]}`])}, pick);
  box.append(style, picker, work, key);
  await pick(begin);
});
