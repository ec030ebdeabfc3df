// Chapter 08e: cover cells of a mistake and read the network's answer from the complete table. checks/tries/cells.py makes the data.
"use strict";
Book.attempt("cells", {}, async (box, data) => {
  const {make, byArrows, choice, pictures} = Book, names = data.classes, address = new URL("cells.webp", Book.web);
  const GREY = "rgb(125, 123, 114)";  // the mean colour of the training images
  const sizeOf = s => { let n = 0; for (; s; s &= s - 1) n++; return n; };
  const cells = n => `${n} cell${n === 1 ? "" : "s"}`, percent = share => share > 0 && share < 0.005 ? "under 1\u00a0%" : `${Math.round(100 * share)}\u00a0%`;
  const an = name => `${/^a/.test(name) ? "an" : "a"} ${name}`;
  const signed = v => `${v < 0 ? "−" : "+"}${Math.abs(v).toFixed(2)}`;
  let table, own, wanted, covered = 0, goal = 0, marks = "", walk = null;
  const best = {};  // [picture, goal] -> the fewest cells with which the reader reached it

  const style = make("style", "", `
.cells-work { display: flex; flex-wrap: wrap; gap: 1rem 1.4rem; align-items: flex-start; margin-bottom: .7rem; }
.cells-board { position: relative; flex: 1 1 280px; max-width: 360px; aspect-ratio: 1; display: grid; grid-template: repeat(4, 1fr) / repeat(4, 1fr);
  touch-action: pan-y; user-select: none; border-radius: 3px; outline: 3px solid transparent; outline-offset: 3px; }
.cells-board.reached { outline-color: var(--three); }
.cells-board canvas { position: absolute; inset: 0; }
.try .cells-board button { position: relative; min-height: 0; padding: 0; border: 1px solid rgb(255 255 255 / .28); border-radius: 0; background: none; cursor: pointer; display: grid; place-items: center; touch-action: pan-y; }
.try .cells-board button:hover { box-shadow: inset 0 0 0 2px #fff; }
.try .cells-board button:focus-visible { outline: 3px solid #fff; outline-offset: -4px; box-shadow: inset 0 0 0 5px #000; }
.cells-board b { font: 600 12px/1.3 system-ui, sans-serif; color: #fff; background: rgb(0 0 0 / .74); border-radius: 3px; padding: 0 .25em; border-bottom: 3px solid transparent; }
.cells-side { flex: 1 1 280px; min-width: 0; display: grid; gap: .5rem; }
.cells-side p, .cells-side fieldset { margin: 0; }
.cells-side .try-said { min-height: 3em; }
.cells-answer { font-size: 1.35rem; line-height: 1.3; min-height: 1.3em; }
.cells-bar { display: flex; height: 14px; border-radius: 3px; overflow: hidden; background: var(--line); }
.cells-bar span { background: var(--quiet); opacity: .55; box-shadow: inset -1px 0 var(--box); }
.cells-bar .one { background: var(--one); opacity: 1; } .cells-bar .two { background: var(--two); opacity: 1; }
.cells-buttons { display: flex; flex-wrap: wrap; gap: .4rem; align-items: center; }
.cells-buttons select { min-height: 36px; border: 1px solid var(--line); border-radius: 6px; background: var(--box); color: inherit; padding: 0 .4rem; }`);

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
  byArrows(buttons, 4);
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
  const answer = make("p", "cells-answer"), sure = bar(), ways = bar();
  function bar() {
    const part = make("div"), head = make("p", "try-quiet"), strip = make("div", "cells-bar");
    part.append(head, strip);
    return Object.assign(part, {show(counts, text, whole) {  // by class
      head.textContent = text;
      const others = whole - counts[own[1]] - counts[own[2]];
      strip.replaceChildren(...[[counts[own[1]], "one"], [counts[own[2]], "two"], [others, ""]].map(([count, name]) => { const span = make("span", name); span.style.width = `${100 * count / whole}%`; return span; }));
      strip.hidden = !counts.length;
    }});
  }
  const colour = c => c === own[1] ? "one" : c === own[2] ? "two" : "";
  const named = (counts, whole, most = 3) => [...counts.keys()].filter(c => counts[c]).sort((a, b) => counts[b] - counts[a]).slice(0, most).map(c => `${names[c]} ${percent(counts[c] / whole)}`).join(", ");
  const task = make("p", "cells-buttons"), select = make("select"), fewest = make("span"), steps = make("p", "cells-buttons");
  const button = (text, pressed) => { const one = make("button", "", text); one.type = "button"; one.addEventListener("click", pressed); return one; };
  const show = button("Show a smallest cover", () => step("cover")), keep = button("Show what is enough", () => step("keep"));
  const label = make("label", "", "Make it say ");
  label.append(select);
  task.append(label, fewest);
  steps.append(show, keep, button("Uncover all", () => put(0)));
  select.addEventListener("change", () => { goal = +select.value; put(0); });
  const on = choice({name: "On the cells", options: [["", "nothing"], ["next", "one more"], ["values", "exact values"]], value: ""}, way => { marks = way; draw(); });
  const said = make("p", "try-said"), key = make("p", "try-quiet");
  said.setAttribute("aria-live", "polite");
  const side = make("div", "cells-side"), work = make("div", "cells-work");
  side.append(answer, said, sure, ways, task, steps, on);
  work.append(board, side);

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
      if (text) one.firstChild.style.borderColor = marks === "next" ? `var(--${colour(other) || "four"})` : v > 0 ? "var(--one)" : "var(--two)";
      one.style.background = marks === "values" && !(covered >> c & 1) ? `rgb(${v > 0 ? "0 114 178" : "245 140 30"} / ${(0.75 * Math.abs(v) / largest).toFixed(2)})` : "";
      one.setAttribute("aria-label", `Row ${(c >> 2) + 1}, column ${c % 4 + 1}${text && `: ${text}`}`);
    });
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `Test image ${own[0]} with ${n ? cells(n) : "nothing"} covered`);
    board.classList.toggle("reached", reached);

    const word = make("b", "", names[now]);
    word.style.color = colour(now) ? `var(--${colour(now)})` : "";
    answer.replaceChildren("It says ", word, now === own[2] ? " (right)" : now === own[1] && !n ? `; it is ${an(names[own[2]])}` : "");
    const chances = k === undefined ? [] : table.sure.slice(10 * k, 10 * k + 10);
    sure.show(chances, chances.length ? `How sure it is: ${named(chances, 100)}` : `For this cover only the answer is stored. Probabilities are stored for up to ${data.most} covered cells and near the covers that the buttons show.`, 100);
    const counts = new Array(10).fill(0), rest = 65535 & ~covered;
    for (let more = rest; ; more = more - 1 & rest) { counts[answers[covered | more]]++; if (!more) break; }
    const whole = 2 ** (16 - n);
    const heading = n ? `With these cells covered, there are ${whole.toLocaleString("en")} ways to cover or leave the others. Answers`
      : `Answers over all ${whole.toLocaleString("en")} ways to cover cells`;
    ways.show(counts, `${heading}: ${named(counts, whole)}`, whole);
    ways.hidden = whole < data.fewest;

    const least = covers(goal, 1).size, id = `${own[0]} ${goal}`;
    if (reached && !walk) best[id] = Math.min(best[id] ?? 17, n);
    fewest.textContent = `with as few cells as you can. ${best[id] ? `Your best: ${best[id]}. ` : ""}The fewest: ${least}.`;
    const truth = `${cells(n)[0].toUpperCase()}${cells(n).slice(1)} covered: the network says ${names[now]}`;
    let text = n ? `${truth}. ` : `Nothing is covered: the network says ${names[now]}, and it is ${an(names[own[2]])}. `;
    const which = walk?.of > 1 ? ` This is number ${walk.at + 1} of ${walk.of}; press again for the next.` : "", other = size => size === 1 ? "no other single cell" : `no other choice of ${size} cells`;
    if (walk?.kind === "cover") text += `Fewer cells cannot give ${names[goal]}${which ? "" : `, and ${other(n)} does`}.${which}`;
    else if (walk && n === 16) text += `Even the empty grey square is enough for ${names[own[1]]}.`;
    else if (walk) text += (n === 15 ? `The one cell left is enough for ${names[own[1]]}. With no cell left, the answer is not ${names[own[1]]}` : `The ${16 - n} cells left are enough for ${names[own[1]]}. Fewer are never enough`)
      + `${which ? "" : `, and ${other(16 - n)} is`}.${which}`;
    else if (reached) text += n === least ? `That is ${names[goal]} with the fewest cells there are.` : `That is ${names[goal]}, but ${cells(least)} can do it.`;
    else if (n) text += `It does not say ${names[goal]} yet.`;
    else text += "Tap a cell.";
    said.textContent = text;
    const [first, last] = table.margins;
    key.textContent = marks === "values" ? `Exact Shapley values of the whole picture: what a cell adds to the lead of ${names[own[1]]} over ${names[own[2]]}, in logits, as a mean over all orders of covering. Together they make ${signed(first - last)}: the lead is ${signed(first)} for the whole picture and ${signed(last)} for the grey square.`
      : marks === "next" ? "Each cell shows the answer if you cover or uncover that cell too. Cells without a word change nothing."
        : "Covered cells have the mean colour of the training images, as in training, which hid one square of this size in every picture. With many covered cells a picture is unlike all that the network was trained on.";
  }

  async function pick(place) {
    wanted = place;
    const chosen = data.pictures.find(one => one[0] === place), about = await Book.parts(`cells-${place}.json`);
    if (about.missing) { said.textContent = `The table of this picture ${about.missing}.`; return; }
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
