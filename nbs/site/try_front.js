// The front page: a picture whose parts one covers, and beside it the map for each class. checks/tries/front.py makes the data.
"use strict";
Book.attempt("front", {still: "fig-front"}, (box, data) => {
  const {make, slider, choice, bytesOf} = Book, SIDE = 32, SIZE = 512, FIRST = [255, 122, 0], SECOND = [134, 62, 255];
  const [cat, dog] = [data.predicted, data.true].map(k => data.classes[k]), percent = n => `${Math.round(n / 100)} %`, upper = word => word[0].toUpperCase() + word.slice(1);
  const style = make("style");
  style.textContent = `
    #try-front .front { --side: clamp(260px, 44vh, 460px); display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 300px), 1fr)); gap: 1.2rem 2rem; }
    #try-front .front > div { min-width: 0; }
    #try-front .front-old { opacity: .5; }
    #try-front .front-square { position: relative; max-width: var(--side); }
    #try-front .front-square > canvas { image-rendering: auto; border-radius: 8px; aspect-ratio: 1; }
    #try-front .front-cells { position: absolute; inset: 0; display: grid; grid-template: repeat(4, 1fr) / repeat(4, 1fr); }
    #try-front .front-cells button { min-height: 0; padding: 0; border: 1px solid #fff3; border-radius: 0; background: none; cursor: pointer; }
    #try-front .front-cells button:hover { border: 2px solid #fff; }
    #try-front .front-cells button[aria-pressed=true] { border: 2px solid #fff; }
    #try-front .front-cells button:focus-visible { outline: 3px solid #fff; outline-offset: -4px; box-shadow: inset 0 0 0 1px #000; }
    #try-front .front-answer { display: grid; grid-template-columns: auto 1fr; gap: .8rem; align-items: center; margin-top: .7rem; max-width: 460px; }
    #try-front .front-answer canvas { width: 76px; }
    #try-front .front-bars { display: grid; grid-template-columns: auto 1fr 3.4em; gap: 2px .6rem; align-items: center; }
    #try-front .front-bars i { height: 14px; border-radius: 3px; background: var(--own); transition: width .25s; }
    #try-front .front-bars b:not(.now) { font-weight: 400; }
    #try-front .front-bars span { text-align: right; font-variant-numeric: tabular-nums; }
    #try-front .front-head { display: flex; align-items: center; min-height: 38px; margin: 0 0 .5rem; }
    #try-front .try-choice { min-height: 38px; margin: 0 0 .5rem; gap: .25rem; }
    #try-front .try-choice span { padding: .3rem .5rem; }
    @media (max-width: 600px) { #try-front .front > div { display: flex; flex-direction: column; } #try-front .front-answer { order: -1; margin: 0 0 .6rem; } #try-front .front-head { order: -2; } #try-front .try-choice legend { width: 100%; } #try-front .try-said { min-height: 0; } }
    #try-front .try-said { min-height: 6.1em; max-width: 460px; }
    #try-front .front-key { display: grid; grid-template-columns: auto 1fr auto; gap: .6rem; align-items: center; margin-top: .7rem; max-width: 460px; font-size: .9rem; }
    #try-front .front-key canvas { height: 14px; }
    #try-front .try-slider { max-width: 460px; min-height: 40px; grid-template-columns: auto 1fr 3.4em; }
    @media (prefers-reduced-motion: reduce) { #try-front .front-bars i { transition: none; } }`;
  // The picture at 512 pixels a side, by Lanczos' kernel of three pixels, one direction after the other.
  const pixels = bytesOf(data.pixels), kernel = x => x === 0 ? 1 : Math.abs(x) >= 3 ? 0 : 3 * Math.sin(Math.PI * x) * Math.sin(Math.PI * x / 3) / (Math.PI * x) ** 2;
  const taps = Array.from({length: SIZE}, (_, i) => {
    const at = (i + .5) * SIDE / SIZE - .5, near = [-2, -1, 0, 1, 2, 3].map(k => Math.floor(at) + k), own = near.map(k => kernel(at - k)), sum = own.reduce((a, b) => a + b);
    return near.map((k, n) => [Math.min(SIDE - 1, Math.max(0, k)), own[n] / sum]);
  });
  const wide = new Float32Array(SIDE * SIZE * 3), large = new Float32Array(SIZE * SIZE * 3);
  for (let y = 0; y < SIDE; y++) for (let x = 0; x < SIZE; x++) for (let c = 0; c < 3; c++)
    wide[(y * SIZE + x) * 3 + c] = taps[x].reduce((sum, [k, w]) => sum + w * pixels[(y * SIDE + k) * 3 + c], 0);
  for (let y = 0; y < SIZE; y++) for (let i = 0; i < SIZE * 3; i++) {
    let sum = 0;
    for (const [k, w] of taps[y]) sum += w * wide[k * SIZE * 3 + i];
    large[y * SIZE * 3 + i] = sum;
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
  const contrast = data.maps[0].map((v, k) => v - data.maps[1][k]);
  const [forCat, forDog] = data.maps.map(grid => grid.map(v => Math.max(0, v)));
  const most = Math.max(...forCat, ...forDog, ...contrast.map(Math.abs)), tint = v => (Math.abs(v) / most) ** .7;  // one scale for all
  // Orange counts for the answer, violet for the class: the map for the class alone is violet.
  const views = {
    both: {name: `${cat} rather than ${dog}`, heat: between(contrast), grid: contrast},
    first: {name: cat, heat: between(forCat), grid: forCat, score: data.scores[0], colour: "Orange"},
    second: {name: dog, heat: between(forDog.map(v => -v)), grid: forDog, score: data.scores[1], colour: "Violet"}};
  let view = "both", opacity = 75, covered = -1;

  function draw(canvas, heat, strength) {
    canvas.width = canvas.height = SIZE;
    const out = new ImageData(SIZE, SIZE), o = out.data, toGrey = Math.min(1, strength / 30);
    for (let n = 0; n < SIZE * SIZE; n++) {
      const [r, g, b] = [large[3 * n], large[3 * n + 1], large[3 * n + 2]], grey = .299 * r + .587 * g + .114 * b;
      const part = heat ? strength / 100 * tint(heat[n]) : 0, own = heat && heat[n] < 0 ? SECOND : FIRST;
      for (let c = 0; c < 3; c++) o[4 * n + c] = (1 - part) * (toGrey * grey + (1 - toGrey) * large[3 * n + c]) + part * own[c];
      o[4 * n + 3] = 255;
    }
    canvas.getContext("2d").putImageData(out, 0, 0);
  }
  const cover = (canvas, cell, size) => {
    if (cell < 0) return;
    const pen = canvas.getContext("2d");
    pen.fillStyle = `rgb(${data.cover})`;
    pen.fillRect(cell % 4 * size, (cell >> 2) * size, size, size);
  };

  const picture = make("canvas"), small = make("canvas"), map = make("canvas"), cells = make("div", "front-cells"), bars = make("div", "front-bars");
  const told = make("p", "try-said"), why = make("p", "try-said"), buttons = [];
  for (const one of [told, why]) one.setAttribute("aria-live", "polite");
  for (const one of [picture, small, map]) one.setAttribute("role", "img");
  small.setAttribute("aria-label", "The same picture in its 32 × 32 pixels");
  cells.setAttribute("role", "group");
  cells.setAttribute("aria-label", "Cover a part of the picture");
  const rows = [[cat, FIRST], [dog, SECOND], ["others", [125, 130, 136]]].map(([name, colour]) => {
    const row = {name: make("b", "", name), bar: make("i"), value: make("span")}, frame = make("div");
    row.bar.style.cssText = `display: block; --own: rgb(${colour})`;
    frame.append(row.bar);
    bars.append(row.name, frame, row.value);
    return row;
  });

  function answer(way, cell) {
    const shares = data.shares[way][cell + 1], best = shares.indexOf(Math.max(...shares));
    return {shares, best, words: `${data.classes[best]}, ${percent(shares[best])}`};
  }
  function showAnswer() {
    const {shares, best} = answer(0, covered), own = [shares[data.predicted], shares[data.true]];
    [...own, 10000 - own[0] - own[1]].forEach((share, k) => { rows[k].bar.style.width = `${share / 100}%`; rows[k].value.textContent = percent(share); });
    rows.forEach((row, k) => row.name.classList.toggle("now", [data.predicted, data.true][k] === best));
    draw(picture, null, 0);
    cover(picture, covered, SIZE / 4);
    small.width = small.height = SIDE;
    const whole = new ImageData(SIDE, SIDE);
    for (let n = 0; n < SIDE * SIDE; n++) whole.data.set([pixels[3 * n], pixels[3 * n + 1], pixels[3 * n + 2], 255], 4 * n);
    small.getContext("2d").putImageData(whole, 0, 0);
    cover(small, covered, SIDE / 4);
    buttons.forEach((one, k) => one.setAttribute("aria-pressed", k === covered));
    const [mean, blur, filled] = [0, 1, 2].map(way => answer(way, covered)), turned = [mean, blur, filled].filter(one => one.best !== data.predicted).length;
    const verdict = {0: `The answer stays ${cat} with all three ways of covering.`, 3: "All three ways of covering change the answer, so it depends on this part."}[turned] || "The three ways of covering disagree, so we cannot tell.";
    const other = best === data.true ? data.predicted : data.true, changed = `${upper(data.classes[other])} goes from ${percent(data.shares[0][0][other])} to ${percent(shares[other])}.`;
    told.replaceChildren(...covered < 0 ?
      ["The network says ", make("b", "", cat), `. It gives ${cat} ${percent(own[0])} and ${dog} ${percent(own[1])}. The right answer is ${dog}. Cover the ears: what does it say then?`] :
      [`Without ${data.cells[covered]}, the network says `, make("b", "", mean.words), `. ${changed} If that part is blurred, it says ${blur.words}. If it is filled with the colours around it, it says ${filled.words}. ${verdict}`]);
    picture.setAttribute("aria-label", `A small orange dog leaps to the right${covered < 0 ? "" : `; ${data.cells[covered]} covered with grey`}. The answer is ${mean.words}.`);
  }
  function showMap() {
    const {name, heat, grid, score, colour} = views[view], sum = f => grid.reduce((total, v) => total + f(v), 0), top = data.cells[grid.indexOf(Math.max(...grid))];
    draw(map, heat, opacity);
    const lead = data.scores[0] - data.scores[1], plus = sum(v => Math.max(0, v)), minus = sum(v => Math.min(0, v)), rest = lead - plus - minus;
    map.classList.toggle("front-old", covered >= 0);
    why.textContent = `Grad-CAM of the whole picture${covered < 0 ? "" : ", uncovered"}. ` + (view === "both" ?
      `The score of ${cat} is ${lead.toFixed(2)} higher than that of ${dog}. Orange parts add ${plus.toFixed(2)}, most of all ${top}. Violet parts count for ${dog} and take ${(-minus).toFixed(2)} away, most of all ${data.cells[grid.indexOf(Math.min(...grid))]}. The remaining ${rest < 0 ? "−" : "+"}${Math.abs(rest).toFixed(2)} is a constant that does not depend on the picture.` :
      `${upper(name)} has a score of ${score.toFixed(2)}. ${colour} shows which parts of the picture count for ${name}: most of all ${top}. ${view === "first" ? `Does that part also count for ${dog}? Press “${dog}”, then “${views.both.name}”.` : `${upper(cat)} has ${data.scores[0].toFixed(2)}, so ${cat} wins.`}`);
    map.setAttribute("aria-label", `Map of what counts for ${name}, over the picture in grey. ${why.textContent}`);
  }
  data.cells.forEach((name, k) => {
    const button = make("button");
    Object.assign(button, {type: "button", tabIndex: k === 2 ? 0 : -1, title: name});
    button.setAttribute("aria-label", `Cover ${name}`);
    button.addEventListener("click", () => { covered = covered === k ? -1 : k; showAnswer(); showMap(); });
    button.addEventListener("keydown", event => {
      const step = {ArrowLeft: -1, ArrowRight: 1, ArrowUp: -4, ArrowDown: 4}[event.key], next = k + step;
      if (!step) return;
      event.preventDefault();
      if (next < 0 || next > 15 || Math.abs(step) === 1 && next >> 2 !== k >> 2) return;
      button.tabIndex = -1;
      buttons[next].tabIndex = 0;
      buttons[next].focus();
    });
    buttons.push(button);
  });
  cells.append(...buttons);
  const key = make("div", "front-key"), scale = make("canvas");
  [scale.width, scale.height] = [201, 1];
  for (let x = 0; x < 201; x++) {
    const v = (x - 100) / 100 * most, part = tint(v), own = v < 0 ? SECOND : FIRST;
    scale.getContext("2d").fillStyle = `rgb(${own.map(c => part * c + (1 - part) * 150)})`;
    scale.getContext("2d").fillRect(x, 0, 1, 1);
  }
  scale.setAttribute("role", "img");
  scale.setAttribute("aria-label", "Colours of the map");
  key.append(make("span", "", `for ${dog}`), scale, make("span", "", `for ${cat}`));
  const column = (head, canvas, ...more) => {
    const part = make("div"), square = make("div", "front-square");
    square.append(canvas);
    part.append(head, square, ...more);
    return [part, square];
  };
  const answers = make("div", "front-answer"), whole = make("div", "front");
  answers.append(small, bars);
  const [left, square] = column(make("p", "front-head", `Tap a part, such as ${data.cells[2]}, to cover or uncover it`), picture, answers, told);
  square.append(cells);
  const [right] = column(choice({name: "What counts for", options: ["first", "second", "both"].map(key => [key, views[key].name]), value: view}, key => { view = key; showMap(); }), map, key,
    slider({name: "Opacity", min: 0, max: 100, step: 1, value: opacity, words: v => `${v} %`}, v => { opacity = v; showMap(); }), why);
  whole.append(left, right);
  box.append(style, whole);
  showAnswer();
  showMap();
});
