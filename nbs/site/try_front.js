// The front page: pictures whose parts one covers, and beside each the map for each class. checks/tries/front.py makes the data.
"use strict";
Book.attempt("front", {still: "fig-front"}, (box, data) => {
  const {make, slider, choice, pictures, byArrows, bytesOf, parts, web} = Book, SIDE = 32, SIZE = 512, FIRST = [255, 122, 0], SECOND = [134, 62, 255];
  const upper = word => word[0].toUpperCase() + word.slice(1), an = word => `${/^a/.test(word) ? "an" : "a"} ${word}`, percent = share => `${share}\u00a0%`;
  const listed = words => words.length < 2 ? words.join() : `${words.slice(0, -1).join(", ")} and ${words.at(-1)}`;
  const inWords = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "13", "14", "15", "16"];
  const style = make("style");
  style.textContent = `
    #try-front { --side: clamp(240px, 37vh, 460px); }
    #try-front .front { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 300px), 1fr)); gap: 1.2rem 2rem; }
    #try-front .front > div { min-width: 0; }
    #try-front .front-old::after { content: "the whole picture"; position: absolute; inset: auto auto 8px 8px; padding: .1rem .5rem; border-radius: 4px; background: #000b; color: #fff; font-size: .85rem; }
    #try-front .front-board { display: flex; gap: 12px; }
    #try-front .front-square { position: relative; flex: 1; max-width: min(var(--side), 100% - 76px); align-self: start; }
    #try-front .front-square > canvas { image-rendering: auto; border-radius: 8px; aspect-ratio: 1; }
    #try-front .front-cells { position: absolute; inset: 0; display: grid; grid-template: repeat(4, 1fr) / repeat(4, 1fr); }
    #try-front .front-cells button { min-height: 0; padding: 0; border: 1px solid #fff3; border-radius: 0; background: none; cursor: pointer; }
    #try-front .front-cells button:hover { border: 2px solid #fff; }
    #try-front .front-cells button[aria-pressed=true] { border: 2px solid #fff; }
    #try-front .front-cells button[aria-disabled=true] { border-color: #fff1; cursor: not-allowed; }
    #try-front .front-cells button:focus-visible { outline: 3px solid #fff; outline-offset: -4px; box-shadow: inset 0 0 0 1px #000; }
    #try-front .front-more { display: flex; flex-direction: column; gap: 6px; width: 64px; font-size: .85rem; line-height: 1.2; }
    #try-front .front-more p { margin: 0; }
    #try-front .front-more button { padding: .3rem 0; }
    #try-front .try-pictures { display: grid; grid-template-columns: 56px; gap: 5px; margin: 0; }
    #try-front .try-pictures legend { position: static; clip-path: none; float: none; margin: 0 0 .2rem; width: 64px; font-size: .8rem; }
    #try-front .try-pictures span { padding: 0; border: 0; }
    #try-front .try-pictures input:checked + span { box-shadow: 0 0 0 2px var(--under), 0 0 0 4px var(--link); }
    #try-front .front-bars { display: grid; grid-template-columns: 4.6em 1fr 3.4em; gap: 2px .6rem; align-items: center; margin-top: .7rem; max-width: 460px; }
    #try-front .front-bars i { height: 14px; border-radius: 3px; background: var(--own); transition: width .25s; }
    #try-front .front-bars b:not(.now) { font-weight: 400; }
    #try-front .front-bars span { text-align: right; font-variant-numeric: tabular-nums; }
    #try-front .front-head { display: flex; align-items: center; min-height: 38px; margin: 0 0 .5rem; }
    #try-front .try-choice:not(.try-pictures) { min-height: 38px; margin: 0 0 .5rem; gap: .25rem; font-size: .88rem; }
    #try-front .try-choice:not(.try-pictures) span { padding: .4rem .4rem; }
    #try-front .try-said { min-height: 6.1em; max-width: 460px; }
    #try-front .front-full { animation: front-full .5s 2; }
    #try-front .try-said span { display: block; margin-top: .3rem; }
    #try-front .front-next { font-weight: 600; }
    @keyframes front-full { 50% { background: color-mix(in srgb, var(--one) 35%, transparent); } }
    #try-front .front-key { display: grid; grid-template-columns: auto 1fr auto; gap: .6rem; align-items: center; margin-top: .7rem; max-width: 460px; font-size: .9rem; }
    #try-front .front-key canvas { height: 14px; }
    #try-front .try-slider { max-width: 460px; min-height: 40px; grid-template-columns: auto 1fr 3.4em; }
    @media (max-width: 600px) {
      #try-front .front > div { display: flex; flex-direction: column; }
      #try-front .front-head { order: -2; min-height: 0; font-size: .95rem; }
      #try-front .front-bars { order: -1; margin: 0 0 .6rem; }
      #try-front .front-board { flex-direction: column; }
      #try-front .front-square { width: 100%; max-width: var(--side); }
      #try-front .front-more { flex-direction: row; align-items: center; width: auto; }
      #try-front .front-more button { padding: .3rem .6rem; }
      #try-front .try-pictures legend { position: absolute; clip-path: inset(50%); }
      #try-front .try-pictures { grid-template-columns: repeat(${data.pictures.length}, 44px); }
      #try-front .try-choice:not(.try-pictures) legend { width: 100%; }
      #try-front .try-said { min-height: 0; }
    }
    @media (prefers-reduced-motion: reduce) { #try-front .front-bars i { transition: none; } #try-front .front-full { animation-duration: 1ms; } }`;
  // The picture at 512 pixels a side, by Lanczos' kernel of three pixels, one direction after the other.
  const kernel = x => x === 0 ? 1 : Math.abs(x) >= 3 ? 0 : 3 * Math.sin(Math.PI * x) * Math.sin(Math.PI * x / 3) / (Math.PI * x) ** 2;
  const taps = Array.from({length: SIZE}, (_, i) => {
    const at = (i + .5) * SIDE / SIZE - .5, near = [-2, -1, 0, 1, 2, 3].map(k => Math.floor(at) + k), own = near.map(k => kernel(at - k)), sum = own.reduce((a, b) => a + b);
    return near.map((k, n) => [Math.min(SIDE - 1, Math.max(0, k)), own[n] / sum]);
  });
  function enlarged(pixels) {
    const wide = new Float32Array(SIDE * SIZE * 3), large = new Float32Array(SIZE * SIZE * 3);
    for (let y = 0; y < SIDE; y++) for (let x = 0; x < SIZE; x++) for (let c = 0; c < 3; c++)
      wide[(y * SIZE + x) * 3 + c] = taps[x].reduce((sum, [k, w]) => sum + w * pixels[(y * SIDE + k) * 3 + c], 0);
    for (let y = 0; y < SIZE; y++) for (let i = 0; i < SIZE * 3; i++) {
      let sum = 0;
      for (const [k, w] of taps[y]) sum += w * wide[k * SIZE * 3 + i];
      large[y * SIZE * 3 + i] = sum;
    }
    return large;
  }
  // A map of 4 × 4 values between the middles of its cells: straight, as the book enlarges maps.
  const places = Array.from({length: SIZE}, (_, i) => {
    const at = Math.min(3, Math.max(0, (i + .5) * 4 / SIZE - .5)), k = Math.min(2, Math.floor(at));
    return [k, at - k];
  });
  const between = grid => Float32Array.from({length: SIZE * SIZE}, (_, n) => {
    const [r, v] = places[n / SIZE | 0], [c, u] = places[n % SIZE], k = 4 * r + c;
    return (1 - v) * ((1 - u) * grid[k] + u * grid[k + 1]) + v * ((1 - u) * grid[k + 4] + u * grid[k + 5]);
  });
  // A cover is a number with a bit for each cell. Those of few cells have answers, in the order of their numbers.
  const sizeOf = cover => inside(cover).length, inside = cover => [...Array(16).keys()].filter(k => cover >> k & 1), rowOf = {};
  for (let cover = 0, rows = [0, 0]; cover < 1 << 16; cover++) {
    const size = sizeOf(cover);
    if (size <= data.most) rowOf[cover] = [rows[0]++, size <= data.mostWays ? rows[1]++ : -1];
  }
  let own, large, views, most, view = "both", opacity = 75, covered = 0, wanted;
  const tint = v => (Math.abs(v) / most) ** .7;  // one scale for all maps of a picture

  function draw(canvas, heat, strength) {
    canvas.width = canvas.height = SIZE;
    const out = new ImageData(SIZE, SIZE), o = out.data, toGrey = Math.min(1, strength / 30);
    for (let n = 0; n < SIZE * SIZE; n++) {
      const [r, g, b] = [large[3 * n], large[3 * n + 1], large[3 * n + 2]], grey = .299 * r + .587 * g + .114 * b;
      const part = heat ? strength / 100 * tint(heat[n]) : 0, colour = heat && heat[n] < 0 ? SECOND : FIRST;
      for (let c = 0; c < 3; c++) o[4 * n + c] = (1 - part) * (toGrey * grey + (1 - toGrey) * large[3 * n + c]) + part * colour[c];
      o[4 * n + 3] = 255;
    }
    canvas.getContext("2d").putImageData(out, 0, 0);
  }

  const picture = make("canvas"), map = make("canvas"), cells = make("div", "front-cells"), bars = make("div", "front-bars"), head = make("p", "front-head");
  const told = make("p", "try-said"), why = make("p", "try-said"), uncover = make("button", "", "Uncover all"), whole = make("div", "front");
  for (const one of [head, told, why]) one.setAttribute("aria-live", "polite");
  for (const one of [picture, map]) one.setAttribute("role", "img");
  cells.setAttribute("role", "group");
  cells.setAttribute("aria-label", "Cover parts of the picture");
  const rows = [FIRST, SECOND, [125, 130, 136]].map(colour => {
    const row = {name: make("b"), bar: make("i"), value: make("span")}, frame = make("div");
    row.bar.style.cssText = `display: block; --own: rgb(${colour})`;
    frame.append(row.bar);
    bars.append(row.name, frame, row.value);
    return row;
  });

  // What the network answers under a cover; the first way is grey, the others are blurred and filled.
  function answer(cover, way = 0) {
    const [best, share, first, second] = way ? own.ways.subarray(4 * rowOf[cover][1] + 2 * way - 2) : own.answers.subarray(4 * rowOf[cover][0]);
    return {best, share, words: `${data.classes[best]}, ${percent(share)}`, shares: [first, second]};
  }
  const names = cover => listed(inside(cover).map(k => own.cells[k]));
  // What to try next.
  function hint(now, right) {
    const size = sizeOf(covered), step = own.hints[size];
    if (size === data.most) {
      const share = answer(covered).shares[1], top = Math.max(...Object.keys(rowOf).map(cover => answer(cover).shares[1]));
      return share < top ? `Can you bring ${right} to ${percent(top)}?` : `No other cover brings ${right} above ${percent(top)}.`;
    }
    if (step !== undefined && inside(covered).every(k => own.hints.slice(0, size).includes(k)))
      return size ? `Now cover ${own.cells[step]} too.` : `Cover ${own.cells[step]}: what does it say then?`;
    const turning = [...Array(16).keys()].filter(k => !(covered >> k & 1) && answer(covered | 1 << k).best !== now).length;
    return turning ? `Cover one more: ${inWords[turning]} of the other ${inWords[16 - size]} would change the answer${now === own.predicted ? "" : " again"}.` : `No single other part changes the answer now.`;
  }
  function showAnswer() {
    const [predicted, right] = [own.predicted, own.true].map(k => data.classes[k]), start = answer(0), {best, share, words, shares} = answer(covered), size = sizeOf(covered);
    const third = [own.predicted, own.true].includes(best) ? null : best;  // another class won
    rows[2].name.textContent = third === null ? "others" : data.classes[third];
    [...shares, third === null ? 100 - shares[0] - shares[1] : share].forEach((share, k) => { rows[k].bar.style.width = `${share}%`; rows[k].value.textContent = percent(share); });
    rows.forEach((row, k) => row.name.classList.toggle("now", [own.predicted, own.true, third][k] === best));
    draw(picture, null, 0);
    const pen = picture.getContext("2d");
    pen.fillStyle = `rgb(${data.cover})`;
    for (const k of inside(covered)) pen.fillRect(k % 4 * SIZE / 4, (k >> 2) * SIZE / 4, SIZE / 4, SIZE / 4);
    buttons.forEach((one, k) => {
      one.setAttribute("aria-pressed", (covered >> k & 1) === 1);
      one.setAttribute("aria-disabled", size === data.most && !(covered >> k & 1));
    });
    uncover.hidden = !covered;
    head.textContent = size === data.most ? `${upper(inWords[size])} is the most: tap one to uncover it` : `${upper(an(right))} that the network calls ${an(predicted)}`;
    const more = make("span", "try-quiet"), said = covered ? [`Without ${names(covered)}, the network says `, make("b", "", words), ". "] : ["The network says ", make("b", "", predicted), `. It gives ${predicted} ${percent(start.shares[0])} and ${right} ${percent(start.shares[1])}.`];
    if (covered) {
      const k = best === own.true ? 0 : 1;
      said.push(`${upper([predicted, right][k])} ${shares[k] === start.shares[k] ? "stays at" : `goes from ${percent(start.shares[k])} to`} ${percent(shares[k])}.`);
    }
    if (covered && size <= data.mostWays) {
      const [blur, filled] = [1, 2].map(way => answer(covered, way)), turned = [best, blur.best, filled.best].filter(one => one !== own.predicted).length;
      const [part, it, them, depends] = size > 1 ? ["those parts are", "they are", "them", "on these parts"] : ["that part is", "it is", "it", "on this part"];
      const verdict = {0: `The answer stays ${predicted} with all three ways of covering.`, 3: `With all three ways of covering the answer is no longer ${predicted}, so it depends ${depends}.`}[turned] || "The three ways of covering disagree, so we cannot tell.";
      more.textContent = `If ${part} blurred, it says ${blur.words}. If ${it} filled with the colours around ${them}, it says ${filled.words}. ${verdict}`;
    }
    if (size === data.most) {
      const link = make("a", "", "chapter 08e");
      link.href = "counting_facts.html#try-cells";
      more.append("You can cover all 16 parts of other pictures in ", link, ".");
    }
    told.replaceChildren(...said, " ", make("span", "front-next", hint(best, right)), " ", more);
    picture.setAttribute("aria-label", `${own.about}${covered ? `; ${names(covered)} covered with grey` : ""}. The answer is ${words}.`);
  }
  function showMap() {
    const {name, heat, grid, score, colour} = views[view], sum = f => grid.reduce((total, v) => total + f(v), 0), [predicted, right] = [views.first.name, views.second.name];
    const top = own.cells[grid.indexOf(Math.max(...grid))], least = own.cells[grid.indexOf(Math.min(...grid))];
    draw(map, heat, opacity);
    const lead = own.scores[0] - own.scores[1], plus = sum(v => Math.max(0, v)), minus = sum(v => Math.min(0, v)), rest = lead - plus - minus;
    frame.classList.toggle("front-old", covered > 0);
    const link = make("a", "", "Grad-CAM");
    link.href = "gradcam.html";
    const sums = make("span", "try-quiet", view === "both" ? `The score of ${predicted} is ${lead.toFixed(2)} higher than that of ${right}. Orange parts add ${plus.toFixed(2)}${minus ? `, violet parts take ${(-minus).toFixed(2)} away` : ""}, and ${rest < 0 ? "−" : "+"}${Math.abs(rest).toFixed(2)} is there for the two classes whatever the picture shows. (Each number is rounded.)` : "");
    why.replaceChildren(link, ` shows where the network finds its evidence${covered ? ", here in the whole picture" : ""}. ` + (view === "both" ?
      `Orange parts count for ${predicted}, most of all ${top}. ${minus ? `Violet parts count for ${right}, most of all ${least}.` : `No part is violet: none counts for ${right} rather than ${predicted}.`} ` :
      `${upper(name)} has a score of ${score.toFixed(2)}. ${colour} shows which parts of the picture count for ${name}: most of all ${top}. ${view === "first" ? `Does it also count for ${right}? Press “${right}”, then “${views.both.name}”.` : `${upper(predicted)} has ${own.scores[0].toFixed(2)}, so ${predicted} wins.`}`), sums);
    map.setAttribute("aria-label", `Map of what counts for ${name}, over the picture in grey. ${why.textContent}`);
  }
  const put = cover => {
    head.classList.remove("front-full");
    if (sizeOf(cover) > data.most) { void head.offsetWidth; head.classList.add("front-full"); return; }  // the animation begins anew
    covered = cover;
    showAnswer();
    showMap();
  };
  const buttons = Array.from({length: 16}, (_, k) => {
    const button = make("button");
    button.type = "button";
    button.addEventListener("click", () => put(covered ^ 1 << k));
    return button;
  });
  cells.append(...buttons);
  byArrows(buttons);
  uncover.type = "button";
  uncover.addEventListener("click", () => { put(0); buttons.find(one => one.tabIndex === 0).focus({preventScroll: true}); });

  const key = make("div", "front-key"), scale = make("canvas"), ends = [make("span"), make("span")], asked = make("div");
  [scale.width, scale.height, most] = [201, 1, 1];
  for (let x = 0; x < 201; x++) {
    const v = (x - 100) / 100, colour = v < 0 ? SECOND : FIRST;
    scale.getContext("2d").fillStyle = `rgb(${colour.map(c => tint(v) * c + (1 - tint(v)) * 150)})`;
    scale.getContext("2d").fillRect(x, 0, 1, 1);
  }
  scale.setAttribute("role", "img");
  scale.setAttribute("aria-label", "Colours of the map");
  key.append(ends[0], scale, ends[1]);

  // Orange counts for the answer, violet for the right class: the map for that class alone is violet.
  function show(found) {
    own = {...found, answers: bytesOf(found.answers), ways: bytesOf(found.ways)};
    large = enlarged(bytesOf(own.pixels));
    const [predicted, right] = [own.predicted, own.true].map(k => data.classes[k]), contrast = own.maps[0].map((v, k) => v - own.maps[1][k]);
    const [first, second] = own.maps.map(grid => grid.map(v => Math.max(0, v)));
    most = Math.max(...first, ...second, ...contrast.map(Math.abs));
    views = {
      both: {name: `${predicted} rather than ${right}`, heat: between(contrast), grid: contrast},
      first: {name: predicted, heat: between(first), grid: first, score: own.scores[0], colour: "Orange"},
      second: {name: right, heat: between(second.map(v => -v)), grid: second, score: own.scores[1], colour: "Violet"}};
    [predicted, right].forEach((name, k) => { rows[k].name.textContent = name; });
    ends.forEach((end, k) => { end.textContent = `for ${[right, predicted][k]}`; });
    own.cells.forEach((name, k) => { buttons[k].title = name; buttons[k].setAttribute("aria-label", `Cover ${name}`); });
    asked.replaceChildren(choice({name: "What counts for", options: ["first", "second", "both"].map(one => [one, views[one].name]), value: view}, one => { view = one; showMap(); }));
    put(0);
  }
  const loaded = {[data.pictures[0][0]]: data.first};
  let shownPlace = data.pictures[0][0];
  async function open(place) {
    wanted = place;
    const found = loaded[place] || await parts(`front-${place}.json`);
    if (wanted !== place) return;
    if (!found.missing) { show(loaded[shownPlace = place] = found); return; }
    told.textContent = Book.absent("This picture", found);
    picker.querySelector(`[value="${shownPlace}"]`).checked = true;  // the picture that still stands there
  }
  const board = make("div", "front-board"), square = make("div", "front-square"), more = make("div", "front-more"), left = make("div"), right = make("div"), frame = make("div", "front-square");
  square.append(picture, cells);
  const picker = pictures({name: "Another picture", sheet: new URL("front.webp", web), value: data.pictures[0][0],
    options: data.pictures.map(([place, predicted, right]) => [place, `${upper(an(data.classes[right]))}, called ${an(data.classes[predicted])}`])}, open);
  more.append(picker, uncover);
  board.append(square, more);
  left.append(head, board, bars, told);
  frame.append(map);
  right.append(asked, frame, key, slider({name: "Opacity", min: 0, max: 100, step: 1, value: opacity, words: v => `${v} %`}, v => { opacity = v; showMap(); }), why);
  whole.append(left, right);
  box.append(style, whole);
  show(data.first);
});
