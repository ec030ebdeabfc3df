// Definitions of terms and names of papers: they show where one points at the word, focuses it or taps it, and hide with Escape.
// And a link to a function opens what it leads to.
"use strict";
(() => {
const tips = new Map();  // a link -> what is said of it
let shown = null, timer = 0, touched = false;

const hide = () => {
  clearTimeout(timer);
  if (shown) tips.get(shown).hidden = true;
  shown = null;
};
const show = (link, at = link.getClientRects()[0]) => {
  hide();
  const tip = tips.get(link), page = document.documentElement.getBoundingClientRect();
  tip.hidden = false;
  shown = link;
  const left = Math.max(8, Math.min(at.left, innerWidth - tip.offsetWidth - 8));
  const above = at.bottom + tip.offsetHeight + 12 > innerHeight && at.top > tip.offsetHeight + 80;  // the bar of the page is there
  tip.style.left = `${left - page.left}px`;
  tip.style.top = `${(above ? at.top - tip.offsetHeight - 6 : at.bottom + 6) - page.top}px`;
};
const later = (what, ms) => { clearTimeout(timer); timer = setTimeout(what, ms); };

const speak = (link, number) => {
  const tip = document.createElement("div"), more = document.createElement("span");
  tip.className = "book-tip";
  tip.id = `book-tip-${number}`;
  tip.role = "tooltip";
  tip.hidden = true;
  tip.textContent = link.title;
  more.className = "book-tip-more";
  more.textContent = link.classList.contains("book-term") ? " Tap the word again for the glossary." : " Tap again to open it.";
  tip.append(more);
  document.body.append(tip);
  tips.set(link, tip);
  link.removeAttribute("title");  // or the browser would show a second one
  link.setAttribute("aria-describedby", tip.id);
  link.addEventListener("pointerenter", event => {
    if (event.pointerType === "touch") return;
    const lines = [...link.getClientRects()];
    later(() => show(link, lines.find(line => event.clientY <= line.bottom) || lines[0]), 150);
  });
  link.addEventListener("pointerleave", () => later(hide, 250));
  tip.addEventListener("pointerenter", () => clearTimeout(timer));
  tip.addEventListener("pointerleave", () => later(hide, 250));
  link.addEventListener("focus", () => { if (link.matches(":focus-visible")) show(link); });
  link.addEventListener("blur", hide);
  link.addEventListener("click", event => {
    if (!touched || shown === link) return;
    event.preventDefault();
    show(link);
  });
};

const unfold = () => {
  let target = null;
  try { target = document.getElementById(decodeURIComponent(location.hash.slice(1))); } catch {}  // such as #%
  if (!target?.closest("details")) return;
  for (let box = target.closest("details"); box; box = box.parentElement.closest("details")) box.open = true;
  target.scrollIntoView();  // what was folded above it has moved it
};

addEventListener("pointerdown", event => {
  touched = event.pointerType === "touch";
  if (shown && !event.target.closest?.(".book-tip") && event.target.closest?.("a") !== shown) hide();
});
addEventListener("keydown", event => {
  touched = false;
  if (event.key === "Escape") hide();
});
addEventListener("hashchange", unfold);
document.querySelectorAll("main a[title]").forEach(speak);
unfold();
})();
