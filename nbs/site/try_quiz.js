// Chapter 00: name twelve test images, then see their labels and what the network says. checks/tries/quiz.py makes the data.
"use strict";
Book.attempt("quiz", {still: "fig-quiz"}, (box, {classes, pictures, size}) => {
  const {make, byArrows, web} = Book, sheet = new URL("quiz.webp", web);
  const style = make("style", "", `
.quiz-ask { display: grid; gap: .8rem 1.4rem; grid-template-columns: minmax(0, 1fr); margin-bottom: .9rem; }
.quiz-ask > i { width: min(100%, 224px); }
.quiz-classes { display: grid; grid-template-columns: 1fr 1fr; gap: .4rem; align-content: start; }
.quiz-all { display: grid; grid-template-columns: repeat(6, minmax(0, 1fr)); gap: .5rem; }
.try .quiz-all button { min-width: 0; min-height: 0; padding: 2px; border: 2px solid transparent; background: none; align-self: start; font-size: .8rem; line-height: 1.3; cursor: pointer; }
.try .quiz-all button:hover { border-color: var(--line); }
.try .quiz-all button[aria-pressed=true] { border-color: var(--link); }
.quiz-all span { display: block; min-height: 1.3em; overflow-wrap: anywhere; }
#try-quiz .quiz-over button { border-color: transparent; cursor: default; }
#try-quiz .try-said { margin-bottom: .6rem; }
.quiz-over span:first-of-type { font-weight: 600; }
.try .quiz-all .quiz-other { color: var(--two); font-weight: 600; }
.quiz-picture { display: block; aspect-ratio: 1; background: url("${sheet}") 0 0 / ${100 * pictures.length}% 100%; image-rendering: pixelated; border-radius: 3px; }
@media (min-width: 600px) { .quiz-ask { grid-template-columns: 224px minmax(0, 1fr); } }
@media (min-width: 900px) { .quiz-all:not(.quiz-over) { grid-template-columns: repeat(12, minmax(0, 1fr)); } }
@media (max-width: 599px) { .quiz-over { grid-template-columns: repeat(3, minmax(0, 1fr)); } .quiz-ask > i { width: 150px; } .try .quiz-classes button { padding: .3rem .2rem; } }`);
  const named = pictures.map(() => -1);  // what the reader called each picture: a class, or −1
  let start = 0, at = 0;
  const inRound = () => pictures.slice(start, start + size), here = () => named.slice(start, start + size), done = () => !here().includes(-1);
  const right = (places, answer) => places.filter(k => answer(k) === pictures[k].label).length, mine = k => named[k], its = k => pictures[k].predicted;

  const question = make("p", "try-figure"), ask = make("div", "quiz-ask"), large = make("i", "quiz-picture"), buttons = make("div", "quiz-classes");
  const all = make("div", "quiz-all"), said = make("p", "try-said"), more = make("button", "", "Twelve other pictures");
  const put = (element, k) => { element.style.backgroundPosition = `${100 * k / (pictures.length - 1)}% 0`; };
  large.setAttribute("role", "img");
  said.setAttribute("aria-live", "polite");
  const choices = classes.map((name, k) => {
    const button = make("button", "", name);
    button.addEventListener("click", () => {
      named[start + at] = k;
      const open = [...here().keys()].map(step => (at + 1 + step) % size).find(place => here()[place] < 0);
      if (open !== undefined) at = open;
      show();
      if (done()) more.focus({preventScroll: true});
    });
    buttons.append(button);
    return button;
  });
  const tiles = inRound().map((_, k) => {
    const tile = make("button"), picture = make("i", "quiz-picture"), words = [make("span"), make("span"), make("span")];
    tile.append(picture, ...words);
    tile.addEventListener("click", () => { if (!done()) { at = k; show(); } });
    all.append(tile);
    return Object.assign(tile, {picture, words});
  });
  byArrows(tiles);
  byArrows(choices);

  function show() {
    const over = done();
    ask.hidden = over;
    more.hidden = !over;
    all.classList.toggle("quiz-over", over);
    question.textContent = over ? "What the labels say" : `What is picture ${at + 1}?`;
    put(large, start + at);
    large.setAttribute("aria-label", `Picture ${at + 1}, enlarged`);
    choices.forEach((button, k) => button.setAttribute("aria-pressed", here()[at] === k));
    tiles.forEach((tile, k) => {
      const {label, predicted} = inRound()[k], own = here()[k], mark = (who, answer) => answer === label ? `${who} ✓` : `${who} ✗ ${classes[answer]}`, words = over
        ? [classes[label], mark("you", own), mark("network", predicted)]
        : [own < 0 ? `${k + 1}` : classes[own], "", ""];
      put(tile.picture, start + k);
      words.forEach((text, w) => { tile.words[w].textContent = text; tile.words[w].hidden = !text; });
      tile.words[1].classList.toggle("quiz-other", over && own !== label);
      tile.words[2].classList.toggle("quiz-other", over && predicted !== label);
      tile.setAttribute("aria-pressed", !over && k === at);
      tile.setAttribute("aria-disabled", over);
      tile.setAttribute("aria-label", `Picture ${k + 1}${over ? `: ${words.join(", ")}` : own < 0 ? "" : `: ${words[0]}`}`);
    });
    if (!over) {
      const left = here().filter(answer => answer < 0).length;
      said.textContent = left === size ? "Choose one of the ten classes." : `${size - left} of ${size} named. You can go back to a picture.`;
      return;
    }
    const places = [...pictures.keys()], known = places.filter(k => named[k] >= 0), now = places.slice(start, start + size);
    const both = known.length === size ? "" : ` Of all ${known.length} pictures so far, you named ${right(known, mine)} as their labels do, the network ${right(known, its)}.`;
    said.textContent = `You named ${right(now, mine)} of these ${size} as their labels do, the network of this book ${right(now, its)}. It was trained on other images.${both}`;
  }
  more.addEventListener("click", () => {
    start = (start + size) % pictures.length;
    at = 0;
    named.fill(-1, start, start + size);
    show();
    choices[0].focus({preventScroll: true});
  });
  ask.append(large, buttons);
  box.append(style, question, ask, all, said, more);
  show();
});
