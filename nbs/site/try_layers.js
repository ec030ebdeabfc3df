// Chapter 05: the map of a mistake by method, layer and class. checks/tries/layers.py makes the data.
"use strict";
Book.attempt("layers", {still: "fig-methods"}, async (box, data) => {
  const {make, byArrows, pictures, slider, overlay, bytesOf} = Book, {classes, methods, layers} = data, colours = bytesOf(data.colours);
  const address = new URL("layers.webp", Book.web), SIDE = 32, LAST = layers.length - 1, EIGEN = methods.indexOf("EigenCAM");
  let own, found, wanted, method = 0, layer = LAST, kind = 0, opacity = 0.5;

  const style = make("style", "", `
.layers-work { display: grid; gap: .7rem 1.8rem; grid-template-columns: minmax(0, 1fr); margin-bottom: .7rem; }
.layers-work p { margin: 0; }
@media (min-width: 700px) {
  .layers-work { grid-template: "mistake mistake" "one all" "classes all" "opacity all" 1fr "said said" / minmax(0, 8fr) minmax(0, 9fr); }
  .layers-mistake { grid-area: mistake; } .layers-one { grid-area: one; } .layers-all { grid-area: all; } .layers-classes { grid-area: classes; } .layers-work > .try-slider { grid-area: opacity; } .layers-work > .try-said { grid-area: said; }
}
.layers-frame { position: relative; }
.layers-frame i { position: absolute; width: 25%; height: 25%; border: 2px solid #fff; outline: 2px solid #000; pointer-events: none; }
.layers-classes { display: grid; grid-template-columns: repeat(3, 1fr); gap: .4rem; align-items: start; }
.layers-all { display: grid; grid-template-columns: repeat(5, minmax(0, 1fr)); gap: 2px .4rem; align-content: start; }
.layers-all span { grid-column: 1 / -1; font-size: .85rem; line-height: 1.3; margin-top: .2rem; }
.layers-all em { font: 12px/1.3 system-ui, sans-serif; text-align: center; color: var(--quiet); }
.try .layers-work button { padding: 2px; min-height: 0; border: 2px solid transparent; background: none; cursor: pointer; font-size: .82rem; line-height: 1.25; min-width: 0; overflow-wrap: anywhere; }
.try .layers-work button:hover { border-color: var(--line); }
.try .layers-work button[aria-pressed=true] { border-color: var(--link); box-shadow: 0 0 0 1px var(--link); }
.layers-ramp { display: grid; grid-template-columns: auto 1fr auto; gap: .5rem; align-items: center; }
.layers-ramp i { height: 12px; border-radius: 2px; }
.layers-mistake { font-weight: 600; }
.layers-work .try-said { min-height: 4.5em; }
@media (max-width: 699px) { .layers-mistake { min-height: 3em; } .layers-classes div { min-height: 2.5em; } .layers-work .try-said { min-height: 13.5em; } }`);

  const canvas = make("canvas", "layers-large"), frame = make("div", "layers-frame"), spot = make("i"), one = make("div", "layers-one"), mistake = make("p", "layers-mistake");
  const byClass = make("div", "layers-classes"), all = make("div", "layers-all"), said = make("p", "try-said"), key = make("p", "try-quiet"), believe = make("p", "try-quiet");
  const ramp = make("p", "layers-ramp try-quiet"), top = make("span"), strip = make("i");
  strip.style.background = `linear-gradient(90deg, ${Array.from({length: 16}, (_, k) => `rgb(${colours.slice(51 * k, 51 * k + 3).join(" ")})`).join(", ")})`;
  ramp.append(make("span", "", "0"), strip, top);
  said.setAttribute("aria-live", "polite");
  canvas.setAttribute("role", "img");
  frame.append(canvas, spot);
  const tile = (group, name, text, pressed) => {
    const button = make("button", "", text), small = make("canvas");
    button.type = "button";
    small.setAttribute("role", "img");
    button.prepend(small);
    button.addEventListener("click", () => { pressed(); draw(); });
    group.append(button);
    return Object.assign(button, {small, called(name) { for (const part of [button, small]) part.setAttribute("aria-label", name); }});
  };
  const kinds = [0, 1, 2].map(k => tile(byClass, "", "", () => { kind = k; }));
  kinds.forEach(button => button.append(make("div")));
  all.append(...layers.map(name => make("em", "", name)));
  const tiles = methods.flatMap((name, m) => {
    all.append(make("span", "", name + (m === EIGEN ? " (same for every class)" : "")));
    return layers.map((stage, l) => { const button = tile(all, "", "", () => { [method, layer] = [m, l]; }); button.called(`${name}, ${stage}`); return button; });
  });
  all.append(make("span", "", "Each of these small maps has a scale of its own."));
  byArrows(tiles);
  byArrows(kinds);

  // Each place of the layer is a square of pixels; on the scale of the three classes, or on one of its own.
  function paint(target, m, k, l, alone = false) {
    const places = bytesOf(found.maps[m][k][l]), side = Math.sqrt(places.length), step = SIDE / side, top = alone && Math.max(...places) || 255;
    overlay(target, SIDE, found.picture, Uint8Array.from({length: SIDE * SIDE}, (_, i) => Math.round(255 / top * places[side * Math.floor(Math.floor(i / SIDE) / step) + Math.floor(i % SIDE / step)])), colours, opacity);
  }
  const goals = () => [classes[own.predicted], classes[own.true], `${classes[own.predicted]} − ${classes[own.true]}`];
  function draw() {
    if (!own) return;  // it has not arrived yet
    const names = goals(), article = /^a/.test(names[0]) ? "an" : "a", [cell, half, sum] = found.about[method][kind][layer], side = Math.sqrt(found.maps[method][kind][layer].length / 2);
    mistake.textContent = `${/^a/.test(names[1]) ? "An" : "A"} ${names[1]} that the network calls ${article} ${names[0]}`;
    paint(canvas, method, kind, layer);
    tiles.forEach((button, t) => {
      const [m, l] = [Math.floor(t / layers.length), t % layers.length];
      paint(button.small, m, kind, l, true);
      button.setAttribute("aria-pressed", m === method && l === layer);
    });
    kinds.forEach((button, k) => {
      paint(button.small, method, k, layer);
      button.setAttribute("aria-pressed", k === kind);
      button.lastChild.textContent = ["✗ ", "✓ ", ""][k] + names[k];
      button.called(["predicted class: ", "true class: ", "contrast: "][k] + names[k]);
    });
    spot.hidden = cell < 0;
    [spot.style.left, spot.style.top] = [`${25 * (cell % 4)}%`, `${25 * (cell >> 2)}%`];
    top.textContent = found.tops[method][layer].toPrecision(2);
    const whose = method === EIGEN ? ", which is the same for every class," : kind === 2 ? ` for ${names[0]} rather than ${names[1]}` : ` for ${names[kind]}`;
    said.textContent = `${methods[method]} at ${layers[layer]}${whose} is ${inWords(names, cell, half, sum, side)}`;
    canvas.setAttribute("aria-label", said.textContent);
  }
  function inWords(names, cell, half, sum, side) {
    if (cell < 0) return "empty: no place is positive.";
    const where = `strongest in the framed cell (row ${(cell >> 2) + 1}, column ${cell % 4 + 1}). Half of its sum lies on ${half} of ${(side * side).toLocaleString("en")} places.`;
    const exact = layer === LAST && ["Grad-CAM", "HiResCAM"].includes(methods[method]);
    const share = !exact ? "" : ` Its positive places add up to ${sum.toFixed(1)}; the ${kind === 2 ? "lead" : "logit"} is ${own.scores[kind].toFixed(1).replace("-", "−")}.`;
    return `${where}${share} ${ofCovering(names, cell)}`;
  }
  function ofCovering([predicted, truth], cell) {  // what was measured of the cell, in the three ways of chapter 08a
    const ways = own.holds.filter(cells => cells.includes(cell)).length, against = own.opposes.includes(cell);
    if (own.turns.includes(cell)) return `If this cell is covered, the answer becomes ${truth}, in all three ways of covering.`;
    if (own.halves.includes(cell)) return `If this cell is covered, ${predicted} loses half of its lead or more, in all three ways of covering.`;
    const times = against ? "all" : ["none", "one", "two", "all"][ways], what = against ? `${truth} rather than ${predicted}` : `${predicted} rather than ${truth}`;
    return `This cell was covered in three ways. In ${times} of them ${times === "none" ? "did it clearly count" : "it clearly counted"} for ${what} (an estimate).`;
  }
  async function pick(place) {
    wanted = place;
    const about = await Book.parts(`layers-${place}.json`);
    if (wanted !== place) return;  // another was picked meanwhile
    if (about.missing) { said.textContent = Book.absent("This picture", about); return; }
    [own, found] = [data.pictures.find(one => one.place === place), about];
    const rgb = bytesOf(about.pixels);
    found.picture = new Uint8Array(4 * SIDE * SIDE).map((_, i) => i % 4 < 3 ? rgb[3 * (i >> 2) + i % 4] : 255);
    draw();
  }
  key.textContent = "Squares are the places of a layer. The scale of the large map, and of the three maps below it, goes from 0 to the largest value that they reach with this method at this layer. So compare these maps by brightness, and methods or layers only by place. ✗ is the network’s answer, ✓ the true class.";
  believe.innerHTML = "The frame marks the one of the 4 × 4 cells that contains the strongest place. The effect of covering it was measured separately (<a href=\"covering.html\">chapter 08a</a>); how far to believe a map is the question of <a href=\"measuring_explanations.html\">chapter 08</a>. ScoreCAM and AblationCAM need a pass for each channel and are not here.";
  one.append(frame, ramp);
  const fade = slider({name: "Opacity", min: 0, max: 100, step: 5, value: 100 * opacity, words: v => `${v}\u00a0%`}, v => { opacity = v / 100; draw(); });
  const work = make("div", "layers-work"), begin = data.pictures[0].place;
  work.append(mistake, one, byClass, said, fade, all);
  box.append(style, pictures({name: "Picture", sheet: address, value: begin, options: data.pictures.map(({place, predicted, true: right}) => [place, `Test image ${place}: ${classes[right]}, taken for ${classes[predicted]}`])}, pick), work, key, believe);
  await pick(begin);
});
